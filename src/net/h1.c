/* HTTP/1.1 (RFC 9112) on one connection of the server: one exchange at a time, requests by llhttp. Bytes that arrive
 * while an exchange is answered is held back, so pipelining needs no queue of exchanges. */
#include "base/clock.h"
#include "base/mem.h"
#include "net/h1_priv.h"
#include <string.h>
#include <strings.h>

static bool h1_blocked(const struct h1 *h)
{
	return h->c->closing || h->c->finish || (h->x != NULL && (h->x->request_done || atomic_load(&h->x->paused)));
}

static int h1_refuse(struct h1 *h, int status, const char *text)
{
	h->refuse_status = status;
	h->refuse_text = text;
	return HPE_USER;
}

static void h1_wait_deadline(struct h1 *h)
{
	const struct server_limits *lim = h->c->loop->limits;
	int64_t now = clock_mono_ms();

	/* A head on its way has had its deadline since its first byte. */
	if (h->in_head && h->head_bytes > 0)
		return;
	if (h->x != NULL && exchange_body_deadline(h->x, now) != INT64_MAX)
		conn_set_deadline(h->c, exchange_body_deadline(h->x, now));
	else if (h->x != NULL)
		conn_set_deadline(h->c, 0);
	else
		conn_set_deadline(h->c, now + lim->idle_timeout_ms);
}

static int on_target(llhttp_t *p, const char *at, size_t len)
{
	struct h1 *h = p->data;

	return strbuf_add(&h->target, at, len) == OK ? 0 : h1_refuse(h, 431, "the request head is too large");
}

static int on_name(llhttp_t *p, const char *at, size_t len)
{
	struct h1 *h = p->data;

	if (!h->in_head) {
		h->extra_bytes += len;
		if (h->extra_bytes > h->name.max)
			return h1_refuse(h, 431, "the trailers are too large");
	}
	return strbuf_add(&h->name, at, len) == OK ? 0 : h1_refuse(h, 431, "the request head is too large");
}

static int on_value(llhttp_t *p, const char *at, size_t len)
{
	struct h1 *h = p->data;

	if (!h->in_head) {
		h->extra_bytes += len;
		return h->extra_bytes <= h->name.max ? 0 : h1_refuse(h, 431, "the trailers are too large");
	}
	return strbuf_add(&h->value, at, len) == OK ? 0 : h1_refuse(h, 431, "the request head is too large");
}

static int on_chunk_extension(llhttp_t *p, const char *at, size_t len)
{
	struct h1 *h = p->data;

	h->extra_bytes += len;
	return h->extra_bytes <= h->name.max ? 0 : h1_refuse(h, 400, "the chunk extensions are too large");
}

/* Trailers are ignored, but what would have changed the meaning of the request is an attempt at something. */
static int trailer_done(struct h1 *h)
{
	static const char *const forbidden[] = {"content-length", "transfer-encoding", "host", "authorization",
	    "content-encoding", "content-type", "content-range", "connection", "te", "trailer", "cookie", "expect"};
	bool found = false;

	for (size_t i = 0; i < ARRAY_LEN(forbidden); i++)
		found = found || strcasecmp(strbuf_str(&h->name), forbidden[i]) == 0;
	strbuf_clear(&h->name);
	return found ? h1_refuse(h, 400, "a trailer has a field that is not allowed there") : 0;
}

static int on_header_done(llhttp_t *p)
{
	struct h1 *h = p->data;
	int rc;

	if (!h->in_head)
		return trailer_done(h);
	while (h->value.len > 0 && (h->value.data[h->value.len - 1] == ' ' || h->value.data[h->value.len - 1] == '\t'))
		h->value.data[--h->value.len] = '\0';
	rc = exchange_add_header(h->x, strbuf_str(&h->name), h->name.len, strbuf_str(&h->value), h->value.len);
	strbuf_clear(&h->name);
	strbuf_clear(&h->value);
	if (rc == ERR_FULL)
		return h1_refuse(h, 431, "the request has too many headers");
	return rc == OK ? 0 : h1_refuse(h, 431, "the request head is too large");
}

static int on_begin(llhttp_t *p)
{
	struct h1 *h = p->data;

	h->x = exchange_new(h->c, 11);
	h->started = h->chunked = h->no_body = h->expects = false;
	h->extra_bytes = 0;
	return 0;
}

/* "http://host/path" names the host twice. */
static bool target_fits_host(const struct h1 *h, const char *host)
{
	const char *target = strbuf_str(&h->target), *authority = strstr(target, "://");
	size_t len;

	if (target[0] == '/' || authority == NULL || host == NULL)
		return true;
	authority += 3;
	len = strcspn(authority, "/?");
	return strlen(host) == len && strncasecmp(authority, host, len) == 0 && memchr(authority, '@', len) == NULL;
}

/* Nothing but "chunked", once, alone: what comes before it would have to be undone by us. */
static bool framing_fits(const struct h1 *h)
{
	const llhttp_t *p = &h->parser;
	unsigned n = http_header_count(h->x, "transfer-encoding");

	if (n == 0)
		return true;
	return n == 1 && strcasecmp(http_header_get(h->x, "transfer-encoding"), "chunked") == 0 &&
	       (p->flags & F_CHUNKED) != 0 && (p->flags & F_CONTENT_LENGTH) == 0 && p->http_minor > 0;
}

static int check_head(struct h1 *h)
{
	llhttp_t *p = &h->parser;

	if (p->http_major != 1)
		return h1_refuse(h, 400, "only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here");
	if (p->method == HTTP_CONNECT || p->method == HTTP_PRI)
		return h1_refuse(h, 400, "this method is not supported");
	if (exchange_seal(h->x, llhttp_method_name(p->method), strbuf_str(&h->target), h->target.len) != OK)
		return h1_refuse(h, 400, "the request target is malformed");
	if (!framing_fits(h))
		return h1_refuse(h, 400, "the request body is framed in a way that is not accepted");
	if (http_header_count(h->x, "host") > 1)
		return h1_refuse(h, 400, "the request has more than one Host header");
	if (p->http_minor > 0 && http_header_get(h->x, "host") == NULL)
		return h1_refuse(h, 400, "the request has no Host header");
	if (!target_fits_host(h, http_header_get(h->x, "host")))
		return h1_refuse(h, 400, "the request target and the Host header differ");
	return 0;
}

static void send_continue(struct h1 *h)
{
	if (!h->expects || h->x->discard || atomic_load(&h->x->paused))
		return;
	h->expects = false;
	conn_queue(h->c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

static int on_head_done(llhttp_t *p)
{
	struct h1 *h = p->data;
	bool body = (p->flags & F_CHUNKED) != 0 || p->content_length > 0;
	int64_t announced = -1;
	const char *expect;
	int rc = check_head(h);

	if (rc != 0)
		return rc;
	h->in_head = false;
	/* An offer to upgrade is declined by answering in HTTP/1.1. */
	p->upgrade = 0;
	h->keep_alive = p->http_minor > 0 && llhttp_should_keep_alive(p);
	if ((p->flags & F_CONTENT_LENGTH) != 0)
		announced = p->content_length > INT64_MAX ? INT64_MAX : (int64_t)p->content_length;
	exchange_head(h->x, announced);
	expect = http_header_get(h->x, "expect");
	if (body && !h->x->discard && p->http_minor > 0 && expect != NULL && strcasecmp(expect, "100-continue") == 0)
		h->expects = true;
	send_continue(h);
	return atomic_load(&h->x->paused) ? HPE_PAUSED : 0;
}

static int h1_on_body(llhttp_t *p, const char *at, size_t len)
{
	struct h1 *h = p->data;

	exchange_data(h->x, at, len);
	return atomic_load(&h->x->paused) ? HPE_PAUSED : 0;
}

static int on_message_done(llhttp_t *p)
{
	struct h1 *h = p->data;

	h->in_head = true;
	h->head_bytes = 0;
	h->guard = (struct h1_guard){0};
	strbuf_fini(&h->target);
	strbuf_fini(&h->name);
	strbuf_fini(&h->value);
	exchange_request_done(h->x);
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_begin,
    .on_url = on_target,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_header_value_complete = on_header_done,
    .on_headers_complete = on_head_done,
    .on_body = h1_on_body,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
    .on_message_complete = on_message_done,
};

/* Bytes of a head are handed over up to the limit only, which counts even the spaces that no callback sees. */
static size_t h1_slice(const struct h1 *h, size_t len)
{
	size_t max = h->c->loop->limits->max_head_bytes;

	return h->in_head ? MIN(len, max + 1 - h->head_bytes) : len;
}

static size_t h1_parse(struct h1 *h, const char *bytes, size_t len)
{
	size_t max = h->c->loop->limits->max_head_bytes, done = 0;

	while (done < len && !h1_blocked(h)) {
		size_t n = h1_slice(h, len - done);
		bool in_head = h->in_head, first = in_head && h->head_bytes == 0;
		llhttp_errno_t err;

		if (in_head && !h1_guard_check(&h->guard, bytes + done, n)) {
			h1_fail(h, 400, "validation_error", "the request is malformed");
			return len;
		}
		err = llhttp_execute(&h->parser, bytes + done, n);
		if (err == HPE_PAUSED) {
			n = (size_t)(llhttp_get_error_pos(&h->parser) - (bytes + done));
			llhttp_resume(&h->parser);
		} else if (err != HPE_OK) {
			if (h->refuse_status != 0)
				h1_fail(h, h->refuse_status, "validation_error", h->refuse_text);
			else
				h1_fail(h, 400, "validation_error", "the request is malformed");
			return len;
		}
		done += n;
		if (!in_head || !h->in_head || (h->x != NULL && h->x->request_done))
			continue;
		h->head_bytes += n;
		if (h->head_bytes > max) {
			h1_fail(h, 431, "validation_error", "the request head is too large");
			return len;
		}
		if (first)
			conn_set_deadline(h->c, clock_mono_ms() + h->c->loop->limits->head_timeout_ms);
	}
	return done;
}

/* The client said its last. Answers to what it asked before are still written. */
static void h1_gone(struct h1 *h)
{
	if (h->x != NULL)
		exchange_over(TAKE(h->x));
	conn_finish(h->c);
}

static void h1_settle(struct h1 *h)
{
	struct conn *c = h->c;

	if (c->closing || c->finish)
		return;
	if (h->x == NULL && (c->eof || (c->loop->draining && h->head_bytes == 0))) {
		conn_finish(c);
		return;
	}
	/* Requests that were pipelined before the client left are treated as in h1_eof. */
	if (c->eof && (h->x->watched || (!h->x->request_done && h->held.len == 0))) {
		h1_gone(h);
		return;
	}
	/* Reading goes on while a response is written: it is how a disconnect is noticed. */
	conn_read(c, !h1_blocked(h) || (h->held.len < HELD_MAX && h->x->request_done));
	h1_wait_deadline(h);
}

/* The end of a body whose last byte brought the pause: the parser stopped before it told, and needs no byte to go on.
 */
static void h1_tell_end(struct h1 *h)
{
	if (h->x == NULL || h->in_head || h1_blocked(h) || h->parser.content_length != 0)
		return;
	if (llhttp_execute(&h->parser, "", 0) == HPE_PAUSED)
		llhttp_resume(&h->parser);
}

static void h1_run_held(struct h1 *h)
{
	struct byteq q = h->held;

	h->held = (struct byteq){0};
	while (q.len > 0 && !h1_blocked(h))
		byteq_drop(&q, h1_parse(h, byteq_head(&q), q.len));
	if (q.len == 0)
		h1_tell_end(h);
	byteq_fini(&h->held);
	h->held = q;
}

static void h1_input(struct conn *c, const char *bytes, size_t len)
{
	struct h1 *h = c->state;
	size_t n = 0;

	if (h->held.len == 0)
		n = h1_parse(h, bytes, len);
	if (!c->closing && !c->finish)
		byteq_add(&h->held, bytes + n, len - n);
	h1_settle(h);
}

static void h1_eof(struct conn *c)
{
	struct h1 *h = c->state;

	/* A client that half-closes after its request still wants the answer; who watches wants to know at once. */
	if (h->x != NULL && h->x->request_done && !h->x->watched)
		return;
	h1_gone(h);
}

/* The response is complete in the queue. */
static void h1_response_done(struct h1 *h)
{
	struct http_exchange *x = TAKE(h->x);
	bool next = h->keep_alive && x->request_done;

	conn_over(h->c, x);
	if (!next) {
		conn_finish(h->c);
		return;
	}
	h->started = false;
	h1_run_held(h);
	h1_settle(h);
}

static void h1_command(struct conn *c, struct http_exchange *x, struct cmd *cmd)
{
	struct h1 *h = c->state;

	/* Its response is complete already; only a late abort comes this way, and it has nothing left to cut. */
	if (h->x != x) {
		exchange_release(x, cmd->len);
		return;
	}
	switch (cmd->kind) {
	case CMD_REPLY:
		h1_send_head(h, cmd->status, cmd->fields, (int64_t)cmd->len);
		h1_send_body(h, cmd, false);
		h1_response_done(h);
		break;
	case CMD_START:
		h1_send_head(h, cmd->status, cmd->fields, cmd->body_len);
		break;
	case CMD_WRITE:
		h1_send_body(h, cmd, h->chunked);
		break;
	case CMD_END:
		h1_send_end(h, cmd->fields);
		h1_response_done(h);
		break;
	case CMD_WATCH:
		if (c->eof)
			h1_gone(h);
		break;
	case CMD_RESUME:
		send_continue(h);
		h1_run_held(h);
		h1_settle(h);
		break;
	default:
		conn_close(c);
	}
}

static void h1_expired(struct conn *c)
{
	struct h1 *h = c->state;

	if (h->x == NULL && h->head_bytes == 0) {
		conn_close(c);
		return;
	}
	conn_log_cut(c, h->in_head ? "a head did not arrive in time" : "a body did not arrive in time");
	h1_fail(h, 408, "request_timeout", "the request did not arrive in time");
}

static void h1_drain(struct conn *c)
{
	struct h1 *h = c->state;

	if (h->x == NULL && h->head_bytes == 0)
		conn_finish(c);
}

static void h1_closed(struct conn *c)
{
	struct h1 *h = c->state;

	if (h->x != NULL)
		exchange_over(TAKE(h->x));
}

static void h1_free_state(struct conn *c)
{
	struct h1 *h = c->state;

	byteq_fini(&h->held);
	strbuf_fini(&h->target);
	strbuf_fini(&h->name);
	strbuf_fini(&h->value);
	free(h);
}

void h1_open(struct conn *c)
{
	static const struct proto proto = {
	    .input = h1_input,
	    .eof = h1_eof,
	    .command = h1_command,
	    .expired = h1_expired,
	    .drain = h1_drain,
	    .closed = h1_closed,
	    .free_state = h1_free_state,
	};
	struct h1 *h = NEW(struct h1);
	size_t max = c->loop->limits->max_head_bytes;

	llhttp_init(&h->parser, HTTP_REQUEST, &settings);
	h->parser.data = h;
	h->c = c;
	h->in_head = true;
	h->target = h->name = h->value = STRBUF(max);
	c->state = h;
	c->proto = &proto;
	conn_set_deadline(c, clock_mono_ms() + c->loop->limits->head_timeout_ms);
}
