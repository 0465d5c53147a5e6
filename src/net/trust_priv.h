/* net/trust_priv.h: what all outgoing connections have in common: which certificate authorities they trust, and the
 * words for what went wrong.
 * Thread: any. */
#pragma once
#include <curl/curl.h>

/* SSL_CERT_FILE and SSL_CERT_DIR, as for every program with OpenSSL; libcurl leaves them to its users. */
void trust_set(CURL *e);
/* Why a transfer failed, for people and logs: curl's words, unless they could hold the password of a proxy. `error`: of
 * CURLOPT_ERRORBUFFER, perhaps empty; it backs the result. */
const char *curl_words(CURLcode code, const char *error);
