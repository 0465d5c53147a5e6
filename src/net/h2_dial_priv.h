/* net/h2_dial_priv.h: a connection for h2_stream.c, made by libcurl: proxy, NO_PROXY, TLS and verification are its
 * own. Thread: h2_dial_run blocks a pool thread; everything else is the loop's. */
#pragma once
#include "base/errors.h"
#include <curl/curl.h>
#include <stdatomic.h>

struct h2_dial {
	CURL *easy;
	bool tls, chose_h2;
	char *scheme, *authority, *target, *host; /* host: "name:port", for people */
	atomic_bool cancelled;
	CURLcode code;
	char error[CURL_ERROR_SIZE];
};

/* ERR_INVALID with `why` for a URL that is not http or https. */
int h2_dial_init(struct h2_dial *d, const char *url, int64_t timeout_ms, struct why *why) MUST_USE;
void h2_dial_fini(struct h2_dial *d);
/* Connects; the result is in d->code. Ends within a second of `cancelled`. */
void h2_dial_run(struct h2_dial *d);
/* After h2_dial_run: the socket, or ERR_NET with `why`. */
int h2_dial_socket(struct h2_dial *d, curl_socket_t *ret, struct why *why) MUST_USE;
