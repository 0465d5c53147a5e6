/* fleet/queue_rows.h: requests of pools as the fleet API shows them. Inside the caller's transaction; any thread. */
#pragma once
#include "base/json.h"
#include "store/store.h"

/* NULL: all. */
struct queue_filter {
	char *repo; /* the address of a repository that the request must name, as repo_url.h reads it */
	char *pool;
};
void queue_filter_fini(struct queue_filter *f);
/* From what a client gave (NULL: not given): also owner/name, which is on github.com, and host/group/name. ERR_INVALID
 * with `why`. */
int queue_filter_read(const char *repository, const char *pool, struct queue_filter *ret, struct why *why) MUST_USE;

/* A place in the queue's order; 0 and "" before the first. */
struct queue_mark {
	int64_t queued_at_ms;
	char *agent_id;
};

/* What waits for a worker of a pool, or for its own one that is away: at most `limit` behind the place, oldest first;
 * the place moves to the last of them. *ret_more: there are others behind. */
int queue_pending(struct tx *tx, int64_t team_id, const struct queue_filter *f, struct queue_mark *place, int64_t limit,
    int64_t now_ms, json_t **ret, bool *ret_more) MUST_USE;
/* One request, whatever its state. ERR_EMPTY: there is none, or the filter leaves it out. */
int queue_request_json(struct tx *tx, int64_t team_id, const struct queue_filter *f, const char *agent_id,
    int64_t now_ms, json_t **ret) MUST_USE;
/* Whether the filter's repository is one of the agent's; true if that is gone. */
int queue_agent_fits(struct tx *tx, const struct queue_filter *f, const char *agent_id, bool *ret) MUST_USE;
