/* tests/fuzz/net_bed.h: a loop of the HTTP server without its thread, one connection at a time on a pair of sockets,
 * and an application that answers as the path of a request asks:
 *   /s… the body as a stream, /c… asks before a body of more than 8 bytes, /m… takes 16 bytes at most,
 *   /?c chunks and trailers, /?n no content, /?a abort, /?b 100 KiB; anything else: what was sent.
 * The input is given to conn_input, as a read would; all else is the real thing. */
#pragma once
#include "base/log.h"
#include "base/mem.h"
#include "net/http_priv.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BED_PENDING 256

struct bed {
	struct io_loop loop;
	struct server_limits limits;
	struct conn *conn; /* NULL: it ended */
	int peer;
	struct strbuf out; /* what the peer got */
	struct strbuf said; /* the requests, as the application understood them */
	struct strbuf methods; /* first letter of each method, in order of the heads */
	struct http_exchange *pending[BED_PENDING]; /* not answered; a reference each */
	size_t n_pending, watched, closed;
	bool later; /* answers wait for bed_answer */
	bool aborted, broken;
};

static struct bed bed;

static inline void bed_on_data(void *ctx, struct http_exchange *x, const void *bytes, size_t len)
{
	strbuf_add(&bed.said, bytes, len);
}

static inline void bed_on_drain(void *ctx, struct http_exchange *x)
{
	ENSURE(http_unsent(x) < DRAIN_MARK);
}

static inline void bed_on_close(void *ctx, struct http_exchange *x)
{
	ENSURE(++bed.closed <= bed.watched);
	/* Nothing can be said any more. */
	ENSURE(http_reply(x, 200, NULL, 0, "", 0) == ERR_CLOSED);
}

static inline void bed_on_head(void *ctx, struct http_exchange *x, struct http_plan *plan)
{
	const char *path = http_path(x);

	ENSURE(path[0] == '/' || strcmp(path, "*") == 0);
	strbuf_addc(&bed.methods, http_method(x)[0]);
	plan->max_body = path[1] == 'm' ? 16 : (size_t)64 * 1024;
	plan->check_over = path[1] == 'c' ? 8 : 0;
	plan->mode = path[1] == 's' ? HTTP_BODY_STREAM : HTTP_BODY_WHOLE;
}

static inline char bed_manner(const struct http_exchange *x)
{
	const char *path = http_path(x);

	return path[0] == '/' && path[1] != '\0' ? path[2] : '\0';
}

static inline void bed_reply(struct http_exchange *x)
{
	static const struct http_header h[] = {{"X-Echo", "a\r\nb: c"}, {"Content-Length", "7"}};
	static char big[100 * 1024];
	size_t len;
	const char *body;

	switch (bed_manner(x)) {
	case 'c':
		IGNORE(http_start(x, 200, h, 2));
		IGNORE(http_write(x, "one", 3));
		IGNORE(http_write(x, "", 0));
		IGNORE(http_write(x, "three", 5));
		IGNORE(http_end(x, h, 1));
		break;
	case 'n':
		IGNORE(http_reply(x, 204, h, 2, "", 0));
		break;
	case 'a':
		bed.aborted = true;
		http_abort(x);
		break;
	case 'b':
		IGNORE(http_start(x, 200, h, 1));
		IGNORE(http_write(x, big, sizeof big));
		IGNORE(http_end(x, NULL, 0));
		break;
	default:
		body = http_body(x, &len);
		IGNORE(http_reply(x, 200, h, 2, body, len));
	}
}

/* Answers the request that waits longest; false: there is none. */
static inline bool bed_answer(void)
{
	struct http_exchange *x;

	if (bed.n_pending == 0)
		return false;
	x = bed.pending[0];
	memmove(bed.pending, bed.pending + 1, --bed.n_pending * sizeof(bed.pending[0]));
	http_pause(x, false);
	bed_reply(x);
	http_exchange_free(&x);
	return true;
}

static inline void bed_keep(struct http_exchange *x)
{
	if (bed.n_pending == BED_PENDING)
		bed_answer();
	bed.pending[bed.n_pending++] = http_exchange_ref(x);
	if (!bed.later)
		bed_answer();
}

/* An answer before the end would cut the stream at a place that depends on the pieces. */
static inline void bed_on_end(void *ctx, struct http_exchange *x)
{
	strbuf_adds(&bed.said, "$\n");
	if (!bed.later)
		bed_reply(x);
}

static inline void bed_note(struct http_exchange *x)
{
	size_t len;

	strbuf_addf(&bed.said, "%s %s?%s\n", http_method(x), http_path(x), http_query(x));
	for (size_t i = 0; i < x->n_headers; i++)
		strbuf_addf(&bed.said, "%s: %s\n", x->headers[i].name, x->headers[i].value);
	if (x->plan.mode == HTTP_BODY_STREAM)
		return;
	const char *body = http_body(x, &len);

	ENSURE(strlen(body) <= len && len <= x->plan.max_body);
	strbuf_add(&bed.said, body, len);
	strbuf_adds(&bed.said, "$\n");
}

static inline void bed_on_request(void *ctx, struct http_exchange *x)
{
	static const struct http_watch w = {bed_on_data, bed_on_end, bed_on_drain, bed_on_close, NULL};

	bed_note(x);
	if (x->plan.mode == HTTP_BODY_STREAM || bed_manner(x) == 'b') {
		bed.watched++;
		http_watch(x, &w);
	}
	if (bed.later || x->plan.mode == HTTP_BODY_WHOLE)
		bed_keep(x);
}

static inline void bed_on_too_large(void *ctx, struct http_exchange *x)
{
	IGNORE(http_reply(x, http_no_room(x) ? 503 : 413, NULL, 0, "large", 5));
}

static inline void bed_on_check(void *ctx, struct http_exchange *x)
{
	if (bed_manner(x) == 'x')
		IGNORE(http_reply(x, 401, NULL, 0, "no", 2));
	else if (bed.later && bed.n_pending < BED_PENDING)
		bed.pending[bed.n_pending++] = http_exchange_ref(x);
	else
		http_pause(x, false);
}

static inline void bed_init(void)
{
	static const struct http_callbacks cb = {NULL, bed_on_head, bed_on_request, bed_on_too_large, bed_on_check};
	struct io_loop *l = &bed.loop;

	if (l->limits != NULL)
		return;
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_ERROR);
	bed.limits = (struct server_limits){.callbacks = cb,
	    .max_head_bytes = 2048,
	    .max_headers = 12,
	    .max_connections = 10,
	    .max_streams = 8,
	    .head_timeout_ms = 10000,
	    .idle_timeout_ms = 60000,
	    .body_timeout_ms = 30000,
	    .max_buffered = 128 * 1024};
	l->limits = &bed.limits;
	l->inbox = inbox_new();
	l->inbox->thread = pthread_self();
	l->h2_mem = h2_mem_new();
	node_init(&l->conns);
	node_init(&l->dirty);
	for (size_t i = 0; i < WHEEL_SLOTS; i++)
		node_init(&l->wheel[i]);
	ENSURE(uv_loop_init(&l->uv) == 0);
	ENSURE(uv_timer_init(&l->uv, &l->tick) == 0);
}

static inline void bed_open(void)
{
	struct conn *c = NEW(struct conn);
	int fds[2];

	bed_init();
	ENSURE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	ENSURE(uv_tcp_init(&bed.loop.uv, &c->tcp) == 0 && uv_tcp_open(&c->tcp, fds[0]) == 0);
	c->tcp.data = c;
	c->loop = &bed.loop;
	node_init(&c->dirty);
	node_init(&c->wheel);
	node_init(&c->finishing);
	node_init(&c->unsent);
	node_append(&bed.loop.conns, &c->all);
	atomic_fetch_add(&bed.limits.connections, 1);
	memcpy(c->peer, "fuzz", 5);
	bed.conn = c;
	bed.peer = fds[1];
	bed.out = bed.said = STRBUF((size_t)64 * 1024 * 1024);
	bed.methods = STRBUF(1024 * 1024);
	bed.n_pending = bed.watched = bed.closed = 0;
	bed.aborted = bed.broken = bed.loop.draining = false;
	conn_read(c, true);
	conn_set_deadline(c, 1);
}

static inline bool bed_take_out(void)
{
	static char buf[256 * 1024];
	bool some = false;
	ssize_t n;

	while ((n = read(bed.peer, buf, sizeof buf)) > 0) {
		strbuf_add(&bed.out, buf, (size_t)n);
		some = true;
	}
	return some;
}

/* Commands, writing and closing, until nothing moves. */
static inline void bed_pump(void)
{
	for (;;) {
		struct cmd *list = inbox_take(bed.loop.inbox, false);
		bool moved = list != NULL;

		while (list != NULL) {
			struct cmd *c = list;

			list = c->next;
			exchange_command(c);
			cmd_free(&c);
		}
		loop_flush(&bed.loop);
		moved |= bed_take_out();
		if (bed.conn != NULL && (bed.conn->closing || bed.conn->writing != NULL)) {
			/* Deadlines pass when the input says so (bed_expire), never by the clock of a slow machine. */
			uv_timer_stop(&bed.loop.tick);
			uv_run(&bed.loop.uv, UV_RUN_NOWAIT);
			moved = true;
		}
		if (bed.conn != NULL && atomic_load(&bed.limits.connections) == 0)
			bed.conn = NULL;
		if (!moved)
			return;
	}
}

/* As the socket would: nothing is given while reading is off. False: no more is taken. */
static inline bool bed_feed(const void *bytes, size_t len)
{
	bed_pump();
	while (bed.conn != NULL && !bed.conn->reading && bed_answer())
		bed_pump();
	if (bed.conn == NULL || !bed.conn->reading)
		return false;
	conn_input(bed.conn, bytes, len);
	if (!bed.later)
		bed_pump();
	else
		loop_flush(&bed.loop);
	return true;
}

static inline void bed_expire(void)
{
	if (bed.conn != NULL && !bed.conn->closing && bed.conn->deadline != 0)
		conn_expired(bed.conn, bed.conn->deadline + 1);
}

static inline void bed_drain(void)
{
	bed.loop.draining = true;
	if (bed.conn == NULL || bed.conn->closing)
		return;
	if (bed.conn->proto == NULL)
		conn_close(bed.conn);
	else
		bed.conn->proto->drain(bed.conn);
}

/* The peer hangs up; then all must be over and given back. */
static inline void bed_close(bool orderly)
{
	while (bed_answer())
		bed_pump();
	bed_pump();
	if (orderly && bed.conn != NULL && !bed.conn->closing && !bed.conn->eof)
		conn_eof(bed.conn);
	bed_pump();
	while (bed_answer())
		bed_pump();
	if (bed.conn != NULL)
		conn_close(bed.conn);
	bed_pump();
	ENSURE(bed.conn == NULL && bed.closed == bed.watched);
	/* Another thread may hold a reference for a moment. */
	for (int ms = 0; ms < 5000 && atomic_load(&exchange_buffered) != 0; ms++) {
		uv_sleep(1);
		bed_pump();
	}
	ENSURE(atomic_load(&exchange_buffered) == 0);
	ENSURE(bed.loop.in_wheel == 0 && node_empty(&bed.loop.conns) && node_empty(&bed.loop.dirty));
	close(bed.peer);
}

static inline void bed_fini(void)
{
	strbuf_fini(&bed.out);
	strbuf_fini(&bed.said);
	strbuf_fini(&bed.methods);
}
