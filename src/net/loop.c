/* One event loop: a thread, its mailbox, its wheel of deadlines, its connections. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "net/http_priv.h"
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct inbox *inbox_new(void)
{
	struct inbox *in = NEW(struct inbox);

	atomic_init(&in->refs, 1);
	pthread_mutex_init(&in->lock, NULL);
	in->tail = &in->head;
	in->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ENSURE(in->wake_fd >= 0); /* at start, as the threads */
	return in;
}

struct inbox *inbox_ref(struct inbox *in)
{
	atomic_fetch_add(&in->refs, 1);
	return in;
}

void inbox_free(struct inbox **inp)
{
	struct inbox *in = TAKE(*inp);

	if (in == NULL || atomic_fetch_sub(&in->refs, 1) > 1)
		return;
	ENSURE(in->head == NULL);
	close(in->wake_fd);
	pthread_mutex_destroy(&in->lock);
	free(in);
}

static void loop_wake(struct inbox *in)
{
	const uint64_t one = 1;

	/* Full: it is readable then, which is all that is wanted. */
	IGNORE(write(in->wake_fd, &one, sizeof(one)));
}

int inbox_put(struct inbox *in, struct cmd *c)
{
	bool closed;

	pthread_mutex_lock(&in->lock);
	closed = in->closed;
	if (!closed) {
		*in->tail = c;
		in->tail = &c->next;
	}
	pthread_mutex_unlock(&in->lock);
	if (!closed)
		return OK;
	cmd_free(&c);
	return ERR_CLOSED;
}

void inbox_wake(struct inbox *in)
{
	bool asleep;

	pthread_mutex_lock(&in->lock);
	asleep = in->asleep;
	in->asleep = false;
	pthread_mutex_unlock(&in->lock);
	/* Not under the lock, or the loop would wake only to wait for it. A loop that is awake looks before it sleeps.
	 */
	if (asleep)
		loop_wake(in);
}

int inbox_post(struct inbox *in, struct cmd *c)
{
	int rc = inbox_put(in, c);

	if (rc == OK)
		inbox_wake(in);
	return rc;
}

void inbox_sleep(struct inbox *in)
{
	bool empty;

	pthread_mutex_lock(&in->lock);
	empty = in->head == NULL;
	in->asleep = empty;
	pthread_mutex_unlock(&in->lock);
	if (!empty)
		loop_wake(in);
}

void inbox_awake(struct inbox *in)
{
	pthread_mutex_lock(&in->lock);
	in->asleep = false;
	pthread_mutex_unlock(&in->lock);
}

void inbox_woken(struct inbox *in)
{
	uint64_t n;

	IGNORE(read(in->wake_fd, &n, sizeof(n)));
}

struct cmd *inbox_take(struct inbox *in, bool close)
{
	struct cmd *c;

	pthread_mutex_lock(&in->lock);
	c = TAKE(in->head);
	in->tail = &in->head;
	in->closed = in->closed || close;
	pthread_mutex_unlock(&in->lock);
	return c;
}

/* The wheel is lazy: a connection stays in its slot when its deadline moves away, and is looked at again then. */
void wheel_remove(struct conn *c)
{
	if (c->wheel.next == NULL || node_empty(&c->wheel))
		return;
	node_unlink(&c->wheel);
	c->loop->in_wheel--;
	if (c->loop->in_wheel == 0)
		uv_timer_stop(&c->loop->tick);
}

METRIC_HISTOGRAM(loop_lag, "bullpen_loop_lag_seconds",
    "How late an I/O loop comes to its ticks: what it did before took so long.", METRIC_SECONDS);

static void on_tick(uv_timer_t *t)
{
	struct io_loop *l = t->data;
	int64_t now = clock_mono_ms(), last = now / WHEEL_TICK_MS;

	metric_observe(&loop_lag, (double)MAX(now - l->next_tick_ms, 0) / 1000);
	l->next_tick_ms = now + WHEEL_TICK_MS;
	/* After a long sleep each slot is still looked at once only. */
	if (last - l->wheel_now > WHEEL_SLOTS)
		l->wheel_now = last - WHEEL_SLOTS;
	while (l->wheel_now < last) {
		struct list_node *slot = &l->wheel[l->wheel_now++ % WHEEL_SLOTS], due;

		node_init(&due);
		while (!node_empty(slot)) {
			struct list_node *n = slot->next;

			node_unlink(n);
			node_append(&due, n);
		}
		while (!node_empty(&due)) {
			struct conn *c = NODE_OF(conn, wheel, due.next);

			wheel_remove(c);
			conn_expired(c, now);
		}
	}
	loop_flush(l);
}

void wheel_arm(struct conn *c)
{
	struct io_loop *l = c->loop;
	int64_t at = INT64_MAX, slot;

	if (c->deadline != 0)
		at = c->deadline;
	if (c->send_deadline != 0)
		at = MIN(at, c->send_deadline);
	if (at == INT64_MAX || c->closing)
		return;
	if (!node_empty(&c->wheel)) {
		if (c->wheel_at <= at)
			return;
		wheel_remove(c);
	}
	if (l->in_wheel++ == 0) {
		l->wheel_now = clock_mono_ms() / WHEEL_TICK_MS;
		l->next_tick_ms = clock_mono_ms() + WHEEL_TICK_MS;
		uv_timer_start(&l->tick, on_tick, WHEEL_TICK_MS, WHEEL_TICK_MS);
	}
	slot = MIN(MAX(at / WHEEL_TICK_MS, l->wheel_now), l->wheel_now + WHEEL_SLOTS - 1);
	c->wheel_at = slot * WHEEL_TICK_MS;
	node_append(&l->wheel[slot % WHEEL_SLOTS], &c->wheel);
}

void loop_flush(struct io_loop *l)
{
	while (!node_empty(&l->dirty)) {
		struct conn *c = NODE_OF(conn, dirty, l->dirty.next);

		node_unlink(&c->dirty);
		conn_flush(c);
	}
}

static void stop_listening(struct io_loop *l)
{
	if (!l->listening)
		return;
	l->listening = false;
	uv_close((uv_handle_t *)&l->listener, NULL);
}

/* Calls `fn` for each connection; it may close the one it was given. */
static void each_conn(struct io_loop *l, void (*fn)(struct conn *c))
{
	struct list_node *next;

	for (struct list_node *n = l->conns.next; n != &l->conns; n = next) {
		next = n->next;
		fn(NODE_OF(conn, all, n));
	}
}

static void drain_conn(struct conn *c)
{
	if (c->closing)
		return;
	if (c->proto == NULL)
		conn_close(c);
	else
		c->proto->drain(c);
}

static void loop_command(struct io_loop *l, struct cmd *c)
{
	switch (c->kind) {
	case CMD_DRAIN:
		l->draining = true;
		stop_listening(l);
		each_conn(l, drain_conn);
		break;
	case CMD_STOP:
		l->stopping = true;
		break;
	default:
		exchange_command(c);
	}
}

static void run_commands(struct io_loop *l, struct cmd *list)
{
	while (list != NULL) {
		struct cmd *c = list;

		list = c->next;
		loop_command(l, c);
		cmd_free(&c);
	}
}

/* Commands that arrive meanwhile meet exchanges that are over; after that the box is closed. */
static void close_everything(struct io_loop *l)
{
	stop_listening(l);
	each_conn(l, conn_close);
	run_commands(l, inbox_take(l->inbox, true));
	uv_close((uv_handle_t *)&l->wake, NULL);
	uv_close((uv_handle_t *)&l->before_poll, NULL);
	uv_close((uv_handle_t *)&l->tick, NULL);
}

/* Commands are run here and nowhere else: those that woke the loop, and those that came while it was busy. */
static void on_before_poll(uv_prepare_t *h)
{
	struct io_loop *l = h->data;

	run_commands(l, inbox_take(l->inbox, false));
	loop_flush(l);
	if (l->stopping)
		close_everything(l);
	else
		inbox_sleep(l->inbox);
}

static void loop_on_wake(uv_poll_t *h, int status, int events)
{
	struct io_loop *l = h->data;

	inbox_woken(l->inbox);
}

static void on_connection(uv_stream_t *s, int status)
{
	struct io_loop *l = s->data;

	if (status == 0)
		conn_accept(l);
}

static void loop_main(void *arg)
{
	struct io_loop *l = arg;
	sigset_t block;

	l->inbox->thread = pthread_self();
	/* libuv writes with write(2): a peer that went away must be an error code, not a signal. */
	sigemptyset(&block);
	sigaddset(&block, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	pthread_setname_np(pthread_self(), "http-loop");
	uv_run(&l->uv, UV_RUN_DEFAULT);
}

static void close_handle(uv_handle_t *h, void *arg)
{
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

static void loop_wipe(struct io_loop *l)
{
	uv_walk(&l->uv, close_handle, NULL);
	uv_run(&l->uv, UV_RUN_DEFAULT);
	ENSURE(uv_loop_close(&l->uv) == 0);
	IGNORE(inbox_take(l->inbox, true));
	inbox_free(&l->inbox);
	h2_mem_free(&l->h2_mem);
	free(l);
}

static int loop_open(struct io_loop *l, int listen_fd, struct why *why)
{
	int rc;

	ENSURE(uv_loop_init(&l->uv) == 0);
	ENSURE(uv_poll_init(&l->uv, &l->wake, l->inbox->wake_fd) == 0);
	ENSURE(uv_poll_start(&l->wake, UV_READABLE, loop_on_wake) == 0);
	ENSURE(uv_prepare_init(&l->uv, &l->before_poll) == 0);
	ENSURE(uv_prepare_start(&l->before_poll, on_before_poll) == 0);
	ENSURE(uv_timer_init(&l->uv, &l->tick) == 0);
	ENSURE(uv_tcp_init(&l->uv, &l->listener) == 0);
	l->wake.data = l->before_poll.data = l->tick.data = l->listener.data = l;
	rc = uv_tcp_open(&l->listener, listen_fd);
	if (rc != 0) {
		close(listen_fd);
		return why_set(why, ERR_NET, "cannot listen: %s", uv_strerror(rc));
	}
	rc = uv_listen((uv_stream_t *)&l->listener, SOMAXCONN, on_connection);
	if (rc != 0)
		return why_set(why, ERR_NET, "cannot listen: %s", uv_strerror(rc));
	l->listening = true;
	return OK;
}

int loop_start(struct io_loop **ret, struct server_limits *limits, int listen_fd, struct why *why)
{
	struct io_loop *l = NEW(struct io_loop);
	int rc;

	l->limits = limits;
	l->inbox = inbox_new();
	l->h2_mem = h2_mem_new();
	node_init(&l->conns);
	node_init(&l->dirty);
	for (size_t i = 0; i < WHEEL_SLOTS; i++)
		node_init(&l->wheel[i]);
	rc = loop_open(l, listen_fd, why);
	if (rc == OK && uv_thread_create(&l->thread, loop_main, l) != 0)
		rc = why_set(why, ERR_FULL, "cannot start a thread");
	if (rc != OK) {
		loop_wipe(l);
		return rc;
	}
	*ret = l;
	return OK;
}

void loop_join(struct io_loop **lp)
{
	struct io_loop *l = TAKE(*lp);

	if (l == NULL)
		return;
	uv_thread_join(&l->thread);
	loop_wipe(l);
}
