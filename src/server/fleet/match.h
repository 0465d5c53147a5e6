/* fleet/match.h: which worker a request may have, and which request a worker: by index, never by going through all
 * workers or all requests. For this folder only; inside the caller's transaction.
 *
 * The rule is M1 to M8 of docs/operating.md ("Which worker serves which request"). Of several workers that one is
 * taken which has the fewest labels that nobody asked for, then the one that is idle longest; of several requests the
 * oldest. */
#pragma once
#include "server/fleet/slots.h"

/* A worker of this state. `untried`: none that could not open the session of this run. ERR_EMPTY. */
int match_worker(
    struct tx *tx, const struct request *r, enum slot_state state, bool untried, char **ret_worker_id) MUST_USE;
/* Whether a worker that has not tried to open the session of this run could be waited for. */
int match_has_untried(struct tx *tx, const struct request *r, bool *ret) MUST_USE;
/* The oldest queued request that this worker may take, if it is free or held. ERR_EMPTY. */
int match_request(struct tx *tx, int64_t team_id, const char *worker_id, char **ret_agent_id) MUST_USE;
/* Which of the wanted pairs the fewest workers have: that one finds the worker. Borrowed; "" if none is wanted. */
int match_rarest(struct tx *tx, const struct request *r, const char **ret) MUST_USE;
/* Whether another run of this user may have a worker (teams.max_active_per_user). */
int match_within_cap(struct tx *tx, int64_t team_id, int64_t user_id, bool *ret) MUST_USE;
/* Loads a queued request. Texts are the query's, which must stay; `labels` is the caller's to free. ERR_EMPTY: it is
 * not queued. */
struct queued {
	struct query *q;
	struct request r;
	struct labels labels;
	int64_t open_attempts;
};
int queued_load(struct tx *tx, const char *agent_id, struct queued *ret) MUST_USE;
void queued_fini(struct queued *q);
