/* runs/run_thread_priv.h: one run thread and what it carries. Owner: that thread. For this folder only. */
#pragma once
#include "base/strbuf.h"
#include "server/runs/runs_priv.h"

struct run {
	struct runs *runs;
	struct agent *agent;
	struct run_info *info;
	int64_t epoch; /* owner_epoch that this thread writes with */
	char *worker_id;
	struct mailbox *inbox;
	uint64_t incarnation; /* of the worker process it is attached to */
	json_t *session_info;
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

/* Runs fn in a write transaction that begins by checking that this thread still owns the run (ERR_FENCED), and tries
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
	enum fleet_call_kind kind;
	int64_t step, idx;
	json_t *args;
	uint64_t incarnation;
	bool done;
	const char *outcome; /* "success", "failure", "error", "rejected": literals */
	json_t *result, *sdk_result, *detail;
	char *model_text;
};
void call_fini(struct call *c);
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

/* speech.c: one turn of the model while it speaks, and what came of it. */
#define SPEECH_MAX (1024 * 1024)
struct speech {
	struct run *r;
	int64_t step;
	bool begun; /* step-started is in the log */
	struct strbuf unsaid; /* not yet in the log */
	char *said_before; /* text of this step that an earlier thread logged */
	size_t skip; /* how much of it the model has repeated so far */
	int64_t last_flush_ms;
	/* After speech_turn. */
	char *text;
	struct call *calls;
	size_t n_calls;
	struct model_usage usage;
};
#define SPEECH(run, number) ((struct speech){.r = (run), .step = (number), .unsaid = STRBUF(SPEECH_MAX)})
int speech_load_said(struct speech *s, struct tx *tx) MUST_USE;
/* Asks the model and writes the step down. */
int speech_turn(struct speech *s, const json_t *conversation) MUST_USE;
void speech_fini(struct speech *s);
/* step-completed of the step that began at step_began_ms. */
int log_step_end(struct run *r, struct tx *tx, int64_t step) MUST_USE;

/* steps.c: ask the model, perform its calls, until it answers. *ret_text (malloc'ed) is the final text. */
int steps_run(struct run *r, char **ret_text) MUST_USE;
