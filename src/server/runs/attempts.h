/* runs/attempts.h: workers that could not open the session of a run, for reasons of theirs: the run goes to another
 * one, a few times. For this folder and the API. */
#pragma once
#include "base/json.h"
#include "store/store.h"

struct loop;
struct call;

/* Whether the opening failed for a reason of the machine (code worker_unfit, or no answer in time), not of the request.
 */
bool attempt_is_of_machine(const struct call *c);
/* Inside the write of the result of an opening that failed so: writes the attempt down, takes the worker out of
 * matching if it said that it cannot work, and gives the run back to the queue (*ret_requeued) unless it was the last
 * attempt or the run has begun. Given back, the log's epoch is another: this thread owns the run no more. */
int attempt_write(struct loop *l, struct call *c, bool *ret_requeued) MUST_USE;
/* After that commit: worker and queue are told. */
void attempt_tell(struct loop *l, const struct call *c);

/* [{workerId, workerName, host, code, message, at}], the first one first; a new reference. */
int attempts_json(struct tx *tx, const char *run_id, json_t **ret) MUST_USE;
/* "A (id on host): message; B (…): …", malloc'ed. ERR_EMPTY: there are none. */
int attempts_text(struct tx *tx, const char *run_id, char **ret) MUST_USE;
