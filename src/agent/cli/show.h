/* agent/cli/show.h: the events of a run as text for people, or as JSON lines.
 * Thread: the main one. */
#pragma once
#include "agent/cli/client.h"

struct show;

struct show *show_new(bool json);
void show_free(struct show **s);
/* One event of the stream; `id` is "" for one without. */
void show_event(struct show *s, const char *id, const char *event, json_t *data);
/* The run itself, when its events are not to be had any more. */
void show_run(struct show *s, json_t *run);
/* Ends a line that is half written. */
void show_end(struct show *s);
/* Nothing follows. */
void show_last(struct show *s);
