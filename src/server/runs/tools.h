/* runs/tools.h: the tools that a loop is offered: the worker's, those of its session, and the control plane's own, all
 * in the form in which a worker describes its tools (docs/worker-protocol.md). For this folder only. Thread: any;
 * descriptions are constant and counted. */
#pragma once
#include "base/json.h"
#include "server/fleet/fleet.h"

struct executor;

/* All tools of a run: `session` (may be NULL) are those that the session of this run adds. A control-plane tool hides a
 * worker's of the same name; a session's tool that is malformed, or whose name is taken, is left out with a line in the
 * log. New reference. */
json_t *tools_of_run(const struct tool_set *worker, const json_t *session);
/* Whose tools they are. */
struct tool_offer {
	unsigned depth; /* of the loop */
	bool plan; /* it may only read */
	bool (*offers)(const json_t *tool); /* of a nested loop; NULL: any */
};
/* Those of a run's tools that a loop is offered. New reference. */
json_t *tools_offered(json_t *tools, const struct tool_offer *o);
/* Of class read or state; what is not described (NULL) is not. */
bool tool_is_harmless(const json_t *tool);
/* Who performs calls of the tool with this (own) name, as it is described (NULL: it is not). */
const struct executor *tool_executor(const json_t *tool, const char *name);

/* By name or alias, without regard to case; borrowed, NULL if there is none. */
const json_t *tool_described(const json_t *tools, const char *name);
/* The same for a name as a model wrote it: "functions.NAME", "NAME<|channel|>…" and the like are understood where the
 * name as it stands is none. */
const json_t *tool_meant(const json_t *tools, const char *name);
/* Whether the text calls one of the tools in the markup of a model's own format, outside of code that it shows. */
bool tools_called_in_text(const json_t *tools, const char *text);
/* The arguments under the tool's own names, where a model used others. New reference. */
json_t *tool_own_args(const json_t *tool, const json_t *args);
/* The arguments as the client library takes them, as JSON text: no nulls, defaults filled in, long strings cut if the
 * whole is longer than `max` bytes. malloc'ed. */
char *tool_sdk_args(const json_t *tool, const json_t *args, size_t max);
