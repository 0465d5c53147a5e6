#include "net/http_client.h"
#include "base/clock.h"
#include "base/mem.h"
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_CONNECT_MS 10000
#define DEFAULT_MAX_BODY ((size_t)16 * 1024 * 1024)
#define RETRY_AFTER_MAX 100

struct transfer {
	const struct http_client_request *req;
	struct http_client_response *resp;
	CURL *easy;
	int64_t heard_ms;
	curl_off_t sent;
	int stop; /* our own reason to end the transfer */
};

static void init_once(void)
{
	struct sigaction sa;

	/* TLS writes can raise SIGPIPE; a program that wants the signal has set a handler by now. */
	if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL) {
		sa.sa_handler = SIG_IGN;
		sigaction(SIGPIPE, &sa, NULL);
	}
	ENSURE(curl_global_init(CURL_GLOBAL_DEFAULT) == 0);
}

void http_client_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_once);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *ctx)
{
	struct transfer *t = ctx;
	long status = 0;
	size_t len = size * n;

	t->heard_ms = clock_mono_ms();
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (t->req->on_data != NULL && status >= 200 && status < 300)
		t->stop = t->req->on_data(t->req->ctx, bytes, len);
	else
		t->stop = strbuf_add(&t->resp->body, bytes, len);
	return t->stop == OK ? len : 0;
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
	static const char name[] = "retry-after:";
	struct transfer *t = ctx;
	size_t len = size * n, at = sizeof(name) - 1;

	t->heard_ms = clock_mono_ms();
	if (len <= at || len > RETRY_AFTER_MAX || strncasecmp(line, name, at) != 0)
		return len;
	while (at < len && (line[at] == ' ' || line[at] == '\t'))
		at++;
	while (len > at && strchr(" \t\r\n", line[len - 1]) != NULL)
		len--;
	free(t->resp->retry_after);
	t->resp->retry_after = str_ndup(line + at, len - at);
	return size * n;
}

static int on_progress(void *ctx, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
	struct transfer *t = ctx;
	int64_t now = clock_mono_ms();

	/* A long upload is not a stall, the peer has nothing to say yet. */
	if (ul != t->sent) {
		t->sent = ul;
		t->heard_ms = now;
	}
	if (t->req->cancelled != NULL && t->req->cancelled(t->req->ctx))
		t->stop = ERR_CANCELLED;
	else if (t->req->stall_timeout_ms > 0 && now - t->heard_ms >= t->req->stall_timeout_ms)
		t->stop = ERR_TIMEOUT;
	return t->stop != OK;
}

static struct curl_slist *header_list(const struct http_client_request *req)
{
	/* Expect costs a round trip with servers that ignore it; a form is never what the body is. */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	bool has_type = false;

	for (size_t i = 0; i < req->n_headers; i++) {
		const struct http_header *h = &req->headers[i];
		/* "name;" is how curl spells an empty value. */
		AUTO_STR line =
		    h->value[0] != '\0' ? str_printf("%s: %s", h->name, h->value) : str_printf("%s;", h->name);

		has_type = has_type || strcasecmp(h->name, "content-type") == 0;
		for (char *p = line; *p != '\0'; p++)
			if (*p == '\r' || *p == '\n')
				*p = ' ';
		list = curl_slist_append(list, line);
	}
	return has_type ? list : curl_slist_append(list, "Content-Type:");
}

static void set_options(struct transfer *t, struct curl_slist *headers, char *error)
{
	const struct http_client_request *req = t->req;
	CURL *e = t->easy;
	int64_t connect = req->connect_timeout_ms > 0 ? req->connect_timeout_ms : DEFAULT_CONNECT_MS;

	curl_easy_setopt(e, CURLOPT_URL, req->url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, error);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)connect);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)req->timeout_ms);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(e, CURLOPT_XFERINFODATA, t);
	if (req->body != NULL) {
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, req->body_len > 0 ? req->body : "");
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
	}
	if (strcmp(req->method, "HEAD") == 0)
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, req->method);
}

/* "127.0.0.1:8787" of a URL: what a person looks at first, and never its credentials. */
static char *host_of(const char *url)
{
	CURLU *u = curl_url();
	char *host = NULL, *port = NULL, *out;

	if (u == NULL || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		out = str_dup("that address");
	else if (curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
		out = str_printf("%s:%s", host, port);
	else
		out = str_dup(host);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return out;
}

/* curl's own text repeats host and port around the reason. */
static const char *reason_of(CURL *e, CURLcode code, const char *error)
{
	const char *colon = strrchr(error, ':');
	long os = 0;

	curl_easy_getinfo(e, CURLINFO_OS_ERRNO, &os);
	if (code == CURLE_COULDNT_CONNECT && os != 0)
		return strerror((int)os);
	if (code == CURLE_COULDNT_CONNECT && colon != NULL && colon[1] == ' ')
		return colon + 2;
	return error[0] != '\0' ? error : curl_easy_strerror(code);
}

static int explain(const struct transfer *t, CURLcode code, const char *error, struct why *why)
{
	AUTO_STR host = host_of(t->req->url);
	double connected = 0;

	curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME, &connected);
	if (t->stop == ERR_CANCELLED && code == CURLE_ABORTED_BY_CALLBACK)
		return why_set(why, ERR_CANCELLED, "the request to %s was cancelled", host);
	if (t->stop == ERR_TIMEOUT && code == CURLE_ABORTED_BY_CALLBACK)
		return why_set(why, ERR_TIMEOUT, "nothing was received from %s for %lld ms", host,
		    (long long)t->req->stall_timeout_ms);
	if (t->stop == ERR_TOO_LARGE && t->resp->body.overflowed)
		return why_set(
		    why, ERR_TOO_LARGE, "the response of %s is larger than %zu bytes", host, t->resp->body.max);
	if (t->stop != OK)
		return why_set(why, t->stop, "the response of %s was not taken: %s", host, err_text(t->stop));
	if (code == CURLE_OPERATION_TIMEDOUT && connected == 0)
		return why_set(why, ERR_TIMEOUT, "cannot connect to %s in time", host);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return why_set(why, ERR_TIMEOUT, "%s did not answer in time", host);
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
	    code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_PEER_FAILED_VERIFICATION ||
	    code == CURLE_SSL_CONNECT_ERROR)
		return why_set(why, ERR_NET, "cannot connect to %s: %s", host, reason_of(t->easy, code, error));
	return why_set(why, ERR_NET, "the request to %s failed: %s", host, reason_of(t->easy, code, error));
}

int http_client_do(const struct http_client_request *req, struct http_client_response *ret, struct why *why)
{
	struct transfer t = {.req = req, .resp = ret, .heard_ms = clock_mono_ms()};
	char error[CURL_ERROR_SIZE] = "";
	struct curl_slist *headers;
	CURLcode code;
	long status = 0;
	int rc = OK;

	http_client_init();
	*ret = (struct http_client_response){.body = STRBUF(req->max_body > 0 ? req->max_body : DEFAULT_MAX_BODY)};
	t.easy = curl_easy_init();
	if (t.easy == NULL)
		return why_set(why, ERR_INTERNAL, "cannot start a transfer");
	headers = header_list(req);
	set_options(&t, headers, error);
	code = curl_easy_perform(t.easy);
	curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
	if (code == CURLE_OK)
		ret->status = (int)status;
	else
		rc = explain(&t, code, error, why);
	curl_easy_cleanup(t.easy);
	curl_slist_free_all(headers);
	return rc;
}

void http_client_response_fini(struct http_client_response *r)
{
	strbuf_fini(&r->body);
	str_free(&r->retry_after);
	r->status = 0;
}
