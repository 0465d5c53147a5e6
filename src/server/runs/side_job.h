/* runs/side_job.h: a call that the control plane performs itself, on a thread beside its loop's. For this folder only.
 *
 * The loop starts the job and waits in its own inbox, as for a worker. The job's thread puts one message there and
 * ends. Nothing of the job outlives the loop: side_job_join waits for the thread. */
#pragma once
#include "server/runs/call.h"

struct side_job {
	/* Constant while the thread runs. */
	struct loop *parent;
	struct call *call;
	const char *call_id; /* the call's own */
	const json_t *args; /* the call's own */
	int64_t deadline_ms; /* monotonic */
	void (*perform)(struct side_job *j); /* fills the answer */
	struct mailbox *inbox; /* the job's own, for messages about its calls */
	struct mailbox *gone; /* the thread's last word */
	atomic_bool stop; /* the loop wants it to end soon */

	/* Filled by `perform`, read by nobody before the message is there. */
	int outcome; /* CallResult.Outcome */
	json_t *result;
	json_t *sdk; /* the result in the client library's terms; NULL: as it is */
	char *model_text;
	bool left; /* there is no outcome: the run is left alone */
};

/* c->job is set. Exactly one message about the call comes to the loop's inbox. */
void side_job_start(struct loop *l, struct call *c, int64_t deadline_ms, void (*perform)(struct side_job *j));
/* c->job is NULL afterwards. Tells the job to stop and waits for it; no job is fine. */
void side_job_join(struct call *c);
/* For `perform`. `result` is taken, the text is copied. */
void side_job_succeed(struct side_job *j, json_t *result, const char *model_text);
/* It was done and says itself that it failed. */
void side_job_report_failure(struct side_job *j, json_t *result, const char *model_text);
void side_job_fail(struct side_job *j, const char *code, const char *message);
/* For `perform`, any number of times before its end: output of the call, as a worker's. Left out if the loop does not
 * keep up. */
void side_job_output(struct side_job *j, const char *text);
/* Answers a call that is not performed: an earlier thread may have. */
void side_job_interrupted(struct loop *l, const struct call *c);
