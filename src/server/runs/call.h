/* runs/call.h: the calls of a loop, and who performs them. For this folder only.
 *
 * Every executor keeps the same promises: a call is a row before it is started, it is started at most once, it has a
 * deadline, it ends when its loop is cancelled, its output is told while it runs, and its result is checked and bounded
 * before it is stored. Their differences are behind struct executor. Its answer is a message in the loop's inbox
 * (struct fleet_msg), as that of a worker is.
 *
 * Thread: the loop's. */
#pragma once
#include "server/runs/run.h"

struct call;

struct executor {
	const char *name; /* the column tool_calls.executor */
	/* How long the call may take; the loop waits a little longer. */
	int64_t (*limit_ms)(const struct loop *l, const struct call *c);
	/* The call is on disk: bring it under way. One that an earlier thread wrote down (c->taken_over) may be under
	 * way already, or cut off. Exactly one FLEET_RESULT or FLEET_INTERRUPTED follows, unless the loop is left
	 * before. */
	void (*start)(struct loop *l, struct call *c);
	/* The result is on disk. */
	void (*stored)(struct loop *l, struct call *c);
	/* The deadline has passed: no result is waited for. */
	void (*abandon)(struct loop *l, struct call *c);
	/* The loop is left while the call is open: a later thread will start it anew. */
	void (*leave)(struct loop *l, struct call *c);
};
extern const struct executor executor_worker, executor_control, executor_loop;

struct call {
	char *id, *name;
	call_kind kind;
	const struct executor *executor;
	int64_t step, idx;
	json_t *args;
	char *args_text, *sdk_args; /* as told; made once */
	const char *sdk_type;
	uint64_t incarnation; /* of the worker process it was written down for */
	bool taken_over; /* an earlier thread wrote it down */
	int64_t started_ms, deadline_ms; /* monotonic; 0: not started by this thread */
	int64_t written_at; /* wall time; set by whoever takes an opening over, else 0 */
	/* An opening: what the worker says that it is doing, not stored yet (NULL: nothing), and when it may be. */
	char *progress, *progress_stored;
	int64_t progress_due_ms;
	bool beside; /* it is performed together with others */
	size_t told_upto; /* of the transcript (hooks_transcript.c) */
	struct side_job *job; /* of an executor with a thread of its own */
	struct redact_stream held[2]; /* stdout, stderr: could be the beginning of a secret (base/redact.h) */
	bool done;
	bool requeued; /* an opening that failed: the run was given back to the queue with its result */
	/* With the result of a worker: on which connection it was said (fleet_msg). */
	int64_t link_epoch, fitness_n;
	const char *outcome; /* "success", "failure", "error", "rejected": literals */
	json_t *result, *detail;
	char *result_text, *sdk_result;
	char *model_text;
	/* In the write that stores the result; NULL: nothing. */
	int (*also)(struct loop *l, struct call *c);
	char *fault; /* not NULL: told back to the model instead of being performed */
};
void call_fini(struct call *c);

/* What of l->all it calls; NULL: nothing that is there. Borrowed. */
const json_t *tool_of_call(const struct loop *l, const struct call *c);
/* Inside a write: the call becomes a row; a tool is told as running. */
int call_write_down(struct loop *l, struct call *c) MUST_USE;
/* Starts those that are not done and waits until all are; each result is stored as it comes. */
int calls_perform(struct loop *l, struct call *calls, size_t n) MUST_USE;
/* A message that came while no call of this loop is under way: news, an end (the error), or a nested loop's. */
int calls_take_others(struct loop *l, struct fleet_msg **m) MUST_USE;
/* Settles a call that is not started at all. */
int call_reject(struct loop *l, struct call *c, const char *code, const char *message) MUST_USE;
/* "success" … for CallResult.Outcome; "error" for what is none. */
const char *outcome_text(int outcome);
/* Which executor the stored name means; the worker's for an unknown one. */
const struct executor *executor_by_name(const char *name);

/* call_routes.c: messages of the worker come to the run's own loop; those about a call of a nested loop are passed on.
 * Threads: the loops of the run. */
struct call_routes *call_routes_new(void);
void call_routes_free(struct call_routes **r);
void call_routes_add(struct call_routes *r, const char *call_id, struct mailbox *inbox);
void call_routes_remove(struct call_routes *r, const char *call_id);
/* Takes the message if it is about a call that was added. */
bool call_routes_pass(struct call_routes *r, struct fleet_msg **m);
