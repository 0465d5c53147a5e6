/* The sender of the outbox.
 *
 * Crash argument. Taking a row is a commit that counts the attempt and moves due_at to the end of the lease; performing
 * it follows; marking it is another commit. A crash before the first changes nothing, a crash after the last neither.
 * In between, the row is still 'waiting' and comes due by itself when the lease ends: it is performed again, with the
 * same id. Because the attempt is counted first, a row that kills the process each time comes to its end, too.
 *
 * Order. Of the rows that keep one, only the first of a subject is ever due; the others are as good as never due, and
 * the transaction that ends one makes the next one due. So no look has to pass over rows whose turn has not come.
 *
 * Fencing. `attempts` is the number of the take. A sender that overslept its lease marks a failure only if nobody took
 * the row since; that it was done is true whoever says so. */
#include "server/outbox/outbox.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include <pthread.h>
#include <string.h>
#include <time.h>

#define HANDLERS_MAX 16
#define OUTBOX_MAGIC 0x4f555442u
#define FORGET_STEP 100
#define BEHIND INT64_MAX /* due_at of a row that waits for one before it */

METRIC_COUNTER(attempts, "bullpen_outbox_attempts_total", "Attempts to perform a row of the outbox.", "kind", "result");

struct handler {
	const char *kind;
	outbox_fn *fn;
	void *ctx;
};

struct outbox {
	unsigned magic;
	struct outbox_config cfg;
	struct handler handlers[HANDLERS_MAX]; /* constant once started */
	size_t n_handlers;
	size_t first; /* of the sender: the kind that is looked at first, so that none starves the others */
	pthread_t thread;
	bool started;
	pthread_mutex_t mtx; /* a leaf; guards woken and stopping */
	pthread_cond_t changed;
	bool woken, stopping;
};

/* A row that was taken. */
struct taken {
	char *id, *subject, *payload;
	int64_t attempts, created_at;
};

static void taken_fini(struct taken *t)
{
	str_free(&t->id);
	str_free(&t->subject);
	str_free(&t->payload);
}

static int outbox_insert(struct tx *tx, const char *kind, const char *subject, const char *payload, int64_t now_ms,
    int64_t due_ms, int64_t seq, char ret_id[OUTBOX_ID_LEN])
{
	char uuid[UUID_LEN], id[OUTBOX_ID_LEN];

	ENSURE(tx_write_is_open());
	if (strlen(payload) > OUTBOX_PAYLOAD_MAX)
		return ERR_TOO_LARGE;
	id_uuid(uuid);
	snprintf(id, sizeof id, "out-%s", uuid);
	if (ret_id != NULL)
		memcpy(ret_id, id, sizeof id);
	return tx_exec(tx,
	    "INSERT INTO outbox(id, kind, subject, payload, state, attempts, due_at, lease_until, node_id, created_at,"
	    " seq) VALUES($1, $2, $3, $4, 'waiting', 0, $6, 0, '', $5, $7)",
	    "ssssiii", id, kind, subject, payload, now_ms, due_ms, seq);
}

int outbox_add(struct tx *tx, const char *kind, const char *subject, const char *payload, int64_t now_ms,
    int64_t due_ms, char ret_id[OUTBOX_ID_LEN])
{
	return outbox_insert(tx, kind, subject, payload, now_ms, due_ms, 0, ret_id);
}

int outbox_add_in_order(struct tx *tx, const char *kind, const char *subject, const char *payload, int64_t now_ms)
{
	int64_t last = 0;
	int rc = tx_query_int(tx, &last,
	    "SELECT COALESCE(MAX(seq), 0) FROM outbox WHERE kind = $1 AND subject = $2 AND state = 'waiting' AND seq > "
	    "0",
	    "ss", kind, subject);

	return rc != OK ? rc
			: outbox_insert(tx, kind, subject, payload, now_ms, last > 0 ? BEHIND : now_ms, last + 1, NULL);
}

int outbox_drop(struct tx *tx, const char *kind, const char *subject)
{
	return tx_exec(tx, "DELETE FROM outbox WHERE kind = $1 AND subject = $2", "ss", kind, subject);
}

int outbox_again(struct tx *tx, const char *kind, const char *id, int64_t now_ms)
{
	int64_t n = 0, there = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE outbox SET state = 'waiting', attempts = 0, due_at = $3, lease_until = 0, error = NULL, ended_at = "
	    "NULL"
	    " WHERE id = $1 AND kind = $2 AND state <> 'waiting'",
	    "ssi", id, kind, now_ms);

	if (rc != OK || n > 0)
		return rc;
	rc = tx_query_int(tx, &there, "SELECT COUNT(*) FROM outbox WHERE id = $1 AND kind = $2", "ss", id, kind);
	return rc != OK ? rc : there > 0 ? ERR_CONFLICT : ERR_NOT_FOUND;
}

int outbox_bring_forward(struct tx *tx, const char *kind, const char *subject, int64_t due_ms)
{
	return tx_exec(tx,
	    "UPDATE outbox SET due_at = $3 WHERE kind = $1 AND subject = $2 AND state = 'waiting' AND attempts = 0 AND "
	    "seq = 0"
	    " AND due_at > $3",
	    "ssi", kind, subject, due_ms);
}

int outbox_recover_in(struct tx *tx, const char *node_id, int64_t now_ms)
{
	return tx_exec(tx,
	    "UPDATE outbox SET due_at = $2, lease_until = 0 WHERE state = 'waiting' AND node_id = $1 AND "
	    "lease_until > $2"
	    " AND due_at = lease_until",
	    "si", node_id, now_ms);
}

int outbox_recover(struct store *st, const char *node_id, int64_t now_ms)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = outbox_recover_in(tx, node_id, now_ms);
	return rc == OK ? tx_commit(&tx) : rc;
}

static int64_t outbox_or_default(int64_t v, int64_t usual)
{
	return v != 0 ? v : usual;
}

struct outbox *outbox_new(const struct outbox_config *cfg)
{
	struct outbox *o = NEW(struct outbox);
	pthread_condattr_t monotonic;

	o->magic = OUTBOX_MAGIC;
	o->cfg = *cfg;
	o->cfg.lease_ms = outbox_or_default(cfg->lease_ms, 60 * 1000);
	o->cfg.backoff_min_ms = outbox_or_default(cfg->backoff_min_ms, 5 * 1000);
	o->cfg.backoff_max_ms = outbox_or_default(cfg->backoff_max_ms, 3600 * 1000);
	o->cfg.attempts_max = outbox_or_default(cfg->attempts_max, cfg->n_pauses > 0 ? (int64_t)cfg->n_pauses + 1 : 12);
	o->cfg.age_max_ms = outbox_or_default(cfg->age_max_ms, 24 * 3600 * 1000);
	o->cfg.keep_ms = outbox_or_default(cfg->keep_ms, (int64_t)7 * 24 * 3600 * 1000);
	o->cfg.tick_ms = outbox_or_default(cfg->tick_ms, 5 * 1000);
	pthread_mutex_init(&o->mtx, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&o->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return o;
}

void outbox_handle(struct outbox *o, const char *kind, outbox_fn *fn, void *ctx)
{
	OBJ_CHECK(o, OUTBOX_MAGIC);
	ENSURE(!o->started && o->n_handlers < HANDLERS_MAX);
	for (size_t i = 0; i < o->n_handlers; i++)
		ENSURE(strcmp(o->handlers[i].kind, kind) != 0);
	o->handlers[o->n_handlers++] = (struct handler){kind, fn, ctx};
}

struct take {
	const struct outbox *o;
	const struct handler *handler;
	int64_t now_ms;
	struct taken row;
};

/* The oldest row of the kind that is due becomes ours until the lease ends. ERR_EMPTY: there is none. */
static int take_in_tx(struct tx *tx, void *arg)
{
	struct take *t = arg;
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "UPDATE outbox SET attempts = attempts + 1, due_at = $3, lease_until = $3, node_id = $4"
	    " WHERE state = 'waiting' AND due_at <= $2 AND id = (SELECT id FROM outbox WHERE state = 'waiting'"
	    " AND kind = $1 AND due_at <= $2 ORDER BY due_at, id LIMIT 1)"
	    " RETURNING id, subject, payload, attempts, created_at",
	    "siis", t->handler->kind, t->now_ms, t->now_ms + t->o->cfg.lease_ms,
	    t->o->cfg.node_id != NULL ? t->o->cfg.node_id : "");

	taken_fini(&t->row); /* of a try that lost */
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	t->row = (struct taken){.id = str_dup(query_str(q, 0)),
	    .subject = str_dup(query_str(q, 1)),
	    .payload = str_dup(query_str(q, 2)),
	    .attempts = query_int(q, 3),
	    .created_at = query_int(q, 4)};
	/* To its end: the statement must be over before the commit. */
	rc = query_next(q);
	return rc == ERR_EMPTY ? OK : rc == OK ? ERR_INTERNAL : rc;
}

struct mark {
	const char *id, *kind, *subject, *state, *error;
	int64_t attempts, now_ms, due_ms;
	bool uncounted; /* the attempt is as if it had not been */
	int64_t changed;
};

static int mark_row(struct tx *tx, struct mark *m)
{
	if (strcmp(m->state, "done") == 0)
		return tx_change(tx, &m->changed,
		    "UPDATE outbox SET state = 'done', lease_until = 0, error = NULL, ended_at = $2"
		    " WHERE id = $1 AND state = 'waiting'",
		    "si", m->id, m->now_ms);
	if (strcmp(m->state, "failed") == 0)
		return tx_change(tx, &m->changed,
		    "UPDATE outbox SET state = 'failed', lease_until = 0, error = $3, ended_at = $4"
		    " WHERE id = $1 AND state = 'waiting' AND attempts = $2",
		    "sisi", m->id, m->attempts, m->error, m->now_ms);
	ENSURE(strcmp(m->state, "waiting") == 0);
	return tx_change(tx, &m->changed,
	    "UPDATE outbox SET due_at = $4, lease_until = 0, error = $3, attempts = $5"
	    " WHERE id = $1 AND state = 'waiting' AND attempts = $2",
	    "sisii", m->id, m->attempts, m->error, m->due_ms, m->uncounted ? m->attempts - 1 : m->attempts);
}

/* The next of those that keep the order: its turn has come. */
static int let_next_go(struct tx *tx, const struct mark *m)
{
	return tx_exec(tx,
	    "UPDATE outbox SET due_at = $3 WHERE due_at = $4 AND state = 'waiting' AND id = (SELECT id FROM outbox "
	    "WHERE"
	    " kind = $1 AND subject = $2 AND state = 'waiting' AND seq > 0 ORDER BY seq LIMIT 1)",
	    "ssii", m->kind, m->subject, m->now_ms, (int64_t)BEHIND);
}

static int mark_in_tx(struct tx *tx, void *arg)
{
	struct mark *m = arg;
	int rc = mark_row(tx, m);

	return rc != OK || m->changed == 0 || strcmp(m->state, "waiting") == 0 ? rc : let_next_go(tx, m);
}

static int64_t pause_after(const struct outbox_config *cfg, int64_t attempt)
{
	int64_t full = cfg->backoff_min_ms;

	if (cfg->n_pauses > 0)
		return cfg->pauses_ms[MIN(attempt, (int64_t)cfg->n_pauses) - 1];
	for (int64_t i = 1; i < attempt && full < cfg->backoff_max_ms; i++)
		full *= 2;
	full = MIN(full, cfg->backoff_max_ms);
	return full - (int64_t)id_random_below((uint32_t)MIN(full / 2 + 1, UINT32_MAX));
}

void outbox_hold(const struct outbox_item *item, int64_t ms)
{
	if (item->hold_ms != NULL)
		*item->hold_ms = MAX(*item->hold_ms, MIN(ms, OUTBOX_HOLD_MAX_MS));
}

/* What becomes of the row after the handler said rc. */
static struct mark judge(const struct outbox *o, const struct handler *h, const struct taken *row, int rc,
    const struct why *why, int64_t now_ms, int64_t hold_ms)
{
	struct mark m = {.id = row->id,
	    .kind = h->kind,
	    .subject = row->subject,
	    .attempts = row->attempts,
	    .now_ms = now_ms,
	    .error = why->text};

	m.uncounted = rc == ERR_FULL && o->cfg.full_pause_ms > 0;
	if (rc == OK)
		m.state = "done";
	else if (rc == ERR_INVALID || (row->attempts >= o->cfg.attempts_max && !m.uncounted) ||
		 now_ms - row->created_at >= o->cfg.age_max_ms)
		m.state = "failed";
	else
		m.state = "waiting";
	m.due_ms = now_ms + MAX(m.uncounted ? o->cfg.full_pause_ms : pause_after(&o->cfg, row->attempts), hold_ms);
	return m;
}

static int perform(struct outbox *o, const struct handler *h, const struct taken *row, int64_t now_ms)
{
	int64_t hold_ms = 0;
	const struct outbox_item item = {.id = row->id,
	    .hold_ms = &hold_ms,
	    .kind = h->kind,
	    .subject = row->subject,
	    .payload = row->payload,
	    .attempt = row->attempts,
	    .deadline_mono_ms = clock_mono_ms() + o->cfg.lease_ms};
	struct why why = {0};
	struct mark m;
	int64_t began = clock_mono_ms();
	int rc;

	ENSURE(!tx_write_is_open());
	if (row->attempts > o->cfg.attempts_max) /* the last one never came to an end: a crash, or a lease overslept */
		rc = why_set(&why, ERR_INVALID, "the last attempt did not come to an end");
	else
		rc = h->fn(h->ctx, &item, &why);
	if (rc != OK && why.text[0] == '\0')
		why_set(&why, rc, "%s", err_text(rc));
	m = judge(o, h, row, rc, &why, now_ms + (clock_mono_ms() - began), hold_ms);
	metric_add(&attempts, 1, h->kind, m.state[0] == 'w' ? "retry" : m.state);
	if (m.state[0] == 'f')
		log_warn("outbox.failed", "id=%s kind=%s subject=%s attempts=%lld reason=%s", row->id, h->kind,
		    log_quote(row->subject), (long long)row->attempts, log_quote(why.text));
	return store_write(o->cfg.store, mark_in_tx, &m);
}

static int next_due_of_kind(struct outbox *o, const char *kind, int64_t *ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(o->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_int(tx, ret,
		    "SELECT due_at FROM outbox WHERE state = 'waiting' AND kind = $1 ORDER BY due_at LIMIT 1", "s",
		    kind);
	return rc;
}

int outbox_send_one(struct outbox *o, int64_t now_ms, int64_t *ret_next_ms)
{
	int64_t next = INT64_MAX;

	OBJ_CHECK(o, OUTBOX_MAGIC);
	for (size_t i = 0; i < o->n_handlers; i++) {
		struct take t = {.o = o, .handler = &o->handlers[(o->first + i) % o->n_handlers], .now_ms = now_ms};
		int64_t due = INT64_MAX;
		int rc = next_due_of_kind(o, t.handler->kind, &due);

		/* Most looks find nothing: a reading transaction is enough for that. */
		if (rc == OK && due <= now_ms)
			rc = store_write(o->cfg.store, take_in_tx, &t);
		else if (rc == OK)
			rc = ERR_EMPTY;
		if (rc == OK)
			rc = perform(o, t.handler, &t.row, now_ms);
		taken_fini(&t.row);
		if (rc != ERR_EMPTY) {
			o->first = (o->first + i + 1) % o->n_handlers;
			return rc;
		}
		next = MIN(next, due);
	}
	*ret_next_ms = next;
	return ERR_EMPTY;
}

struct forget {
	int64_t before_ms, limit, n;
};

static int forget_in_tx(struct tx *tx, void *arg)
{
	struct forget *f = arg;

	return tx_change(tx, &f->n,
	    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE ended_at IS NOT NULL AND ended_at < $1"
	    " ORDER BY ended_at LIMIT $2)",
	    "ii", f->before_ms, f->limit);
}

int outbox_forget(struct store *st, int64_t before_ms, int64_t limit, int64_t *ret_n)
{
	struct forget f = {.before_ms = before_ms, .limit = limit};
	int rc = store_write(st, forget_in_tx, &f);

	if (rc == OK)
		*ret_n = f.n;
	return rc;
}

static bool is_stopping(struct outbox *o)
{
	bool stopping;

	pthread_mutex_lock(&o->mtx);
	stopping = o->stopping;
	o->woken = false; /* what was added before this look is seen by it */
	pthread_mutex_unlock(&o->mtx);
	return stopping;
}

static void wait_for_work(struct outbox *o, int64_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&o->mtx);
	while (!o->woken && !o->stopping && pthread_cond_timedwait(&o->changed, &o->mtx, &until) == 0)
		continue;
	pthread_mutex_unlock(&o->mtx);
}

static void *sender_main(void *arg)
{
	struct outbox *o = OBJ_FROM(outbox, arg, OUTBOX_MAGIC);

	thread_context_set("outbox");
	while (!is_stopping(o)) {
		int64_t now = clock_wall_ms(), next = INT64_MAX, forgotten = 0;
		int rc = outbox_send_one(o, now, &next);

		if (rc == OK)
			continue;
		if (rc != ERR_EMPTY)
			store_log_unavailable(o->cfg.store, rc);
		else if (outbox_forget(o->cfg.store, now - o->cfg.keep_ms, FORGET_STEP, &forgotten) == OK &&
			 forgotten == FORGET_STEP)
			continue;
		wait_for_work(o, rc == ERR_EMPTY ? MAX(MIN(next - now, o->cfg.tick_ms), 1) : o->cfg.tick_ms);
	}
	return NULL;
}

int outbox_start(struct outbox *o, struct why *why)
{
	OBJ_CHECK(o, OUTBOX_MAGIC);
	ENSURE(!o->started);
	if (o->n_handlers == 0)
		return OK;
	if (pthread_create(&o->thread, NULL, sender_main, o) != 0)
		return why_set(why, ERR_INTERNAL, "cannot start a thread");
	o->started = true;
	return OK;
}

void outbox_wake(struct outbox *o)
{
	OBJ_CHECK(o, OUTBOX_MAGIC);
	ENSURE(!tx_write_is_open()); /* it would look before the commit, and find nothing */
	pthread_mutex_lock(&o->mtx);
	o->woken = true;
	pthread_cond_signal(&o->changed);
	pthread_mutex_unlock(&o->mtx);
}

void outbox_on_note(void *ctx, const struct note *note)
{
	outbox_wake(OBJ_FROM(outbox, ctx, OUTBOX_MAGIC));
}

void outbox_free(struct outbox **op)
{
	struct outbox *o = TAKE(*op);

	if (o == NULL)
		return;
	OBJ_CHECK(o, OUTBOX_MAGIC);
	pthread_mutex_lock(&o->mtx);
	o->stopping = true;
	pthread_cond_signal(&o->changed);
	pthread_mutex_unlock(&o->mtx);
	if (o->started)
		pthread_join(o->thread, NULL);
	pthread_cond_destroy(&o->changed);
	pthread_mutex_destroy(&o->mtx);
	o->magic = 0;
	free(o);
}
