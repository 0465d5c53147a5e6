/* net/h2_stream.h: the client end of one long-lived HTTP/2 request stream. libcurl dials (proxy, NO_PROXY, TLS,
 * verification), then nghttp2 speaks over that connection.
 * Thread: the owner of the uv loop, for every call and callback. Dialling itself runs on libuv's pool. */
#pragma once
#include "base/errors.h"
#include "net/http_server.h" /* struct http_header */
#include <uv.h>

struct h2_stream;

enum h2_close_kind {
	H2_CLOSE_CONNECT, /* no connection: DNS, refused, TLS, proxy; `text` says why */
	H2_CLOSE_STATUS, /* the server answered and ended the stream: http_status, grpc_status, text */
	H2_CLOSE_RESET, /* RST_STREAM or GOAWAY with an error */
	H2_CLOSE_GOAWAY, /* orderly: GOAWAY without error, or FIN */
	H2_CLOSE_IO, /* the connection broke */
	H2_CLOSE_LOCAL /* h2_stream_close was called */
};

struct h2_close {
	enum h2_close_kind kind;
	int http_status; /* 0 if no headers came */
	int grpc_status; /* -1 if none came */
	char text[512];
};

struct h2_stream_config {
	const char *url; /* absolute http:// (h2c, prior knowledge) or https:// URL with path; POST */
	const struct http_header *headers;
	size_t n_headers;
	int64_t connect_timeout_ms; /* 0 = 10 s */
	void *ctx;
	void (*on_open)(void *ctx); /* connected, request headers queued: writing makes sense now */
	void (*on_data)(void *ctx, const void *bytes, size_t len);
	void (*on_drain)(void *ctx); /* unsent bytes fell below 64 KiB again */
	void (*on_close)(void *ctx, const struct h2_close *why); /* exactly once, last; the stream is freed after it */
};

/* Starts dialling; returns at once. After OK, on_close will come whatever happens. Strings are copied. */
int h2_stream_dial(uv_loop_t *loop, const struct h2_stream_config *cfg, struct h2_stream **ret) MUST_USE;
/* Copies and queues; ERR_CLOSED when the stream is ending. Not before on_open. */
int h2_stream_write(struct h2_stream *s, const void *bytes, size_t len);
size_t h2_stream_unsent(const struct h2_stream *s);
/* HTTP/2 PING, to keep proxies open and find dead peers; on_close with H2_CLOSE_IO when an earlier one was not
 * answered. */
void h2_stream_ping(struct h2_stream *s);
/* Ends the request body, flushes for at most a second, then closes. on_close follows. */
void h2_stream_close(struct h2_stream *s);
