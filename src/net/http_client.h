/* net/http_client.h: outgoing HTTP by libcurl: proxies, TLS and verification are the platform's.
 * Thread: any; each call blocks its own thread. Call http_client_init() once at start. */
#pragma once
#include "base/errors.h"
#include "base/strbuf.h"
#include "net/http_server.h" /* struct http_header */

void http_client_init(void);

/* Connections kept open between requests. Thread: any; shared by all who talk to the same server. */
struct http_client_pool;
/* At most `max_idle` connections stay open while nobody uses them, each for `idle_ms` at most (looked at when the next
 * request begins or ends). How many are in use is not limited. */
struct http_client_pool *http_client_pool_new(size_t max_idle, int64_t idle_ms);
/* No request may be under way. */
void http_client_pool_free(struct http_client_pool **p);

struct http_client_request {
	const char *method; /* "GET", "POST", … */
	const char *url;
	struct http_client_pool *pool; /* NULL: a connection of its own */
	const char *ca_file; /* PEM; NULL: the certificate authorities of the system */
	const char *ca_setting; /* what people call the setting behind it, for errors; NULL: SSL_CERT_FILE */
	const struct http_header *headers;
	size_t n_headers;
	const void *body; /* NULL: none */
	size_t body_len;
	int64_t connect_timeout_ms; /* 0 = 10 s */
	int64_t timeout_ms; /* whole transfer; 0 = none */
	int64_t stall_timeout_ms; /* nothing received for so long; 0 = none */
	size_t max_body; /* 0 = 16 MiB. With a status of 300 and more only the rest is cut off */
	/* Streaming: called for each piece of a 2xx body on the calling thread instead of collecting it. A result other
	 * than OK ends the transfer and is returned by http_client_do. */
	int (*on_data)(void *ctx, const void *bytes, size_t len);
	/* Asked about once a second and on progress: true ends the transfer with ERR_CANCELLED. */
	bool (*cancelled)(void *ctx);
	void *ctx;
};

struct http_client_response {
	int status;
	bool connected; /* somebody took the connection, also if no answer came */
	struct strbuf body;
	/* Header values or NULL; they are here before the first on_data. */
	char *retry_after, *content_type, *date;
	char *oauth_scopes; /* X-OAuth-Scopes: what a token may do, as GitHub and Slack say it */
	char *link; /* other pages */
	char *etag;
	char *limit_remaining, *limit_reset; /* X-RateLimit-… or RateLimit-…: how often one may still ask, until when */
};

/* OK whenever a complete response came, whatever its status (the body of one that is no success may be cut). ERR_NET,
 * ERR_TIMEOUT, ERR_TOO_LARGE, ERR_CANCELLED with `why`. *ret must be released with http_client_response_fini in any
 * case. Redirects are not followed. */
int http_client_do(const struct http_client_request *req, struct http_client_response *ret, struct why *why) MUST_USE;
void http_client_response_fini(struct http_client_response *r);
/* Our clock minus theirs; INT64_MAX: the answer has no date. */
int64_t http_client_clock_skew_ms(const struct http_client_response *r);
