/* runs/control_tool.h: tools that the control plane performs itself. One file a tool: it defines one `struct
 * control_tool` and registers it with CONTROL_TOOL(), and nothing else needs to know.
 *
 * A tool has either `run`, or `nest`: then its call starts a nested loop, whose final answer is the result.
 * Thread: `run` has a thread of its own for each call and may block; it must end soon after control_call_is_over()
 * turns true. `nest` runs there too; it may read the store, and waits for nothing
 * else. */
#pragma once
#include "base/json.h"
#include "store/store.h"
#include <stdatomic.h>

struct control_call {
	struct store *store;
	const char *call_id, *agent_id, *run_id, *loop_id; /* borrowed */
	int64_t team_id;
	const json_t *tools; /* all that the loop's run has, as described; borrowed */
	const json_t *args; /* an object, not checked against the schema: control_tool's function does */
	int64_t deadline_ms; /* monotonic */
	const atomic_bool *stop;
	void (*output)(struct control_call *c, const char *text); /* tells how far it is */
	void *job; /* of the dispatcher */
	struct remote_side *remote; /* the run's MCP servers that are asked from here; NULL: none */

	/* The outcome, by exactly one of the functions below. */
	bool done, failed; /* failed without a result: it could not be done */
	json_t *result;
	json_t *sdk; /* set it where the client library takes the result in another form */
	char *model_text;
	char code[48];
};
/* `result` is taken; the text, which the model is told, is copied. Larger results are cut by the dispatcher. */
void control_call_succeed(struct control_call *c, json_t *result, const char *model_text);
void control_call_fail(struct control_call *c, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* It was done and says itself that it failed; as control_call_succeed. */
void control_call_report_failure(struct control_call *c, json_t *result, const char *model_text);
/* The loop does not wait any longer, or the deadline has passed. */
bool control_call_is_over(const struct control_call *c);

/* What a call that starts a nested loop may look at; all borrowed. */
struct nest_call {
	struct store *store;
	const char *agent_id, *run_id;
	const json_t *args; /* an object, not checked against the schema */
	const json_t *session_info; /* of the run */
	bool read_only; /* the loop that calls may only read, and so may the nested one, whatever it asks for */
};

/* The beginning of a nested loop; texts are malloc'ed. */
struct loop_spec {
	char *prompt;
	char *system; /* told besides what every loop of the run is told; NULL: nothing */
	char *model; /* {"id", "params"} as text; NULL: as the loop that starts it */
	char *
	    resume; /* the conversation of an earlier nested loop of this agent that it goes on with; NULL: a new one */
	bool read_only; /* it may only read */
	bool background; /* the call does not wait for it; of nested loops' own calls it is left out of account */
	bool (*offers)(const json_t *tool); /* of the run's tools those that it is offered; NULL: all */
};
void loop_spec_fini(struct loop_spec *s);

struct control_tool {
	const char *name; /* another tool of that name, or alias, is hidden by it */
	bool internal; /* for calls that the loop itself makes of another tool's: it is not described */
	const char *description;
	const char *parameters; /* JSON Schema, as of a worker's tool */
	/* "read", "mutating" or "execute" as of a worker's tool; "state": it changes nothing but what the run knows of
	 * itself, so plan mode allows it. */
	const char *class;
	const char *sdk_type; /* toolCall.type of the client library; "" if it has none */
	const char *aliases; /* ["other name"] as JSON, NULL: none */
	const char *arg_aliases; /* {"other name": "own name"} as JSON, NULL: none */
	/* Changes a copy of the arguments to what the client library takes. NULL: they are that. */
	void (*sdk_args)(json_t *args);
	/* The argument that is the last word of the run: the tool is offered to the run's own loop only, and a call
	 * that succeeds ends the run with that text. NULL: an ordinary tool. */
	const char *final_arg;
	bool plan_only; /* it is offered in plan mode only */
	bool own_loop_only; /* it is offered to the run's own loop only */
	/* After a crash an open call is performed again. False: it is told as interrupted, because it may have taken
	 * effect. (A nested loop always goes on.) */
	bool repeatable;
	void (*run)(struct control_call *c);
	/* ERR_INVALID with `why` for the model, or an error of the store. After a crash it is asked again, for the loop
	 * that goes on: the same call gives the same `offers`. */
	int (*nest)(const struct nest_call *c, struct loop_spec *ret, struct why *why);
};

#define CONTROL_TOOL(t)                                                                                                \
	static const struct control_tool *const registered_##t __attribute__((section("control_tool_table"), used)) = &t

/* By name, without regard to case; NULL if there is none. */
const struct control_tool *control_tool_find(const char *name);
/* Descriptions in the form of a worker's tools (docs/worker-protocol.md), an array; borrowed, constant. */
const json_t *control_tools_described(void);
