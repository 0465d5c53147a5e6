/* runs/followups.h: prompts that came while a run was active. Each begins as a run of its own when the one before has
 * ended.
 *
 * A row of the queue is there until the transaction that creates its run, so it survives whatever the server does not.
 * Thread: any. */
#pragma once
#include "server/runs/runs.h"

#define FOLLOWUPS_MAX 20

/* Of an agent whose run is active or that has some already. ERR_FULL: there are FOLLOWUPS_MAX. */
int followup_add(struct tx *tx, const char *agent_id, const struct prompt *prompt) MUST_USE;
int followups_count(struct tx *tx, const char *agent_id, int64_t *ret) MUST_USE;
int followups_drop(struct tx *tx, const char *agent_id) MUST_USE;
/* Begins the oldest, in a transaction of its own. ERR_EMPTY: there is none, or the agent is not idle. */
int followup_begin(struct runs *r, const char *agent_id) MUST_USE;
/* After the commit of a run's end: begins what its agent has waiting. What fails is left to the sweep. */
void followups_go_on(struct runs *r, const char *run_id);
