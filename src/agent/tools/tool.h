/* agent/tools/tool.h: what a tool is. One file a tool: it defines one `struct tool` and registers it with TOOL(), and
 * nothing else needs to know.
 * Thread: a tool's function runs on a thread of its own call and may block; everything it shares is in the session,
 * which is constant while calls run. It must end soon after tool_cancelled() turns true. */
#pragma once
#include "base/json.h"
#include "base/strbuf.h"

struct session; /* agent/worker/session.h */

enum tool_class { TOOL_READ, TOOL_MUTATING };

enum tool_outcome { TOOL_SUCCESS = 1, TOOL_FAILURE, TOOL_ERROR, TOOL_REJECTED }; /* as CallResult.Outcome */

/* One invocation. The function fills the outcome by exactly one of tool_succeed, tool_fail and tool_error. */
struct tool_call {
	const char *call_id;
	json_t *args; /* checked against the schema, aliases resolved; borrowed */
	struct session *session; /* borrowed */
	int64_t deadline_mono_ms;

	/* The outcome. */
	enum tool_outcome outcome;
	json_t *result; /* owned */
	json_t *sdk_result; /* owned; NULL: same as result */
	char *model_text; /* owned; what the model is told, at most 32 KiB */
	char *attachment; /* owned; see tool_attach */

	/* Set by the caller of the tool. */
	int cancel_fd; /* readable once the call is cancelled: for poll() */
	void (*on_output)(void *ctx, int stream, const void *data, size_t len); /* 1 stdout, 2 stderr; may block */
	void *on_output_ctx;
};

struct tool {
	const char *name;
	const char *aliases[6]; /* other names that models use */
	const char *description;
	const char *parameters; /* JSON Schema of the arguments: object, properties, required; see schema.h */
	const char *const *arg_alias; /* NULL or "alias", "name", …, NULL: argument names that mean another */
	enum tool_class class;
	const char *sdk_type; /* toolCall.type of the client library: "shell", "read", …; "" if it has none */
	void (*run)(struct tool_call *call);
};

/* Registers the tool at link time. */
#define TOOL(t) static const struct tool *const registered_##t __attribute__((section("tool_table"), used)) = &t

/* Every registered tool, ordered by name. *ret_n is set. */
const struct tool *const *tools_all(size_t *ret_n);
/* By name or alias; NULL if there is none. */
const struct tool *tool_find(const char *name);
/* JSON array for the control plane: [{name, aliases, argAliases: {"alias": "name"}, description, parameters, class:
 * "read"|"mutating", sdkType}]. malloc'ed text. */
char *tools_describe(void);
/* Finds the tool, parses and checks the arguments, runs it. Fills the outcome in any case: unknown_tool (with near
 * names), invalid_arguments (with the field). */
void tool_run(struct tool_call *call, const char *name, const char *arguments_json);
void tool_call_fini(struct tool_call *call);

/* For tools. `result` and `sdk_result` are taken; sdk_result may be NULL. model_text is copied and cut to 32 KiB around
 * a marker that says how much is left out. */
void tool_succeed(struct tool_call *call, json_t *result, json_t *sdk_result, const char *model_text);
/* Before tool_succeed: text that is told behind the model text and not cut with it; at most 16 KiB. Taken; may be NULL.
 */
void tool_attach(struct tool_call *call, char *text);
void tool_fail(struct tool_call *call, json_t *result, json_t *sdk_result, const char *model_text);
/* outcome TOOL_ERROR, result {"message", "code"}, the model is told the message. */
void tool_error(struct tool_call *call, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool tool_cancelled(const struct tool_call *call);
