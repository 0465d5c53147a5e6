/* Transactions over a driver, with group commit for the driver's single writer.
 *
 * Writers take turns on one connection. The first of a group opens the database transaction; each member is a savepoint
 * inside it. A member that is done does not commit: it leaves, and waits until somebody has committed its group. Who
 * commits: the first member that finds nobody else waiting for a turn, or a group that is large enough. So a lone
 * writer pays one fsync, and a crowd shares one.
 *
 * If a member's statement fails so badly that the database drops the whole transaction (a full disk), every member of
 * that group learns that nothing was kept. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/checkpoint.h"
#include "store/store_priv.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define GROUP_MAX 128
#define READERS_KEPT 32
#define STORE_MAGIC 0x53544f52u

/* What became of a group. Guarded by the store's mtx; freed by the last member that has read it. */
struct group {
	unsigned members; /* released, waiting for the decision */
	unsigned refs; /* the store while it is open, and each released member */
	bool decided;
	int rc;
	pthread_cond_t changed; /* decided, or one of the members has to see to it */
};

struct store {
	unsigned magic;
	const struct driver *driver;
	char *data_dir;

	pthread_mutex_t mtx;
	pthread_cond_t turn; /* the writer connection is free */
	struct db *writer;
	struct checkpointer *checkpointer;
	bool writing; /* a thread holds the writer connection */
	unsigned waiting; /* threads that wait for a turn */
	struct group *group; /* the open one; NULL: no database transaction is open */
	int64_t fail_in; /* test hook: commits until one fails */
	int fail_rc;

	pthread_mutex_t readers_mtx;
	struct db *readers[READERS_KEPT];
	unsigned n_readers;
	_Atomic int64_t last_logged_ms;
};

/* A second write transaction on the same thread would wait for the first for ever. */
static _Thread_local bool writing_here;

bool tx_write_is_open(void)
{
	return writing_here;
}

int store_open(const char *data_dir, struct store **ret, struct why *why)
{
	struct store *st = NEW(struct store);
	int rc;

	st->magic = STORE_MAGIC;
	st->driver = &driver_sqlite;
	st->data_dir = str_dup(data_dir);
	pthread_mutex_init(&st->mtx, NULL);
	pthread_cond_init(&st->turn, NULL);
	pthread_mutex_init(&st->readers_mtx, NULL);
	rc = st->driver->open(data_dir, true, &st->writer, why);
	if (rc == OK)
		rc = st->driver->begin(st->writer, true);
	if (rc == OK)
		rc = store_migrate(st->driver, st->writer, why);
	if (rc == OK)
		rc = st->driver->commit(st->writer);
	if (rc == OK)
		rc = checkpointer_start(st->driver, data_dir, &st->checkpointer, why);
	if (rc != OK) {
		if (why != NULL && why->text[0] == '\0')
			why_set(why, rc, "the store in %s cannot be opened: %s", data_dir, err_text(rc));
		store_close(&st);
		return rc;
	}
	*ret = st;
	return OK;
}

void store_close(struct store **stp)
{
	struct store *st = TAKE(*stp);

	if (st == NULL)
		return;
	ENSURE(!st->writing && st->group == NULL);
	for (unsigned i = 0; i < st->n_readers; i++)
		st->driver->close(&st->readers[i]);
	checkpointer_free(&st->checkpointer);
	if (st->writer != NULL)
		st->driver->close(&st->writer);
	pthread_cond_destroy(&st->turn);
	pthread_mutex_destroy(&st->mtx);
	pthread_mutex_destroy(&st->readers_mtx);
	free(st->data_dir);
	free(st);
}

/* mtx held. */
static void group_unref(struct group *g)
{
	if (--g->refs > 0)
		return;
	pthread_cond_destroy(&g->changed);
	free(g);
}

/* mtx held. Ends the open group; all its members learn the result. */
static void decide(struct store *st, int rc)
{
	struct group *g = TAKE(st->group);

	g->decided = true;
	g->rc = rc;
	pthread_cond_broadcast(&g->changed);
	group_unref(g);
}

/* mtx held. A turn ended without a new member: one of those that wait may be the one to commit now. (A new member looks
 * itself, so that nobody is woken for nothing.) */
static void remind(struct store *st)
{
	if (st->group != NULL)
		pthread_cond_signal(&st->group->changed);
}

static void take_turn(struct store *st)
{
	pthread_mutex_lock(&st->mtx);
	st->waiting++;
	while (st->writing)
		pthread_cond_wait(&st->turn, &st->mtx);
	st->waiting--;
	st->writing = true;
	pthread_mutex_unlock(&st->mtx);
}

/* mtx held. */
static void leave_turn(struct store *st)
{
	st->writing = false;
	pthread_cond_signal(&st->turn);
}

/* The caller has the turn: opens the group if there is none, and its member. */
static int begin_member(struct store *st)
{
	int rc = OK;

	if (st->group == NULL) {
		rc = st->driver->begin(st->writer, true);
		if (rc != OK)
			return rc;
		st->group = NEW(struct group);
		st->group->refs = 1;
		pthread_cond_init(&st->group->changed, NULL);
	}
	rc = st->driver->member_begin(st->writer);
	if (rc != OK) {
		st->driver->rollback(st->writer);
		pthread_mutex_lock(&st->mtx);
		decide(st, rc);
		pthread_mutex_unlock(&st->mtx);
	}
	return rc;
}

static int begin_write(struct store *st)
{
	int rc;

	take_turn(st);
	rc = begin_member(st);
	if (rc != OK) {
		pthread_mutex_lock(&st->mtx);
		leave_turn(st);
		remind(st);
		pthread_mutex_unlock(&st->mtx);
	}
	return rc;
}

static int reader_take(struct store *st, struct db **ret)
{
	struct db *db = NULL;
	int rc = OK;

	pthread_mutex_lock(&st->readers_mtx);
	if (st->n_readers > 0)
		db = st->readers[--st->n_readers];
	pthread_mutex_unlock(&st->readers_mtx);
	if (db == NULL)
		rc = st->driver->open(st->data_dir, false, &db, NULL);
	if (rc == OK)
		*ret = db;
	return rc;
}

static void reader_give(struct store *st, struct db *db)
{
	pthread_mutex_lock(&st->readers_mtx);
	if (st->n_readers < READERS_KEPT)
		st->readers[st->n_readers++] = TAKE(db);
	pthread_mutex_unlock(&st->readers_mtx);
	if (db != NULL)
		st->driver->close(&db);
}

int tx_begin(struct store *st, enum tx_mode mode, struct tx **ret)
{
	struct tx *tx;
	struct db *db = NULL;
	int rc;

	OBJ_CHECK(st, STORE_MAGIC);
	if (mode == TX_WRITE) {
		ENSURE(!writing_here);
		rc = begin_write(st);
		writing_here = rc == OK;
		db = st->writer;
	} else {
		rc = reader_take(st, &db);
		if (rc == OK && (rc = st->driver->begin(db, false)) != OK)
			reader_give(st, db);
	}
	if (rc != OK)
		return rc;
	tx = NEW(struct tx);
	tx->magic = TX_MAGIC;
	tx->st = st;
	tx->driver = st->driver;
	tx->db = db;
	tx->write = mode == TX_WRITE;
	*ret = tx;
	return OK;
}

static int commit_group(struct store *st)
{
	int rc;

	if (st->fail_in > 0 && --st->fail_in == 0) {
		st->driver->rollback(st->writer);
		return st->fail_rc;
	}
	rc = st->driver->commit(st->writer);
	if (rc == OK)
		checkpointer_tell(st->checkpointer, st->driver->log_pages(st->writer));
	return rc;
}

/* mtx held on entry and exit. Waits until the group has a result; commits it if nobody else is about to join. */
static int await_group(struct store *st, struct group *g)
{
	int rc;

	while (!g->decided) {
		bool mine = !st->writing && (st->waiting == 0 || g->members >= GROUP_MAX);

		if (!mine) {
			pthread_cond_wait(&g->changed, &st->mtx);
			continue;
		}
		st->writing = true;
		pthread_mutex_unlock(&st->mtx);
		rc = commit_group(st);
		pthread_mutex_lock(&st->mtx);
		decide(st, rc);
		leave_turn(st);
	}
	rc = g->rc;
	group_unref(g);
	return rc;
}

static int commit_write(struct tx *tx)
{
	struct store *st = tx->st;
	int rc = st->driver->member_release(st->writer);

	pthread_mutex_lock(&st->mtx);
	if (rc != OK) {
		st->driver->rollback(st->writer);
		decide(st, rc);
		leave_turn(st);
	} else {
		struct group *g = st->group;

		g->members++;
		g->refs++;
		leave_turn(st);
		rc = await_group(st, g);
	}
	pthread_mutex_unlock(&st->mtx);
	return rc;
}

int tx_commit(struct tx **txp)
{
	struct tx *tx = *txp;
	int rc;

	OBJ_CHECK(tx, TX_MAGIC);
	if (tx->failed != OK) {
		rc = tx->failed;
		tx_free(txp);
		return rc;
	}
	if (tx->write) {
		ENSURE(writing_here);
		writing_here = false;
		rc = commit_write(tx);
	} else {
		rc = tx->st->driver->commit(tx->db);
		reader_give(tx->st, tx->db);
	}
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
	st = tx->st;
	if (!tx->write) {
		st->driver->rollback(tx->db);
		reader_give(st, tx->db);
	} else {
		int rc = st->driver->member_undo(st->writer);

		ENSURE(writing_here);
		writing_here = false;

		pthread_mutex_lock(&st->mtx);
		if (rc != OK) {
			st->driver->rollback(st->writer);
			decide(st, tx->failed != OK ? tx->failed : rc);
		} else if (st->group->members == 0) {
			/* Nobody else is in the group: end it, so that no lock is held for nothing. */
			st->driver->rollback(st->writer);
			decide(st, OK);
		}
		leave_turn(st);
		remind(st);
		pthread_mutex_unlock(&st->mtx);
	}
	free(tx);
}

bool store_is_unavailable(int rc)
{
	return rc == ERR_IO || rc == ERR_NO_SPACE;
}

void store_log_unavailable(struct store *st, int rc)
{
	int64_t now = clock_mono_ms(), last = atomic_load(&st->last_logged_ms);

	if (last != 0 && now - last < 60000)
		return;
	if (atomic_compare_exchange_strong(&st->last_logged_ms, &last, now))
		log_error("store.unavailable", "error=%s reason=%s dir=%s effect=%s", err_name(rc),
		    log_quote(err_text(rc)), log_quote(st->data_dir),
		    log_quote("requests that write are answered 503, runs wait; free space and work goes on"));
}

void store_fail_commit(struct store *st, int64_t n, int rc)
{
	pthread_mutex_lock(&st->mtx);
	st->fail_in = n;
	st->fail_rc = rc;
	pthread_mutex_unlock(&st->mtx);
}
