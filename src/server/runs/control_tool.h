/* runs/control_tool.h: tools that the control plane performs itself. One file a tool: it defines one `struct
 * control_tool` and registers it with CONTROL_TOOL(), and nothing else needs to know.
 *
 * A tool has either `run`, or `nest`: then its call starts a nested loop, whose final answer is the result.
 * Thread: `run` has a thread of its own for each call and may block; it must end soon after control_call_is_over()
 * turns true. `nest` runs there too and must not block. */
#pragma once
#include "base/json.h"
#include "store/store.h"
#include <stdatomic.h>

struct control_call {
	struct store *store;
	const char *call_id, *agent_id, *run_id, *loop_id; /* borrowed */
	int64_t team_id;
	const json_t *args; /* an object, not checked against the schema: control_tool's function does */
	int64_t deadline_ms; /* monotonic */
	const atomic_bool *stop;

	/* The outcome, by exactly one of the two functions below. */
	bool done, failed;
	json_t *result;
	char *model_text;
	char code[48];
};
/* `result` is taken; the text, which the model is told, is copied. Larger results are cut by the dispatcher. */
void control_call_succeed(struct control_call *c, json_t *result, const char *model_text);
void control_call_fail(struct control_call *c, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The loop does not wait any longer, or the deadline has passed. */
bool control_call_is_over(const struct control_call *c);

/* The beginning of a nested loop; texts are malloc'ed. */
struct loop_spec {
	char *prompt;
	char *system; /* told besides what every loop of the run is told; NULL: nothing */
	char *model; /* {"id", "params"} as text; NULL: as the loop that starts it */
	bool read_only; /* it may only read */
};
void loop_spec_fini(struct loop_spec *s);

struct control_tool {
	const char *name; /* another tool of that name, or alias, is hidden by it */
	const char *description;
	const char *parameters; /* JSON Schema, as of a worker's tool */
	const char *class; /* "read", "mutating" or "execute" */
	const char *sdk_type; /* toolCall.type of the client library; "" if it has none */
	/* After a crash an open call is performed again. False: it is told as interrupted, because it may have taken
	 * effect. (A nested loop always goes on.) */
	bool repeatable;
	void (*run)(struct control_call *c);
	/* ERR_INVALID with `why` for the model. */
	int (*nest)(const json_t *args, struct loop_spec *ret, struct why *why);
};

#define CONTROL_TOOL(t)                                                                                                \
	static const struct control_tool *const registered_##t __attribute__((section("control_tool_table"), used)) = &t

/* By name, without regard to case; NULL if there is none. */
const struct control_tool *control_tool_find(const char *name);
/* Descriptions in the form of a worker's tools (docs/worker-protocol.md), an array; borrowed, constant. */
const json_t *control_tools_described(void);
