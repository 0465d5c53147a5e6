#include "net/http_client.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/advice_priv.h"
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define DEFAULT_CONNECT_MS 10000
#define DEFAULT_MAX_BODY ((size_t)16 * 1024 * 1024)
#define HEADER_VALUE_MAX 4096

struct client_transfer {
	const struct http_client_request *req;
	struct http_client_response *resp;
	CURL *easy;
	int64_t heard_ms;
	curl_off_t sent;
	int stop; /* our own reason to end the transfer */
	bool cut; /* it was ended because the rest of the body is not wanted */
};

/* libcurl brings GnuTLS along, for RTMP and LDAP, which nobody here speaks. It prepares itself when it is loaded,
 * unless the program says so by defining this: 0.7 MiB of every process. (net/meson.build exports it.) */
int _gnutls_global_init_skip(void); /* NOLINT(bugprone-reserved-identifier) */
int _gnutls_global_init_skip(void) /* NOLINT(bugprone-reserved-identifier) */
{
	return 1;
}

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

struct idle {
	CURL *easy;
	int64_t since_ms;
};

/* Each handle keeps its one connection. The oldest is first, the last one is taken: it is the likeliest to be alive. */
struct http_client_pool {
	pthread_mutex_t lock;
	struct idle *idle;
	size_t n, max;
	int64_t idle_ms;
};

struct http_client_pool *http_client_pool_new(size_t max_idle, int64_t idle_ms)
{
	struct http_client_pool *p = NEW(struct http_client_pool);

	pthread_mutex_init(&p->lock, NULL);
	p->idle = mem_zalloc((max_idle + 1) * sizeof *p->idle);
	p->max = max_idle;
	p->idle_ms = idle_ms;
	return p;
}

void http_client_pool_free(struct http_client_pool **p)
{
	if (*p == NULL)
		return;
	for (size_t i = 0; i < (*p)->n; i++)
		curl_easy_cleanup((*p)->idle[i].easy);
	pthread_mutex_destroy(&(*p)->lock);
	free((*p)->idle);
	free(*p);
	*p = NULL;
}

/* Closing can take a moment (TLS), so it is done without the lock: the oldest that is due, NULL if none is. */
static CURL *take_expired(struct http_client_pool *p)
{
	CURL *e = NULL;

	pthread_mutex_lock(&p->lock);
	if (p->n > 0 && clock_mono_ms() - p->idle[0].since_ms >= p->idle_ms) {
		e = p->idle[0].easy;
		memmove(p->idle, p->idle + 1, --p->n * sizeof *p->idle);
	}
	pthread_mutex_unlock(&p->lock);
	return e;
}

static void close_expired(struct http_client_pool *p)
{
	CURL *e;

	while ((e = take_expired(p)) != NULL)
		curl_easy_cleanup(e);
}

static CURL *handle_take(struct http_client_pool *p)
{
	CURL *e = NULL;

	if (p == NULL)
		return curl_easy_init();
	close_expired(p);
	pthread_mutex_lock(&p->lock);
	if (p->n > 0)
		e = p->idle[--p->n].easy;
	pthread_mutex_unlock(&p->lock);
	return e != NULL ? e : curl_easy_init();
}

static void handle_give(struct http_client_pool *p, CURL *e)
{
	CURL *surplus = e;

	if (p != NULL) {
		/* Forgets the options, which point into this request, and keeps the connection. */
		curl_easy_reset(e);
		pthread_mutex_lock(&p->lock);
		if (p->n < p->max) {
			p->idle[p->n++] = (struct idle){e, clock_mono_ms()};
			surplus = NULL;
		}
		pthread_mutex_unlock(&p->lock);
		close_expired(p);
	}
	curl_easy_cleanup(surplus);
}

/* Of what says why there is no answer a part is enough; the status is what counts. */
static size_t keep_beginning(struct client_transfer *t, const char *bytes, size_t len)
{
	struct strbuf *b = &t->resp->body;

	t->cut = len > b->max - b->len;
	IGNORE(strbuf_add(b, bytes, t->cut ? b->max - b->len : len));
	return t->cut ? 0 : len;
}

static size_t client_on_body(char *bytes, size_t size, size_t n, void *ctx)
{
	struct client_transfer *t = ctx;
	long status = 0;
	size_t len = size * n;

	t->heard_ms = clock_mono_ms();
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (t->req->on_data != NULL && status >= 200 && status < 300)
		t->stop = t->req->on_data(t->req->ctx, bytes, len);
	else if (status >= 300)
		return keep_beginning(t, bytes, len);
	else
		t->stop = strbuf_add(&t->resp->body, bytes, len);
	/* The time that taking it needed is not the peer's. */
	t->heard_ms = clock_mono_ms();
	return t->stop == OK ? len : 0;
}

/* Takes the value if this is the line of that header. */
static void take_header(const char *line, size_t len, const char *name, char **ret)
{
	size_t at = strlen(name);

	if (len <= at || len > HEADER_VALUE_MAX || strncasecmp(line, name, at) != 0)
		return;
	while (at < len && (line[at] == ' ' || line[at] == '\t'))
		at++;
	while (len > at && strchr(" \t\r\n", line[len - 1]) != NULL)
		len--;
	free(*ret);
	*ret = str_ndup(line + at, len - at);
}

static size_t client_on_header(char *line, size_t size, size_t n, void *ctx)
{
	struct client_transfer *t = ctx;

	t->heard_ms = clock_mono_ms();
	take_header(line, size * n, "retry-after:", &t->resp->retry_after);
	take_header(line, size * n, "content-type:", &t->resp->content_type);
	take_header(line, size * n, "date:", &t->resp->date);
	take_header(line, size * n, "x-oauth-scopes:", &t->resp->oauth_scopes);
	take_header(line, size * n, "link:", &t->resp->link);
	take_header(line, size * n, "etag:", &t->resp->etag);
	take_header(line, size * n, "x-ratelimit-remaining:", &t->resp->limit_remaining);
	take_header(line, size * n, "ratelimit-remaining:", &t->resp->limit_remaining);
	take_header(line, size * n, "x-ratelimit-reset:", &t->resp->limit_reset);
	take_header(line, size * n, "ratelimit-reset:", &t->resp->limit_reset);
	return size * n;
}

static int client_on_progress(void *ctx, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
	struct client_transfer *t = ctx;
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

static void client_set_options(struct client_transfer *t, struct curl_slist *headers, char *error)
{
	const struct http_client_request *req = t->req;
	CURL *e = t->easy;
	int64_t connect = req->connect_timeout_ms > 0 ? req->connect_timeout_ms : DEFAULT_CONNECT_MS;

	curl_easy_setopt(e, CURLOPT_URL, req->url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	trust_set(e);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	if (req->pool != NULL)
		curl_easy_setopt(e, CURLOPT_MAXCONNECTS, 1L);
	if (req->ca_file != NULL)
		curl_easy_setopt(e, CURLOPT_CAINFO, req->ca_file);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, error);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)connect);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)req->timeout_ms);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, client_on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, client_on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, client_on_progress);
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

static int client_explain(const struct client_transfer *t, CURLcode code, const char *error, struct why *why)
{
	AUTO_STR host = host_of(t->req->url);
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
	return advice_set(&(struct failed_dial){.easy = t->easy,
			      .code = code,
			      .error = error,
			      .host = host,
			      .tls = strncasecmp(t->req->url, "https:", 6) == 0,
			      .ca_setting = t->req->ca_setting},
	    why);
}

int http_client_do(const struct http_client_request *req, struct http_client_response *ret, struct why *why)
{
	struct client_transfer t = {.req = req, .resp = ret, .heard_ms = clock_mono_ms()};
	char error[CURL_ERROR_SIZE] = "";
	struct curl_slist *headers;
	CURLcode code;
	long status = 0;
	curl_off_t connected_us = 0;
	int rc = OK;

	http_client_init();
	*ret = (struct http_client_response){.body = STRBUF(req->max_body > 0 ? req->max_body : DEFAULT_MAX_BODY)};
	t.easy = handle_take(req->pool);
	if (t.easy == NULL)
		return why_set(why, ERR_INTERNAL, "cannot start a transfer");
	headers = header_list(req);
	client_set_options(&t, headers, error);
	code = curl_easy_perform(t.easy);
	curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(t.easy, CURLINFO_CONNECT_TIME_T, &connected_us);
	ret->connected = connected_us > 0;
	if (code == CURLE_OK || t.cut)
		ret->status = (int)status;
	else
		rc = client_explain(&t, code, error, why);
	handle_give(req->pool, t.easy);
	curl_slist_free_all(headers);
	return rc;
}

void http_client_response_fini(struct http_client_response *r)
{
	strbuf_fini(&r->body);
	str_free(&r->retry_after);
	str_free(&r->content_type);
	str_free(&r->date);
	str_free(&r->oauth_scopes);
	str_free(&r->link);
	str_free(&r->etag);
	str_free(&r->limit_remaining);
	str_free(&r->limit_reset);
	r->status = 0;
}

int64_t http_client_clock_skew_ms(const struct http_client_response *r)
{
	struct tm tm = {0};

	if (r->date == NULL || strptime(r->date, "%a, %d %b %Y %H:%M:%S GMT", &tm) == NULL)
		return INT64_MAX;
	return clock_wall_ms() - (int64_t)timegm(&tm) * 1000;
}
