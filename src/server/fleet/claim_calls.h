/* fleet/claim_calls.h: what a controller may do with claims: reserve a waiting request for a worker of its own, give a
 * claim back, say that its worker cannot be started. Inside the caller's transaction; the events for those who watch
 * the queue are written with it. Unique keys decide between controllers that come at the same time. */
#pragma once
#include "store/store.h"

struct claim_ask {
	int64_t team_id;
	const char *agent_id; /* in small letters */
	const char *worker_id;
	int64_t connect_by_ms; /* until then the worker must be there */
};
struct claim_made {
	char *claim_id;
	char *run_id; /* the worker is connected already: the run may begin. Else NULL */
};
void claim_made_fini(struct claim_made *m);

/* The request is this worker's. OK also if it is already: then nothing changes. ERR_NOT_FOUND: nothing of that id
 * waits; ERR_CONFLICT: another worker has the request, or this worker has another one; ERR_INVALID: the worker is
 * connected and does not serve the request. All with `why`. */
int claim_reserve(
    struct tx *tx, const struct claim_ask *ask, int64_t now_ms, struct claim_made *ret, struct why *why) MUST_USE;
/* The claim that binds this worker to this agent. *ret_claim_id is malloc'ed. ERR_NOT_FOUND with `why`. */
int claim_find_pair(struct tx *tx, int64_t team_id, const char *agent_id, const char *worker_id, char **ret_claim_id,
    struct why *why) MUST_USE;

/* A claim of a worker of a pool. */
struct claim_state {
	char *claim_id, *worker_id;
	char *run_id; /* of the active run, or NULL */
	bool connected;
	bool serving; /* that run has begun */
	bool waking; /* it waits for its worker, which is away, to come back */
};
void claim_state_fini(struct claim_state *s);
/* ERR_NOT_FOUND with `why`: the agent has no claim of this team's pools. */
int claim_look(struct tx *tx, int64_t team_id, const char *agent_id, struct claim_state *ret, struct why *why) MUST_USE;
/* Ends it; its worker, if it is connected, gets nothing more. A run that has not begun goes back to the queue. */
int claim_release(
    struct tx *tx, int64_t team_id, const char *agent_id, const struct claim_state *s, int64_t now_ms) MUST_USE;
