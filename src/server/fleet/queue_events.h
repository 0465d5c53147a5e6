/* fleet/queue_events.h: what happened to the queue, for those who watch it: a row for each transition of a request of a
 * pool, written in the transaction that is the transition (docs/api.md tells which transition is which event).
 * They are kept for ten minutes at least, and the newest 10,000 of a team always (runs/retention.c). */
#pragma once
#include "store/store.h"

/* Literals, for `kind`. */
#define QUEUE_CREATED "created"
#define QUEUE_CLAIMED "claimed"
#define QUEUE_CLAIMED_OFFLINE "claimed_offline"
#define QUEUE_EXPIRED "expired"

/* repo, repo_host: of the request, "" if it has none. worker_id may be NULL; offline_until 0: none. */
int queue_event_add(struct tx *tx, int64_t team_id, const char *kind, const char *agent_id, const char *pool,
    const char *repo, const char *repo_host, const char *worker_id, int64_t offline_until, int64_t now_ms) MUST_USE;
/* The newest one's number, 0 if there was never one. */
int queue_event_newest(struct tx *tx, int64_t team_id, int64_t *ret_seq) MUST_USE;
/* Whether all that came after `seq` are still there. */
int queue_event_is_kept(struct tx *tx, int64_t team_id, int64_t seq, bool *ret) MUST_USE;

struct queue_event {
	int64_t seq;
	char kind[24];
	char *agent_id, *pool;
};
void queue_event_fini(struct queue_event *e);
/* The next after `seq`, oldest first, at most `max`. */
int queue_event_load(
    struct tx *tx, int64_t team_id, int64_t seq, struct queue_event *events, size_t max, size_t *ret_n) MUST_USE;
