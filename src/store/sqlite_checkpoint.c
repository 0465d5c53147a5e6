/* Moves what was committed from the log into the database file, on a thread and a connection of its own: a writer that
 * did it itself would keep all others waiting for some milliseconds every few hundred commits. */
#include "base/mem.h"
#include "base/metrics.h"
#include "store/sqlite_priv.h"
#include <pthread.h>
#include <time.h>

#define PAGES_SOFT 1000
#define PAGES_HARD 4000 /* readers kept the log from starting over: now they are waited for, a little */
#define PAGES_STOP 20000 /* writers are faster than the disk: now they wait for a round */
#define STOP_MS 2000
#define LOCK_WAIT_MS 100

METRIC_GAUGE(log_pages, "bullpen_store_wal_pages", "Pages in the write-ahead log after the last commit.");
METRIC_COUNTER(checkpoints, "bullpen_store_checkpoints_total", "Rounds of moving the log into the database.", "result");

struct checkpointer {
	sqlite3 *conn; /* of the thread */
	pthread_t thread;
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	int64_t pages; /* in the log; 0: nothing to do */
	uint64_t rounds; /* done */
	bool stop;
};

/* restart: also lets the log start over, which keeps writers out until the readers of the moment are done, but not for
 * long. */
static void move_log(struct checkpointer *c, bool restart)
{
	int rc = sqlite3_wal_checkpoint_v2(
	    c->conn, NULL, restart ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

	/* A full disk or a reader in the way: the log keeps everything, a later commit asks again. */
	metric_add(&checkpoints, 1, rc == SQLITE_OK ? "ok" : (rc & 0xff) == SQLITE_BUSY ? "busy" : "failed");
}

static void *checkpoint_main(void *arg)
{
	struct checkpointer *c = arg;

	pthread_mutex_lock(&c->mtx);
	while (!c->stop) {
		bool hard = c->pages >= PAGES_HARD;

		if (c->pages == 0) {
			pthread_cond_wait(&c->changed, &c->mtx);
			continue;
		}
		c->pages = 0;
		pthread_mutex_unlock(&c->mtx);
		move_log(c, hard);
		pthread_mutex_lock(&c->mtx);
		c->rounds++;
		pthread_cond_broadcast(&c->changed);
	}
	pthread_mutex_unlock(&c->mtx);
	return NULL;
}

int checkpointer_start(sqlite3 *conn, struct checkpointer **ret, struct why *why)
{
	struct checkpointer *c = NEW(struct checkpointer);
	pthread_condattr_t monotonic;
	int rc = OK;

	c->conn = conn;
	sqlite3_busy_timeout(conn, LOCK_WAIT_MS);
	pthread_mutex_init(&c->mtx, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (pthread_create(&c->thread, NULL, checkpoint_main, c) != 0) {
		rc = why_set(why, ERR_INTERNAL, "cannot start a thread");
		sqlite3_close(conn);
		pthread_mutex_destroy(&c->mtx);
		pthread_cond_destroy(&c->changed);
		free(c);
		return rc;
	}
	*ret = c;
	return OK;
}

/* mtx held. One that began before this commit helps as well. */
static void await_round(struct checkpointer *c)
{
	uint64_t before = c->rounds;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += STOP_MS / 1000;
	while (c->rounds == before && pthread_cond_timedwait(&c->changed, &c->mtx, &until) == 0)
		continue;
}

void checkpointer_tell(struct checkpointer *c, int64_t pages)
{
	metric_set(&log_pages, (double)pages);
	if (pages < PAGES_SOFT)
		return;
	pthread_mutex_lock(&c->mtx);
	c->pages = pages;
	pthread_cond_broadcast(&c->changed);
	if (pages >= PAGES_STOP)
		await_round(c);
	pthread_mutex_unlock(&c->mtx);
}

void checkpointer_free(struct checkpointer **cp)
{
	struct checkpointer *c = TAKE(*cp);

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->mtx);
	c->stop = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->mtx);
	pthread_join(c->thread, NULL);
	sqlite3_close(c->conn);
	pthread_mutex_destroy(&c->mtx);
	pthread_cond_destroy(&c->changed);
	free(c);
}
