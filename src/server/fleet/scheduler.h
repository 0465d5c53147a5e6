/* fleet/scheduler.h: the thread that pairs requests with workers. */
#pragma once
#include "server/fleet/fleet.h"

int scheduler_start(struct fleet *f) MUST_USE;
/* Requests or workers changed: all are looked through. Cheap, coalesces. */
void scheduler_wake(struct fleet *f);
/* Only this worker became free, or only this request waits: just that is looked for, by index, however many others
 * there are. The other of the two is NULL. run_id, or NULL: with the end of this run its user may have another at work.
 */
void scheduler_hint(struct fleet *f, int64_t team_id, const char *worker_id, const char *agent_id, const char *run_id);
/* What is in the inbox when the scheduler is gone. */
void scheduler_drop_hint(void *hint);
