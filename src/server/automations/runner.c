/* The thread that looks what is due.
 *
 * Crash argument. That a time has come (the run's row and what has it worked off) and that the next one is awaited are
 * one transaction, which says for which next_at it is meant: a second server, or this one after a crash, finds another
 * next_at, or the tick's row, and does nothing. */
#include "server/automations/runner.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "server/automations/cron.h"
#include "server/automations/runner_priv.h"
#include <pthread.h>
#include <string.h>
#include <time.h>

#define AUTOMATIONS_MAGIC 0x4155544fu
#define PROCESSORS 4
#define LOOK_MS 1000
#define RELEASE_MAX 50 /* automations whose queue is looked at in one go */
#define FORGET_EVERY_MS (60 * 60 * 1000)
#define FORGET_STEP 500
#define HISTORY_MS ((int64_t)30 * 24 * 60 * 60 * 1000)
#define MISSED_COUNTED 1000

METRIC_COUNTER(
    ticks, "bullpen_automation_ticks_total", "Times of automations' schedules, by what became of them.", "result");

struct automations {
	unsigned magic;
	struct automations_config cfg;
	struct api *api;
	struct outbox *processors[PROCESSORS];
	pthread_t thread;
	bool started;
	pthread_mutex_t mtx; /* a leaf; guards stopping */
	pthread_cond_t changed;
	bool stopping;
	int64_t forgotten_ms; /* the thread's */
};

static const int64_t pauses[AUTOMATION_ATTEMPTS - 1] = {1000, 5000, 30000, 120000, 600000};

const struct automations_config *automations_cfg(const struct automations *m)
{
	return &m->cfg;
}

struct api *automations_api(const struct automations *m)
{
	return m->api;
}

void automations_wake(struct automations *m)
{
	for (size_t i = 0; i < PROCESSORS; i++)
		outbox_wake(m->processors[i]);
}

static int process(void *ctx, const struct outbox_item *item, struct why *why)
{
	return automation_process(OBJ_FROM(automations, ctx, AUTOMATIONS_MAGIC), item, why);
}

struct automations *automations_new(const struct automations_config *cfg)
{
	struct automations *m = NEW(struct automations);
	const struct outbox_config outbox = {.store = cfg->store,
	    .node_id = cfg->node_id,
	    .pauses_ms = pauses,
	    .n_pauses = ARRAY_LEN(pauses),
	    .tick_ms = LOOK_MS};
	pthread_condattr_t monotonic;

	m->magic = AUTOMATIONS_MAGIC;
	m->cfg = *cfg;
	for (size_t i = 0; i < PROCESSORS; i++) {
		m->processors[i] = outbox_new(&outbox);
		outbox_handle(m->processors[i], AUTOMATION_KIND, process, m);
	}
	pthread_mutex_init(&m->mtx, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&m->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return m;
}

/* Of the times that have come: how many, the first and the last, and the one to be awaited next. */
struct due {
	int64_t n, first, last, next;
};

static int count_due(const struct automation *a, int64_t now_ms, struct due *d)
{
	AUTO(zone) z = NULL;
	struct cron c;
	int rc = cron_parse(a->cron, &c, NULL);

	if (rc == OK)
		rc = zone_load(a->time_zone, &z, NULL);
	if (rc != OK)
		return rc;
	*d = (struct due){.n = 1, .first = a->next_at, .last = a->next_at};
	while ((rc = cron_next(&c, z, d->last, &d->next)) == OK && d->next <= now_ms && d->n < MISSED_COUNTED) {
		d->last = d->next;
		d->n++;
	}
	/* Away for so long that counting them would be long: the last one before now is not known, so none is made up
	 * for that is not near. */
	if (rc == OK && d->next <= now_ms)
		rc = cron_next(&c, z, now_ms, &d->next);
	if (rc == ERR_EMPTY)
		d->next = 0;
	return rc == ERR_EMPTY ? OK : rc;
}

static int note_missed(struct tx *tx, const struct automation *a, const struct due *d, int64_t n, int64_t now_ms)
{
	char first[CLOCK_ISO_LEN], last[CLOCK_ISO_LEN];

	clock_iso8601(d->first, first);
	clock_iso8601(d->last, last);
	AUTO_STR tick = str_printf("missed/%s", first);
	AUTO_STR reason = n == 1 ? str_printf("the time %s was missed: no server was there", first)
				 : str_printf("%s%lld times from %s on were missed: no server was there",
				       d->n == MISSED_COUNTED ? "at least " : "", (long long)n, first);
	const struct automation_tick t = {
	    .automation_id = a->id, .tick = tick, .cause = "schedule", .reason = reason, .at_ms = d->first};
	int rc = automation_note(tx, &t, "missed", now_ms);

	metric_add(&ticks, n, "missed");
	return rc == ERR_CONFLICT ? OK : rc;
}

static int fire_due(struct tx *tx, const struct automation *a, const struct due *d, int64_t now_ms)
{
	char last[CLOCK_ISO_LEN], id[AUTOMATION_RUN_ID_LEN];
	bool on_time = now_ms - d->last <= AUTOMATION_ON_TIME_MS, fires = on_time || strcmp(a->missed, "once") == 0;
	int64_t missed = d->n - (on_time ? 1 : 0);
	int rc = missed > 0 ? note_missed(tx, a, d, missed, now_ms) : OK;

	if (rc != OK || !fires)
		return rc;
	clock_iso8601(d->last, last);
	AUTO_STR tick = str_printf("schedule/%s", last);
	const struct automation_tick t = {.automation_id = a->id,
	    .tick = tick,
	    .cause = "schedule",
	    .reason = on_time ? NULL : "late: it makes up for what was missed",
	    .at_ms = d->last};

	rc = automation_fire(tx, &t, now_ms, id);
	metric_add(&ticks, 1, rc == OK ? "fired" : "repeated");
	return rc == ERR_CONFLICT ? OK : rc;
}

struct firing {
	const struct automation *a;
	const struct due *due;
	int64_t now_ms;
};

static int fire_in(struct tx *tx, void *arg)
{
	struct firing *f = arg;
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE automations SET next_at = NULLIF($3, 0) WHERE id = $1 AND next_at = $2 AND enabled = 1", "sii",
	    f->a->id, f->a->next_at, f->due->next);

	return rc != OK || n == 0 ? rc : fire_due(tx, f->a, f->due, f->now_ms);
}

/* One that is due. ERR_EMPTY: none is; *ret_next says when. */
static int fire_next(struct automations *m, int64_t now_ms, int64_t *ret_next)
{
	AUTO(tx) tx = NULL;
	AUTO_STR id = NULL;
	AUTO(automation) a = NULL;
	struct due due = {0};
	int rc = tx_begin(m->cfg.store, TX_READ, &tx);

	*ret_next = INT64_MAX;
	if (rc == OK)
		rc = tx_query_text(
		    tx, &id, "SELECT id FROM automations WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1", "");
	if (rc == OK)
		rc = automation_load(tx, id, &a);
	if (rc != OK)
		return rc;
	tx_free(&tx);
	if (a->next_at > now_ms) {
		*ret_next = a->next_at;
		return ERR_EMPTY;
	}
	if (count_due(a, now_ms, &due) != OK) {
		/* The zone's file is gone, say. It must not keep the others waiting. */
		log_warn("automation.schedule", "automation=%s error=\"its schedule or zone cannot be read\"", a->id);
		due = (struct due){.n = 1, .first = a->next_at, .last = a->next_at, .next = now_ms + 3600 * 1000};
	}
	return store_write(m->cfg.store, fire_in, &(struct firing){a, &due, now_ms});
}

/* Those that waited for the end of the one before. */
static int release_one(struct tx *tx, const char *id, const char *automation_id, int64_t now_ms)
{
	bool busy = false;
	int64_t n = 0;
	int rc = automation_is_busy(tx, automation_id, &busy);

	if (rc == OK && !busy)
		rc = tx_change(
		    tx, &n, "UPDATE automation_runs SET state = 'new' WHERE id = $1 AND state = 'queued'", "s", id);
	return rc == OK && n > 0 ? outbox_add_in_order(tx, AUTOMATION_KIND, automation_id, id, now_ms) : rc;
}

static int release_queued(struct automations *m, int64_t now_ms)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	char *ids[RELEASE_MAX] = {0}, *of[RELEASE_MAX] = {0};
	size_t n = 0;
	int rc = tx_begin(m->cfg.store, TX_READ, &tx);

	/* The oldest of each, unless one is on its way. */
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT r.id, r.automation_id FROM automation_runs r WHERE r.state = 'queued' AND NOT EXISTS "
		    "(SELECT "
		    "1 FROM automation_runs o WHERE o.automation_id = r.automation_id AND o.state = 'queued' AND "
		    "(o.created_at < r.created_at OR (o.created_at = r.created_at AND o.id < r.id))) LIMIT $1",
		    "i", (int64_t)RELEASE_MAX);
	while (rc == OK && n < RELEASE_MAX && (rc = query_next(q)) == OK) {
		ids[n] = str_dup(query_str(q, 0));
		of[n++] = str_dup(query_str(q, 1));
	}
	query_free(&q);
	tx_free(&tx);
	rc = rc == ERR_EMPTY ? OK : rc;
	for (size_t i = 0; i < n; i++) {
		bool busy = false;

		/* Without the store's writer first. */
		if (rc == OK)
			rc = tx_begin(m->cfg.store, TX_READ, &tx);
		if (rc == OK)
			rc = automation_is_busy(tx, of[i], &busy);
		tx_free(&tx);
		if (rc == OK && !busy)
			rc = tx_begin(m->cfg.store, TX_WRITE, &tx);
		if (rc == OK && !busy)
			rc = release_one(tx, ids[i], of[i], now_ms);
		if (rc == OK && !busy)
			rc = tx_commit(&tx);
		tx_free(&tx);
		str_free(&ids[i]);
		str_free(&of[i]);
	}
	return rc;
}

int automations_look(struct automations *m, int64_t now_ms, int64_t *ret_next)
{
	bool any = false;
	int rc;

	while ((rc = fire_next(m, now_ms, ret_next)) == OK)
		any = true;
	if (rc == ERR_EMPTY)
		rc = release_queued(m, now_ms);
	if (any && m->started)
		automations_wake(m);
	return rc;
}

static int forget_in(struct tx *tx, void *arg)
{
	const int64_t *before = arg;

	return tx_exec(tx,
	    "DELETE FROM automation_runs WHERE id IN (SELECT id FROM automation_runs WHERE created_at < $1 AND state "
	    "NOT "
	    "IN ('new', 'queued') LIMIT $2)",
	    "ii", *before, (int64_t)FORGET_STEP);
}

static void forget_old(struct automations *m)
{
	int64_t now = clock_mono_ms(), before = clock_wall_ms() - HISTORY_MS;

	if (m->forgotten_ms != 0 && now - m->forgotten_ms < FORGET_EVERY_MS)
		return;
	m->forgotten_ms = now;
	if (store_write(m->cfg.store, forget_in, &before) != OK)
		log_warn("automation.forget", "error=\"the store could not be written\"");
}

/* False: the end has come. */
static bool wait_a_while(struct automations *m, int64_t ms)
{
	struct timespec until;
	bool stopping;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&m->mtx);
	while (!m->stopping && pthread_cond_timedwait(&m->changed, &m->mtx, &until) == 0)
		continue;
	stopping = m->stopping;
	pthread_mutex_unlock(&m->mtx);
	return !stopping;
}

static void *look_main(void *arg)
{
	struct automations *m = OBJ_FROM(automations, arg, AUTOMATIONS_MAGIC);
	int64_t pause = 1;

	thread_context_set("automations");
	while (wait_a_while(m, pause)) {
		int64_t now = clock_wall_ms(), next = INT64_MAX;
		int rc = automations_look(m, now, &next);

		if (rc != OK)
			store_log_unavailable(m->cfg.store, rc);
		else
			forget_old(m);
		/* A clock may be set, and another server may add some: so never for long. */
		pause = next != INT64_MAX ? MAX(MIN(next - now, LOOK_MS), 1) : LOOK_MS;
		if (rc != OK)
			pause = LOOK_MS;
	}
	return NULL;
}

int automations_start(struct automations *m, struct api *api, struct why *why)
{
	int rc = OK;

	OBJ_CHECK(m, AUTOMATIONS_MAGIC);
	m->api = api;
	for (size_t i = 0; rc == OK && i < PROCESSORS; i++)
		rc = outbox_start(m->processors[i], why);
	if (rc != OK)
		return rc;
	m->started = true;
	if (pthread_create(&m->thread, NULL, look_main, m) != 0) {
		m->started = false;
		return why_set(why, ERR_INTERNAL, "cannot start a thread");
	}
	return OK;
}

void automations_free(struct automations **mp)
{
	struct automations *m = TAKE(*mp);

	if (m == NULL)
		return;
	OBJ_CHECK(m, AUTOMATIONS_MAGIC);
	pthread_mutex_lock(&m->mtx);
	m->stopping = true;
	pthread_cond_signal(&m->changed);
	pthread_mutex_unlock(&m->mtx);
	if (m->started)
		pthread_join(m->thread, NULL);
	for (size_t i = 0; i < PROCESSORS; i++)
		outbox_free(&m->processors[i]);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->mtx);
	m->magic = 0;
	free(m);
}
