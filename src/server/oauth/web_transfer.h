/* oauth/web_transfer.h: one transfer of libcurl under the rules of web.h, for a request on this thread and for who
 * drives libcurl himself. */
#pragma once
#include "server/oauth/web.h"
#include <curl/curl.h>

#define WEB_REDIRECTS_MAX 3
#define WEB_CONNECT_MS 10000

/* One transfer of libcurl. The struct outlives the handle. */
struct web_transfer {
	const struct web_rules *rules;
	CURL *easy; /* while it runs, for those who want to know */
	bool listed; /* its host is one of the operator's */
	bool denied; /* an address of it must not be connected to */
	struct web_answer *answer;
};
/* Sets all that must hold for `url`, which was checked; body, method and headers are the caller's. */
void web_prepare(CURL *e, struct web_transfer *t, const char *url);
/* Keeps the headers that matter; for CURLOPT_HEADERFUNCTION, with the transfer. */
size_t web_on_header(char *line, size_t size, size_t n, void *ctx);
/* Why a transfer gave no answer. */
int web_explain(const struct web_transfer *t, CURLcode code, struct why *why);
/* Where the answer sends us, if that may be followed: OK with *ret NULL: nowhere; ERR_DENIED with `why`. */
int web_redirect(const struct web_rules *r, const char *url, const char *method, const struct web_answer *a, char **ret,
    struct why *why) MUST_USE;
