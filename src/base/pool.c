#include "base/pool.h"
#include "base/errors.h"
#include "base/mem.h"
#include <pthread.h>

struct pool_job {
	void (*fn)(void *arg);
	void *arg;
};

struct pool {
	pthread_mutex_t mtx; /* a leaf: jobs run without it */
	pthread_cond_t work; /* one thread is woken for each job that finds one idle */
	unsigned n, n_idle;
	bool closed;
	struct pool_job *ring;
	size_t bound, len, cap, head;
	char name[16];
	pthread_t threads[];
};

/* ERR_CLOSED: closed, and nothing is left. */
static int next_job(struct pool *p, struct pool_job *ret)
{
	int rc = ERR_CLOSED;

	pthread_mutex_lock(&p->mtx);
	p->n_idle++;
	while (p->len == 0 && !p->closed)
		pthread_cond_wait(&p->work, &p->mtx);
	p->n_idle--;
	if (p->len > 0) {
		*ret = p->ring[p->head];
		p->head = (p->head + 1) % p->cap;
		p->len--;
		rc = OK;
	}
	pthread_mutex_unlock(&p->mtx);
	return rc;
}

/* The pool that this thread works for. */
static _Thread_local const struct pool *pool_here;

static void *pool_main(void *arg)
{
	struct pool *p = arg;
	struct pool_job job;

	pool_here = p;
	pthread_setname_np(pthread_self(), p->name);
	while (next_job(p, &job) == OK)
		job.fn(job.arg);
	return NULL;
}

struct pool *pool_new(const char *name, unsigned threads, size_t bound)
{
	struct pool *p = mem_zalloc(sizeof *p + threads * sizeof p->threads[0]);

	pthread_mutex_init(&p->mtx, NULL);
	pthread_cond_init(&p->work, NULL);
	p->bound = bound;
	p->n = threads;
	snprintf(p->name, sizeof p->name, "%s", name);
	for (unsigned i = 0; i < threads; i++)
		ENSURE(pthread_create(&p->threads[i], NULL, pool_main, p) == 0);
	return p;
}

void pool_stop(struct pool *p)
{
	ENSURE(pool_here != p); /* a job would wait for itself */
	pthread_mutex_lock(&p->mtx);
	p->closed = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->mtx);
	for (unsigned i = 0; i < p->n; i++)
		pthread_join(p->threads[i], NULL);
	p->n = 0;
}

void pool_free(struct pool **pp)
{
	struct pool *p = TAKE(*pp);

	if (p == NULL)
		return;
	pool_stop(p);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->mtx);
	free(p->ring);
	free(p);
}

/* mtx held. */
static void pool_grow_ring(struct pool *p)
{
	size_t cap = p->cap ? p->cap * 2 : 8;
	struct pool_job *ring = mem_alloc(cap * sizeof *ring);

	for (size_t i = 0; i < p->len; i++)
		ring[i] = p->ring[(p->head + i) % p->cap];
	free(p->ring);
	p->ring = ring;
	p->cap = cap;
	p->head = 0;
}

int pool_submit(struct pool *p, void (*fn)(void *arg), void *arg)
{
	bool wake = false;
	int rc = OK;

	pthread_mutex_lock(&p->mtx);
	if (p->closed) {
		rc = ERR_CLOSED;
	} else if (p->len >= p->bound) {
		rc = ERR_FULL;
	} else {
		if (p->len == p->cap)
			pool_grow_ring(p);
		p->ring[(p->head + p->len++) % p->cap] = (struct pool_job){fn, arg};
		wake = p->n_idle > 0;
	}
	pthread_mutex_unlock(&p->mtx);
	/* Without the lock, which the woken thread wants at once. The pool is still there: it outlives its submitters.
	 */
	if (wake)
		pthread_cond_signal(&p->work);
	return rc;
}

struct start {
	struct pool_job job;
	char name[16];
};

static void *thread_main(void *arg)
{
	struct start s = *(struct start *)arg;

	free(arg);
	pthread_setname_np(pthread_self(), s.name);
	s.job.fn(s.job.arg);
	return NULL;
}

int thread_start(const char *name, size_t stack_bytes, void (*fn)(void *arg), void *arg)
{
	struct start *s = NEW(struct start);
	pthread_attr_t attr;
	pthread_t t;
	int rc;

	s->job = (struct pool_job){fn, arg};
	snprintf(s->name, sizeof s->name, "%s", name);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, stack_bytes);
	rc = pthread_create(&t, &attr, thread_main, s);
	pthread_attr_destroy(&attr);
	if (rc != 0) {
		free(s);
		return ERR_FULL;
	}
	return OK;
}
