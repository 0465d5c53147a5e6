/* agent/tools/tool.h: what a tool is. One file a tool: it defines one `struct tool` and registers it with TOOL(), and
 * nothing else needs to know.
 * Thread: a tool's function runs on a thread of its own call and may block; everything it shares is in the session,
 * which is constant while calls run. It must end soon after tool_cancelled() turns true. */
#pragma once
#include "base/json.h"
#include "base/strbuf.h"

#define TOOLS_MAX 500 /* of one worker; the control plane takes no more */

struct session; /* agent/session/session.h */
struct tool;
struct tool_call;

/* What a tool is about to do with a file, or has done, in the midst of its work. */
struct tool_moment {
	enum {
		TOOL_READS, /* it has read the file and is about to give away what is there */
		TOOL_CHANGES, /* the same for a change: before it writes, `text` is what the file will be */
		TOOL_WROTE
	} what;
	const char *path; /* absolute */
	const char *text; /* READS: the whole file; CHANGES, WROTE: as it will be, as it is */
	const char *old; /* CHANGES, WROTE: what was there, "" for a new file */
	bool binary; /* READS: no text */
	/* CHANGES: another text that is to be written instead; malloc'ed, the tool's from then on. NULL: as it was. */
	char *replaced;
};

/* What stands before and behind every tool of a session. Thread: the call's, several at once. */
struct tool_hook {
	/* Before the tool runs, with checked arguments. false: it does not run; the hook has filled the outcome by
	 * tool_reject or tool_error. NULL: nothing to say. */
	bool (*before)(void *ctx, struct tool_call *call);
	/* The outcome is there, also if a later hook or the tool refused; not if this hook was not asked. NULL: as
	 * above. */
	void (*after)(void *ctx, struct tool_call *call);
	/* Between the two. false: the tool does not go on; the hook has filled the outcome. NULL: as above. */
	bool (*moment)(void *ctx, struct tool_call *call, struct tool_moment *m);
	void *ctx;
};
struct tool_hooks {
	const struct tool_hook *list; /* asked in this order, told in the reverse */
	size_t n;
};

enum tool_class { TOOL_READ, TOOL_MUTATING };

enum tool_outcome { TOOL_SUCCESS = 1, TOOL_FAILURE, TOOL_ERROR, TOOL_REJECTED }; /* as CallResult.Outcome */

/* One invocation. The function fills the outcome by exactly one of tool_succeed, tool_fail, tool_error and tool_reject.
 */
struct tool_call {
	const char *call_id;
	const struct tool *tool; /* set by tool_run */
	json_t *args; /* checked against the schema, aliases resolved; borrowed; set by tool_run */

	/* The context, set by the caller of tool_run; borrowed. */
	struct session *session;
	const struct tool_hooks *hooks; /* NULL: none */
	const json_t *hook_facts; /* what hooks are told of the run; NULL: nothing */
	/* Of the hook: what it remembers of the call from `before` to `after`, which frees it. */
	void *hook_memo;
	/* `before` may set it, a new reference: the arguments that count instead. They are checked like the first ones.
	 */
	json_t *new_args;
	const char *const *env; /* "NAME=value" for the programs of the agent, NULL-terminated; NULL: nothing */
	int64_t deadline_mono_ms;
	int cancel_fd; /* readable once the call is cancelled: for poll() */
	void (*on_output)(void *ctx, int stream, const void *data, size_t len); /* 1 stdout, 2 stderr; may block */
	void *on_output_ctx;

	/* The outcome. */
	enum tool_outcome outcome;
	json_t *result; /* owned */
	json_t *sdk_result; /* owned; NULL: same as result */
	char *model_text; /* owned; what the model is told, at most 32 KiB */
	char *attachment; /* owned; see tool_attach */
	int end_fd; /* owned, 0: none. Of what it left running, for hooks: readable at its end */
};

struct tool {
	const char *name;
	const char *aliases[6]; /* other names that models use */
	const char *description;
	const char *parameters; /* JSON Schema of the arguments: object, properties, required; see schema.h */
	const char *const *arg_alias; /* NULL or "alias", "name", …, NULL: argument names that mean another */
	enum tool_class class;
	const char *sdk_type; /* toolCall.type of the client library: "shell", "read", …; "" if it has none */
	/* The control plane calls it for another tool that it has offered: it is not described. */
	bool internal;
	void (*run)(struct tool_call *call); /* only tool_run calls it */
	/* The command line of the program that such a call goes to, for hooks, without secrets; malloc'ed, NULL: it is
	 * not known. The function is NULL where there is none. */
	char *(*command)(const struct tool_call *call);
	void *ctx; /* of whoever added the tool, for its function: call->tool->ctx */
};

/* Registers the tool at link time. */
#define TOOL(t) static const struct tool *const registered_##t __attribute__((section("tool_table"), used)) = &t

/* By name or alias; NULL if there is none. Of a tool that was added: until it is removed. */
const struct tool *tool_find(const char *name);
/* Adds a tool to the catalogue of this process; it is borrowed until tools_remove. `owner` (not NULL) is whose it is: a
 * session, whose SessionInfo describes it. Names are unique, whatever the case and aliases included: ERR_CONFLICT.
 * ERR_INVALID, ERR_FULL; all with `why`. */
int tool_add(const struct tool *t, const void *owner, struct why *why) MUST_USE;
/* Removes what that owner added. No tool of it may be running: opening and closing a session is exclusive, so it is
 * the place for this. */
void tools_remove(const void *owner);
/* JSON array for the control plane, ordered by name: [{name, aliases, argAliases: {"alias": "name"}, description,
 * parameters, class: "read"|"mutating", sdkType}], of one owner; NULL: the tools of the program, which a Hello
 * describes. malloc'ed text. */
char *tools_describe(const void *owner);
/* Finds the tool, parses and checks the arguments, asks the hooks, runs it, tells the hooks. Fills the outcome in any
 * case: unknown_tool (with near names), invalid_arguments (with the field), or what a hook or the tool said. Hooks hear
 * of calls with valid arguments only. */
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
/* The same with TOOL_REJECTED: a rule forbids it. */
void tool_reject(struct tool_call *call, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool tool_cancelled(const struct tool_call *call);
/* Tells the hooks. false: the call has its outcome, the tool ends. Nothing is done where nobody listens; reading a file
 * only for that is spared by tool_is_watched. */
bool tool_moment(struct tool_call *call, struct tool_moment *m) MUST_USE;
bool tool_is_watched(const struct tool_call *call);
/* More text for the model behind what it is told of the outcome. After the outcome. */
void tool_add_text(struct tool_call *call, const char *text);
