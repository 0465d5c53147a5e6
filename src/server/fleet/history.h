/* fleet/history.h: what the queue and the pools looked like: a thread of its own looks once a minute and keeps it in
 * the store (adr/0034). Minutes are kept for two days, then hours until 35 days. An interval without a row is one in
 * which no server ran. */
#pragma once
#include "base/json.h"
#include "store/store.h"

#define HISTORY_KEEP_MS ((int64_t)35 * 24 * 3600 * 1000)
#define HISTORY_MINUTES_MS ((int64_t)48 * 3600 * 1000)
#define HISTORY_POINTS_MAX 2000

struct history;

/* Starts the thread. `every_s`: how often it looks. ERR_INTERNAL: there is no thread. */
int history_start(struct store *st, int64_t every_s, struct history **ret) MUST_USE;
/* Waits until the thread is gone. NULL is fine. */
void history_free(struct history **h);

/* One look at all teams, `now_ms`; what was seen in this interval before is added to. */
int history_look(struct store *st, int64_t now_ms, int64_t every_ms) MUST_USE;
/* Minutes that are old become hours, hours that are old are forgotten. At most some hours at once: *ret_more. */
int history_thin(struct store *st, int64_t now_ms, bool *ret_more) MUST_USE;

struct history_query {
	int64_t team_id, from_ms, to_ms, step_ms;
	const char *pool; /* NULL: all together */
};
/* [{atMs, queued, queuedMax, oldestWaitMs, workers, busy, utilization?, started, waitP50Ms?, waitP95Ms?}], oldest
 * first: the steps in which a server ran. */
int history_points(struct tx *tx, const struct history_query *hq, json_t **ret) MUST_USE;
