/* runs/retention.h: forgets what is older than the settings say, in small steps: one write transaction deletes few
 * rows, so that no other writer waits long, however large a run was. For this folder only.
 *
 * The order of forgetting: events first; images; then what the model was shown (prompts, steps, calls), after which an
 * agent that is asked again begins with an empty conversation; at last the agent with its runs. An agent with an active
 * run is never touched. */
#pragma once
#include "store/store.h"

struct retention {
	int64_t events_ms; /* events, and results of calls, after the end of their run */
	int64_t images_ms; /* images of prompts, after the last activity of their agent; 0: never */
	int64_t conversations_ms; /* prompts, steps and calls, likewise; 0: never */
	int64_t agents_ms; /* agents with their runs, likewise; 0: never */
	int64_t audit_ms; /* the audit log; 0: never */
	int64_t traces_ms; /* pools and workers, after they were seen last; 0: never */
};

/* Works for at most about `budget_ms`; the rest is for the next time. *free_space: there may be pages of the database
 * to give back to the file system; true for the first time. Store errors. Thread: the sweeper's. */
int retention_step(
    struct store *st, const struct retention *keep, int64_t now_ms, int64_t budget_ms, bool *free_space) MUST_USE;

/* The agent's loops get other conversations than the agent's: a new run begins an empty one. In the transaction of what
 * makes that so. */
int conversation_detach(struct tx *tx, const char *agent_id) MUST_USE;
/* The agent's artifacts are nobody's any more: their content goes by and by (server/artifacts). Likewise. */
int artifacts_let_go(struct tx *tx, const char *agent_id) MUST_USE;
