#include "base/pool.h"
#include "base/errors.h"
#include "base/mailbox.h"
#include "base/mem.h"
#include <pthread.h>

struct job {
	void (*fn)(void *arg);
	void *arg;
};

struct pool {
	struct mailbox *jobs;
	pthread_mutex_t turn; /* the mailbox has one reader: the thread whose turn it is */
	unsigned n;
	char name[16];
	pthread_t threads[];
};

static void *pool_main(void *arg)
{
	struct pool *p = arg;

	pthread_setname_np(pthread_self(), p->name);
	for (;;) {
		void *msg = NULL;
		int rc;

		pthread_mutex_lock(&p->turn);
		rc = mailbox_receive(p->jobs, INT64_MAX, &msg);
		pthread_mutex_unlock(&p->turn);
		if (rc != OK)
			return NULL;
		struct job job = *(struct job *)msg;
		free(msg);
		job.fn(job.arg);
	}
}

struct pool *pool_new(const char *name, unsigned threads, size_t bound)
{
	struct pool *p = mem_zalloc(sizeof *p + threads * sizeof p->threads[0]);

	p->jobs = mailbox_new(bound, NULL);
	p->n = threads;
	pthread_mutex_init(&p->turn, NULL);
	snprintf(p->name, sizeof p->name, "%s", name);
	for (unsigned i = 0; i < threads; i++)
		ENSURE(pthread_create(&p->threads[i], NULL, pool_main, p) == 0);
	return p;
}

void pool_stop(struct pool *p)
{
	mailbox_close(p->jobs);
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
	mailbox_free(&p->jobs);
	pthread_mutex_destroy(&p->turn);
	free(p);
}

int pool_submit(struct pool *p, void (*fn)(void *arg), void *arg)
{
	struct job *job = NEW(struct job);
	int rc;

	*job = (struct job){fn, arg};
	rc = mailbox_post(p->jobs, job);
	if (rc != OK)
		free(job);
	return rc;
}

struct start {
	struct job job;
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

	s->job = (struct job){fn, arg};
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
