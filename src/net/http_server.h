/* net/http_server.h: HTTP/1.1 and HTTP/2 on one port, behind one request interface; all in cleartext or all in TLS.
 *
 * Threads: the server runs N event loops, one thread each. A connection belongs to the loop that accepted it.
 * Callbacks run on that loop's thread and must not block. Functions marked [any] may be called from any thread:
 * they post to the loop. Everything a peer controls is limited before it is stored (struct http_server_config).
 *
 * An exchange is one request and its response. It is counted: the server holds one reference until the exchange is
 * over, the callbacks may take their own. After the peer went away all response functions say ERR_CLOSED. */
#pragma once
#include "base/errors.h"

struct http_server;
struct http_exchange;

struct http_header {
	const char *name; /* lowercase */
	const char *value;
};

enum http_body_mode {
	HTTP_BODY_WHOLE, /* collected, then on_request */
	HTTP_BODY_STREAM /* on_request at once, then on_data as it arrives (struct http_watch) */
};

struct http_plan {
	enum http_body_mode mode; /* default HTTP_BODY_WHOLE */
	size_t max_body; /* WHOLE: more is answered by on_too_large. Default 1 MiB */
	unsigned weight; /* WHOLE: each byte counts so often in max_buffered, for what is made of the body. Default 1 */
	size_t check_over; /* WHOLE: more waits for on_check, once. 0: never */
};

struct http_callbacks {
	void *ctx;
	/* Loop thread. The head is there; decide how the body is taken. */
	void (*on_head)(void *ctx, struct http_exchange *x, struct http_plan *plan);
	/* Loop thread. Answer later from another thread, after http_exchange_ref. */
	void (*on_request)(void *ctx, struct http_exchange *x);
	/* Loop thread. The body is over the plan's limit, or there is no room for it (http_no_room); must http_reply
	 * (413, 503). The rest of the body is thrown away. */
	void (*on_too_large)(void *ctx, struct http_exchange *x);
	/* Loop thread. The body is announced, or has grown, over plan->check_over, and is not read any further until
	 * http_pause(x, false), from any thread; or http_reply refuses it. May be NULL if no plan asks for it. */
	void (*on_check)(void *ctx, struct http_exchange *x);
};

struct http_server_config {
	const char *host; /* numeric address */
	uint16_t port; /* 0: the kernel picks one */
	unsigned loops;
	struct http_callbacks callbacks;
	size_t max_head_bytes; /* request line and headers; over it: 431. 0 = 32 KiB */
	unsigned max_headers; /* 0 = 100 */
	unsigned max_connections; /* over it: new ones are closed at once. 0 = 100,000 */
	unsigned max_per_peer; /* the same, for each peer address. 0: no limit */
	unsigned max_streams; /* HTTP/2 streams of one connection at once. 0 = 100 */
	size_t max_buffered; /* bytes of all WHOLE bodies at once, by their weight. 0 = 1 GiB */
	int64_t head_timeout_ms; /* from the first byte to the end of the head. 0 = 10 s */
	int64_t idle_timeout_ms; /* keep-alive without a request. 0 = 60 s */
	int64_t body_timeout_ms; /* WHOLE: longest pause between two pieces of a body. 0 = 30 s */
	const char *tls_cert, *tls_key; /* PEM files (chain; key): TLS 1.2 and newer only. Both or neither */
};

/* Binds and starts the loops. ERR_NET with `why` ("address in use", …). */
int http_server_start(const struct http_server_config *cfg, struct http_server **ret, struct why *why) MUST_USE;
uint16_t http_server_port(const struct http_server *s);
/* Reads the files of certificate and key again, for connections to come. On failure, with `why`, the old ones stay.
 * Blocks for the files. Not for a server without TLS. [any] */
int http_server_reload_tls(struct http_server *s, struct why *why) MUST_USE;
/* Stops accepting; idle keep-alive connections are closed, HTTP/2 peers get GOAWAY. Running exchanges go on. [any] */
void http_server_drain(struct http_server *s);
/* Cuts what is left, ends and joins the loops. Not from a loop. NULL is fine. */
void http_server_free(struct http_server **s);

/* The request; constant once on_head was called, borrowed from the exchange. */
const char *http_method(const struct http_exchange *x);
const char *http_path(const struct http_exchange *x); /* raw, without the query */
const char *http_query(const struct http_exchange *x); /* raw, "" if none */
/* First header of that (lowercase) name, or NULL. */
const char *http_header_get(const struct http_exchange *x, const char *name);
unsigned http_header_count(const struct http_exchange *x, const char *name);
/* WHOLE only, from on_request on. Never NULL; NUL-terminated. */
const char *http_body(const struct http_exchange *x, size_t *ret_len);
/* In on_too_large: the body alone would be fine, but the bodies of all requests together are too much. */
bool http_no_room(const struct http_exchange *x);
const char *http_peer(const struct http_exchange *x); /* "127.0.0.1:4711" */
int http_version(const struct http_exchange *x); /* 11 or 20 */

struct http_exchange *http_exchange_ref(struct http_exchange *x); /* [any] */
void http_exchange_free(struct http_exchange **x); /* [any] gives one reference back */
/* fn is called once, by whoever gives the last reference back, with whatever locks they hold. Once for each exchange.
 * [any] */
void http_on_free(struct http_exchange *x, void (*fn)(void *ctx), void *ctx);

/* The callbacks of a long exchange. All on the loop thread. Any may be NULL. */
struct http_watch {
	void (*on_data)(void *ctx, struct http_exchange *x, const void *bytes, size_t len); /* STREAM only */
	void (*on_end)(void *ctx, struct http_exchange *x); /* STREAM only: the request body ended */
	void (*on_drain)(void *ctx, struct http_exchange *x); /* unsent bytes fell below 64 KiB again */
	void (*on_close)(void *ctx, struct http_exchange *x); /* over, for whatever reason; last call, exactly once */
	void *ctx;
};
/* Sets the watch. From on_request (loop thread) nothing is missed. From another thread [any]: if the exchange is
 * over already, on_close comes at once (on the loop thread). */
void http_watch(struct http_exchange *x, const struct http_watch *w);
/* STREAM: stops and starts reading this body (back-pressure). [any] */
void http_pause(struct http_exchange *x, bool paused);

/* A whole response, with content-length. Adds nothing else. Body copied. [any] */
int http_reply(struct http_exchange *x, int status, const struct http_header *headers, size_t n_headers,
    const void *body, size_t len);
/* The same with {"error":{"code","message"}} as the body. [any] */
int http_reply_error(struct http_exchange *x, int status, const struct http_header *headers, size_t n_headers,
    const char *code, const char *message);
/* A response whose body follows in pieces (chunked on HTTP/1.1). With a content-length among the headers exactly so
 * many bytes must follow (none if HEAD was asked), or http_abort. [any] */
int http_start(struct http_exchange *x, int status, const struct http_header *headers, size_t n_headers);
/* Copies. Pieces of one write are never split by other writes. [any] */
int http_write(struct http_exchange *x, const void *bytes, size_t len);
/* The two halves of http_write, for a caller that holds what the loop wants next: bytes that were put may wait until
 * the loop is woken. [any] */
int http_put(struct http_exchange *x, const void *bytes, size_t len);
void http_wake(struct http_exchange *x);
/* Whether waking one wakes the other. [any] */
bool http_same_loop(const struct http_exchange *a, const struct http_exchange *b);
/* Ends the response; trailers are sent on HTTP/2 and on chunked HTTP/1.1. If the request body is still open on HTTP/2,
 * RST_STREAM(NO_ERROR) follows. [any] */
int http_end(struct http_exchange *x, const struct http_header *trailers, size_t n_trailers);
/* Cuts the exchange: RST_STREAM, or the connection on HTTP/1.1. [any] */
void http_abort(struct http_exchange *x);
/* Bytes taken by http_write and not yet given to the kernel. [any] */
size_t http_unsent(const struct http_exchange *x);
