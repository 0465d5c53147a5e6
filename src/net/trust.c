#include "net/trust_priv.h"
#include "base/text.h"
#include <stdlib.h>

void trust_set(CURL *e)
{
	const char *file = getenv("SSL_CERT_FILE"), *dir = getenv("SSL_CERT_DIR");

	if (file != NULL && file[0] != '\0')
		curl_easy_setopt(e, CURLOPT_CAINFO, file);
	if (dir != NULL && dir[0] != '\0')
		curl_easy_setopt(e, CURLOPT_CAPATH, dir);
}

/* Curl repeats a setting that it does not understand as it is. */
const char *curl_words(CURLcode code, const char *error)
{
	if (text_has_prefix(error, "Unsupported proxy"))
		return "the proxy of HTTPS_PROXY, http_proxy or ALL_PROXY is not an address that can be used: it must "
		       "be "
		       "http://USER:PASSWORD@HOST:PORT";
	return error[0] != '\0' ? error : curl_easy_strerror(code);
}
