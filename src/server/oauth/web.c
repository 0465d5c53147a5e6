/* What must hold for every request to an address that somebody outside named. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/fetch.h"
#include "net/http_client.h"
#include "server/oauth/web_transfer.h"
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOSTS_MAX 100
#define HEADER_MAX 4096

struct listed_host {
	char *host; /* as in a URL: "[::1]" */
	int64_t port; /* 0: any */
};

struct web_rules {
	struct listed_host hosts[HOSTS_MAX];
	size_t n;
};

static bool is_host(const char *s)
{
	size_t n = strlen(s);

	if (n > 2 && s[0] == '[' && s[n - 1] == ']')
		return strspn(s + 1, "0123456789abcdefABCDEF:.") == n - 2;
	return text_is_token(s, ".-", 253) && s[0] != '-' && s[0] != '.';
}

static int add_host(struct web_rules *r, const char *word, struct why *why)
{
	const char *colon = strrchr(word, ':');
	bool with_port = colon != NULL && strchr(colon, ']') == NULL;
	struct listed_host h = {0};
	AUTO_STR host = with_port ? str_ndup(word, (size_t)(colon - word)) : str_dup(word);

	if (r->n == HOSTS_MAX)
		return why_set(why, ERR_INVALID, "mcp.internal_hosts must name at most %d hosts", HOSTS_MAX);
	if (!is_host(host) || (with_port && text_parse_int(colon + 1, 1, 65535, &h.port) != OK))
		return why_set(why, ERR_INVALID,
		    "mcp.internal_hosts: '%.100s' is not HOST or HOST:PORT, for example mcp.corp.example, "
		    "10.0.0.7:8080 "
		    "or [::1]",
		    word);
	h.host = TAKE(host);
	r->hosts[r->n++] = h;
	return OK;
}

int web_rules_new(const char *hosts, struct web_rules **ret, struct why *why)
{
	struct web_rules *r = NEW(struct web_rules);
	int rc = OK;

	for (const char *at = hosts != NULL ? hosts : ""; rc == OK && *at != '\0';) {
		size_t n = strcspn(at, ",");
		AUTO_STR part = str_ndup(at, n);
		AUTO_STR word = text_trim(part);

		if (word[0] != '\0')
			rc = add_host(r, word, why);
		at += n + (at[n] == ',');
	}
	if (rc != OK)
		web_rules_free(&r);
	else
		*ret = r;
	return rc;
}

void web_rules_free(struct web_rules **r)
{
	if (*r == NULL)
		return;
	for (size_t i = 0; i < (*r)->n; i++)
		free((*r)->hosts[i].host);
	free(*r);
	*r = NULL;
}

/* The parts of a URL; what is not there is NULL. */
struct url_parts {
	char *scheme, *user, *host, *port, *path, *query;
};

static void url_parts_fini(struct url_parts *p)
{
	curl_free(p->scheme);
	curl_free(p->user);
	curl_free(p->host);
	curl_free(p->port);
	curl_free(p->path);
	curl_free(p->query);
}

static bool take_apart(const char *url, struct url_parts *ret)
{
	CURLU *u = curl_url();
	bool ok;

	*ret = (struct url_parts){0};
	ENSURE(u != NULL);
	ok = curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
	     curl_url_get(u, CURLUPART_SCHEME, &ret->scheme, 0) == CURLUE_OK &&
	     curl_url_get(u, CURLUPART_HOST, &ret->host, 0) == CURLUE_OK &&
	     curl_url_get(u, CURLUPART_PORT, &ret->port, CURLU_DEFAULT_PORT) == CURLUE_OK;
	if (ok) {
		if (curl_url_get(u, CURLUPART_USER, &ret->user, 0) != CURLUE_OK)
			ret->user = NULL;
		if (curl_url_get(u, CURLUPART_PATH, &ret->path, 0) != CURLUE_OK)
			ret->path = NULL;
		if (curl_url_get(u, CURLUPART_QUERY, &ret->query, 0) != CURLUE_OK)
			ret->query = NULL;
		for (char *c = ret->host; *c != '\0'; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
	}
	curl_url_cleanup(u);
	return ok;
}

#define AUTO_PARTS __attribute__((cleanup(url_parts_fini))) struct url_parts

static bool is_listed(const struct web_rules *r, const struct url_parts *p)
{
	for (size_t i = 0; i < r->n; i++) {
		int64_t port = 0;

		if (strcasecmp(r->hosts[i].host, p->host) != 0)
			continue;
		if (r->hosts[i].port == 0 ||
		    (text_parse_int(p->port, 0, 65535, &port) == OK && port == r->hosts[i].port))
			return true;
	}
	return false;
}

static bool has_odd_character(const char *url)
{
	for (const unsigned char *c = (const unsigned char *)url; *c != '\0'; c++)
		if (*c <= 0x20 || *c >= 0x7f)
			return true;
	return false;
}

int web_check_url(const struct web_rules *r, const char *url, struct why *why)
{
	AUTO_PARTS p = {0};

	if (strlen(url) > 8192 || has_odd_character(url) || !take_apart(url, &p) ||
	    (strcmp(p.scheme, "http") != 0 && strcmp(p.scheme, "https") != 0))
		return why_set(why, ERR_INVALID, "must be an http or https URL");
	if (p.user != NULL)
		return why_set(why, ERR_INVALID, "must not have a user name or password");
	if (is_listed(r, &p))
		return OK;
	if (strcmp(p.scheme, "https") != 0)
		return why_set(why, ERR_DENIED,
		    "must be https: http is for the hosts that the operator of this server lists in "
		    "mcp.internal_hosts");
	return fetch_check_url(url, false, why);
}

bool web_same_origin(const char *a, const char *b)
{
	AUTO_STR x = web_origin(a);
	AUTO_STR y = web_origin(b);

	return x != NULL && y != NULL && strcmp(x, y) == 0;
}

char *web_origin(const char *url)
{
	AUTO_PARTS p = {0};

	return take_apart(url, &p) ? str_printf("%s://%s:%s", p.scheme, p.host, p.port) : NULL;
}

char *web_path(const char *url)
{
	AUTO_PARTS p = {0};
	size_t n;

	if (!take_apart(url, &p) || p.path == NULL)
		return str_dup("");
	for (n = strlen(p.path); n > 0 && p.path[n - 1] == '/'; n--)
		;
	return str_ndup(p.path, n);
}

char *web_canonical(const char *url)
{
	AUTO_PARTS p = {0};
	bool usual;

	if (!take_apart(url, &p))
		return NULL;
	usual = strcmp(p.port, strcmp(p.scheme, "https") == 0 ? "443" : "80") == 0;
	return str_printf("%s://%s%s%s%s%s%s", p.scheme, p.host, usual ? "" : ":", usual ? "" : p.port,
	    p.path == NULL || strcmp(p.path, "/") == 0 ? "" : p.path, p.query != NULL ? "?" : "",
	    p.query != NULL ? p.query : "");
}

char *web_resolve(const char *base, const char *ref)
{
	CURLU *u = curl_url();
	char *out = NULL, *copy = NULL;

	ENSURE(u != NULL);
	if (!has_odd_character(ref) && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, ref, 0) == CURLUE_OK && curl_url_get(u, CURLUPART_URL, &out, 0) == CURLUE_OK)
		copy = str_dup(out);
	curl_free(out);
	curl_url_cleanup(u);
	return copy;
}

void web_answer_fini(struct web_answer *a)
{
	strbuf_fini(&a->body);
	str_free(&a->content_type);
	str_free(&a->www_authenticate);
	str_free(&a->retry_after);
	str_free(&a->session_id);
	str_free(&a->location);
	a->status = 0;
}

bool web_is_type(const struct web_answer *a, const char *type)
{
	size_t n = strlen(type);

	return a->content_type != NULL && strncasecmp(a->content_type, type, n) == 0 &&
	       strchr("; \t", a->content_type[n]) != NULL;
}

int64_t web_retry_ms(const struct web_answer *a, int64_t otherwise)
{
	int64_t s;

	return a->retry_after != NULL && text_parse_int(a->retry_after, 0, 1000000, &s) == OK ? s * 1000 : otherwise;
}

/* Called with the address that is about to be connected to. */
static curl_socket_t web_open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct web_transfer *t = ctx;

	if (!t->listed && (!fetch_is_public(&a->addr) || fetch_is_own(&a->addr))) {
		t->denied = true;
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* Several challenges may come in several headers. */
static void take_value(const char *line, size_t len, const char *name, char **ret, bool join)
{
	size_t at = strlen(name);
	AUTO_STR value = NULL;

	if (len <= at || strncasecmp(line, name, at) != 0)
		return;
	while (at < len && strchr(" \t", line[at]) != NULL)
		at++;
	while (len > at && strchr(" \t\r\n", line[len - 1]) != NULL)
		len--;
	if (len - at > HEADER_MAX || memchr(line + at, '\0', len - at) != NULL)
		return;
	value = str_ndup(line + at, len - at);
	if (join && *ret != NULL && strlen(*ret) < HEADER_MAX) {
		char *both = str_printf("%s, %s", *ret, value);

		free(*ret);
		*ret = both;
	} else {
		free(*ret);
		*ret = TAKE(value);
	}
}

size_t web_on_header(char *line, size_t size, size_t n, void *ctx)
{
	struct web_answer *a = ((struct web_transfer *)ctx)->answer;
	size_t len = size * n;

	/* Another answer begins: what came before was "100 Continue" or the like. */
	if (len > 5 && strncmp(line, "HTTP/", 5) == 0) {
		str_free(&a->content_type);
		str_free(&a->www_authenticate);
		str_free(&a->retry_after);
		str_free(&a->session_id);
		str_free(&a->location);
	}
	take_value(line, len, "content-type:", &a->content_type, false);
	take_value(line, len, "www-authenticate:", &a->www_authenticate, true);
	take_value(line, len, "retry-after:", &a->retry_after, false);
	take_value(line, len, "mcp-session-id:", &a->session_id, false);
	take_value(line, len, "location:", &a->location, false);
	return len;
}

void web_prepare(CURL *e, struct web_transfer *t, const char *url)
{
	AUTO_PARTS p = {0};

	t->listed = take_apart(url, &p) && is_listed(t->rules, &p);
	t->denied = false;
	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	/* What is connected to must be what was checked. */
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)WEB_CONNECT_MS);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "bullpen/" BULLPEN_VERSION);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, web_open_socket);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, web_on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
}

int web_explain(const struct web_transfer *t, CURLcode code, struct why *why)
{
	/* A name may have addresses of both kinds. */
	if (t->denied && code == CURLE_COULDNT_CONNECT)
		return why_set(why, ERR_DENIED, "its address is not a public one, or is this server's");
	if (t->answer->body.overflowed || code == CURLE_FILESIZE_EXCEEDED)
		return why_set(why, ERR_TOO_LARGE, "its answer is larger than %zu bytes", t->answer->body.max);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return why_set(why, ERR_TIMEOUT, "it did not answer in time");
	if (code == CURLE_ABORTED_BY_CALLBACK)
		return why_set(why, ERR_CANCELLED, "it was given up");
	return why_set(why, ERR_NET, "it cannot be reached: %s", curl_easy_strerror(code));
}

int web_redirect(const struct web_rules *r, const char *url, const char *method, const struct web_answer *a, char **ret,
    struct why *why)
{
	bool get = strcmp(method, "GET") == 0;
	AUTO_STR to = NULL;

	*ret = NULL;
	if (a->location == NULL || !(a->status == 307 || a->status == 308 ||
				       (get && (a->status == 301 || a->status == 302 || a->status == 303))))
		return OK;
	to = web_resolve(url, a->location);
	if (to == NULL || !web_same_origin(url, to))
		return why_set(why, ERR_DENIED, "it redirects to another host, which is not followed");
	if (web_check_url(r, to, why) != OK)
		return ERR_DENIED;
	*ret = TAKE(to);
	return OK;
}

static size_t web_on_body(char *bytes, size_t size, size_t n, void *ctx)
{
	struct web_transfer *t = ctx;

	return strbuf_add(&t->answer->body, bytes, size * n) == OK ? size * n : 0;
}

static int web_is_stopped(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const atomic_bool *stop = ctx;

	return stop != NULL && atomic_load(stop);
}

static int ask_once(const struct web_rules *r, const struct web_request *req, const char *url, int64_t left_ms,
    struct web_answer *ret, struct why *why)
{
	struct web_transfer t = {.rules = r, .answer = ret};
	struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
	CURL *e = curl_easy_init();
	long status = 0;
	CURLcode code;

	ENSURE(e != NULL);
	for (size_t i = 0; req->headers != NULL && req->headers[i] != NULL; i++)
		headers = curl_slist_append(headers, req->headers[i]);
	web_prepare(e, &t, url);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)MAX(left_ms, 1));
	if (req->body != NULL) {
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(req->body));
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, req->body);
	}
	curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, req->method);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, web_on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, &t);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, web_is_stopped);
	curl_easy_setopt(e, CURLOPT_XFERINFODATA, req->stop);
	code = curl_easy_perform(e);
	curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	ret->status = (int)status;
	curl_easy_cleanup(e);
	curl_slist_free_all(headers);
	return code == CURLE_OK ? OK : web_explain(&t, code, why);
}

int web_ask(const struct web_rules *r, const struct web_request *req, struct web_answer *ret, struct why *why)
{
	int64_t deadline = clock_mono_ms() + req->timeout_ms;
	AUTO_STR url = str_dup(req->url);

	http_client_init();
	*ret = (struct web_answer){.body = STRBUF(req->max_body)};
	for (int hops = 0;; hops++) {
		AUTO_STR next = NULL;
		int rc = web_check_url(r, url, why);

		if (rc == OK)
			rc = ask_once(r, req, url, deadline - clock_mono_ms(), ret, why);
		if (rc == OK)
			rc = web_redirect(r, url, req->method, ret, &next, why);
		if (rc != OK || next == NULL)
			return rc;
		if (hops == WEB_REDIRECTS_MAX)
			return why_set(why, ERR_DENIED, "it redirects more than %d times", WEB_REDIRECTS_MAX);
		web_answer_fini(ret);
		str_set(&url, next);
	}
}
