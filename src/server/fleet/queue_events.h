/* fleet/queue_events.h: what happens to the queue of pool requests, as rows for those who watch it. */
#pragma once
#include "store/store.h"

/* One transition, in the transaction that makes it true: created, claimed, claimed_offline (worker_id and offline_until
 * are set), expired. worker_id may be NULL, offline_until 0. */
int queue_event_add(struct tx *tx, int64_t team_id, const char *kind, const char *agent_id, const char *pool,
    const char *repo, const char *repo_host, const char *worker_id, int64_t offline_until, int64_t now_ms) MUST_USE;
