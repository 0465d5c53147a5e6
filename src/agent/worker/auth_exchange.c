/* Where tokens come from: a file, or the control plane for an API key. */
#include "agent/endpoint.h"
#include "agent/worker/auth.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/advice.h"
#include "net/http_client.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((size_t)64 * 1024)
#define EXCHANGE_MS 10000
#define CLEARTEXT_MS 5000
#define CONNECT_MS 10000
#define MAX_BODY ((size_t)64 * 1024)
#define WAIT_MAX_S 300

/* Opened anew each time: a mounted secret is replaced by turning a link. A pipe would make us wait. */
static int read_plain_file(const char *path, char *buf, size_t size, size_t *ret_len, struct why *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return why_set(why, ERR_EMPTY, "the token file %.300s cannot be read: %s", path, strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return why_set(why, ERR_INVALID, "the token file %.300s is not a file", path);
	}
	while (n > 0 && len < size) {
		n = read(fd, buf + len, size - len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	close(fd);
	*ret_len = len;
	return OK;
}

int auth_read_file(const char *path, char **ret, struct why *why)
{
	char *buf = mem_alloc(FILE_MAX + 2);
	AUTO_STR what = str_printf("the token in %.300s", path);
	size_t len = 0;
	int rc = read_plain_file(path, buf, FILE_MAX + 1, &len, why);

	if (rc == OK && len > FILE_MAX)
		rc = why_set(why, ERR_INVALID, "%s has more than 64 KiB", what);
	if (rc == OK && memchr(buf, '\0', len) != NULL)
		rc = why_set(why, ERR_INVALID, "%s has characters that no key has", what);
	if (rc == OK) {
		buf[len] = '\0';
		rc = credential_check(what, buf, ret, why);
		if (rc == ERR_EMPTY)
			why_set(why, rc, "the token file %.300s is empty", path);
	}
	explicit_bzero(buf, FILE_MAX + 2);
	free(buf);
	return rc;
}

int auth_check_key_type(const char *key_type, bool pool, struct why *why)
{
	bool service = strcmp(key_type, "service_account") == 0 || strcmp(key_type, "session_token") == 0;
	bool person = strcmp(key_type, "user") == 0 || strcmp(key_type, "user_scoped") == 0;

	/* Whoever does not say it decides it. */
	if (strcmp(key_type, "unknown") == 0)
		return OK;
	if (pool && strcmp(key_type, "user_scoped") == 0)
		return why_set(
		    why, ERR_UNAUTHORIZED, "user-scoped tokens cannot start pool workers; use a service account key");
	if (pool && !service)
		return why_set(why, ERR_UNAUTHORIZED, "pool workers need a service account API key");
	if (!pool && service)
		return why_set(why, ERR_UNAUTHORIZED,
		    "service account keys only start pool workers; add --pool or use a personal credential");
	if (!pool && !person)
		return why_set(why, ERR_UNAUTHORIZED, "personal workers need the API key of a user");
	return OK;
}

/* "2026-05-09T13:30:00.000Z" in milliseconds; -1: it is none. */
static int64_t parse_time(const char *text)
{
	static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	int y, mo, d, h, mi, s;
	int64_t days;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &y, &mo, &d, &h, &mi, &s) != 6 || y < 1970 || mo < 1 || mo > 12)
		return -1;
	days =
	    (int64_t)(y - 1970) * 365 + (y - 1969) / 4 - (y - 1901) / 100 + (y - 1601) / 400 + before[mo - 1] + d - 1;
	if (mo > 2 && (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)))
		days++;
	return (((days * 24 + h) * 60 + mi) * 60 + s) * 1000;
}

static int take_answer(const struct strbuf *body, char **ret_token, char **ret_type, int64_t *ret_lifetime_ms)
{
	AUTO_JSON doc = NULL;
	const char *token = NULL, *expires = NULL, *type = "unknown";
	int64_t until;

	if (json_parse(strbuf_str(body), body->len, &doc, NULL) != OK ||
	    json_need_string(doc, "accessToken", &token, NULL) != OK ||
	    json_need_string(doc, "expiresAt", &expires, NULL) != OK ||
	    json_get_string(doc, "keyType", &type, NULL) != OK || credential_check("", token, ret_token, NULL) != OK)
		return ERR_PROTOCOL;
	until = parse_time(expires);
	*ret_lifetime_ms = until - clock_wall_ms();
	*ret_type = str_dup(type);
	return OK;
}

/* The message of {"error":{"message"}}, which every refusal of a control plane is; NULL: it is none. */
static const char *error_message(const json_t *doc)
{
	const char *message = NULL;

	return json_need_string(json_object_get(doc, "error"), "message", &message, NULL) == OK ? message : NULL;
}

static bool is_error(const json_t *doc, const char *code)
{
	const char *found = NULL;

	return json_need_string(json_object_get(doc, "error"), "code", &found, NULL) == OK && strcmp(found, code) == 0;
}

static int judge(const char *endpoint, const struct http_client_response *r, char **ret_token, char **ret_type,
    int64_t *ret_lifetime_ms, int64_t *ret_wait_ms, struct why *why)
{
	AUTO_JSON doc = NULL;
	AUTO_STR advice = NULL;
	const char *message;
	int64_t seconds = 0;

	if (r->status == 200 && take_answer(&r->body, ret_token, ret_type, ret_lifetime_ms) == OK)
		return OK;
	IGNORE(json_parse(strbuf_str(&r->body), r->body.len, &doc, NULL));
	message = error_message(doc);
	if (r->retry_after != NULL && text_parse_int(r->retry_after, 0, WAIT_MAX_S, &seconds) == OK)
		*ret_wait_ms = seconds * 1000;
	if (message == NULL) {
		advice = advice_not_ours(endpoint, r->status, r->content_type, strbuf_str(&r->body));
		return why_set(why, ERR_NET, "%s", advice);
	}
	/* A token was given where a key is meant. */
	if (is_error(doc, "key_not_supported"))
		return why_set(
		    why, ERR_UNAUTHORIZED, "%.400s; give a token as --auth-token or --auth-token-file", message);
	/* One that is older than this exchange. */
	if (r->status == 404)
		return ERR_NOT_FOUND;
	return why_set(why, r->status == 401 || r->status == 403 ? ERR_UNAUTHORIZED : ERR_NET, "%.400s", message);
}

int auth_exchange(const char *endpoint, const char *key, char **ret_token, char **ret_type, int64_t *ret_lifetime_ms,
    int64_t *ret_wait_ms, struct why *why)
{
	bool tls = strncasecmp(endpoint, "https:", 6) == 0;
	AUTO_STR url = str_printf("%s/v0/worker-tokens", endpoint);
	AUTO_STR bearer = str_printf("Bearer %s", key);
	const struct http_header headers[] = {{"authorization", bearer}, {"content-type", "application/json"},
	    {"user-agent", "bullpen-agent/" BULLPEN_VERSION}};
	const struct http_client_request req = {.method = "POST",
	    .url = url,
	    .headers = headers,
	    .n_headers = ARRAY_LEN(headers),
	    .body = "{}",
	    .body_len = 2,
	    .connect_timeout_ms = CONNECT_MS,
	    .timeout_ms = tls ? EXCHANGE_MS : CLEARTEXT_MS,
	    .max_body = MAX_BODY};
	struct http_client_response r = {0};
	int rc = http_client_do(&req, &r, why);

	/* In the clear HTTP/1.1 is spoken here, and the link's HTTP/2 may be all that there is: a plain gRPC server. */
	if (rc != OK && !tls && r.connected)
		rc = ERR_NOT_FOUND;

	if (rc == OK)
		rc = judge(endpoint, &r, ret_token, ret_type, ret_lifetime_ms, ret_wait_ms, why);
	if (r.body.data != NULL)
		explicit_bzero(r.body.data, r.body.len);
	http_client_response_fini(&r);
	explicit_bzero(bearer, strlen(bearer));
	return rc;
}
