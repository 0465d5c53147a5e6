/* runs/run_thread_priv.h: one run thread and what it carries. Owner: that thread. For this folder only. */
#pragma once
#include "base/strbuf.h"
#include "server/fleet/queue.h"
#include "server/runs/context.h"
#include "server/runs/runs_priv.h"

struct run {
	struct runs *runs;
	struct agent *agent;
	struct run_info *info;
	int64_t epoch; /* owner_epoch that this thread writes with */
	struct claim claim; /* of its agent, and with it the worker */
	struct mailbox *inbox;
	uint64_t incarnation; /* of the worker process it is attached to */
	char *session_claim; /* whose session was open on the worker when this thread was attached; "" if none */
	struct tool_set *tool_set; /* of the worker process */
	json_t *tools; /* those and what the session adds; set by session_ensure */
	json_t *session_info;
	/* What the model of this run is asked with each time; set by steps_run. */
	const struct model *model;
	json_t *model_params;
	struct model_memo memo;
	char *system;
	size_t fixed_bytes; /* system text and tools */
	bool forget_rules; /* the context was cut: the next call tells the worker */
	struct log *log; /* during run_write: what is appended there is committed with the rest */
	bool ended; /* the run is terminal by this thread's doing */
	int64_t step_began_ms; /* monotonic */
	int left; /* not OK: why the run has to be left alone, found while the model spoke */
	const char *fail_code; /* set with `why` when the run has to end as ERROR */
	struct why why;
};

/* Results that mean "leave the run alone": somebody else, or a later thread, goes on with it. */
static inline bool run_is_left(int rc)
{
	return rc == ERR_LOST || rc == ERR_CANCELLED || rc == ERR_FENCED || rc == ERR_CLOSED || rc == ERR_NOT_FOUND;
}

/* Runs fn in a write transaction with r->log open, if this thread still owns the run (ERR_FENCED if not), and tries
 * again while the store is unavailable. Tells the stream's readers. */
typedef int run_write_fn(struct run *r, struct tx *tx, void *arg);
int run_write(struct run *r, run_write_fn *fn, void *arg) MUST_USE;
/* Half a second, while the store is unavailable. */
void run_pause_for_store(void);
/* Sets the reason and returns ERR_INVALID: the run shall end as ERROR. */
int run_fail(struct run *r, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* calls.c: calls to the worker, written down before they are sent. */
struct call {
	char *id, *name;
	call_kind kind;
	int64_t step, idx;
	json_t *args;
	char *args_text, *sdk_args; /* as told; made once */
	const char *sdk_type;
	uint64_t incarnation;
	bool done;
	const char *outcome; /* "success", "failure", "error", "rejected": literals */
	json_t *result, *detail;
	char *result_text, *sdk_result;
	char *model_text;
	/* With the result, in one transaction; NULL: nothing. */
	int (*also)(struct run *r, struct tx *tx, struct call *c);
	char *fault; /* not NULL: told back to the model instead of being performed */
};
void call_fini(struct call *c);
/* Writes it down; a tool is told as running. */
int call_write_down(struct run *r, struct tx *tx, struct call *c) MUST_USE;
/* Sends those that are not done and waits until all are; each result is stored as it comes. */
int calls_perform(struct run *r, struct call *calls, size_t n) MUST_USE;
/* Settles a call that is not sent at all. */
int call_reject(struct run *r, struct call *c, const char *code, const char *message) MUST_USE;
/* "success" … for CallResult.Outcome; "error" for what is none. */
const char *outcome_text(int outcome);
/* From what the worker said about its tools; "" if unknown. */
const char *tool_field(const struct run *r, const char *name, const char *field);

/* session.c: the workspace before the first step and the branch after the last. */
int session_ensure(struct run *r) MUST_USE;
/* Commits and pushes. *ret_result is the text of the run if it went well; a failure is run_fail'ed. */
int session_publish_branch(struct run *r) MUST_USE;
/* Whether there is something to publish after the last step. */
bool session_publishes(const struct run *r);

/* speech.c: one turn of the model while it speaks, and what came of it. */
#define SPEECH_MAX (1024 * 1024)
struct speech {
	struct run *r;
	int64_t step;
	bool begun; /* step-started is in the log */
	struct strbuf unsaid, unthought; /* not yet in the log */
	struct strbuf current; /* text of the present attempt */
	char *said_before; /* text of this step that an earlier thread or attempt logged */
	size_t said_len;
	size_t skip; /* how much of it the model has repeated so far */
	int failed; /* not OK: what it said could not be written */
	int64_t last_flush_ms, thinking_since_ms; /* 0: not thinking */
	bool last; /* an answer without a call ends the run: that is written with the step */
	/* After speech_turn. */
	char *text;
	json_t *native;
	enum model_stop stop;
	struct call *calls;
	size_t n_calls;
	struct model_usage usage;
};
#define SPEECH(run, number)                                                                                            \
	((struct speech){.r = (run),                                                                                   \
	    .step = (number),                                                                                          \
	    .unsaid = STRBUF(SPEECH_MAX),                                                                              \
	    .unthought = STRBUF(SPEECH_MAX),                                                                           \
	    .current = STRBUF(SPEECH_MAX)})
int speech_load_said(struct speech *s, struct tx *tx) MUST_USE;
/* Asks the model and writes the step down. ERR_TOO_LARGE: the conversation does not fit the model; it may be asked
 * again with another. */
int speech_turn(struct speech *s, const json_t *conversation) MUST_USE;
void speech_fini(struct speech *s);
/* The column steps.stop. */
const char *stop_text(enum model_stop stop);
/* step-completed of the step that began at step_began_ms. */
int log_step_end(struct run *r, int64_t step) MUST_USE;
/* While the model speaks: whether the run has to stop (r->left says why). */
bool run_is_interrupted(struct run *r);

/* compact.c: the context, and making room in it. */
/* From the store, as the model of this run is shown it. */
int context_load(struct run *r, struct context *ret) MUST_USE;
/* Before the model is asked: if the context is nearly full, makes it smaller. */
int context_fit(struct run *r, struct context *c, int64_t step) MUST_USE;
/* After the model refused it: makes it smaller, more harshly each time (*level counts). */
int context_refused(struct run *r, struct context *c, int64_t step, unsigned *level) MUST_USE;

/* thread.c: FINISHED, or ERROR if r->fail_code is set; inside run_write. */
int run_write_end(struct run *r, const char *text) MUST_USE;

/* steps.c: ask the model, perform its calls, until it answers. *ret_text (malloc'ed) is the final text. */
int steps_run(struct run *r, char **ret_text) MUST_USE;
