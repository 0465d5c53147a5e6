/* net/http_client.h: outgoing HTTP by libcurl: proxies, TLS and verification are the platform's.
 * Thread: any; each call blocks its own thread. Call http_client_init() once at start. */
#pragma once
#include "base/errors.h"
#include "base/strbuf.h"
#include "net/http_server.h" /* struct http_header */

void http_client_init(void);

struct http_client_request {
	const char *method; /* "GET", "POST", … */
	const char *url;
	const struct http_header *headers;
	size_t n_headers;
	const void *body; /* NULL: none */
	size_t body_len;
	int64_t connect_timeout_ms; /* 0 = 10 s */
	int64_t timeout_ms; /* whole transfer; 0 = none */
	int64_t stall_timeout_ms; /* nothing received for so long; 0 = none */
	size_t max_body; /* 0 = 16 MiB */
	/* Streaming: called for each piece of a 2xx body on the calling thread instead of collecting it. A result other
	 * than OK ends the transfer and is returned by http_client_do. */
	int (*on_data)(void *ctx, const void *bytes, size_t len);
	/* Asked about once a second and on progress: true ends the transfer with ERR_CANCELLED. */
	bool (*cancelled)(void *ctx);
	void *ctx;
};

struct http_client_response {
	int status;
	struct strbuf body;
	char *retry_after; /* header value or NULL */
};

/* OK whenever a complete response came, whatever its status. ERR_NET, ERR_TIMEOUT, ERR_TOO_LARGE, ERR_CANCELLED with
 * `why`. *ret must be released with http_client_response_fini in any case. Redirects are not followed. */
int http_client_do(const struct http_client_request *req, struct http_client_response *ret, struct why *why) MUST_USE;
void http_client_response_fini(struct http_client_response *r);
