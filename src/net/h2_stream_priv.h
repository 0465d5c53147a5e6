/* net/h2_stream_priv.h: what the life of a client stream (h2_stream.c) and its HTTP/2 (h2_stream_session.c) share.
 * Thread: the owner of the loop's. */
#pragma once
#include "net/h2_dial_priv.h"
#include "net/h2_stream.h"
#include "net/http_priv.h"
#include <nghttp2/nghttp2.h>

enum state { DIALING, OPEN, CLOSING, DONE };

struct h2_stream {
	unsigned magic;
	enum state state;
	uv_loop_t *loop;
	struct h2_stream_config cfg; /* the strings in it are not used after the dial */
	struct fields *headers;
	struct h2_dial dial;
	uv_async_t dialled;
	uv_poll_t poll;
	uv_timer_t kick, close_timer;
	bool polling;
	int handles;

	nghttp2_session *ng;
	int32_t id;
	struct byteq out;
	bool deferred, end_wanted, end_sent;
	bool was_full; /* unsent was over the mark: on_drain is due */
	bool in_events; /* user's calls do not flush: the caller does */
	bool pinged;
	bool heard; /* something came from the server */
	bool more; /* input is left that poll may not report */
	int watched; /* what poll looks for now */
	char *send_buf; /* one piece on its way; retried as it is, TLS wants the same bytes again */
	size_t send_at, send_len;

	bool ended; /* `why` is final */
	bool goaway;
	struct h2_close why;
	char content_type[64]; /* cut off */
	char *message; /* grpc-message as sent */
};

/* Why the stream ends; the first reason stays. step() carries it out. */
void h2_stream_end(struct h2_stream *s, enum h2_close_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* ERR_INVALID: the request headers are not valid. */
int h2_stream_session_open(struct h2_stream *s) MUST_USE;
