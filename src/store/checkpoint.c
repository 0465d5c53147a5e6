/* Moves what was committed from the log into the database file, on a thread and a connection of its own: a writer that
 * did it itself would keep all others waiting for some milliseconds every few hundred commits. */
#include "store/checkpoint.h"
#include "base/mem.h"
#include <pthread.h>
#include <time.h>

#define PAGES_SOFT 1000
#define PAGES_HARD 4000 /* readers kept the log from starting over: now they are waited for, a little */
#define PAGES_STOP 20000 /* writers are faster than the disk: now they wait for a round */
#define STOP_MS 2000

struct checkpointer {
	const struct driver *driver;
	struct db *db;
	pthread_t thread;
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	int64_t pages; /* in the log; 0: nothing to do */
	uint64_t rounds; /* done */
	bool stop;
};

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
		/* A full disk or a reader in the way: the log keeps everything, a later commit asks again. */
		IGNORE(c->driver->checkpoint(c->db, hard));
		pthread_mutex_lock(&c->mtx);
		c->rounds++;
		pthread_cond_broadcast(&c->changed);
	}
	pthread_mutex_unlock(&c->mtx);
	return NULL;
}

int checkpointer_start(const struct driver *driver, const char *data_dir, struct checkpointer **ret, struct why *why)
{
	struct checkpointer *c = NEW(struct checkpointer);
	pthread_condattr_t monotonic;
	int rc = driver->open(data_dir, true, &c->db, why);

	c->driver = driver;
	pthread_mutex_init(&c->mtx, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (rc == OK && pthread_create(&c->thread, NULL, checkpoint_main, c) != 0) {
		driver->close(&c->db);
		rc = why_set(why, ERR_INTERNAL, "cannot start a thread");
	}
	if (rc != OK) {
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
	c->driver->close(&c->db);
	pthread_mutex_destroy(&c->mtx);
	pthread_cond_destroy(&c->changed);
	free(c);
}
