/* triggers/hubs_priv.h: what the surfaces of the forges share. */
#pragma once
#include "server/triggers/surface.h"

#define HUB_MARK "<!-- bullpen "
#define HUB_KEYS (TRIGGER_SELF_HOSTED | TRIGGER_POOL | TRIGGER_WORKER | TRIGGER_BRANCH | TRIGGER_MODEL | TRIGGER_AUTOPR)

/* At most `max` bytes of a text; "" if there is none; malloc'ed. */
char *field_copy(const json_t *o, const char *key, size_t max);
/* Whether an event of GitHub or Gitea may start anything. */
bool hub_event_is_of_use(const char *event, const char *action);
/* NULL: it is not in the settings any more. */
struct forge *thread_forge(struct triggers *t, enum forge_kind kind, const char *host);
/* surface.look and surface.tell of each. */
int thread_look(struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *a,
    int64_t deadline_mono_ms, struct why *why) MUST_USE;
int thread_tell(struct triggers *t, const char *place, struct told *told, struct why *why) MUST_USE;
