/* runs/run_priv.h: one run thread and what it carries. Owner: that thread. */
#pragma once
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
	json_t *result, *sdk_result;
	char *model_text;
};
void call_fini(struct call *c);
int call_write_down(struct run *r, struct tx *tx, struct call *c) MUST_USE;
/* Sends those that are not done and waits until all are; each result is stored as it comes. */
int calls_perform(struct run *r, struct call *calls, size_t n) MUST_USE;
/* "success" … for CallResult.Outcome; "error" for what is none. */
const char *outcome_text(int outcome);
/* From what the worker said about its tools; "" if unknown. */
const char *tool_field(const struct run *r, const char *name, const char *field);

/* session.c: the workspace before the first step and the branch after the last. */
int session_ensure(struct run *r) MUST_USE;
/* Commits and pushes. *ret_result is the text of the run if it went well; a failure is run_fail'ed. */
int session_publish_branch(struct run *r) MUST_USE;

/* steps.c: ask the model, perform its calls, until it answers. *ret_text (malloc'ed) is the final text. */
int steps_run(struct run *r, char **ret_text) MUST_USE;
