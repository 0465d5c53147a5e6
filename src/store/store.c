/* Transactions over a driver: which connection a transaction uses, how it ends, what is measured of it. How writers of
 * a database with a single writer share it is in one_writer.c. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "store/store_priv.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define CONNECTIONS_KEPT 32
#define CONNECTION_WAIT_S 5
#define FULL_PAUSE_NS 50000000
#define STORE_MAGIC 0x53544f52u

METRIC_HISTOGRAM(commit_seconds, "bullpen_store_commit_seconds", "Time of a commit of the database.", METRIC_SECONDS);
METRIC_HISTOGRAM(commit_transactions, "bullpen_store_commit_transactions",
    "Write transactions made durable by one commit.", METRIC_BUCKETS(1, 2, 4, 8, 16, 32, 64, 128));
METRIC_COUNTER(errors, "bullpen_store_errors_total", "Transactions that failed, by code.", "error");

/* Connections that nobody uses now, and how many there are at all. */
struct connections {
	pthread_mutex_t mtx; /* a leaf; not held during calls of the driver */
	pthread_cond_t freed; /* one was given back or closed */
	struct db *idle[CONNECTIONS_KEPT];
	unsigned n, open;
};

struct store {
	unsigned magic;
	const struct driver *driver;
	char *place, *label; /* label: the place for people */
	struct db_upkeep *upkeep; /* NULL if the driver has none */
	struct one_writer *writer; /* NULL if the driver has many writers */
	struct connections readers, writers; /* writers: empty if there is one_writer */

	struct store_watch watch;

	pthread_mutex_t fail_mtx; /* guards the test hook */
	atomic_bool fail_set;
	int64_t fail_in; /* commits until one fails */
	int fail_rc;
	_Atomic int64_t last_logged_ms;
};

/* A second write transaction on the same thread would wait for the first for ever. */
static _Thread_local bool writing_here;

bool tx_write_is_open(void)
{
	return writing_here;
}

static int open_and_migrate(struct store *st, struct why *why)
{
	struct db *db = NULL;
	int rc = st->driver->open(st->place, true, &db, why);

	if (rc == OK)
		rc = store_migrate(st->driver, db, why);
	if (rc != OK) {
		struct why reason = why != NULL ? *why : (struct why){0};

		if (db != NULL)
			st->driver->close(&db);
		else if (st->driver->describe == NULL)
			return rc;
		return why_set(why, rc, "the store in %s cannot be opened: %s", st->label,
		    reason.text[0] != '\0' ? reason.text : err_text(rc));
	}
	if (st->driver->many_writers)
		st->writers.idle[st->writers.n++] = db;
	else
		st->writer = one_writer_new(st->driver, st, db);
	return OK;
}

static void init_connections(struct connections *c)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&c->mtx, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->freed, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

int store_open_with(const struct driver *driver, const char *place, struct store **ret, struct why *why)
{
	struct store *st = NEW(struct store);
	int rc;

	st->magic = STORE_MAGIC;
	st->driver = driver;
	st->place = str_dup(place);
	st->label = driver->describe != NULL ? driver->describe(place) : str_dup(place);
	init_connections(&st->readers);
	init_connections(&st->writers);
	pthread_mutex_init(&st->fail_mtx, NULL);
	st->watch = (struct store_watch){.driver = driver, .place = st->place};
	rc = open_and_migrate(st, why);
	if (rc == OK && driver->upkeep_start != NULL)
		rc = driver->upkeep_start(place, &st->upkeep, why);
	if (rc != OK) {
		store_close(&st);
		return rc;
	}
	store_look(st); /* notes which files it has */
	*ret = st;
	return OK;
}

struct store_watch *store_watch_of(struct store *st)
{
	OBJ_CHECK(st, STORE_MAGIC);
	return &st->watch;
}

static void close_connections(struct store *st, struct connections *c)
{
	for (unsigned i = 0; i < c->n; i++)
		st->driver->close(&c->idle[i]);
	pthread_cond_destroy(&c->freed);
	pthread_mutex_destroy(&c->mtx);
}

void store_close(struct store **stp)
{
	struct store *st = TAKE(*stp);

	if (st == NULL)
		return;
	OBJ_CHECK(st, STORE_MAGIC);
	ENSURE(!writing_here);
	close_connections(st, &st->readers);
	/* Upkeep ends before the last writing connection closes, which for SQLite moves the rest of the log. */
	if (st->upkeep != NULL)
		st->driver->upkeep_stop(&st->upkeep);
	one_writer_free(&st->writer);
	close_connections(st, &st->writers);
	pthread_mutex_destroy(&st->fail_mtx);
	free(st->place);
	free(st->label);
	free(st);
}

/* A connection to another database under the old name would be worse than none: SQLite takes it for the first of its
 * kind and cuts the index of the log, which the others have mapped, so that the next of them dies of SIGBUS. Folder and
 * database of the mark are constant since store_open; the log's may be written by the watch. */
static int is_ours(struct store *st)
{
	const struct store_watch *w = &st->watch;
	struct place_mark mark = {.folder = w->mark.folder, .database = w->mark.database};

	if (atomic_load_explicit(&w->gone, memory_order_relaxed))
		return ERR_IO;
	return st->driver->still_there != NULL && mark.database.inode != 0
		   ? st->driver->still_there(st->place, &mark, NULL)
		   : OK;
}

/* An idle one, or NULL: one more may be opened, and is counted. Who waits too long opens one in spite of the limit:
 * what holds the others may be itself, in a transaction around this one. */
static struct db *await_connection(struct connections *c, unsigned max)
{
	struct db *db = NULL;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += CONNECTION_WAIT_S;
	pthread_mutex_lock(&c->mtx);
	while (c->n == 0 && max > 0 && c->open >= max)
		if (pthread_cond_timedwait(&c->freed, &c->mtx, &until) != 0)
			break;
	if (c->n > 0)
		db = c->idle[--c->n];
	else
		c->open++;
	pthread_mutex_unlock(&c->mtx);
	return db;
}

static void count_closed(struct connections *c)
{
	pthread_mutex_lock(&c->mtx);
	c->open--;
	pthread_cond_signal(&c->freed);
	pthread_mutex_unlock(&c->mtx);
}

static int take_connection(struct store *st, struct connections *c, struct db **ret)
{
	struct db *db = await_connection(c, st->driver->connections_max);
	int rc = OK;

	if (db == NULL)
		rc = is_ours(st);
	if (rc == OK && db == NULL)
		rc = st->driver->open(st->place, c == &st->writers, &db, NULL);
	if (rc != OK)
		count_closed(c);
	else
		*ret = db;
	return rc;
}

static void give_connection(struct store *st, struct connections *c, struct db *db)
{
	pthread_mutex_lock(&c->mtx);
	if (c->n < CONNECTIONS_KEPT)
		c->idle[c->n++] = TAKE(db);
	else
		c->open--;
	pthread_cond_signal(&c->freed);
	pthread_mutex_unlock(&c->mtx);
	if (db != NULL)
		st->driver->close(&db);
}

void store_close_idle(struct store *st)
{
	struct connections *c = &st->readers;
	struct db *db = NULL;

	pthread_mutex_lock(&c->mtx);
	if (c->n > 0)
		db = c->idle[--c->n];
	pthread_mutex_unlock(&c->mtx);
	if (db == NULL)
		return;
	st->driver->close(&db);
	count_closed(c);
}

static int try_connection(struct store *st, struct connections *c, struct db **ret)
{
	struct db *db = NULL;
	int rc = take_connection(st, c, &db);

	if (rc == OK && (rc = st->driver->begin(db, c == &st->writers)) != OK) {
		st->driver->close(&db);
		count_closed(c);
	}
	if (rc == OK)
		*ret = db;
	return rc;
}

/* Until one of ours is free, or a moment. */
static void await_idle(struct connections *c)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += FULL_PAUSE_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&c->mtx);
	if (c->n == 0)
		IGNORE(pthread_cond_timedwait(&c->freed, &c->mtx, &until));
	pthread_mutex_unlock(&c->mtx);
}

/* The database may have no connection for one more (ERR_FULL), and those that are idle here may have been closed there:
 * each is tried until one is good. */
static int begin_on_own_connection(struct store *st, struct connections *c, struct db **ret)
{
	int64_t until = clock_mono_ms() + CONNECTION_WAIT_S * 1000;
	int rc = try_connection(st, c, ret);

	while (rc == ERR_FULL && clock_mono_ms() < until) {
		await_idle(c);
		rc = try_connection(st, c, ret);
	}
	return rc == ERR_FULL ? ERR_IO : rc;
}

int tx_begin(struct store *st, enum tx_mode mode, struct tx **ret)
{
	struct tx *tx;
	struct db *db = NULL;
	int rc;

	OBJ_CHECK(st, STORE_MAGIC);
	ENSURE(mode == TX_READ || !writing_here);
	if (mode == TX_WRITE && atomic_load_explicit(&st->watch.gone, memory_order_relaxed)) {
		metric_add(&errors, 1, err_name(ERR_IO));
		return ERR_IO;
	}
	if (mode == TX_READ)
		rc = begin_on_own_connection(st, &st->readers, &db);
	else if (st->writer != NULL)
		rc = one_writer_begin(st->writer, &db);
	else
		rc = begin_on_own_connection(st, &st->writers, &db);
	if (rc != OK) {
		metric_add(&errors, 1, err_name(rc));
		return rc;
	}
	if (mode == TX_WRITE)
		writing_here = true;
	tx = NEW(struct tx);
	tx->magic = TX_MAGIC;
	tx->st = st;
	tx->driver = st->driver;
	tx->db = db;
	tx->write = mode == TX_WRITE;
	*ret = tx;
	return OK;
}

/* The test hook. OK, or the code with which this commit is to fail. */
static int due_failure(struct store *st)
{
	int rc = OK;

	if (!atomic_load_explicit(&st->fail_set, memory_order_relaxed))
		return OK;
	pthread_mutex_lock(&st->fail_mtx);
	if (st->fail_in > 0 && --st->fail_in == 0) {
		rc = st->fail_rc;
		atomic_store(&st->fail_set, false);
	}
	pthread_mutex_unlock(&st->fail_mtx);
	return rc;
}

int store_commit_db(struct store *st, struct db *db, unsigned transactions)
{
	struct timespec before, after;
	int rc = due_failure(st);

	if (rc != OK) {
		st->driver->rollback(db);
		return rc;
	}
	clock_gettime(CLOCK_MONOTONIC, &before);
	rc = st->driver->commit(db);
	clock_gettime(CLOCK_MONOTONIC, &after);
	metric_observe(
	    &commit_seconds, (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9);
	metric_observe(&commit_transactions, transactions);
	if (rc == OK && st->upkeep != NULL)
		st->driver->committed(st->upkeep, db);
	return rc;
}

static int commit_write(struct tx *tx)
{
	struct store *st = tx->st;
	int rc;

	ENSURE(writing_here);
	writing_here = false;
	if (st->writer != NULL)
		return one_writer_commit(st->writer);
	rc = store_commit_db(st, tx->db, 1);
	give_connection(st, &st->writers, tx->db);
	return rc;
}

int tx_commit(struct tx **txp)
{
	struct tx *tx = *txp;
	int rc;

	OBJ_CHECK(tx, TX_MAGIC);
	if (tx->failed == OK && tx->write && tx->driver->settle_part != NULL)
		tx->failed = tx->driver->settle_part(tx->db);
	if (tx->failed != OK) {
		rc = tx->failed;
		tx_free(txp);
		return rc;
	}
	if (tx->write) {
		rc = commit_write(tx);
	} else {
		rc = tx->st->driver->commit(tx->db);
		give_connection(tx->st, &tx->st->readers, tx->db);
	}
	if (rc != OK)
		metric_add(&errors, 1, err_name(rc));
	tx->magic = 0;
	free(tx);
	*txp = NULL;
	return rc;
}

void tx_free(struct tx **txp)
{
	struct tx *tx = TAKE(*txp);
	struct store *st;

	if (tx == NULL)
		return;
	OBJ_CHECK(tx, TX_MAGIC);
	st = tx->st;
	if (tx->failed != OK)
		metric_add(&errors, 1, err_name(tx->failed));
	if (tx->write) {
		ENSURE(writing_here);
		writing_here = false;
	}
	if (tx->write && st->writer != NULL) {
		one_writer_rollback(st->writer, tx->failed);
	} else {
		st->driver->rollback(tx->db);
		give_connection(st, tx->write ? &st->writers : &st->readers, tx->db);
	}
	tx->magic = 0;
	free(tx);
}

uint64_t store_work(struct store *st)
{
	return st->driver->work();
}

int64_t store_give_back(struct store *st, int64_t max_pages)
{
	AUTO(tx) tx = NULL;
	int64_t left = 0;
	int rc;

	if (st->driver->give_back == NULL)
		return 0;
	rc = tx_begin(st, TX_WRITE, &tx);
	if (rc == OK)
		rc = st->driver->give_back(tx->db, max_pages, &left);
	if (rc == OK)
		rc = tx_commit(&tx);
	return rc != OK ? rc : left;
}

bool store_is_unavailable(int rc)
{
	return rc == ERR_IO || rc == ERR_NO_SPACE || rc == ERR_AGAIN;
}

void store_log_unavailable(struct store *st, int rc)
{
	int64_t now = clock_mono_ms(), last = atomic_load(&st->last_logged_ms);

	/* That was told, and free space would not help. */
	if (atomic_load(&st->watch.gone))
		return;
	if (last != 0 && now - last < 60000)
		return;
	if (atomic_compare_exchange_strong(&st->last_logged_ms, &last, now))
		log_error("store.unavailable", "error=%s reason=%s dir=%s effect=%s", err_name(rc),
		    log_quote(err_text(rc)), log_quote(st->label),
		    log_quote("requests that write are answered 503, runs wait; free space and work goes on"));
}

void store_fail_commit(struct store *st, int64_t n, int rc)
{
	pthread_mutex_lock(&st->fail_mtx);
	st->fail_in = n;
	st->fail_rc = rc;
	atomic_store(&st->fail_set, n > 0);
	pthread_mutex_unlock(&st->fail_mtx);
}
