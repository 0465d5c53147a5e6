/* HTTP/2 (RFC 9113) on one connection of the server, by nghttp2. Many exchanges at once.
 *
 * Receiving: windows are opened as data is delivered (nghttp2_session_consume), so a paused exchange holds its peer
 * back. Sending: each stream has its own queue, from which nghttp2 takes as the peer's windows and the socket's queue
 * allow. nghttp2_session_mem_send is only called from h2_fill, never inside a callback. */
#include "base/clock.h"
#include "base/mem.h"
#include "net/h2_priv.h"
#include <string.h>

#define STREAM_WINDOW (256 * 1024)
#define CONN_WINDOW (1024 * 1024)
#define DATA_FRAME 4000 /* nghttp2 keeps a 16 KiB frame buffer per session: only its first page is touched */
#define LOOK_EVERY_MS 20000
#define REST_MS 1000 /* nothing sent for so long: the frame buffer's page goes back (see h2_mem.c) */
#define RATE_MS 10000
#define RESETS_MAX 500 /* in RATE_MS: streams that ended before their answer */

static void req_free(struct h2_req *r)
{
	byteq_fini(&r->out);
	byteq_fini(&r->held);
	free(r->trailers);
	free(r->method);
	free(r->target);
	free(r->authority);
	free(r);
}

static ssize_t h2_on_read_data(
    nghttp2_session *ng, int32_t id, uint8_t *buf, size_t len, uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct h2_req *r = source->ptr;
	size_t n = MIN(len, r->out.len);

	if (n == 0 && !r->ended) {
		r->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (n > 0) {
		memcpy(buf, byteq_head(&r->out), n);
		byteq_drop(&r->out, n);
		exchange_queued(r->x, n);
		r->last_ms = clock_mono_ms();
	}
	if (r->out.len > 0 || !r->ended)
		return (ssize_t)n;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (r->trailers != NULL && r->trailers->n > 0) {
		nghttp2_nv *nva = mem_zalloc(r->trailers->n * sizeof(*nva));

		for (size_t i = 0; i < r->trailers->n; i++) {
			nva[i].name = (uint8_t *)r->trailers->list[i].name;
			nva[i].namelen = strlen(r->trailers->list[i].name);
			nva[i].value = (uint8_t *)r->trailers->list[i].value;
			nva[i].valuelen = strlen(r->trailers->list[i].value);
		}
		if (nghttp2_submit_trailer(ng, id, nva, r->trailers->n) == 0)
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		free(nva);
	}
	return (ssize_t)n;
}

static bool hop_header(const char *name)
{
	return name[0] == ':' || strcmp(name, "connection") == 0 || strcmp(name, "transfer-encoding") == 0 ||
	       strcmp(name, "keep-alive") == 0 || strcmp(name, "upgrade") == 0 ||
	       strcmp(name, "proxy-connection") == 0 || strcmp(name, "content-length") == 0;
}

void h2_respond(struct h2_req *r, int status, const struct http_header *headers, size_t n, int64_t len, bool has_body)
{
	nghttp2_nv *nva = mem_zalloc((n + 2) * sizeof(*nva));
	nghttp2_data_provider body = {.source.ptr = r, .read_callback = h2_on_read_data};
	char code[16], length[24];
	size_t count = 0;

	snprintf(code, sizeof(code), "%d", status);
	snprintf(length, sizeof(length), "%lld", (long long)len);
	nva[count++] = (nghttp2_nv){(uint8_t *)":status", (uint8_t *)code, 7, strlen(code), 0};
	for (size_t i = 0; i < n; i++)
		if (!hop_header(headers[i].name))
			nva[count++] = (nghttp2_nv){(uint8_t *)headers[i].name, (uint8_t *)headers[i].value,
			    strlen(headers[i].name), strlen(headers[i].value), 0};
	if (len >= 0 && status != 204 && status != 304)
		nva[count++] = (nghttp2_nv){(uint8_t *)"content-length", (uint8_t *)length, 14, strlen(length), 0};
	if (nghttp2_submit_response(r->h->ng, r->id, nva, count, has_body ? &body : NULL) != 0)
		nghttp2_submit_rst_stream(r->h->ng, NGHTTP2_FLAG_NONE, r->id, NGHTTP2_INTERNAL_ERROR);
	free(nva);
}

static void note_cut(struct h2 *h, const char *reason)
{
	if (!h->cut)
		conn_log_cut(h->c, reason);
	h->cut = true;
}

void h2_cut(struct h2 *h, uint32_t code, const char *reason)
{
	if (h->cut)
		return;
	note_cut(h, reason);
	nghttp2_session_terminate_session(h->ng, code);
}

static int h2_on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
	struct h2_req *r;

	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
		note_cut(user, nghttp2_http2_strerror(frame->goaway.error_code));
	/* A response that is complete before its request would leave the stream half open for ever. */
	if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 ||
	    nghttp2_session_get_stream_remote_close(ng, frame->hd.stream_id) != 0)
		return 0;
	/* Some clients (curl among them) lose the refusal of a body when they are cut while sending it: they may
	 * send on for a while. */
	r = req_of(ng, frame->hd.stream_id);
	if (r == NULL || !r->x->discard)
		nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

/* Resets count whichever side sends them: a client can provoke ours. */
static void count_reset(struct h2 *h)
{
	int64_t now = clock_mono_ms();

	if (now - h->resets_since_ms >= RATE_MS) {
		h->resets_since_ms = now;
		h->n_resets = 0;
	}
	if (++h->n_resets > RESETS_MAX)
		h2_cut(h, NGHTTP2_ENHANCE_YOUR_CALM, "too many requests were reset");
}

static int h2_on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
	struct h2 *h = user;
	struct h2_req *r = req_of(ng, id);

	if (r == NULL)
		return 0;
	if (!r->ended || r->out.len > 0)
		count_reset(h);
	nghttp2_session_set_stream_user_data(ng, id, NULL);
	/* Bytes that were held back are still charged to the connection's window. */
	nghttp2_session_consume_connection(ng, r->held.len);
	node_unlink(&r->link);
	node_append(&h->ended, &r->link);
	return 0;
}

static ssize_t on_frame_size(nghttp2_session *ng, uint8_t type, int32_t id, int32_t conn_window, int32_t stream_window,
    uint32_t max_frame, void *user)
{
	return DATA_FRAME;
}

/* Streams that nghttp2 has closed: over at once if cut short, else when their last byte has left. */
static void wind_up(struct h2 *h)
{
	while (!node_empty(&h->ended)) {
		struct h2_req *r = NODE_OF(h2_req, link, h->ended.next);
		/* The analyser loses count of the references. */
		struct http_exchange *x = http_exchange_ref(r->x); /* NOLINT(clang-analyzer-unix.Malloc) */

		node_unlink(&r->link);
		h->n_streams--;
		x->stream = NULL;
		atomic_store(&x->closed, true);
		if (r->ended && r->out.len == 0 && !h->done)
			conn_over(h->c, x);
		else
			exchange_over(x);
		exchange_release(x, r->out.len);
		http_exchange_free(&x);
		req_free(r);
	}
}

/* nghttp2 tells nobody about the streams of a session that is deleted. */
static void h2_closed(struct conn *c)
{
	struct h2 *h = c->state;

	h->done = true;
	while (!node_empty(&h->streams)) {
		struct list_node *n = h->streams.next;

		node_unlink(n);
		node_append(&h->ended, n);
	}
	wind_up(h);
}

/* The one stream of a worker or of a reader, which is there for hours. */
static bool only_serves(const struct h2 *h)
{
	return h->n_streams == 1 && NODE_OF(h2_req, link, h->streams.next)->dispatched;
}

static void h2_settle(struct h2 *h)
{
	struct conn *c = h->c;
	const struct server_limits *lim = c->loop->limits;
	int64_t now = clock_mono_ms(), look;

	wind_up(h);
	if (c->closing || c->finish)
		return;
	if (h->broken || (nghttp2_session_want_read(h->ng) == 0 && nghttp2_session_want_write(h->ng) == 0)) {
		h2_closed(c);
		conn_finish(c);
		return;
	}
	/* With streams open, each is looked at now and then, however busy the others are; see h2_expired. */
	look = now + MIN(h->sent_ms != 0 ? REST_MS : LOOK_EVERY_MS,
			 only_serves(h) ? lim->body_timeout_ms : MIN(lim->head_timeout_ms, lim->body_timeout_ms));
	if (h->n_streams == 0)
		c->deadline = now + lim->idle_timeout_ms;
	else if (c->deadline == 0 || c->deadline > look)
		c->deadline = look;
	wheel_arm(c);
}

/* A frame now and then, such as a heartbeat: its page is given back at once, while the connection is at hand. `all`:
 * nghttp2 has no more to send, so it keeps nothing in the buffer. */
static void h2_sent(struct h2 *h, bool all)
{
	int64_t now = clock_mono_ms();
	bool seldom = h->sent_ms == 0 && now - h->last_sent_ms >= REST_MS;

	h->last_sent_ms = now;
	if (all && seldom)
		h2_mem_rest(h->frame_buffer);
	else
		h->sent_ms = now;
}

static void h2_fill(struct conn *c)
{
	struct h2 *h = c->state;
	bool sent = false, all = false;

	while (!h->done && c->out.len + c->n_writing < SOCKET_QUEUE_MAX) {
		const uint8_t *bytes;
		ssize_t n = nghttp2_session_mem_send(h->ng, &bytes);

		if (n < 0)
			h->broken = true;
		if (n <= 0) {
			all = n == 0;
			break;
		}
		conn_queue(c, bytes, (size_t)n);
		sent = true;
	}
	if (sent && h->frame_buffer != NULL)
		h2_sent(h, all);
	h2_settle(h);
}

/* Between two frames nghttp2 keeps nothing in its buffer. `out` is empty only if nghttp2 had no frame left. */
static void rest(struct h2 *h, int64_t now)
{
	if (h->sent_ms == 0 || now - h->sent_ms < REST_MS || h->c->out.len > 0 || h->c->n_writing > 0 ||
	    nghttp2_session_want_write(h->ng) != 0)
		return;
	h2_mem_rest(h->frame_buffer);
	h->sent_ms = 0;
}

static void h2_input(struct conn *c, const char *bytes, size_t len)
{
	struct h2 *h = c->state;
	ssize_t n = nghttp2_session_mem_recv(h->ng, (const uint8_t *)bytes, len);

	if (n < 0 && !h->broken) {
		h->broken = true;
		note_cut(h, nghttp2_strerror((int)n));
	}
	wind_up(h);
	conn_dirty(c);
}

static void h2_eof(struct conn *c)
{
	conn_close(c);
}

static void h2_resume(struct h2_req *r)
{
	if (!r->deferred)
		return;
	r->deferred = false;
	nghttp2_session_resume_data(r->h->ng, r->id);
}

/* Bytes of a command: into the stream's queue, or nowhere for a HEAD request. */
static bool take_bytes(struct h2_req *r, struct cmd *cmd)
{
	if (r->x->is_head) {
		exchange_release(r->x, cmd->len);
		return false;
	}
	if (r->out.len == 0)
		r->last_ms = clock_mono_ms();
	byteq_add(&r->out, cmd->bytes, cmd->len);
	return cmd->len > 0;
}

static void h2_command(struct conn *c, struct http_exchange *x, struct cmd *cmd)
{
	struct h2_req *r = x->stream;
	bool body;

	if (r == NULL) {
		exchange_release(x, cmd->len);
		return;
	}
	switch (cmd->kind) {
	case CMD_REPLY:
		r->ended = true;
		if (!x->request_done && x->plan.mode == HTTP_BODY_WHOLE && !x->discard) {
			exchange_discard(x);
			h2_deliver_held(r);
		}
		body = take_bytes(r, cmd);
		h2_respond(r, cmd->status, cmd->fields->list, cmd->fields->n, (int64_t)cmd->len, body);
		break;
	case CMD_START:
		/* A response to HEAD ends with its head; what is written later goes nowhere. */
		r->ended = x->is_head;
		h2_respond(r, cmd->status, cmd->fields->list, cmd->fields->n, cmd->body_len, !x->is_head);
		break;
	case CMD_WRITE:
		take_bytes(r, cmd);
		h2_resume(r);
		break;
	case CMD_END:
		r->ended = true;
		free(r->trailers);
		r->trailers = TAKE(cmd->fields);
		h2_resume(r);
		break;
	case CMD_RESUME:
		h2_deliver_held(r);
		break;
	case CMD_ABORT:
		nghttp2_submit_rst_stream(r->h->ng, NGHTTP2_FLAG_NONE, r->id, NGHTTP2_CANCEL);
		break;
	default:
		break;
	}
	conn_dirty(c);
}

/* True if the peer keeps this stream waiting: for a body, or with bytes that it does not take. */
static bool overdue(const struct h2_req *r, int64_t now)
{
	const struct http_exchange *x = r->x;

	if (exchange_body_deadline(x, r->last_ms) <= now) {
		conn_log_cut(x->conn, "a body did not arrive in time");
		return true;
	}
	if (r->out.len == 0 || now - r->last_ms < SEND_STALL_MS)
		return false;
	conn_log_cut(x->conn, "an answer is not taken");
	return true;
}

static void h2_expired(struct conn *c)
{
	struct h2 *h = c->state;
	int64_t now = clock_mono_ms();
	bool end = h->n_streams == 0;

	rest(h, now);
	for (struct list_node *n = h->streams.next; n != &h->streams; n = n->next) {
		struct h2_req *r = NODE_OF(h2_req, link, n);

		if (!r->dispatched) {
			if (now - r->last_ms < c->loop->limits->head_timeout_ms)
				continue;
			end = true;
			conn_log_cut(c, "a head did not arrive in time");
		} else if (overdue(r, now))
			nghttp2_submit_rst_stream(
			    h->ng, NGHTTP2_FLAG_NONE, r->id, r->x->discard ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
	}
	/* Nothing else can arrive while a head is incomplete: it is the connection that hangs. */
	if (end)
		nghttp2_session_terminate_session(h->ng, NGHTTP2_NO_ERROR);
	conn_dirty(c);
}

static void h2_drain(struct conn *c)
{
	struct h2 *h = c->state;

	nghttp2_submit_goaway(
	    h->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->ng), NGHTTP2_NO_ERROR, NULL, 0);
	conn_dirty(c);
}

static void h2_free_state(struct conn *c)
{
	struct h2 *h = c->state;

	nghttp2_session_del(h->ng);
	free(h);
}

static void session_open(struct h2 *h)
{
	const struct server_limits *lim = h->c->loop->limits;
	nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, lim->max_streams},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)MIN(lim->max_head_bytes, (size_t)INT32_MAX)},
	};
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;

	ENSURE(nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&opt) == 0);
	nghttp2_option_set_no_auto_window_update(opt, 1);
	nghttp2_option_set_no_closed_streams(opt, 1);
	h2_request_callbacks(cb);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, h2_on_frame_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, h2_on_stream_close);
	nghttp2_session_callbacks_set_data_source_read_length_callback(cb, on_frame_size);
	ENSURE(nghttp2_session_server_new3(&h->ng, cb, h, opt, h2_mem_of(h->c->loop->h2_mem)) == 0);
	h->frame_buffer = h2_mem_latest(h->c->loop->h2_mem);
	nghttp2_option_del(opt);
	nghttp2_session_callbacks_del(cb);
	ENSURE(nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0);
	ENSURE(nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW) == 0);
}

void h2_open(struct conn *c)
{
	static const struct proto proto = {
	    .input = h2_input,
	    .eof = h2_eof,
	    .command = h2_command,
	    .fill = h2_fill,
	    .expired = h2_expired,
	    .drain = h2_drain,
	    .closed = h2_closed,
	    .free_state = h2_free_state,
	};
	struct h2 *h = NEW(struct h2);

	h->c = c;
	node_init(&h->streams);
	node_init(&h->ended);
	c->state = h;
	c->proto = &proto;
	c->deadline = 0;
	session_open(h);
	if (c->loop->draining)
		h2_drain(c);
}
