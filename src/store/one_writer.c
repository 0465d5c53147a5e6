/* Group commit for a driver with a single writer (docs/adr/0002).
 *
 * Writers take turns on one connection. The first of a group opens the database transaction; each member is a part of
 * it (a savepoint). A member that is done does not commit: it leaves, and waits until somebody has committed its group.
 * Who commits: the first member that finds nobody else waiting for a turn, or a group that is large enough. So a lone
 * writer pays one fsync, and a crowd shares one.
 *
 * If a member's statement fails so badly that the database drops the whole transaction (a full disk), every member of
 * that group learns that nothing was kept.
 *
 * Crash argument: a member is told OK only after the group's commit returned OK, and that commit is one transaction of
 * the database. A crash before it loses the whole group, none of which was answered; a crash after it loses nothing.
 *
 * Locks: mtx is a leaf as far as this program goes. The caller of a transaction holds the turn
 * (the flag `writing`), which is not a lock: threads that are done only need mtx, so a long transaction keeps nobody
 * from learning a result. */
#include "base/mem.h"
#include "store/store_priv.h"
#include <pthread.h>
#include <time.h>

#define GROUP_MAX 128
#define FULL_TRIES 60
#define WRITER_MAGIC 0x57525421u

/* What became of a group. Guarded by mtx; freed by the last member that has read it. */
struct group {
	unsigned members; /* left with their part kept, waiting for the decision */
	unsigned refs; /* the writer while the group is open, and each such member */
	bool decided;
	int rc;
	pthread_cond_t changed; /* decided, or one of the members has to see to it */
};

struct one_writer {
	unsigned magic;
	const struct driver *driver;
	struct store *st; /* borrowed, for store_commit_db */
	struct db *db; /* used by the thread that has the turn */
	pthread_mutex_t mtx; /* guards what follows */
	pthread_cond_t turn; /* the connection is free */
	bool writing; /* a thread has the turn */
	unsigned waiting; /* threads that wait for a turn */
	struct group *group; /* the open one; NULL: no database transaction is open. Set by the turn's thread */
};

/* What this thread holds, for the assertions. A thread never holds two writers. */
static _Thread_local const struct one_writer *locked_here, *turn_here;

static void lock_writer(struct one_writer *w)
{
	ENSURE(locked_here == NULL);
	pthread_mutex_lock(&w->mtx);
	locked_here = w;
}

static void unlock_writer(struct one_writer *w)
{
	ENSURE(locked_here == w);
	locked_here = NULL;
	pthread_mutex_unlock(&w->mtx);
}

struct one_writer *one_writer_new(const struct driver *driver, struct store *st, struct db *db)
{
	struct one_writer *w = NEW(struct one_writer);

	w->magic = WRITER_MAGIC;
	w->driver = driver;
	w->st = st;
	w->db = db;
	pthread_mutex_init(&w->mtx, NULL);
	pthread_cond_init(&w->turn, NULL);
	return w;
}

void one_writer_free(struct one_writer **wp)
{
	struct one_writer *w = TAKE(*wp);

	if (w == NULL)
		return;
	ENSURE(!w->writing && w->waiting == 0 && w->group == NULL); /* a transaction is still open */
	w->driver->close(&w->db);
	pthread_cond_destroy(&w->turn);
	pthread_mutex_destroy(&w->mtx);
	free(w);
}

static void unref_group(struct one_writer *w, struct group *g)
{
	ENSURE(locked_here == w);
	if (--g->refs > 0)
		return;
	pthread_cond_destroy(&g->changed);
	free(g);
}

/* Ends the open group; all its members learn the result. */
static void decide_group(struct one_writer *w, int rc)
{
	struct group *g = TAKE(w->group);

	ENSURE(locked_here == w && turn_here == w && !g->decided);
	g->decided = true;
	g->rc = rc;
	pthread_cond_broadcast(&g->changed);
	unref_group(w, g);
}

/* The whole group is lost over what happened to one member. The others did nothing wrong: they hear a code that means
 * that trying again makes sense, never that member's own. */
static void lose_group(struct one_writer *w, int rc)
{
	w->driver->rollback(w->db);
	decide_group(w, store_is_unavailable(rc) ? rc : ERR_IO);
}

/* A turn ended without a new member: one of those that wait may be the one to commit now. (A new member looks itself,
 * so that nobody is woken for nothing.) */
static void remind_group(struct one_writer *w)
{
	ENSURE(locked_here == w);
	if (w->group != NULL)
		pthread_cond_signal(&w->group->changed);
}

/* mtx held. */
static void enter_turn(struct one_writer *w)
{
	ENSURE(locked_here == w && !w->writing && turn_here == NULL);
	w->writing = true;
	turn_here = w;
}

static void leave_turn(struct one_writer *w)
{
	ENSURE(locked_here == w && turn_here == w && w->writing);
	w->writing = false;
	turn_here = NULL;
	pthread_cond_signal(&w->turn);
}

static void take_turn(struct one_writer *w)
{
	lock_writer(w);
	w->waiting++;
	while (w->writing)
		pthread_cond_wait(&w->turn, &w->mtx);
	w->waiting--;
	enter_turn(w);
	unlock_writer(w);
}

/* The connection may have to be opened again. Readers that have taken all there are give one up for it: nothing goes on
 * without a writer. */
static int begin_group(struct one_writer *w)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	int rc = w->driver->begin(w->db, true);

	for (unsigned n = 0; rc == ERR_FULL && n < FULL_TRIES; n++) {
		store_close_idle(w->st);
		nanosleep(&pause, NULL); /* interval of polling */
		rc = w->driver->begin(w->db, true);
	}
	return rc == ERR_FULL ? ERR_IO : rc;
}

/* Opens the group if there is none, and this member's part. */
static int begin_member(struct one_writer *w)
{
	int rc = OK;

	ENSURE(turn_here == w);
	if (w->group == NULL) {
		rc = begin_group(w);
		if (rc != OK)
			return rc;
		w->group = NEW(struct group);
		w->group->refs = 1;
		pthread_cond_init(&w->group->changed, NULL);
	}
	rc = w->driver->part_begin(w->db);
	if (rc != OK) {
		lock_writer(w);
		lose_group(w, rc);
		unlock_writer(w);
	}
	return rc;
}

int one_writer_begin(struct one_writer *w, struct db **ret)
{
	int rc;

	OBJ_CHECK(w, WRITER_MAGIC);
	take_turn(w);
	rc = begin_member(w);
	if (rc != OK) {
		lock_writer(w);
		leave_turn(w);
		remind_group(w);
		unlock_writer(w);
	} else {
		*ret = w->db;
	}
	return rc;
}

/* Waits until the group has a result; commits it if nobody else is about to join. */
static int await_group(struct one_writer *w, struct group *g)
{
	int rc;

	ENSURE(locked_here == w && turn_here == NULL);
	while (!g->decided) {
		bool mine = !w->writing && (w->waiting == 0 || g->members >= GROUP_MAX);

		if (!mine) {
			pthread_cond_wait(&g->changed, &w->mtx);
			continue;
		}
		ENSURE(w->group == g);
		enter_turn(w);
		unlock_writer(w);
		rc = store_commit_db(w->st, w->db, g->members);
		lock_writer(w);
		decide_group(w, rc);
		leave_turn(w);
	}
	rc = g->rc;
	unref_group(w, g);
	return rc;
}

int one_writer_commit(struct one_writer *w)
{
	int rc;

	ENSURE(turn_here == w);
	rc = w->driver->part_keep(w->db);
	lock_writer(w);
	if (rc != OK) {
		lose_group(w, rc);
		leave_turn(w);
	} else {
		struct group *g = w->group;

		g->members++;
		g->refs++;
		leave_turn(w);
		rc = await_group(w, g);
	}
	unlock_writer(w);
	return rc;
}

void one_writer_rollback(struct one_writer *w, int failed)
{
	int rc;

	ENSURE(turn_here == w);
	rc = w->driver->part_undo(w->db);
	lock_writer(w);
	if (rc != OK) {
		lose_group(w, store_is_unavailable(failed) ? failed : rc);
	} else if (w->group->members == 0) {
		/* Nobody else is in the group: end it, so that no lock is held for nothing. */
		w->driver->rollback(w->db);
		decide_group(w, OK);
	}
	leave_turn(w);
	remind_group(w);
	unlock_writer(w);
}
