/* fleet/machines.h: personal machines: which one a request of its owner goes to. They have slots of the pool '', take
 * several agents at once (workers.max_sessions) and are never found by a request of a pool. For this folder and the
 * API; inside the caller's transaction. */
#pragma once
#include "server/fleet/queue.h"

/* Of the requester's connected machines with that name (any if it is "") that serve the repository and are in this
 * state, the one with the fewest sessions, then the one connected last. ERR_EMPTY. */
int machine_find(struct tx *tx, const struct request *r, enum slot_state state, char **ret_worker_id) MUST_USE;
/* The oldest queued request that this machine may take. ERR_EMPTY. */
int machine_request(struct tx *tx, int64_t team_id, const char *worker_id, char **ret_agent_id) MUST_USE;
/* Whether a machine of that name is known of this user (registered in the last 30 days). ERR_INVALID with `why`. */
int machine_known(struct tx *tx, int64_t user_id, const char *name, int64_t now_ms, struct why *why) MUST_USE;
/* Whether the user may ask for this machine, at creation. ERR_INVALID with `why`: nothing of that name is known of this
 * user (registered in the last 30 days), or none that is known serves the repository. */
int machine_check(struct tx *tx, int64_t team_id, int64_t user_id, const char *name, const char *repo,
    const char *repo_host, int64_t now_ms, struct why *why) MUST_USE;
