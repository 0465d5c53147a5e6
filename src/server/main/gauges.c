#include "server/main/gauges.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"

METRIC_GAUGE(runs_active, "bullpen_runs", "Runs that are not terminal, by status.", "status");
METRIC_GAUGE(queue_depth, "bullpen_queue_depth", "Requests that wait for a worker, by pool.", "pool");
METRIC_GAUGE(
    queue_oldest, "bullpen_queue_oldest_age_seconds", "Age of the oldest request that waits, by pool.", "pool");
METRIC_GAUGE(workers, "bullpen_workers_connected",
    "Connected workers, by pool and state (free, held, busy, unfit, draining).", "pool", "state");
METRIC_GAUGE(claims_lost, "bullpen_claims_lost", "Claims whose worker is away.");
METRIC_GAUGE(run_threads, "bullpen_run_threads", "Runs that have a thread.");
METRIC_GAUGE(
    runs_without_thread, "bullpen_runs_waiting_for_thread", "Runs that wait for one (limits.max_active_runs).");
METRIC_GAUGE(readers, "bullpen_stream_readers", "Open event streams of runs.");

struct gauges {
	struct store *store;
	struct runs *runs;
	struct metrics_collector *collector;
};

/* Names of pools are their workers' choice, and a metric has room for METRIC_SERIES_MAX sets of labels; what is beyond
 * counts as "other". So numbers are added, which makes "other" their sum, and the largest come first. */

/* Rows of (label, number). */
static int set_by_label(struct tx *tx, struct metric *m, const char *sql)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, sql, "");

	metric_clear(m);
	while (rc == OK && (rc = query_next(q)) == OK)
		metric_add(m, (double)query_int(q, 1), query_str(q, 0));
	return rc == ERR_EMPTY ? OK : rc;
}

/* The oldest of all others is the first that has no series of its own. */
static int set_oldest(struct tx *tx, int64_t now_ms)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT pool, MIN(queued_at) AS oldest FROM requests WHERE state = 'queued' GROUP BY pool ORDER BY oldest, "
	    "pool",
	    "");
	size_t n = 0;

	metric_clear(&queue_oldest);
	while (rc == OK && (rc = query_next(q)) == OK && n++ <= METRIC_SERIES_MAX)
		metric_set(&queue_oldest, (double)MAX(now_ms - query_int(q, 1), 0) / 1000, query_str(q, 0));
	return rc == ERR_EMPTY ? OK : rc;
}

static int set_queue(struct tx *tx, int64_t now_ms)
{
	int rc = set_by_label(tx, &queue_depth,
	    "SELECT pool, COUNT(*) AS n FROM requests WHERE state = 'queued' GROUP BY pool ORDER BY n DESC, pool");

	return rc != OK ? rc : set_oldest(tx, now_ms);
}

/* A busy worker whose claim is idle is held for its agent. */
static int set_workers(struct tx *tx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT w.pool, CASE WHEN w.draining <> 0 THEN 'draining' WHEN w.unfit_code <> ''"
	    " THEN 'unfit' WHEN w.busy = 0 THEN 'free' WHEN c.idle_since IS "
	    "NOT"
	    " NULL THEN 'held' ELSE 'busy' END AS s, COUNT(*) FROM workers w LEFT JOIN claims c ON c.team_id = "
	    "w.team_id"
	    " AND c.worker_id = w.id GROUP BY w.pool, s ORDER BY COUNT(*) DESC, w.pool, s",
	    "");

	metric_clear(&workers);
	while (rc == OK && (rc = query_next(q)) == OK)
		metric_add(&workers, (double)query_int(q, 2), query_str(q, 0), query_str(q, 1));
	return rc == ERR_EMPTY ? OK : rc;
}

static int set_claims_lost(struct tx *tx)
{
	int64_t n = 0;
	int rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM claims WHERE lost_at IS NOT NULL", "");

	if (rc == OK)
		metric_set(&claims_lost, (double)n);
	return rc;
}

/* While the store does not answer, the figures stay as they were; bullpen_store_errors_total says so. */
static void gauges_collect(void *ctx)
{
	struct gauges *g = ctx;
	AUTO(tx) tx = NULL;
	struct runs_count n;
	int rc = tx_begin(g->store, TX_READ, &tx);

	if (rc == OK)
		rc = set_by_label(tx, &runs_active,
		    "SELECT status, COUNT(*) FROM runs WHERE status IN ('CREATING', 'RUNNING') GROUP BY status");
	if (rc == OK)
		rc = set_queue(tx, clock_wall_ms());
	if (rc == OK)
		rc = set_workers(tx);
	if (rc == OK)
		IGNORE(set_claims_lost(tx));
	runs_count(g->runs, &n);
	metric_set(&run_threads, n.threads);
	metric_set(&runs_without_thread, (double)n.waiting);
	metric_set(&readers, (double)n.readers);
}

struct gauges *gauges_new(struct store *st, struct runs *runs)
{
	struct gauges *g = NEW(struct gauges);

	g->store = st;
	g->runs = runs;
	g->collector = metrics_collector(gauges_collect, g);
	return g;
}

void gauges_free(struct gauges **gp)
{
	struct gauges *g = TAKE(*gp);

	if (g == NULL)
		return;
	metrics_collector_free(&g->collector);
	free(g);
}
