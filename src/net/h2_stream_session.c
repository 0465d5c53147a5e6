/* HTTP/2 of a client stream: nghttp2's callbacks, which record, and hand data to the user. */
#include "base/mem.h"
#include "base/text.h"
#include "net/advice.h"
#include "net/grpc.h"
#include "net/h2_stream_priv.h"
#include <string.h>

#define WINDOW (1024 * 1024)
#define MESSAGE_MAX 4096

void h2_stream_end(struct h2_stream *s, enum h2_close_kind kind, const char *fmt, ...)
{
	va_list ap;
	AUTO_STR text = NULL;

	if (s->ended)
		return;
	s->ended = true;
	if (s->state == CLOSING) {
		s->why.kind = H2_CLOSE_LOCAL;
		snprintf(s->why.text, sizeof(s->why.text), "closed");
		return;
	}
	va_start(ap, fmt);
	text = str_vprintf(fmt, ap);
	va_end(ap);
	s->why.kind = kind;
	snprintf(s->why.text, sizeof(s->why.text), "%.*s",
	    (int)text_utf8_cut(text, strlen(text), sizeof(s->why.text) - 1), text);
}

/* The server ended its side, in whatever way: what it said counts most. */
static void end_by_status(struct h2_stream *s)
{
	AUTO_STR what = NULL;

	if (s->message != NULL) {
		h2_stream_end(s, H2_CLOSE_STATUS, "%s", s->message);
	} else if (s->why.grpc_status >= 0) {
		h2_stream_end(s, H2_CLOSE_STATUS, "gRPC status %d", s->why.grpc_status);
	} else {
		what = advice_not_ours(s->dial.host, s->why.http_status, s->content_type, NULL);
		h2_stream_end(s, H2_CLOSE_STATUS, "%s", what);
	}
}

static int stream_session_on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
    size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
	struct h2_stream *s = user;
	int64_t n;

	if (frame->hd.stream_id != s->id)
		return 0;
	/* Names and values of nghttp2 are NUL-terminated. */
	if (strcmp((const char *)name, ":status") == 0 && text_parse_int((const char *)value, 100, 999, &n) == OK) {
		s->why.http_status = (int)n;
	} else if (strcmp((const char *)name, "grpc-status") == 0 &&
		   text_parse_int((const char *)value, 0, 1000, &n) == OK) {
		s->why.grpc_status = (int)n;
	} else if (strcmp((const char *)name, "content-type") == 0) {
		snprintf(s->content_type, sizeof s->content_type, "%s", (const char *)value);
	} else if (strcmp((const char *)name, "grpc-message") == 0 && value_len <= MESSAGE_MAX) {
		AUTO_STR text = grpc_message_decode((const char *)value);

		free(s->message);
		s->message = text_to_utf8(text, strlen(text));
	}
	return 0;
}

static int stream_session_on_data(
    nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len, void *user)
{
	struct h2_stream *s = user;

	/* A page of somebody else. */
	if (id == s->id && (s->why.http_status != 200 || strcasestr(s->content_type, "html") != NULL))
		end_by_status(s);
	if (id == s->id && s->state == OPEN && !s->ended && s->cfg.on_data != NULL)
		s->cfg.on_data(s->cfg.ctx, bytes, len);
	return 0;
}

static void on_goaway(struct h2_stream *s, const nghttp2_goaway *g)
{
	AUTO_STR text = text_to_utf8((const char *)g->opaque_data, MIN(g->opaque_data_len, (size_t)200));

	s->goaway = true;
	if (g->error_code != NGHTTP2_NO_ERROR)
		h2_stream_end(s, H2_CLOSE_RESET, "the server closed the connection: %s%s%s",
		    nghttp2_http2_strerror(g->error_code), text[0] != '\0' ? ": " : "", text);
	else if (g->last_stream_id < s->id)
		h2_stream_end(s, H2_CLOSE_GOAWAY, "the server is going away%s%s", text[0] != '\0' ? ": " : "", text);
}

static int stream_session_on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
	struct h2_stream *s = user;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		on_goaway(s, &frame->goaway);
	else if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0)
		s->pinged = false;
	else if (frame->hd.stream_id == s->id && s->id > 0 &&
		 (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
		 (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
		end_by_status(s);
	return 0;
}

static int stream_session_on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
	struct h2_stream *s = user;

	if (frame->hd.stream_id == s->id && frame->hd.type == NGHTTP2_DATA &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
		s->end_sent = true;
	return 0;
}

static int stream_session_on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
	struct h2_stream *s = user;

	if (id != s->id)
		return 0;
	s->deferred = false;
	if (code == NGHTTP2_NO_ERROR || s->why.grpc_status >= 0)
		end_by_status(s);
	else if (s->goaway && code == NGHTTP2_REFUSED_STREAM)
		h2_stream_end(s, H2_CLOSE_GOAWAY, "the server is going away");
	else
		h2_stream_end(s, H2_CLOSE_RESET, "the server reset the stream: %s", nghttp2_http2_strerror(code));
	return 0;
}

static ssize_t stream_session_on_read_data(
    nghttp2_session *ng, int32_t id, uint8_t *buf, size_t len, uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct h2_stream *s = user;
	size_t n = MIN(len, s->out.len);

	if (n > 0) {
		memcpy(buf, byteq_head(&s->out), n);
		byteq_drop(&s->out, n);
	}
	if (s->out.len == 0 && s->end_wanted) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		return (ssize_t)n;
	}
	if (n == 0) {
		s->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t)n;
}

int h2_stream_session_open(struct h2_stream *s)
{
	static const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}, {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
	nghttp2_data_provider body = {.read_callback = stream_session_on_read_data};
	nghttp2_session_callbacks *cb;
	size_t n = 0, extra = s->headers->n;
	nghttp2_nv *nva = mem_zalloc((extra + 4) * sizeof(*nva));
	const struct http_header pseudo[] = {{":method", "POST"}, {":scheme", s->dial.scheme},
	    {":authority", s->dial.authority}, {":path", s->dial.target}};

	for (size_t i = 0; i < 4 + extra; i++) {
		const struct http_header *h = i < 4 ? &pseudo[i] : &s->headers->list[i - 4];

		nva[n++] = (nghttp2_nv){(uint8_t *)h->name, (uint8_t *)h->value, strlen(h->name), strlen(h->value), 0};
	}
	ENSURE(nghttp2_session_callbacks_new(&cb) == 0);
	nghttp2_session_callbacks_set_on_header_callback(cb, stream_session_on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, stream_session_on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, stream_session_on_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, stream_session_on_frame_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, stream_session_on_stream_close);
	ENSURE(nghttp2_session_client_new(&s->ng, cb, s) == 0);
	nghttp2_session_callbacks_del(cb);
	ENSURE(nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0);
	ENSURE(nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, 0, WINDOW) == 0);
	s->id = nghttp2_submit_request(s->ng, NULL, nva, n, &body, NULL);
	free(nva);
	return s->id > 0 ? OK : ERR_INVALID;
}
