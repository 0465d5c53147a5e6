#include "agent/worker/nap.h"
#include "base/mem.h"
#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct nap {
	uv_poll_t poll;
	int fd;
	int64_t gap;
	void (*on_nap)(void *ctx, int64_t ms);
	void *ctx;
};

int64_t nap_between(int64_t *gap, int64_t mono_ms, int64_t boot_ms)
{
	int64_t before = *gap, now = boot_ms - mono_ms;

	*gap = now;
	return before >= 0 && now - before >= NAP_LEAST_MS ? now - before : 0;
}

static int64_t read_clock(clockid_t id)
{
	struct timespec t = {0};

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t look(struct nap *n)
{
	return nap_between(&n->gap, read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_BOOTTIME));
}

/* A timer that never comes, but is cancelled when the wall clock jumps: by hand, by NTP, and by a resume. */
static int arm(int fd)
{
	const struct itimerspec never = {.it_value = {.tv_sec = (time_t)INT64_C(1) << 33}};

	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct nap *n = p->data;
	uint64_t times;
	int64_t slept;

	if (status < 0 || (read(n->fd, &times, sizeof times) < 0 && errno != ECANCELED))
		return;
	IGNORE(arm(n->fd));
	slept = look(n);
	if (slept > 0)
		n->on_nap(n->ctx, slept);
}

struct nap *nap_watch(uv_loop_t *loop, void (*on_nap)(void *ctx, int64_t ms), void *ctx)
{
	int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	struct nap *n;

	if (fd < 0)
		return NULL;
	n = NEW(struct nap);
	n->fd = fd;
	n->gap = -1;
	n->on_nap = on_nap;
	n->ctx = ctx;
	look(n);
	if (arm(fd) != 0 || uv_poll_init(loop, &n->poll, fd) != 0) {
		close(fd);
		free(n);
		return NULL;
	}
	n->poll.data = n;
	ENSURE(uv_poll_start(&n->poll, UV_READABLE, on_poll) == 0);
	return n;
}

static void on_closed(uv_handle_t *h)
{
	struct nap *n = h->data;

	close(n->fd);
	free(n);
}

void nap_free(struct nap **np)
{
	struct nap *n = TAKE(*np);

	if (n != NULL)
		uv_close((uv_handle_t *)&n->poll, on_closed);
}
