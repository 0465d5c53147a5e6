/* fleet/slots.h: the slots of a worker, by which requests find it and it finds requests. For this folder only; inside
 * the caller's transaction.
 *
 * worker_slots has a row for each repository that the worker serves (one with repo '' for any), slot_labels the same
 * for each of its labels, so that a request with labels is matched by index. A personal machine has the pool '', which
 * no request of a pool has. */
#pragma once
#include "base/labels.h"
#include "server/fleet/queue.h"

struct slot {
	const char *pool, *repo, *repo_host; /* repo and host in small letters */
};

/* A worker that registers: its former slots go. */
int slots_clear(struct tx *tx, int64_t team_id, const char *worker_id) MUST_USE;
int slots_put(struct tx *tx, int64_t team_id, const char *worker_id, const struct slot *s, const struct labels *labels,
    int64_t now_ms) MUST_USE;
/* A worker that goes: its claims without a run end, except those that their pool holds for workers that are away. */
int slots_end_idle_claims(struct tx *tx, int64_t team_id, const char *worker_id) MUST_USE;
/* The state that its fitness and its claims give it, for workers and all its slots. since_ms: since when it is in this
 * state; -1: that stays as it is. Nothing happens if it is not connected. */
int slots_follow(struct tx *tx, int64_t team_id, const char *worker_id, int64_t since_ms) MUST_USE;
