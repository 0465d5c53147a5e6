#include "base/mailbox.h"
#include "base/errors.h"
#include "base/mem.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct mailbox {
	pthread_mutex_t mtx; /* a leaf: nothing else is locked under it, and drop is called without it */
	pthread_cond_t news; /* a message arrived, or the box was closed */
	bool asleep; /* the reader waits: only then is a signal worth its system call */
	atomic_uint refs;
	bool closed;
	size_t bound, len, cap, head;
	void **ring;
	void (*drop)(void *msg);
};

struct mailbox *mailbox_new(size_t bound, void (*drop)(void *msg))
{
	struct mailbox *m = NEW(struct mailbox);
	pthread_condattr_t monotonic;

	pthread_mutex_init(&m->mtx, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&m->news, &monotonic);
	pthread_condattr_destroy(&monotonic);
	atomic_init(&m->refs, 1);
	m->bound = bound;
	m->drop = drop;
	return m;
}

struct mailbox *mailbox_ref(struct mailbox *m)
{
	atomic_fetch_add(&m->refs, 1);
	return m;
}

void mailbox_free(struct mailbox **mp)
{
	struct mailbox *m = TAKE(*mp);

	if (m == NULL || atomic_fetch_sub(&m->refs, 1) > 1)
		return;
	for (; m->len > 0; m->len--) {
		if (m->drop != NULL)
			m->drop(m->ring[m->head]);
		m->head = (m->head + 1) % m->cap;
	}
	free(m->ring);
	pthread_cond_destroy(&m->news);
	pthread_mutex_destroy(&m->mtx);
	free(m);
}

/* mtx held. */
static void mailbox_grow_ring(struct mailbox *m)
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

/* mtx held: the reader may free the mailbox as soon as it has the message, so nothing of it is touched after the lock
 * is given back. */
static void tell_reader(struct mailbox *m)
{
	if (!m->asleep)
		return;
	m->asleep = false; /* one signal is enough for all that arrives before the reader runs */
	pthread_cond_signal(&m->news);
}

static int append(struct mailbox *m, void *msg, bool always, bool wake)
{
	int rc = OK;

	pthread_mutex_lock(&m->mtx);
	if (m->closed) {
		rc = ERR_CLOSED;
	} else if (!always && m->len >= m->bound) {
		rc = ERR_FULL;
	} else {
		if (m->len == m->cap)
			mailbox_grow_ring(m);
		m->ring[(m->head + m->len++) % m->cap] = msg;
	}
	if (rc == OK && wake)
		tell_reader(m);
	pthread_mutex_unlock(&m->mtx);
	return rc;
}

int mailbox_post(struct mailbox *m, void *msg)
{
	return append(m, msg, false, true);
}

int mailbox_post_always(struct mailbox *m, void *msg)
{
	return append(m, msg, true, true);
}

int mailbox_put(struct mailbox *m, void *msg)
{
	return append(m, msg, true, false);
}

void mailbox_wake(struct mailbox *m)
{
	pthread_mutex_lock(&m->mtx);
	tell_reader(m);
	pthread_mutex_unlock(&m->mtx);
}

/* mtx held on entry and exit. False when the deadline has passed. A spurious wake-up counts as news: the caller looks
 * again. */
static bool wait_for_news(struct mailbox *m, const struct timespec *until)
{
	int rc;

	ENSURE(!m->asleep); /* a second reader would take the first one's signal */
	m->asleep = true;
	rc = until != NULL ? pthread_cond_timedwait(&m->news, &m->mtx, until) : pthread_cond_wait(&m->news, &m->mtx);
	m->asleep = false;
	return rc != ETIMEDOUT;
}

int mailbox_receive(struct mailbox *m, int64_t deadline_mono_ms, void **ret_msg)
{
	const struct timespec until = {
	    .tv_sec = (time_t)(deadline_mono_ms / 1000), .tv_nsec = (long)(deadline_mono_ms % 1000) * 1000000};
	bool in_time = deadline_mono_ms > 0;
	int rc = OK;

	pthread_mutex_lock(&m->mtx);
	while (m->len == 0 && !m->closed && in_time)
		in_time = wait_for_news(m, deadline_mono_ms == INT64_MAX ? NULL : &until);
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
	tell_reader(m);
	pthread_mutex_unlock(&m->mtx);
}
