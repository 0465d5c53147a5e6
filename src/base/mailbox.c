#include "base/mailbox.h"
#include "base/errors.h"
#include "base/mem.h"
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The reader sleeps on a futex of its own, not on a condition variable: with one reader nothing else is needed, and a
 * post to a reader that is awake costs no system call. The wake-up comes after the lock is given back, or the reader
 * would wake only to wait for it; by then the reader may have freed the mailbox, which is why only the address of
 * `news` is used there. (Waking an address that means something else by now is harmless: who sleeps on a futex looks
 * again.) */
struct mailbox {
	pthread_mutex_t mtx;
	atomic_uint news; /* counts what may end a wait */
	bool asleep; /* the reader waits, or is about to */
	atomic_uint refs;
	bool closed;
	size_t bound, len, cap, head;
	void **ring;
	void (*drop)(void *msg);
};

struct mailbox *mailbox_new(size_t bound, void (*drop)(void *msg))
{
	struct mailbox *m = NEW(struct mailbox);

	pthread_mutex_init(&m->mtx, NULL);
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

/* Gives the lock back. */
static void unlock_and_tell(struct mailbox *m)
{
	atomic_uint *news = &m->news;
	bool asleep = m->asleep;

	m->asleep = false;
	if (asleep)
		atomic_fetch_add(news, 1);
	pthread_mutex_unlock(&m->mtx);
	if (asleep)
		syscall(SYS_futex, news, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static int post(struct mailbox *m, void *msg, bool always, bool wake)
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
	}
	if (rc == OK && wake)
		unlock_and_tell(m);
	else
		pthread_mutex_unlock(&m->mtx);
	return rc;
}

int mailbox_post(struct mailbox *m, void *msg)
{
	return post(m, msg, false, true);
}

int mailbox_post_always(struct mailbox *m, void *msg)
{
	return post(m, msg, true, true);
}

int mailbox_put(struct mailbox *m, void *msg)
{
	return post(m, msg, true, false);
}

void mailbox_wake(struct mailbox *m)
{
	pthread_mutex_lock(&m->mtx);
	unlock_and_tell(m);
}

/* With the lock held, which is given back meanwhile. False when the deadline has passed. */
static bool wait_for_news(struct mailbox *m, const struct timespec *until)
{
	unsigned seen = atomic_load(&m->news);
	long rc;

	m->asleep = true;
	pthread_mutex_unlock(&m->mtx);
	rc = syscall(SYS_futex, &m->news, FUTEX_WAIT_BITSET_PRIVATE, seen, until, NULL, FUTEX_BITSET_MATCH_ANY);
	rc = rc != 0 ? errno : 0;
	pthread_mutex_lock(&m->mtx);
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
	unlock_and_tell(m);
}
