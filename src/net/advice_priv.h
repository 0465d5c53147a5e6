/* net/advice_priv.h: what all outgoing connections have in common: which certificate authorities they trust, and the
 * words for what went wrong.
 * Thread: any. */
#pragma once
#include "base/errors.h"
#include "net/advice.h"
#include <curl/curl.h>

/* SSL_CERT_FILE and SSL_CERT_DIR, as for every program with OpenSSL; libcurl leaves them to its users. */
void trust_set(CURL *e);

struct failed_dial {
	CURL *easy; /* after curl_easy_perform */
	CURLcode code;
	const char *error; /* of CURLOPT_ERRORBUFFER, perhaps empty */
	const char *host; /* "name:port", for people */
	bool tls;
	const char *ca_setting; /* where a private authority is named; NULL: SSL_CERT_FILE */
};
/* Sets the sentence: what happened and what to do. Never the password of a proxy. Returns ERR_NET or ERR_TIMEOUT. */
int advice_set(const struct failed_dial *f, struct why *why);
/* The server at `host` was reached and does not speak HTTP/2. Returns ERR_NET. */
int advice_no_h2(const char *host, struct why *why);
