/* One request stream: libcurl's connection (h2_dial.c) below, nghttp2 above, uv_poll between.
 *
 * The user's callbacks are called from the loop's events only, never inside a function that the user called: such a
 * function records what happened and starts the `kick` timer (0 ms). stream_step() ends the stream; on_close comes when
 * the last of its handles is closed, so the caller's loop is free of it then. */
#include "net/h2_stream_priv.h"
#include "base/mem.h"
#include "base/pool.h"
#include "net/http_client.h"
#include <string.h>

#define SEND_BUFFER ((size_t)48 * 1024) /* two frames of nghttp2, which are at most 16 KiB and a head */
#define SEND_ENOUGH ((size_t)16 * 1024)
#define READ_CHUNK ((size_t)16 * 1024)
#define READS_PER_TURN 64
#define CLOSE_MS 1000
#define DIAL_STACK ((size_t)1024 * 1024) /* name resolution runs code of the system's choice */
#define H2_STREAM_MAGIC 0x68327374u

static void stream_step(struct h2_stream *s);

/* Collects frames into one piece, so that small ones share a system call and a TLS record. */
static void refill(struct h2_stream *s)
{
	s->send_at = s->send_len = 0;
	while (s->send_len < SEND_ENOUGH) {
		const uint8_t *bytes;
		ssize_t n = nghttp2_session_mem_send(s->ng, &bytes);

		if (n < 0)
			h2_stream_end(s, H2_CLOSE_IO, "HTTP/2: %s", nghttp2_strerror((int)n));
		if (n <= 0)
			return;
		ENSURE((size_t)n <= SEND_BUFFER - s->send_len);
		memcpy(s->send_buf + s->send_len, bytes, (size_t)n);
		s->send_len += (size_t)n;
	}
}

static void on_poll(uv_poll_t *p, int status, int events);

/* Sends what the socket takes. Calls no callback of the user. */
static void stream_flush(struct h2_stream *s)
{
	int want = UV_READABLE;

	while (s->state != DIALING && s->polling) {
		size_t n = 0;
		CURLcode code;

		if (s->send_at == s->send_len)
			refill(s);
		if (s->send_at == s->send_len)
			break;
		code = curl_easy_send(s->dial.easy, s->send_buf + s->send_at, s->send_len - s->send_at, &n);
		if (code == CURLE_AGAIN) {
			want |= UV_WRITABLE;
			break;
		}
		if (code != CURLE_OK) {
			h2_stream_end(s, s->goaway ? H2_CLOSE_GOAWAY : H2_CLOSE_IO, "the connection to %s broke: %s",
			    s->dial.host, curl_easy_strerror(code));
			break;
		}
		s->send_at += n;
	}
	if (s->polling && want != s->watched)
		uv_poll_start(&s->poll, want, on_poll);
	s->watched = want;
}

static void on_kick(uv_timer_t *t);

static void kick(struct h2_stream *s)
{
	if (s->state != DONE && !uv_is_active((uv_handle_t *)&s->kick))
		uv_timer_start(&s->kick, on_kick, 0, 0);
}

static void on_handle_closed(uv_handle_t *h)
{
	struct h2_stream *s = h->data;

	if (--s->handles > 0)
		return;
	if (s->cfg.on_close != NULL)
		s->cfg.on_close(s->cfg.ctx, &s->why);
	s->magic = 0;
	free(s);
}

/* The descriptor may be closed only after the poll handle let go of it, and the caller's loop is free of us when it
 * hears on_close. */
static void stream_finish(struct h2_stream *s)
{
	s->state = DONE;
	if (s->polling) {
		uv_poll_stop(&s->poll);
		uv_close((uv_handle_t *)&s->poll, on_handle_closed);
	}
	uv_close((uv_handle_t *)&s->kick, on_handle_closed);
	uv_close((uv_handle_t *)&s->close_timer, on_handle_closed);
	s->polling = false;
	nghttp2_session_del(s->ng);
	h2_dial_fini(&s->dial);
	byteq_fini(&s->out);
	free(s->headers);
	free(s->send_buf);
	free(s->message);
}

/* A last word to the peer, as far as the socket takes it without waiting. */
static void say_goodbye(struct h2_stream *s)
{
	if (s->ng == NULL || !s->polling || s->why.kind == H2_CLOSE_IO)
		return;
	if (s->id > 0 && !s->end_sent)
		nghttp2_submit_rst_stream(s->ng, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
	nghttp2_submit_goaway(s->ng, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
	stream_flush(s);
}

static bool dead_session(const struct h2_stream *s)
{
	return nghttp2_session_want_read(s->ng) == 0 && nghttp2_session_want_write(s->ng) == 0;
}

/* After every event: send, tell the user, end. */
static void stream_step(struct h2_stream *s)
{
	if (s->state == DIALING || s->state == DONE)
		return;
	stream_flush(s);
	if (!s->ended && dead_session(s))
		h2_stream_end(s, H2_CLOSE_IO, "the server broke the HTTP/2 protocol");
	if (!s->ended && s->state == OPEN && s->was_full && h2_stream_unsent(s) < DRAIN_MARK) {
		s->was_full = false;
		s->in_events = true;
		if (s->cfg.on_drain != NULL)
			s->cfg.on_drain(s->cfg.ctx);
		s->in_events = false;
		stream_flush(s);
	}
	if (!s->ended)
		return;
	say_goodbye(s);
	stream_finish(s);
}

/* The first bytes tell who does not speak what we speak. False: the stream ended. */
static bool first_bytes(struct h2_stream *s, const char *bytes, size_t n)
{
	static const unsigned char alert = 0x15; /* a record of TLS */

	s->heard = true;
	if (!s->dial.tls && (unsigned char)bytes[0] == alert)
		h2_stream_end(s, H2_CLOSE_CONNECT, "%s speaks TLS: the address must begin with https://", s->dial.host);
	else if (n >= 5 && memcmp(bytes, "HTTP/", 5) == 0)
		h2_stream_end(s, H2_CLOSE_CONNECT, "%s does not speak HTTP/2", s->dial.host);
	return !s->ended;
}

static void stream_read_some(struct h2_stream *s)
{
	char buf[READ_CHUNK];
	int turns;

	for (turns = 0; turns < READS_PER_TURN && !s->ended; turns++) {
		size_t n = 0;
		CURLcode code = curl_easy_recv(s->dial.easy, buf, sizeof(buf), &n);
		ssize_t used;

		if (code == CURLE_AGAIN)
			return;
		if (code != CURLE_OK) {
			h2_stream_end(
			    s, H2_CLOSE_IO, "the connection to %s broke: %s", s->dial.host, curl_easy_strerror(code));
			return;
		}
		if (n == 0) {
			h2_stream_end(s, H2_CLOSE_GOAWAY, "%s closed the connection%s", s->dial.host,
			    s->heard || s->dial.tls
				? ""
				: " without a word: does it speak TLS? Then the address must begin with https://");
			return;
		}
		if (!s->heard && !first_bytes(s, buf, n))
			return;
		used = nghttp2_session_mem_recv(s->ng, (const uint8_t *)buf, n);
		if (used < 0)
			h2_stream_end(s, H2_CLOSE_IO, "HTTP/2: %s", nghttp2_strerror((int)used));
		/* The socket is empty; if not, poll says so. */
		if (!s->dial.tls && n < sizeof(buf))
			return;
	}
	/* TLS may hold bytes that poll cannot see. */
	s->more = turns == READS_PER_TURN;
	if (s->more)
		kick(s);
}

static void on_kick(uv_timer_t *t)
{
	struct h2_stream *s = t->data;

	if (s->more && s->state != DONE) {
		s->more = false;
		s->in_events = true;
		stream_read_some(s);
		s->in_events = false;
	}
	stream_step(s);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct h2_stream *s = p->data;

	s->in_events = true;
	if (status < 0)
		h2_stream_end(s, H2_CLOSE_IO, "the connection to %s broke: %s", s->dial.host, uv_strerror(status));
	else
		stream_read_some(s);
	s->in_events = false;
	stream_step(s);
}

/* Dial thread, one for each dial: libuv's pool would keep four threads for an hour of nothing. */
static void dial(void *arg)
{
	struct h2_stream *s = arg;

	h2_dial_run(&s->dial);
	uv_async_send(&s->dialled);
}

static int connected(struct h2_stream *s)
{
	struct why why = {""};
	curl_socket_t fd;

	if (h2_dial_socket(&s->dial, &fd, &why) != OK) {
		h2_stream_end(s, H2_CLOSE_CONNECT, "%s", why.text);
		return ERR_NET;
	}
	if (uv_poll_init_socket(s->loop, &s->poll, fd) != 0) {
		h2_stream_end(s, H2_CLOSE_CONNECT, "cannot watch the connection to %s", s->dial.host);
		return ERR_NET;
	}
	s->poll.data = s;
	s->polling = true;
	s->handles++;
	s->send_buf = mem_alloc(SEND_BUFFER);
	if (h2_stream_session_open(s) != OK) {
		h2_stream_end(s, H2_CLOSE_CONNECT, "the request headers are not valid");
		return ERR_NET;
	}
	return OK;
}

static void on_dialled(uv_async_t *a)
{
	struct h2_stream *s = a->data;

	uv_close((uv_handle_t *)a, on_handle_closed);
	if (s->state == CLOSING)
		h2_stream_end(s, H2_CLOSE_LOCAL, "closed");
	if (s->ended || connected(s) != OK) {
		stream_finish(s);
		return;
	}
	s->state = OPEN;
	s->in_events = true;
	if (s->cfg.on_open != NULL)
		s->cfg.on_open(s->cfg.ctx);
	s->in_events = false;
	stream_step(s);
}

int h2_stream_dial(uv_loop_t *loop, const struct h2_stream_config *cfg, struct h2_stream **ret)
{
	struct h2_stream *s = NEW(struct h2_stream);
	int rc;

	http_client_init();
	rc = h2_dial_init(&s->dial, cfg->url, cfg->connect_timeout_ms, NULL);
	if (rc != OK) {
		free(s);
		return rc;
	}
	s->magic = H2_STREAM_MAGIC;
	s->loop = loop;
	s->cfg = *cfg;
	s->headers = fields_copy(cfg->headers, cfg->n_headers);
	s->why.grpc_status = -1;
	uv_timer_init(loop, &s->kick);
	uv_timer_init(loop, &s->close_timer);
	ENSURE(uv_async_init(loop, &s->dialled, on_dialled) == 0);
	s->kick.data = s->close_timer.data = s->dialled.data = s;
	s->handles = 3;
	if (thread_start("dial", DIAL_STACK, dial, s) != OK) {
		/* Told as every dial that fails, from the loop. */
		s->dial.code = CURLE_OUT_OF_MEMORY;
		uv_async_send(&s->dialled);
	}
	*ret = s;
	return OK;
}

static void stream_resume(struct h2_stream *s)
{
	if (!s->deferred)
		return;
	s->deferred = false;
	nghttp2_session_resume_data(s->ng, s->id);
}

/* For calls of the user outside our events: send now, tell later. */
static void flush_quietly(struct h2_stream *s)
{
	if (s->in_events)
		return;
	stream_flush(s);
	if (s->ended || (s->was_full && h2_stream_unsent(s) < DRAIN_MARK))
		kick(s);
}

int h2_stream_write(struct h2_stream *s, const void *bytes, size_t len)
{
	OBJ_CHECK(s, H2_STREAM_MAGIC);
	if (s->state != OPEN || s->ended)
		return ERR_CLOSED;
	byteq_add(&s->out, bytes, len);
	s->was_full = s->was_full || h2_stream_unsent(s) >= DRAIN_MARK;
	stream_resume(s);
	flush_quietly(s);
	return OK;
}

size_t h2_stream_unsent(const struct h2_stream *s)
{
	OBJ_CHECK(s, H2_STREAM_MAGIC);
	return s->out.len + (s->send_len - s->send_at);
}

void h2_stream_ping(struct h2_stream *s)
{
	OBJ_CHECK(s, H2_STREAM_MAGIC);
	if (s->state != OPEN || s->ended)
		return;
	if (s->pinged) {
		h2_stream_end(s, H2_CLOSE_IO, "%s did not answer a ping", s->dial.host);
		kick(s);
		return;
	}
	s->pinged = true;
	nghttp2_submit_ping(s->ng, NGHTTP2_FLAG_NONE, NULL);
	flush_quietly(s);
}

static void on_close_timer(uv_timer_t *t)
{
	struct h2_stream *s = t->data;

	h2_stream_end(s, H2_CLOSE_LOCAL, "closed");
	stream_step(s);
}

/* The peer's end of the stream, its FIN or one second, whatever comes first: closing a socket with unread input
 * resets it, and could destroy what was sent last. */
void h2_stream_close(struct h2_stream *s)
{
	OBJ_CHECK(s, H2_STREAM_MAGIC);
	if (s->state == CLOSING || s->state == DONE)
		return;
	if (s->state == DIALING) {
		s->state = CLOSING;
		atomic_store(&s->dial.cancelled, true);
		return;
	}
	s->state = CLOSING;
	s->end_wanted = true;
	stream_resume(s);
	uv_timer_start(&s->close_timer, on_close_timer, CLOSE_MS, 0);
	flush_quietly(s);
	if (s->ended)
		kick(s);
}
