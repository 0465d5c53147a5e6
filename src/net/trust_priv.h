/* net/trust_priv.h: which certificate authorities outgoing connections trust.
 * Thread: any. */
#pragma once
#include <curl/curl.h>

/* SSL_CERT_FILE and SSL_CERT_DIR, as for every program with OpenSSL; libcurl leaves them to its users. */
void trust_set(CURL *e);
