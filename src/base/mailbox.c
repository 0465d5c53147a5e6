#include "base/mailbox.h"
#include "base/errors.h"
#include "base/mem.h"
#include <errno.h>
#include <pthread.h>
#include <time.h>

struct mailbox {
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	unsigned refs;
	bool closed;
	size_t bound, len, cap, head;
	void **ring;
	void (*drop)(void *msg);
};

struct mailbox *mailbox_new(size_t bound, void (*drop)(void *msg))
{
	struct mailbox *m = NEW(struct mailbox);
	pthread_condattr_t attr;

	pthread_mutex_init(&m->mtx, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->changed, &attr);
	pthread_condattr_destroy(&attr);
	m->refs = 1;
	m->bound = bound;
	m->drop = drop;
	return m;
}

struct mailbox *mailbox_ref(struct mailbox *m)
{
	pthread_mutex_lock(&m->mtx);
	m->refs++;
	pthread_mutex_unlock(&m->mtx);
	return m;
}

void mailbox_free(struct mailbox **mp)
{
	struct mailbox *m = TAKE(*mp);
	unsigned left;

	if (m == NULL)
		return;
	pthread_mutex_lock(&m->mtx);
	left = --m->refs;
	pthread_mutex_unlock(&m->mtx);
	if (left > 0)
		return;
	for (; m->len > 0; m->len--) {
		if (m->drop != NULL)
			m->drop(m->ring[m->head]);
		m->head = (m->head + 1) % m->cap;
	}
	free(m->ring);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->mtx);
	free(m);
}

static void grow(struct mailbox *m)
{
	size_t cap = m->cap ? m->cap * 2 : 8;
	void **ring = mem_alloc(cap * sizeof *ring);

	for (size_t i = 0; i < m->len; i++)
		ring[i] = m->ring[(m->head + i) % m->cap];
	free(m->ring);
	m->ring = ring;
	m->cap = cap;
	m->head = 0;
}

static int post(struct mailbox *m, void *msg, bool always)
{
	int rc = OK;

	pthread_mutex_lock(&m->mtx);
	if (m->closed) {
		rc = ERR_CLOSED;
	} else if (!always && m->len >= m->bound) {
		rc = ERR_FULL;
	} else {
		if (m->len == m->cap)
			grow(m);
		m->ring[(m->head + m->len++) % m->cap] = msg;
		if (m->len == 1)
			pthread_cond_signal(&m->changed);
	}
	pthread_mutex_unlock(&m->mtx);
	return rc;
}

int mailbox_post(struct mailbox *m, void *msg)
{
	return post(m, msg, false);
}

int mailbox_post_always(struct mailbox *m, void *msg)
{
	return post(m, msg, true);
}

int mailbox_receive(struct mailbox *m, int64_t deadline_mono_ms, void **ret_msg)
{
	struct timespec ts = {
	    .tv_sec = (time_t)(deadline_mono_ms / 1000), .tv_nsec = (long)(deadline_mono_ms % 1000) * 1000000};
	int rc = OK, waited = 0;

	pthread_mutex_lock(&m->mtx);
	while (m->len == 0 && !m->closed && waited != ETIMEDOUT) {
		if (deadline_mono_ms == INT64_MAX)
			pthread_cond_wait(&m->changed, &m->mtx);
		else
			waited = pthread_cond_timedwait(&m->changed, &m->mtx, &ts);
	}
	if (m->len > 0) {
		*ret_msg = m->ring[m->head];
		m->head = (m->head + 1) % m->cap;
		m->len--;
	} else {
		rc = m->closed ? ERR_CLOSED : ERR_TIMEOUT;
	}
	pthread_mutex_unlock(&m->mtx);
	return rc;
}

void mailbox_close(struct mailbox *m)
{
	pthread_mutex_lock(&m->mtx);
	m->closed = true;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->mtx);
}
