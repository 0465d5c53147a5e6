#include "server/fleet/history.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/fleet/history_rows.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define POOLS_MAX 100 /* with rows of their own in one interval; the rest is in the row of '' */
#define HOUR_MS ((int64_t)3600 * 1000)
#define HOURS_AT_ONCE 24
#define TEAMS_MAX 64
/* What waited longer than that ago is not counted: its events may be forgotten (queue_events.h). */
#define COUNT_BACK_MS ((int64_t)10 * 60 * 1000)

struct history {
	struct store *store;
	int64_t every_ms;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping;
};

/* The samples of one interval by pool; [0] is ''. */
struct look {
	int64_t team_id, at, now, every_ms;
	char *names[POOLS_MAX + 1];
	struct sample *of[POOLS_MAX + 1];
	size_t n;
};

static struct sample *look_of(struct look *l, const char *pool)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->names[i], pool) == 0)
			return l->of[i];
	if (l->n > POOLS_MAX)
		return l->of[0];
	l->names[l->n] = str_dup(pool);
	l->of[l->n] = NEW(struct sample);
	return l->of[l->n++];
}

static void look_init(struct look *l)
{
	l->n = 0;
	look_of(l, "");
}

static void look_fini(struct look *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->names[i]);
		free(l->of[i]);
	}
	l->n = 0;
}

static int look_at_queue(struct tx *tx, struct look *l)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT pool, COUNT(*) AS n, MIN(queued_at) FROM requests WHERE team_id = $1 AND state = 'queued' AND "
	    "machine "
	    "IS NULL GROUP BY pool ORDER BY n DESC, pool",
	    "i", l->team_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		struct sample *s = look_of(l, query_str(q, 0));

		s->queued += query_int(q, 1);
		s->oldest_ms = MAX(s->oldest_ms, l->now - query_int(q, 2));
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* One that cannot work is no capacity, unless it works. */
static int look_at_workers(struct tx *tx, struct look *l)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT x.pool, COUNT(*) AS n, SUM(x.busy) FROM (SELECT w.pool AS pool, w.unfit_code AS unfit, CASE WHEN "
	    "EXISTS(SELECT 1 FROM claims c WHERE c.team_id = w.team_id AND c.worker_id = w.id AND c.idle_since IS "
	    "NULL) "
	    "THEN 1 ELSE 0 END AS busy FROM workers w WHERE w.team_id = $1 AND w.personal = 0) x WHERE x.unfit = '' OR "
	    "x.busy = 1 GROUP BY x.pool ORDER BY n DESC, x.pool",
	    "i", l->team_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		struct sample *s = look_of(l, query_str(q, 0));

		s->workers += query_int(q, 1);
		s->busy += query_int(q, 2);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* Those that got a worker since the last look. A request is forgotten with its run's end; its run has begun with it. */
static int look_at_waits(struct tx *tx, struct look *l, int64_t since)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT e.pool, e.at - COALESCE((SELECT r.queued_at FROM requests r WHERE r.agent_id = e.agent_id AND "
	    "r.queued_at <= e.at), (SELECT MAX(x.created_at) FROM runs x WHERE x.agent_id = e.agent_id AND "
	    "x.created_at <= "
	    "e.at), e.at) FROM queue_events e WHERE e.team_id = $1 AND e.kind = 'claimed' AND e.at >= $2 AND e.at < $3",
	    "iii", l->team_id, since, l->now);

	while (rc == OK && (rc = query_next(q)) == OK)
		waits_add(&look_of(l, query_str(q, 0))->waits, query_int(q, 1));
	return rc == ERR_EMPTY ? OK : rc;
}

/* What an earlier look at this interval has kept: the server was started again, or looks more often than it keeps. */
static int add_earlier(struct tx *tx, struct look *l)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT pool, " SAMPLE_COLUMNS " FROM fleet_samples WHERE team_id = $1 AND at = $2",
	    "ii", l->team_id, l->at);

	while (rc == OK && (rc = query_next(q)) == OK) {
		struct sample earlier;

		sample_read(q, 1, &earlier);
		sample_merge(look_of(l, query_str(q, 0)), &earlier);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int counted_to(struct tx *tx, const struct look *l, int64_t *ret)
{
	int64_t last = 0;
	int rc = tx_query_int(tx, &last,
	    "SELECT COALESCE(MAX(counted_to), 0) FROM fleet_samples WHERE team_id = $1 AND at > $2", "ii", l->team_id,
	    l->now - 2 * COUNT_BACK_MS);

	*ret = MAX(last, l->now - COUNT_BACK_MS);
	return rc;
}

/* In a snapshot, so that nobody who writes waits for the counting. */
static int look_at_team(struct store *st, struct look *l)
{
	AUTO(tx) tx = NULL;
	int64_t since = 0;
	int rc = tx_begin(st, TX_READ, &tx);

	look_init(l);
	if (rc == OK)
		rc = counted_to(tx, l, &since);
	if (rc == OK)
		rc = look_at_queue(tx, l);
	if (rc == OK)
		rc = look_at_workers(tx, l);
	if (rc == OK)
		rc = look_at_waits(tx, l, since);
	for (size_t i = 0; i < l->n; i++) {
		l->of[i]->samples = i == 0;
		l->of[i]->queued_max = l->of[i]->queued;
	}
	return rc == OK ? add_earlier(tx, l) : rc;
}

static int store_look_at_team(struct tx *tx, void *arg)
{
	const struct look *l = arg;
	int rc = OK;

	for (size_t i = 0; rc == OK && i < l->n; i++)
		rc = sample_store(tx, l->team_id, l->at, l->names[i], l->every_ms, l->now, l->of[i]);
	return rc;
}

static int teams_of(struct store *st, int64_t *ids, size_t max, size_t *ret_n)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	size_t n = 0;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q, "SELECT id FROM teams ORDER BY id", "");
	while (rc == OK && n < max && (rc = query_next(q)) == OK)
		ids[n++] = query_int(q, 0);
	*ret_n = n;
	return rc == ERR_EMPTY ? OK : rc;
}

int history_look(struct store *st, int64_t now_ms, int64_t every_ms)
{
	int64_t teams[TEAMS_MAX];
	size_t n = 0;
	int rc = teams_of(st, teams, ARRAY_LEN(teams), &n);

	for (size_t i = 0; rc == OK && i < n; i++) {
		__attribute__((cleanup(look_fini))) struct look l = {
		    .team_id = teams[i], .at = now_ms - now_ms % every_ms, .now = now_ms, .every_ms = every_ms};

		rc = look_at_team(st, &l);
		if (rc == OK)
			rc = store_write(st, store_look_at_team, &l);
	}
	return rc;
}

struct thinning {
	int64_t now_ms;
	bool found;
};

/* The minutes of one hour of one team become that hour. */
static int thin_hour(struct tx *tx, void *arg)
{
	struct thinning *t = arg;
	__attribute__((cleanup(look_fini))) struct look l = {.n = 0};
	AUTO(query) q = NULL;
	int rc =
	    tx_query(tx, &q, "SELECT team_id, at FROM fleet_samples WHERE at < $1 AND span_ms < $2 ORDER BY at LIMIT 1",
		"ii", t->now_ms - HISTORY_MINUTES_MS, HOUR_MS);

	t->found = false;
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	t->found = true;
	l.team_id = query_int(q, 0);
	l.at = query_int(q, 1) - query_int(q, 1) % HOUR_MS;
	query_free(&q);
	look_init(&l);
	rc = tx_query(tx, &q,
	    "SELECT pool, " SAMPLE_COLUMNS " FROM fleet_samples WHERE team_id = $1 AND at >= $2 AND at < $3", "iii",
	    l.team_id, l.at, l.at + HOUR_MS);
	while (rc == OK && (rc = query_next(q)) == OK) {
		struct sample s;

		sample_read(q, 1, &s);
		sample_merge(look_of(&l, query_str(q, 0)), &s);
	}
	query_free(&q);
	if (rc == ERR_EMPTY)
		rc = tx_exec(tx, "DELETE FROM fleet_samples WHERE team_id = $1 AND at >= $2 AND at < $3", "iii",
		    l.team_id, l.at, l.at + HOUR_MS);
	for (size_t i = 0; rc == OK && i < l.n; i++)
		rc = sample_store(tx, l.team_id, l.at, l.names[i], HOUR_MS, l.at + HOUR_MS, l.of[i]);
	return rc;
}

static int forget_old(struct tx *tx, void *arg)
{
	const struct thinning *t = arg;

	return tx_exec(tx, "DELETE FROM fleet_samples WHERE at < $1", "i", t->now_ms - HISTORY_KEEP_MS);
}

int history_thin(struct store *st, int64_t now_ms, bool *ret_more)
{
	struct thinning t = {.now_ms = now_ms, .found = true};
	int rc = store_write(st, forget_old, &t);

	for (int i = 0; rc == OK && t.found && i < HOURS_AT_ONCE; i++)
		rc = store_write(st, thin_hour, &t);
	*ret_more = rc == OK && t.found;
	return rc;
}

/* Waits for the next interval, by the clock that its rows are named by. False: it is over. */
static bool wait_for_next(struct history *h)
{
	int64_t now = clock_wall_ms(), next = now - now % h->every_ms + h->every_ms;
	struct timespec at = {.tv_sec = next / 1000, .tv_nsec = (long)(next % 1000) * 1000000};
	bool go_on;

	pthread_mutex_lock(&h->lock);
	while (!h->stopping && pthread_cond_timedwait(&h->changed, &h->lock, &at) != ETIMEDOUT)
		;
	go_on = !h->stopping;
	pthread_mutex_unlock(&h->lock);
	return go_on;
}

static void *history_main(void *arg)
{
	struct history *h = arg;
	int64_t thinned = 0;

	thread_context_set("history");
	do {
		int64_t now = clock_wall_ms();
		bool more = false;
		int rc = history_look(h->store, now, h->every_ms);

		if (rc == OK && now - thinned >= HOUR_MS) {
			rc = history_thin(h->store, now, &more);
			thinned = more ? thinned : now;
		}
		if (rc != OK)
			store_log_unavailable(h->store, rc);
	} while (wait_for_next(h));
	return NULL;
}

int history_start(struct store *st, int64_t every_s, struct history **ret)
{
	struct history *h = NEW(struct history);

	h->store = st;
	h->every_ms = every_s * 1000;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	if (pthread_create(&h->thread, NULL, history_main, h) != 0) {
		pthread_mutex_destroy(&h->lock);
		pthread_cond_destroy(&h->changed);
		free(h);
		return ERR_INTERNAL;
	}
	*ret = h;
	return OK;
}

void history_free(struct history **hp)
{
	struct history *h = TAKE(*hp);

	if (h == NULL)
		return;
	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->changed);
	free(h);
}

/* Means are of what was seen at the looks of the step. */
static json_t *point_json(int64_t at, const struct sample *s)
{
	json_t *o = json_object();
	int64_t p50 = waits_percentile(&s->waits, 50), p95 = waits_percentile(&s->waits, 95);
	double n = (double)MAX(s->samples, 1);

	json_put_int(o, "atMs", at);
	json_put_new(o, "queued", json_real((double)s->queued / n));
	json_put_int(o, "queuedMax", s->queued_max);
	json_put_int(o, "oldestWaitMs", s->oldest_ms);
	json_put_new(o, "workers", json_real((double)s->workers / n));
	json_put_new(o, "busy", json_real((double)s->busy / n));
	if (s->workers > 0)
		json_put_new(o, "utilization", json_real((double)s->busy / (double)s->workers));
	json_put_int(o, "started", s->waits.total);
	if (p50 >= 0) {
		json_put_int(o, "waitP50Ms", p50);
		json_put_int(o, "waitP95Ms", p95);
	}
	return o;
}

/* The greatest number that waited at once is of each pool; together they are added interval by interval. */
struct adding {
	struct sample step;
	int64_t step_at, row_at, row_max;
	bool any;
};

static void close_row(struct adding *a)
{
	a->step.queued_max = MAX(a->step.queued_max, a->row_max);
	a->row_max = 0;
}

static void close_step(struct adding *a, json_t *items)
{
	close_row(a);
	if (a->any && a->step.samples > 0)
		json_array_append_new(items, point_json(a->step_at, &a->step));
	a->step = (struct sample){0};
	a->any = false;
}

int history_points(struct tx *tx, const struct history_query *hq, json_t **ret)
{
	AUTO_JSON items = json_array();
	struct adding a = {.step_at = -1, .row_at = -1};
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT at, pool, " SAMPLE_COLUMNS
	    " FROM fleet_samples WHERE team_id = $1 AND at >= $2 AND at < $3 AND ($4 IS NULL OR pool = '' OR pool = $4)"
	    " ORDER BY at, pool",
	    "iiis", hq->team_id, hq->from_ms, hq->to_ms, hq->pool);

	while (rc == OK && (rc = query_next(q)) == OK) {
		int64_t at = query_int(q, 0), step_at = at - at % hq->step_ms, max;
		struct sample s;

		sample_read(q, 2, &s);
		/* That row says how often was looked; what is in it is of other pools. */
		if (hq->pool != NULL && query_str(q, 1)[0] == '\0')
			s = (struct sample){.samples = s.samples};
		if (step_at != a.step_at)
			close_step(&a, items);
		if (at != a.row_at)
			close_row(&a);
		a.step_at = step_at;
		a.row_at = at;
		a.any = true;
		max = s.queued_max;
		s.queued_max = 0;
		a.row_max += max;
		sample_merge(&a.step, &s);
	}
	close_step(&a, items);
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(items);
	return OK;
}
