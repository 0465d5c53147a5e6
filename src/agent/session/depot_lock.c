/* A lock is an eventfd that holds a 1 while nobody has it: waiting for it can be cancelled and has a deadline, which a
 * mutex cannot offer both. */
#include "agent/session/depot_lock.h"
#include "base/clock.h"
#include "base/mem.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct entry {
	char *dir;
	int fd;
};

struct depot_locks {
	pthread_mutex_t mtx; /* a leaf: only for the list */
	struct entry *list; /* as many as the worker has checkouts */
	size_t n, cap;
};

struct depot_locks *depot_locks_new(void)
{
	struct depot_locks *l = NEW(struct depot_locks);

	pthread_mutex_init(&l->mtx, NULL);
	return l;
}

void depot_locks_free(struct depot_locks **lp)
{
	struct depot_locks *l = TAKE(*lp);

	if (l == NULL)
		return;
	for (size_t i = 0; i < l->n; i++) {
		close(l->list[i].fd);
		free(l->list[i].dir);
	}
	free(l->list);
	pthread_mutex_destroy(&l->mtx);
	free(l);
}

/* -1 with errno. */
static int find_or_make(struct depot_locks *l, const char *dir)
{
	int fd = -1;

	pthread_mutex_lock(&l->mtx);
	for (size_t i = 0; i < l->n && fd < 0; i++)
		if (strcmp(l->list[i].dir, dir) == 0)
			fd = l->list[i].fd;
	if (fd < 0 && (fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0) {
		l->list = mem_grow(l->list, &l->cap, l->n + 1, sizeof *l->list);
		l->list[l->n++] = (struct entry){.dir = str_dup(dir), .fd = fd};
	}
	pthread_mutex_unlock(&l->mtx);
	return fd;
}

static int wait_for(int fd, int cancel_fd, int64_t deadline_mono_ms, struct why *why)
{
	struct pollfd p[2] = {{fd, POLLIN, 0}, {cancel_fd > 0 ? cancel_fd : -1, POLLIN, 0}};
	int64_t left = deadline_mono_ms > 0 ? deadline_mono_ms - clock_mono_ms() : INT32_MAX;

	if (left <= 0)
		return why_set(why, ERR_TIMEOUT, "another session of this worker fetches or publishes for too long");
	if (poll(p, 2, (int)MIN(left, INT32_MAX)) < 0 && errno != EINTR)
		return why_set(why, ERR_IO, "cannot wait for another session: %s", strerror(errno));
	if (p[1].revents != 0)
		return why_set(why, ERR_CANCELLED, "cancelled");
	return OK;
}

int depot_lock(
    struct depot_locks *locks, const char *dir, int cancel_fd, int64_t deadline_mono_ms, int *ret, struct why *why)
{
	eventfd_t value;
	int fd;

	*ret = -1;
	if (locks == NULL)
		return OK;
	fd = find_or_make(locks, dir);
	if (fd < 0)
		return why_set(why, ERR_IO, "the worker has no file descriptor left");
	while (eventfd_read(fd, &value) != 0) {
		int rc = wait_for(fd, cancel_fd, deadline_mono_ms, why);

		if (rc != OK)
			return rc;
	}
	*ret = fd;
	return OK;
}

void depot_unlock(int *held)
{
	if (*held >= 0)
		ENSURE(eventfd_write(*held, 1) == 0);
	*held = -1;
}
