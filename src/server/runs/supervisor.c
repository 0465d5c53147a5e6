#include "server/runs/supervisor.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include <pthread.h>

#define STACK_BYTES (256 * 1024)
#define SUPERVISOR_MAGIC 0x53555056u

enum ticket_state { TICKET_WAITING, TICKET_ACTIVE };

/* A run that has a thread or waits for one. Guarded by the supervisor's mtx. */
struct ticket {
	char *run_id; /* constant */
	enum ticket_state state;
	bool again; /* ACTIVE: something changed since the thread looked; it looks once more */
	struct ticket *next; /* WAITING: behind it */
};

struct supervisor {
	unsigned magic;
	struct supervisor_config cfg;
	pthread_mutex_t mtx; /* a leaf */
	pthread_cond_t gone;
	struct map *tickets; /* run id -> struct ticket */
	struct ticket *first, *last; /* WAITING, oldest first */
	size_t n_waiting;
	unsigned n_threads;
	bool stopping;
};

struct supervisor *supervisor_new(const struct supervisor_config *cfg)
{
	struct supervisor *s = NEW(struct supervisor);

	ENSURE(cfg->max_threads > 0);
	s->magic = SUPERVISOR_MAGIC;
	s->cfg = *cfg;
	pthread_mutex_init(&s->mtx, NULL);
	pthread_cond_init(&s->gone, NULL);
	s->tickets = map_new();
	return s;
}

static void ticket_free(struct ticket *t)
{
	free(t->run_id);
	free(t);
}

/* mtx held. */
static void append_waiting(struct supervisor *s, struct ticket *t)
{
	ENSURE_LOCKED(&s->mtx);
	t->state = TICKET_WAITING;
	t->next = NULL;
	if (s->last != NULL)
		s->last->next = t;
	else
		s->first = t;
	s->last = t;
	s->n_waiting++;
}

/* mtx held. NULL: nobody waits, or no run is to begin any more. */
static struct ticket *take_waiting(struct supervisor *s)
{
	struct ticket *t = s->first;

	ENSURE_LOCKED(&s->mtx);
	if (t == NULL || s->stopping)
		return NULL;
	ENSURE(t->state == TICKET_WAITING);
	s->first = t->next;
	if (s->first == NULL)
		s->last = NULL;
	s->n_waiting--;
	t->state = TICKET_ACTIVE;
	t->next = NULL;
	return t;
}

/* The thread is done with its run; returns what it drives next: the same run if that changed meanwhile, else the one
 * that has waited longest. A thread that goes on with a waiting run keeps its place under the cap, so no newer run can
 * slip in between. NULL: the thread ends, and has been counted out. */
static struct ticket *next_of_thread(struct supervisor *s, struct ticket *done)
{
	struct ticket *next = NULL;

	pthread_mutex_lock(&s->mtx);
	ENSURE(done->state == TICKET_ACTIVE);
	if (done->again && !s->stopping) {
		done->again = false;
		next = done;
	} else {
		ENSURE(map_remove(s->tickets, done->run_id) == done);
		ticket_free(done);
		next = take_waiting(s);
	}
	if (next == NULL) {
		/* The last touch of `s`: supervisor_stop waits for the count, then it may be freed. */
		s->n_threads--;
		pthread_cond_broadcast(&s->gone);
	}
	pthread_mutex_unlock(&s->mtx);
	return next;
}

struct driver_arg {
	struct supervisor *s;
	struct ticket *t;
};

static void driver_main(void *arg)
{
	struct driver_arg *given = arg;
	struct supervisor *s = OBJ_FROM(supervisor, given->s, SUPERVISOR_MAGIC);
	struct ticket *t = given->t;

	free(given);
	while (t != NULL) {
		s->cfg.drive(s->cfg.ctx, t->run_id);
		t = next_of_thread(s, t);
	}
}

/* mtx held. As many waiting runs as there is room for become ACTIVE and are counted; the caller starts their threads
 * after it gave the lock back. Returns a list of them. */
static struct ticket *admit_waiting(struct supervisor *s)
{
	struct ticket *admitted = NULL, **end = &admitted;

	while (s->n_threads < s->cfg.max_threads && (*end = take_waiting(s)) != NULL) {
		s->n_threads++;
		end = &(*end)->next;
	}
	ENSURE(s->n_threads <= s->cfg.max_threads);
	return admitted;
}

/* The system has no thread left: the run is forgotten here, the sweep finds it again. */
static void give_up_thread(struct supervisor *s, struct ticket *t)
{
	log_warn("run.thread.refused", "run=%s", t->run_id);
	pthread_mutex_lock(&s->mtx);
	map_remove(s->tickets, t->run_id);
	s->n_threads--;
	pthread_cond_broadcast(&s->gone);
	pthread_mutex_unlock(&s->mtx);
	ticket_free(t);
}

static void start_threads(struct supervisor *s, struct ticket *admitted)
{
	while (admitted != NULL) {
		struct ticket *t = admitted;
		struct driver_arg *arg = NEW(struct driver_arg);

		admitted = t->next;
		t->next = NULL;
		*arg = (struct driver_arg){s, t};
		if (thread_start("run", STACK_BYTES, driver_main, arg) == OK)
			continue;
		free(arg);
		give_up_thread(s, t);
	}
}

void supervisor_drive(struct supervisor *s, const char *run_id)
{
	struct ticket *admitted = NULL, *t;

	OBJ_CHECK(s, SUPERVISOR_MAGIC);
	pthread_mutex_lock(&s->mtx);
	t = map_get(s->tickets, run_id);
	if (t != NULL) {
		t->again = t->state == TICKET_ACTIVE;
	} else if (!s->stopping) {
		t = NEW(struct ticket);
		t->run_id = str_dup(run_id);
		map_put(s->tickets, run_id, t);
		append_waiting(s, t);
	}
	admitted = admit_waiting(s);
	pthread_mutex_unlock(&s->mtx);
	start_threads(s, admitted);
}

void supervisor_tick(struct supervisor *s)
{
	struct ticket *admitted;

	pthread_mutex_lock(&s->mtx);
	admitted = admit_waiting(s);
	pthread_mutex_unlock(&s->mtx);
	start_threads(s, admitted);
}

bool supervisor_knows(struct supervisor *s, const char *run_id)
{
	bool known;

	pthread_mutex_lock(&s->mtx);
	known = map_get(s->tickets, run_id) != NULL;
	pthread_mutex_unlock(&s->mtx);
	return known;
}

void supervisor_count(struct supervisor *s, unsigned *ret_active, size_t *ret_waiting)
{
	pthread_mutex_lock(&s->mtx);
	*ret_active = s->n_threads;
	*ret_waiting = s->n_waiting;
	pthread_mutex_unlock(&s->mtx);
}

void supervisor_stop(struct supervisor *s)
{
	pthread_mutex_lock(&s->mtx);
	s->stopping = true;
	while (s->n_threads > 0)
		pthread_cond_wait(&s->gone, &s->mtx);
	pthread_mutex_unlock(&s->mtx);
}

void supervisor_free(struct supervisor **sp)
{
	struct supervisor *s = TAKE(*sp);

	if (s == NULL)
		return;
	ENSURE(s->n_threads == 0);
	while (s->first != NULL) {
		struct ticket *t = s->first;

		s->first = t->next;
		ticket_free(t);
	}
	map_free(&s->tickets);
	pthread_cond_destroy(&s->gone);
	pthread_mutex_destroy(&s->mtx);
	free(s);
}
