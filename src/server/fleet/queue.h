/* fleet/queue.h: the queue and the claims, as rows. Everything here happens inside the caller's transaction.
 *
 * A request is one turn of an agent that needs a worker. It exists while its run is not terminal. A claim binds an
 * agent to a worker and outlives the turn; while idle_since is set it holds a worker for nobody, and a waiting request
 * of another agent may take the worker over (docs/adr/0004). Unique keys, not locks, keep an agent from having two
 * claims and a worker from serving two agents. */
#pragma once
#include "base/json.h"
#include "store/store.h"

struct request {
	const char *agent_id, *run_id;
	int64_t team_id;
	const char *pool, *repo, *repo_host; /* repo "": any */
};

/* A new turn. If the agent still holds a claim on a connected worker it is bound at once; otherwise queued.
 * *ret_worker_id (malloc'ed) is the worker, or NULL while it waits. */
int queue_add(struct tx *tx, const struct request *r, int64_t now_ms, char **ret_worker_id) MUST_USE;
/* Tries to bind a queued request to a free matching worker, or to one that is held by an idle claim. OK: *ret_worker_id
 * is set. ERR_EMPTY: it goes on waiting (also if it is not queued any more). */
int queue_match(struct tx *tx, const char *agent_id, int64_t now_ms, char **ret_worker_id) MUST_USE;
/* The oldest queued request that has a worker to go to. ERR_EMPTY if there is none. */
int queue_next_pair(struct tx *tx, int64_t now_ms, char **ret_agent_id, char **ret_run_id) MUST_USE;
/* The run is RUNNING. */
int queue_set_serving(struct tx *tx, const char *agent_id) MUST_USE;
/* The turn is over: the request goes, the claim (if any) becomes idle. */
int queue_end(struct tx *tx, const char *agent_id, int64_t now_ms) MUST_USE;
/* Ends the claim of the agent and frees the worker; no claim is fine. */
int claim_end(struct tx *tx, const char *agent_id, int64_t now_ms) MUST_USE;
/* Back to the queue, in its old place, with one more attempt counted. */
int queue_requeue(struct tx *tx, const char *agent_id, int64_t now_ms, int64_t *ret_attempts) MUST_USE;
/* Team and worker of the agent's claim; ERR_EMPTY. */
int claim_worker(struct tx *tx, const char *agent_id, int64_t *ret_team, char **ret_worker_id) MUST_USE;

/* Why a request waits: {code, text, since, position?} as docs/api.md has it; ERR_EMPTY if it does not wait. */
int queue_wait_reason(struct tx *tx, const char *agent_id, int64_t now_ms, int64_t grace_ms, json_t **ret) MUST_USE;

/* Which row of a pool serves a repository (routing at creation). *ret_match_repo (malloc'ed): the repo to match with,
 * "" for an any-repo row. ERR_NOT_FOUND: no such pool; ERR_CONFLICT: it serves only other repositories (`why` lists
 * some). The pool `default` always exists. */
int pool_route(struct tx *tx, int64_t team_id, const char *pool, const char *repo, const char *repo_host,
    char **ret_match_repo, struct why *why) MUST_USE;
