/* agent/worker/job.h: one call as its own thread sees it: what is wanted, and what came of it. Each kind of call is one
 * file, call_KIND.c, that registers a handler at link time; a new kind is a new file and a line in proto/worker.proto.
 * Thread: the call's, from start to end; the table of calls (calls.h) makes it and reads the outcome afterwards. */
#pragma once
#include "agent/tools/tool.h"
#include "link/call_kind.h"

struct job;

/* Which calls that wait or run a call of this kind ends as soon as it arrives. */
enum call_ends { ENDS_NONE, ENDS_OF_ITS_CLAIM, ENDS_OF_OTHER_CLAIMS };

struct call_handler {
	call_kind kind;
	bool exclusive; /* has the session for itself: waits for the calls before it and holds up those behind it */
	bool needs_session; /* is answered with no_session unless the session of its claim is open */
	enum call_ends ends;
	void (*perform)(struct job *j); /* fills the outcome; may block */
};

/* Registers the handler at link time. */
#define CALL_HANDLER(h)                                                                                                \
	static const struct call_handler *const registered_##h __attribute__((section("call_handlers"), used)) = &h
/* NULL: this program does not know the kind. */
const struct call_handler *call_handler_find(call_kind kind);

struct job {
	/* Constant while the thread runs; owned by the table. */
	const struct call_handler *handler; /* NULL: unknown kind */
	char *call_id;
	char *agent_id, *claim_id;
	char *name; /* of a tool; "" for every other kind */
	char *arguments_json;
	bool takes_env; /* the worker was started so */
	char *env_json; /* variables for programs, secret; NULL: none */
	char *mcp_json; /* of an opening: MCP servers, secret; NULL: none */
	bool project_mcp; /* also those of files */
	/* What is new of the session from then on; any thread, until the session is closed. NULL: nobody wants it. */
	void (*news)(void *ctx, const char *agent_id, const char *claim_id, const char *json);
	void *news_ctx;
	char *hook_json; /* what hooks are told of the run; NULL: nothing */
	const struct hook_settings *hooks; /* of the worker; NULL: it runs none */
	bool forget_rules;
	bool any_session; /* of our own closing: whichever session is open */
	const char *end_reason; /* of that: why, a literal; NULL: the worker is told to stop */
	int64_t end_limit_ms; /* how long hooks of the session's end may take; 0: as usual */
	int64_t deadline_mono_ms; /* INT64_MAX: the kind's own */
	int cancel_fd; /* readable once cancelled */
	/* Of the call's place; NULL: none was made there yet, which an opening does. A call that runs alone leaves here
	 * what is to be the place's from then on. */
	struct session *session;
	const struct session_config *sessions; /* of what one is made; NULL: none can be */
	unsigned place; /* its number, from 1 */
	/* Of a worker that clones what a request names (clones.h): where to, NULL: it does not; what the place has of
	 * that now; and the session that it has without. */
	const char *clones_dir;
	const char *endpoint; /* calls.h */
	struct clone_set *clones;
	struct session *base_session;
	void (*on_output)(void *ctx, int stream, const void *data, size_t len);
	void *on_output_ctx;

	/* The outcome; strings are malloc'ed. */
	enum tool_outcome outcome;
	char *result_json;
	char *model_text;
	char *sdk_json; /* NULL: the same as result_json */
	/* Of an opening that failed by the machine's fault: what the worker is unfit for; NULL: it is not. */
	char *unfit_reason;
	const char *unfit_code; /* a literal */
	/* After opening and closing: whose session is open, for which claim, "" for none; NULL: unchanged. */
	char *open_agent, *open_claim;
};

/* Performs the call by its handler. Blocks. */
void job_run(struct job *j);
/* Sets outcome TOOL_ERROR with {"message","code"}. */
void job_error(struct job *j, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
void job_drop_outcome(struct job *j);
void job_fini(struct job *j);

/* For handlers. */
/* Sets outcome TOOL_SUCCESS; takes the reference. */
void job_succeed(struct job *j, json_t *result);
/* job_error with what a session's failure says: what git said is behind it, and what was kept for the agent. The code
 * is `code`, or worker_unfit if another worker may do better. */
struct session_failure;
void job_error_of_session(struct job *j, int rc, const char *code, const struct session_failure *f);
/* The arguments as an object (new reference). ERR_INVALID: the job has an error invalid_arguments. */
int job_arguments(struct job *j, json_t **ret) MUST_USE;
/* The same for one member; "" if absent. */
int job_text_argument(struct job *j, const json_t *args, const char *name, const char **ret) MUST_USE;
/* The call's own limit, or from now the kind's. */
int64_t job_deadline(const struct job *j, int64_t own_limit_ms);
