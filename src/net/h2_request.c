/* HTTP/2: how requests arrive. Everything here is called by nghttp2_session_mem_recv. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/h2_priv.h"
#include <string.h>
#include <strings.h>

#define CONTROL_PER_S_MAX 1000

/* An answer of our own to a request that no callback has seen. */
static void h2_request_refuse(struct h2_req *r, int status, const char *text)
{
	AUTO_STR body = error_body("validation_error", text);
	size_t len = strlen(body);
	char id[UUID_LEN];
	bool has_body = r->method == NULL || strcmp(r->method, "HEAD") != 0;

	r->x->discard = true;
	r->ended = true;
	atomic_store(&r->x->phase, PHASE_ENDED);
	if (has_body) {
		atomic_fetch_add(&r->x->unsent, len);
		byteq_add(&r->out, body, len);
	}
	id_uuid(id);
	const struct http_header h[] = {
	    {"content-type", "application/json"}, {"cache-control", "no-store"}, {"x-request-id", id}};

	h2_respond(r, status, h, ARRAY_LEN(h), (int64_t)len, has_body);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
	struct h2 *h = user;
	struct h2_req *r;

	if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	r = NEW(struct h2_req);
	r->h = h;
	r->id = frame->hd.stream_id;
	r->x = exchange_new(h->c, 20);
	r->x->stream = r;
	r->last_ms = clock_mono_ms();
	node_append(&h->streams, &r->link);
	h->n_streams++;
	return nghttp2_session_set_stream_user_data(ng, r->id, r);
}

static void note_refusal(struct h2_req *r, int status, const char *text)
{
	if (r->refuse_status != 0)
		return;
	r->refuse_status = status;
	r->refuse_text = text;
}

static void pseudo_header(struct h2_req *r, const char *name, const char *value, size_t len)
{
	char **to = strcmp(name, ":method") == 0      ? &r->method
		    : strcmp(name, ":path") == 0      ? &r->target
		    : strcmp(name, ":authority") == 0 ? &r->authority
						      : NULL;

	if (to == NULL || *to != NULL)
		return;
	if (memchr(value, '\0', len) != NULL)
		note_refusal(r, 400, "the request is malformed");
	*to = str_ndup(value, len);
}

static int h2_request_on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
    const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
	struct h2_req *r = req_of(ng, frame->hd.stream_id);
	size_t max;
	int rc = OK;

	if (r == NULL || r->dispatched)
		return 0;
	max = r->h->c->loop->limits->max_head_bytes;
	r->head_bytes += name_len + value_len + 32;
	/* Far over the limit the stream is cut: the compressed form can be a thousand times smaller. */
	if (r->head_bytes > 8 * max)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (r->head_bytes > max) {
		note_refusal(r, 431, "the request head is too large");
		return 0;
	}
	if (name_len > 0 && name[0] == ':')
		pseudo_header(r, (const char *)name, (const char *)value, value_len);
	else
		rc = exchange_add_header(r->x, (const char *)name, name_len, (const char *)value, value_len);
	if (rc == ERR_FULL)
		note_refusal(r, 431, "the request has too many headers");
	else if (rc != OK)
		note_refusal(r, 431, "the request head is too large");
	return 0;
}

/* Whether the client gave a host header beside :authority is known only when all headers are there. */
static void add_host(struct h2_req *r)
{
	struct http_exchange *x = r->x;

	if (r->authority == NULL)
		return;
	for (size_t i = 0; i < x->n_headers; i++) {
		if (strcmp(x->text.data + x->offsets[2 * i], "host") != 0)
			continue;
		if (strcasecmp(x->text.data + x->offsets[2 * i + 1], r->authority) != 0)
			note_refusal(r, 400, "the :authority and the host header differ");
		return;
	}
	if (exchange_add_header(x, "host", 4, r->authority, strlen(r->authority)) != OK)
		note_refusal(r, 431, "the request has too many headers");
}

static void h2_request_dispatch(struct h2_req *r)
{
	int64_t announced = -1;
	const char *length;

	r->dispatched = true;
	add_host(r);
	if (r->refuse_status == 0 && (r->method == NULL || r->target == NULL || strcmp(r->method, "CONNECT") == 0))
		note_refusal(r, 400, "this method is not supported");
	if (r->refuse_status == 0 && exchange_seal(r->x, r->method, r->target, strlen(r->target)) != OK)
		note_refusal(r, 400, "the request target is malformed");
	if (r->refuse_status != 0) {
		h2_request_refuse(r, r->refuse_status, r->refuse_text);
		return;
	}
	length = http_header_get(r->x, "content-length");
	if (length != NULL)
		IGNORE(text_parse_int(length, 0, INT64_MAX, &announced));
	exchange_head(r->x, announced);
}

static void consume(struct h2_req *r, size_t len)
{
	nghttp2_session_consume(r->h->ng, r->id, len);
}

static bool waits_for_check(const struct h2_req *r)
{
	return r->x->plan.mode == HTTP_BODY_WHOLE && atomic_load(&r->x->paused);
}

void h2_deliver_held(struct h2_req *r)
{
	while (r->held.len > 0 && !atomic_load(&r->x->paused)) {
		size_t n = MIN(r->held.len, (size_t)16 * 1024);

		exchange_data(r->x, byteq_head(&r->held), n);
		byteq_drop(&r->held, n);
		consume(r, n);
	}
	if (r->held_end && r->held.len == 0 && !waits_for_check(r)) {
		r->held_end = false;
		exchange_request_done(r->x);
	}
}

static void end_of_request(struct h2_req *r)
{
	if (r->held.len > 0 || waits_for_check(r))
		r->held_end = true;
	else
		exchange_request_done(r->x);
}

static int h2_request_on_data(
    nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len, void *user)
{
	struct h2_req *r = req_of(ng, id);

	if (r == NULL) {
		nghttp2_session_consume_connection(ng, len);
		return 0;
	}
	r->last_ms = clock_mono_ms();
	if (r->x->discard && (r->n_discarded += len) > LINGER_BYTES) {
		r->n_discarded = 0;
		nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
	}
	if (!r->x->discard && (r->held.len > 0 || atomic_load(&r->x->paused))) {
		byteq_add(&r->held, bytes, len);
		return 0;
	}
	exchange_data(r->x, (const char *)bytes, len);
	consume(r, len);
	return 0;
}

/* Frames that make work and carry nothing. An honest peer sends a few of them in a second. */
static void count_control(struct h2 *h, const nghttp2_frame *frame)
{
	int64_t now;
	uint8_t type = frame->hd.type;

	if (type != NGHTTP2_SETTINGS && type != NGHTTP2_PING && type != NGHTTP2_PRIORITY &&
	    (type != NGHTTP2_DATA || frame->hd.length > 0))
		return;
	now = clock_mono_ms();
	if (now - h->control_since_ms >= 1000) {
		h->control_since_ms = now;
		h->n_control = 0;
	}
	if (++h->n_control > CONTROL_PER_S_MAX)
		h2_cut(h, NGHTTP2_ENHANCE_YOUR_CALM, "too many frames without content");
}

static int h2_request_on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
	struct h2_req *r;

	count_control(user, frame);
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	r = req_of(ng, frame->hd.stream_id);
	if (r == NULL)
		return 0;
	if (!r->dispatched)
		h2_request_dispatch(r);
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
		end_of_request(r);
	return 0;
}

void h2_request_callbacks(nghttp2_session_callbacks *cb)
{
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, h2_request_on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, h2_request_on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, h2_request_on_frame);
}
