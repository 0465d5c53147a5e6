/* fleet/ids.h: whose a worker id is, and how much of the store an account may take with its workers.
 * Thread: jobs, inside the caller's transaction. */
#pragma once
#include "store/store.h"

struct id_claim {
	int64_t team_id;
	const char *worker_id, *account;
	int64_t max_ids; /* that the account may have: connected or remembered */
	int64_t max_new; /* in a minute */
};

/* A worker id belongs to the account that used it first, until it is forgotten. ERR_DENIED with `why`: it is another's.
 */
int worker_id_check(struct tx *tx, const struct id_claim *c, struct why *why) MUST_USE;
/* Before a row of worker_epochs is made: the account's ids that were not seen for longest make room, if they are
 * neither connected nor have a claim. ERR_FULL with `why`: too many new ones in a minute, or no room. OK for an id that
 * is there. */
int worker_id_make_room(struct tx *tx, const struct id_claim *c, int64_t now_ms, struct why *why) MUST_USE;
/* The same for a row of pools; at most max_ids for an account, those that nothing refers to make room. */
int pool_make_room(struct tx *tx, const struct id_claim *c, const char *pool, const char *repo, const char *repo_host,
    struct why *why) MUST_USE;
