#include "net/fetch.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/http_client.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct range {
	const char *prefix;
	int bits;
};

/* Special-purpose addresses (IANA registries): loopback, private, link-local, shared, benchmarking, multicast, reserved
 * and the forms of IPv6 that carry an IPv4 address somewhere else. */
static const struct range ranges_v4[] = {{"0.0.0.0", 8}, {"10.0.0.0", 8}, {"100.64.0.0", 10}, {"127.0.0.0", 8},
    {"169.254.0.0", 16}, {"172.16.0.0", 12}, {"192.0.0.0", 24}, {"192.0.2.0", 24}, {"192.168.0.0", 16},
    {"198.18.0.0", 15}, {"198.51.100.0", 24}, {"203.0.113.0", 24}, {"224.0.0.0", 4}, {"240.0.0.0", 4}};
static const struct range ranges_v6[] = {{"::", 128}, {"::1", 128}, {"64:ff9b::", 96}, {"64:ff9b:1::", 48},
    {"100::", 64}, {"2001::", 23}, {"2001:db8::", 32}, {"2002::", 16}, {"fc00::", 7}, {"fe80::", 10}, {"fec0::", 10},
    {"ff00::", 8}};

static bool within(const unsigned char *address, const unsigned char *prefix, int bits)
{
	int whole = bits / 8, rest = bits % 8;

	if (memcmp(address, prefix, (size_t)whole) != 0)
		return false;
	return rest == 0 || ((address[whole] ^ prefix[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}

static bool in_any(int family, const unsigned char *address, const struct range *ranges, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char prefix[16];

		ENSURE(inet_pton(family, ranges[i].prefix, prefix) == 1);
		if (within(address, prefix, ranges[i].bits))
			return true;
	}
	return false;
}

bool fetch_is_public(const struct sockaddr *address)
{
	static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	static const unsigned char compatible[12] = {0};

	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

		return !in_any(AF_INET, (const unsigned char *)&v4->sin_addr, ranges_v4, ARRAY_LEN(ranges_v4));
	}
	if (address->sa_family == AF_INET6) {
		const unsigned char *v6 = ((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr;

		if (memcmp(v6, mapped, 12) == 0 || memcmp(v6, compatible, 12) == 0)
			return !in_any(AF_INET, v6 + 12, ranges_v4, ARRAY_LEN(ranges_v4));
		return !in_any(AF_INET6, v6, ranges_v6, ARRAY_LEN(ranges_v6));
	}
	return false;
}

/* The bytes of the address; an IPv4 address in IPv6 is taken out. NULL: it is of another family. */
static const void *bytes_of(const struct sockaddr *address, size_t *ret_len)
{
	if (address->sa_family == AF_INET) {
		*ret_len = 4;
		return &((const struct sockaddr_in *)address)->sin_addr;
	}
	if (address->sa_family == AF_INET6) {
		const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
		bool mapped = IN6_IS_ADDR_V4MAPPED(v6);

		*ret_len = mapped ? 4 : 16;
		return mapped ? v6->s6_addr + 12 : v6->s6_addr;
	}
	return NULL;
}

bool fetch_is_own(const struct sockaddr *address)
{
	size_t len = 0, own_len;
	const void *bytes = bytes_of(address, &len);
	struct ifaddrs *all;
	bool own = false;

	if (bytes == NULL || getifaddrs(&all) != 0)
		return true;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		const void *b = i->ifa_addr != NULL ? bytes_of(i->ifa_addr, &own_len) : NULL;

		own = own || (b != NULL && own_len == len && memcmp(b, bytes, len) == 0);
	}
	freeifaddrs(all);
	return own;
}

struct fetch_transfer {
	const struct fetch_request *req; /* NULL: it is a POST */
	bool allow_private;
	struct strbuf *body;
	bool denied;
};

/* Called with the address that is about to be connected to, whatever name it had. */
static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct fetch_transfer *t = ctx;

	if (!t->allow_private && (!fetch_is_public(&a->addr) || fetch_is_own(&a->addr))) {
		t->denied = true;
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static size_t fetch_on_body(char *bytes, size_t size, size_t n, void *ctx)
{
	struct fetch_transfer *t = ctx;

	return strbuf_add(t->body, bytes, size * n) == OK ? size * n : 0;
}

static bool is_web_port(const char *port)
{
	static const char *const ports[] = {"80", "443", "8080", "8443"};

	for (size_t i = 0; i < ARRAY_LEN(ports); i++)
		if (strcmp(port, ports[i]) == 0)
			return true;
	return false;
}

static int check_parts(CURLU *u, const char *url, bool allow_private, struct why *why)
{
	char *scheme = NULL, *user = NULL, *port = NULL;
	int rc = OK;

	if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
	    (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
		rc = why_set(why, ERR_INVALID, "must be an http or https URL");
	else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
		rc = why_set(why, ERR_INVALID, "must not have a user name or password");
	else if (!allow_private && !is_web_port(port))
		rc = why_set(why, ERR_DENIED, "port %s is not allowed: 80, 443, 8080 or 8443", port);
	curl_free(scheme);
	curl_free(user);
	curl_free(port);
	return rc;
}

int fetch_check_url(const char *url, bool allow_private, struct why *why)
{
	CURLU *u = curl_url();
	int rc = u == NULL ? why_set(why, ERR_INTERNAL, "out of memory") : check_parts(u, url, allow_private, why);

	curl_url_cleanup(u);
	return rc;
}

static int fetch_explain(const struct fetch_transfer *t, CURLcode code, long status, struct why *why)
{
	/* A name may have addresses of both kinds. */
	if (t->denied && code == CURLE_COULDNT_CONNECT)
		return why_set(why, ERR_DENIED, "its address is not a public one, or is this server's");
	if (t->body->overflowed)
		return why_set(why, ERR_TOO_LARGE, "it is larger than %zu bytes", t->body->max);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return why_set(
		    why, ERR_TIMEOUT, "it was not there within %lld s", (long long)(t->req->timeout_ms / 1000));
	if (code != CURLE_OK)
		return why_set(why, ERR_NET, "it cannot be fetched: %s", curl_easy_strerror(code));
	return why_set(why, ERR_NET, "it cannot be fetched: status %ld", status);
}

static void set_common(CURL *e, struct fetch_transfer *t, const char *url, int64_t left_ms)
{
	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)MAX(left_ms, 1));
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t);
}

/* One request. OK with *ret_next set: a redirect. */
static int get(struct fetch_transfer *t, const char *url, int64_t deadline, char **ret_next, struct why *why)
{
	CURL *e = curl_easy_init();
	int64_t left = deadline - clock_mono_ms();
	char *next = NULL;
	long status = 0;
	CURLcode code;
	int rc = OK;

	ENSURE(e != NULL);
	t->denied = false;
	set_common(e, t, url, left);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, fetch_on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(e, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)t->req->max_bytes);
	code = curl_easy_perform(e);
	curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(e, CURLINFO_REDIRECT_URL, &next);
	if (code == CURLE_FILESIZE_EXCEEDED)
		t->body->overflowed = true;
	if (code == CURLE_OK && status / 100 == 3 && next != NULL)
		*ret_next = str_dup(next);
	else if (code != CURLE_OK || status != 200)
		rc = fetch_explain(t, code, status, why);
	curl_easy_cleanup(e);
	return rc;
}

int fetch_url(const struct fetch_request *req, struct strbuf *ret, struct why *why)
{
	struct fetch_transfer t = {.req = req, .allow_private = req->allow_private, .body = ret};
	int64_t deadline = clock_mono_ms() + req->timeout_ms;
	AUTO_STR url = str_dup(req->url);

	http_client_init();
	*ret = STRBUF(req->max_bytes);
	for (int hops = 0;; hops++) {
		AUTO_STR next = NULL;
		int rc = fetch_check_url(url, req->allow_private, why);

		if (rc == OK)
			rc = get(&t, url, deadline, &next, why);
		if (rc != OK || next == NULL)
			return rc;
		if (hops == req->max_redirects)
			return why_set(why, ERR_NET, "it redirects more than %d times", req->max_redirects);
		strbuf_clear(ret);
		str_set(&url, next);
	}
}

/* What comes behind the header is nobody's business: the transfer ends there, with an error that means success. */
static size_t ignore_body(char *bytes, size_t size, size_t n, void *ctx)
{
	return 0;
}

static int is_stopped(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const atomic_bool *stop = ctx;

	return stop != NULL && atomic_load(stop);
}

static int explain_post(const struct fetch_transfer *t, CURLcode code, int64_t timeout_ms, struct why *why)
{
	if (t->denied && code == CURLE_COULDNT_CONNECT)
		return why_set(why, ERR_DENIED, "its address is not a public one, or is this server's");
	if (code == CURLE_OPERATION_TIMEDOUT)
		return why_set(why, ERR_TIMEOUT, "there was no answer within %lld s", (long long)(timeout_ms / 1000));
	if (code == CURLE_ABORTED_BY_CALLBACK)
		return why_set(why, ERR_NET, "the server stopped meanwhile");
	return why_set(why, ERR_NET, "%s", curl_easy_strerror(code));
}

int fetch_post(const struct post_request *req, long *ret_status, struct why *why)
{
	struct fetch_transfer t = {.allow_private = req->allow_private};
	struct curl_slist *headers = NULL;
	int rc = fetch_check_url(req->url, req->allow_private, why);
	CURLcode code;
	CURL *e;

	if (rc != OK)
		return rc;
	http_client_init();
	e = curl_easy_init();
	ENSURE(e != NULL);
	for (size_t i = 0; req->headers[i] != NULL; i++)
		headers = curl_slist_append(headers, req->headers[i]);
	headers = curl_slist_append(headers, "Expect:"); /* a receiver may know nothing of 100-continue */
	set_common(e, &t, req->url, req->timeout_ms);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(e, CURLOPT_POST, 1L);
	curl_easy_setopt(e, CURLOPT_POSTFIELDS, req->body);
	curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(req->body));
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, ignore_body);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, is_stopped);
	curl_easy_setopt(e, CURLOPT_XFERINFODATA, req->stop);
	code = curl_easy_perform(e);
	*ret_status = 0;
	curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, ret_status);
	if (code != CURLE_OK && code != CURLE_WRITE_ERROR)
		rc = explain_post(&t, code, req->timeout_ms, why);
	curl_slist_free_all(headers);
	curl_easy_cleanup(e);
	return rc;
}
