/* Which runs have a thread. A run that is to be driven while its former thread is still on its way out gets a new
 * thread when that one is gone; runs over the cap wait here in order. Losing this list loses nothing: the sweep finds
 * every run that should have a thread. */
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "server/runs/runs_priv.h"
#include <pthread.h>
#include <string.h>

#define STACK_BYTES (256 * 1024)
#define SWEEP_MS 2000

struct supervisor {
	pthread_mutex_t mtx;
	pthread_cond_t gone;
	struct map *active; /* run id -> the struct driven */
	unsigned n_threads;
	char **waiting; /* run ids over the cap, oldest first */
	size_t n_waiting, waiting_cap;
	bool stopping;
	struct mailbox *stop; /* wakes the sweeper */
	bool sweeper_gone;
};

struct driven {
	struct runs *runs;
	char *run_id;
	bool again; /* mtx */
};

static void start_thread(struct runs *r, const char *run_id);

/* mtx held. */
static char *next_waiting(struct supervisor *s)
{
	char *id;

	if (s->n_waiting == 0 || s->stopping)
		return NULL;
	id = s->waiting[0];
	memmove(s->waiting, s->waiting + 1, --s->n_waiting * sizeof *s->waiting);
	return id;
}

static void thread_main(void *arg)
{
	struct driven *d = arg;
	struct runs *r = d->runs;
	struct supervisor *s = r->supervisor;
	AUTO_STR next = NULL;
	bool again;

	do {
		run_thread(r, d->run_id);
		pthread_mutex_lock(&s->mtx);
		again = d->again && !s->stopping;
		d->again = false;
		if (!again)
			map_remove(s->active, d->run_id);
		pthread_mutex_unlock(&s->mtx);
	} while (again);
	free(d->run_id);
	free(d);
	pthread_mutex_lock(&s->mtx);
	next = next_waiting(s);
	pthread_mutex_unlock(&s->mtx);
	if (next != NULL)
		start_thread(r, next);
	pthread_mutex_lock(&s->mtx);
	s->n_threads--;
	pthread_cond_broadcast(&s->gone);
	pthread_mutex_unlock(&s->mtx);
}

/* Starts a thread unless the run has one or is over the cap. */
static void start_thread(struct runs *r, const char *run_id)
{
	struct supervisor *s = r->supervisor;
	struct driven *d = NULL;

	pthread_mutex_lock(&s->mtx);
	if (!s->stopping && map_get(s->active, run_id) == NULL) {
		d = NEW(struct driven);
		d->runs = r;
		d->run_id = str_dup(run_id);
		map_put(s->active, run_id, d);
		s->n_threads++;
	}
	pthread_mutex_unlock(&s->mtx);
	if (d == NULL || thread_start("run", STACK_BYTES, thread_main, d) == OK)
		return;
	/* The system has no thread left: the sweep tries again. */
	log_warn("run.thread.refused", "run=%s", run_id);
	pthread_mutex_lock(&s->mtx);
	map_remove(s->active, run_id);
	s->n_threads--;
	pthread_cond_broadcast(&s->gone);
	pthread_mutex_unlock(&s->mtx);
	free(d->run_id);
	free(d);
}

static bool is_waiting(const struct supervisor *s, const char *run_id)
{
	for (size_t i = 0; i < s->n_waiting; i++)
		if (strcmp(s->waiting[i], run_id) == 0)
			return true;
	return false;
}

void supervisor_drive(struct runs *r, const char *run_id)
{
	struct supervisor *s = r->supervisor;
	struct driven *d;
	bool start = false;

	pthread_mutex_lock(&s->mtx);
	d = map_get(s->active, run_id);
	if (d != NULL) {
		d->again = true;
	} else if (s->n_threads < r->cfg.max_active) {
		start = true;
	} else if (!is_waiting(s, run_id)) {
		s->waiting = mem_grow(s->waiting, &s->waiting_cap, s->n_waiting + 1, sizeof *s->waiting);
		s->waiting[s->n_waiting++] = str_dup(run_id);
	}
	pthread_mutex_unlock(&s->mtx);
	if (start)
		start_thread(r, run_id);
}

/* Runs that have a connected worker and no thread: a wake-up was lost, or no thread could be had. */
static void drive_forgotten(struct runs *r)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(r->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT q.run_id FROM requests q JOIN workers w ON w.team_id = q.team_id AND w.id = q.worker_id"
		    " WHERE q.state IN ('claimed', 'serving')",
		    "");
	while (rc == OK && (rc = query_next(q)) == OK) {
		struct supervisor *s = r->supervisor;
		bool known;

		pthread_mutex_lock(&s->mtx);
		known = map_get(s->active, query_str(q, 0)) != NULL;
		pthread_mutex_unlock(&s->mtx);
		if (!known)
			supervisor_drive(r, query_str(q, 0));
	}
}

static void sweeper_main(void *arg)
{
	struct runs *r = OBJ_FROM(runs, arg, RUNS_MAGIC);
	struct supervisor *s = r->supervisor;
	void *msg;

	while (mailbox_receive(s->stop, clock_mono_ms() + SWEEP_MS, &msg) == ERR_TIMEOUT) {
		sweep(r);
		drive_forgotten(r);
	}
	pthread_mutex_lock(&s->mtx);
	s->sweeper_gone = true;
	pthread_cond_broadcast(&s->gone);
	pthread_mutex_unlock(&s->mtx);
}

int supervisor_start(struct runs *r)
{
	struct supervisor *s = NEW(struct supervisor);

	pthread_mutex_init(&s->mtx, NULL);
	pthread_cond_init(&s->gone, NULL);
	s->active = map_new();
	s->stop = mailbox_new(1, NULL);
	r->supervisor = s;
	return thread_start("sweeper", 512 * 1024, sweeper_main, r);
}

void supervisor_stop(struct runs *r)
{
	struct supervisor *s = r->supervisor;

	pthread_mutex_lock(&s->mtx);
	s->stopping = true;
	mailbox_close(s->stop);
	while (s->n_threads > 0 || !s->sweeper_gone)
		pthread_cond_wait(&s->gone, &s->mtx);
	pthread_mutex_unlock(&s->mtx);
	r->supervisor = NULL;
	for (size_t i = 0; i < s->n_waiting; i++)
		free(s->waiting[i]);
	free(s->waiting);
	map_free(&s->active);
	mailbox_free(&s->stop);
	pthread_cond_destroy(&s->gone);
	pthread_mutex_destroy(&s->mtx);
	free(s);
}
