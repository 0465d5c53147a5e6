#include "net/h2_dial_priv.h"
#include "base/mem.h"
#include "net/advice_priv.h"
#include <openssl/ssl.h>
#include <pthread.h>
#include <string.h>

#define DEFAULT_CONNECT_MS 10000

static int dial_index;

static void make_index(void)
{
	dial_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	ENSURE(dial_index >= 0);
}

/* curl gives the SSL object away only while it is busy with a transfer, so the result is noted as it comes. With a TLS
 * proxy there are two handshakes; the server's is the last. */
static void on_tls_event(const SSL *ssl, int where, int ret)
{
	struct h2_dial *d = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), dial_index);
	const unsigned char *proto = NULL;
	unsigned len = 0;

	if ((where & SSL_CB_HANDSHAKE_DONE) == 0)
		return;
	SSL_get0_alpn_selected(ssl, &proto, &len);
	d->chose_h2 = len == 2 && memcmp(proto, "h2", 2) == 0;
}

/* If curl itself negotiated h2 it would put its own HTTP/2 layer under curl_easy_send. It is told HTTP/1.1 without
 * ALPN instead, and the offer is made here. */
static CURLcode on_ssl_ctx(CURL *easy, void *ctx, void *user)
{
	static const unsigned char alpn[] = {2, 'h', '2'};

	if (SSL_CTX_set_alpn_protos(ctx, alpn, sizeof(alpn)) != 0 || SSL_CTX_set_ex_data(ctx, dial_index, user) != 1)
		return CURLE_SSL_CONNECT_ERROR;
	SSL_CTX_set_info_callback(ctx, on_tls_event);
	return CURLE_OK;
}

static int h2_dial_on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct h2_dial *dial = ctx;

	return atomic_load(&dial->cancelled);
}

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
	char *value = NULL, *copy = NULL;

	if (curl_url_get(u, part, &value, flags) == CURLUE_OK)
		copy = str_dup(value);
	curl_free(value);
	return copy;
}

static int split_url(struct h2_dial *d, const char *url, struct why *why)
{
	CURLU *u = curl_url();
	char *path, *query, *host, *port;

	ENSURE(u != NULL);
	if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK) {
		curl_url_cleanup(u);
		return why_set(why, ERR_INVALID, "the address is not a URL");
	}
	d->scheme = url_part(u, CURLUPART_SCHEME, 0);
	host = url_part(u, CURLUPART_HOST, 0);
	port = url_part(u, CURLUPART_PORT, 0);
	path = url_part(u, CURLUPART_PATH, 0);
	query = url_part(u, CURLUPART_QUERY, 0);
	if (host != NULL && d->scheme != NULL) {
		d->tls = strcmp(d->scheme, "https") == 0;
		d->authority = port != NULL ? str_printf("%s:%s", host, port) : str_dup(host);
		d->host = str_printf("%s:%s", host, port != NULL ? port : d->tls ? "443" : "80");
	}
	d->target =
	    str_printf("%s%s%s", path != NULL ? path : "/", query != NULL ? "?" : "", query != NULL ? query : "");
	free(host);
	free(port);
	free(path);
	free(query);
	curl_url_cleanup(u);
	if (d->authority == NULL || d->scheme == NULL || (!d->tls && strcmp(d->scheme, "http") != 0))
		return why_set(why, ERR_INVALID, "the address must begin with http:// or https://");
	return OK;
}

int h2_dial_init(struct h2_dial *d, const char *url, int64_t timeout_ms, struct why *why)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	CURL *e;
	int rc;

	pthread_once(&once, make_index);
	*d = (struct h2_dial){0};
	rc = split_url(d, url, why);
	if (rc != OK) {
		h2_dial_fini(d);
		return rc;
	}
	d->easy = e = curl_easy_init();
	ENSURE(e != NULL);
	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_SSL_ENABLE_ALPN, 0L);
	trust_set(e);
	curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
	curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, d);
	curl_easy_setopt(e, CURLOPT_HTTPPROXYTUNNEL, 1L);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(timeout_ms > 0 ? timeout_ms : DEFAULT_CONNECT_MS));
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, d->error);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, h2_dial_on_progress);
	curl_easy_setopt(e, CURLOPT_XFERINFODATA, d);
	return OK;
}

void h2_dial_fini(struct h2_dial *d)
{
	if (d->easy != NULL)
		curl_easy_cleanup(TAKE(d->easy));
	str_free(&d->scheme);
	str_free(&d->authority);
	str_free(&d->target);
	str_free(&d->host);
}

void h2_dial_run(struct h2_dial *d)
{
	d->code = curl_easy_perform(d->easy);
}

int h2_dial_socket(struct h2_dial *d, curl_socket_t *ret, struct why *why)
{
	if (d->code != CURLE_OK)
		return advice_set(
		    &(struct failed_dial){
			.easy = d->easy, .code = d->code, .error = d->error, .host = d->host, .tls = d->tls},
		    why);
	if (d->tls && !d->chose_h2)
		return advice_no_h2(d->host, why);
	if (curl_easy_getinfo(d->easy, CURLINFO_ACTIVESOCKET, ret) != CURLE_OK || *ret == CURL_SOCKET_BAD)
		return why_set(why, ERR_NET, "the connection to %s was lost", d->host);
	return OK;
}
