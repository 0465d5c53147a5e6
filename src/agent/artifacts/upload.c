#include "agent/artifacts/upload.h"
#include "base/id.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)2 * 1024 * 1024)
#define CONNECT_MS 5000
#define STALL_MS 30000
#define ANSWER_MAX ((size_t)64 * 1024)
/* A peer that never gets on is not followed for ever. */
#define OFFSETS_MAX 5

/* What the host says of an upload. */
struct standing {
	char *id;
	int64_t received;
	bool ready;
};

static void standing_fini(struct standing *s)
{
	free(s->id);
}

char *upload_host_name(const char *url)
{
	const char *scheme = strstr(url, "://"), *host = scheme != NULL ? scheme + 3 : url;
	size_t n = strcspn(host, "/?#");
	AUTO_STR part = str_ndup(host, n);
	const char *at = strrchr(part, '@');
	const char *name = at != NULL ? at + 1 : part;
	const char *closed = strrchr(name, ']');
	bool has_port = strchr(closed != NULL ? closed : name, ':') != NULL;

	return has_port ? str_dup(name) : str_printf("%s:%s", name, text_has_prefix(url, "http://") ? "80" : "443");
}

static int read_standing(const json_t *doc, struct standing *s)
{
	const char *id = NULL;
	const json_t *received = json_object_get(doc, "receivedBytes");

	if (json_need_string(doc, "id", &id, NULL) != OK || !json_is_integer(received))
		return ERR_PROTOCOL;
	/* It becomes part of a URL. */
	if (!id_is(id, ""))
		return ERR_PROTOCOL;
	str_set(&s->id, id);
	s->received = json_integer_value(received);
	s->ready = json_is_true(json_object_get(doc, "ready"));
	return OK;
}

static const char *message_of(const json_t *doc)
{
	const char *message = json_string_value(json_object_get(json_object_get(doc, "error"), "message"));

	return message != NULL ? message : "without a reason that could be read";
}

/* What an answer means that is no success. */
static int judge_answer(const char *host, int status, const json_t *doc, struct standing *s, struct why *why)
{
	const json_t *received = json_object_get(doc, "receivedBytes");

	if (status == 409 && json_is_integer(received)) {
		s->received = json_integer_value(received);
		return ERR_FENCED;
	}
	if (status == 503 || status == 429 || status == 408)
		return why_set(why, ERR_AGAIN, "the artifact host %s is busy: %.300s", host, message_of(doc));
	if (status >= 500)
		return why_set(
		    why, ERR_NET, "the artifact host %s answered HTTP %d: %.300s", host, status, message_of(doc));
	if (status == 401 || status == 403 || doc == NULL)
		return why_set(why, ERR_NET, "the artifact host %s refuses uploads (HTTP %d): %.300s", host, status,
		    message_of(doc));
	return why_set(why, ERR_DENIED, "the artifact host %s does not take it: %.300s", host, message_of(doc));
}

/* One request. ERR_FENCED: the host stands at s->received. */
static int ask(const struct upload_host *h, const char *method, const char *url, const char *type, const void *body,
    size_t len, struct standing *s, struct why *why)
{
	AUTO_STR bearer = str_printf("Bearer %s", h->token);
	AUTO_STR host = upload_host_name(h->url);
	AUTO_JSON doc = NULL;
	const struct http_header headers[] = {
	    {"authorization", bearer}, {"content-type", type}, {"user-agent", "bullpen-agent/" BULLPEN_VERSION}};
	const struct http_client_request req = {.method = method,
	    .url = url,
	    .pool = h->pool,
	    .headers = headers,
	    .n_headers = ARRAY_LEN(headers),
	    .body = body,
	    .body_len = len,
	    .connect_timeout_ms = CONNECT_MS,
	    .stall_timeout_ms = STALL_MS,
	    .max_body = ANSWER_MAX,
	    .cancelled = h->cancelled,
	    .ctx = h->ctx};
	struct http_client_response r = {0};
	struct why reason = {""};
	int rc = http_client_do(&req, &r, &reason);

	if (rc == OK && json_parse(strbuf_str(&r.body), r.body.len, &doc, NULL) != OK)
		doc = NULL;
	if (rc == ERR_CANCELLED)
		why_set(why, rc, "the upload was cancelled");
	else if (rc != OK)
		rc = why_set(why, ERR_NET, "the artifact host %s cannot be reached: %.300s", host, reason.text);
	else if (r.status == 200 && read_standing(doc, s) != OK)
		rc = why_set(why, ERR_NET, "what answers at %s is no artifact host", host);
	else if (r.status != 200)
		rc = judge_answer(host, r.status, doc, s, why);
	explicit_bzero(bearer, strlen(bearer));
	http_client_response_fini(&r);
	return rc;
}

static int announce(const struct upload_host *h, const char *path, int64_t size, const char *sha256, struct standing *s,
    struct why *why)
{
	AUTO_STR url = str_printf("%s/v1/artifact-uploads", h->url);
	AUTO_JSON body = json_object();
	AUTO_STR text = NULL;

	json_put(body, "path", path);
	json_put_int(body, "sizeBytes", size);
	json_put(body, "sha256", sha256);
	text = json_text(body);
	return ask(h, "POST", url, "application/json", text, strlen(text), s, why);
}

/* From where the host stands. A shorter file than was announced is another one. */
static int send_piece(const struct upload_host *h, int fd, int64_t size, char *buf, struct standing *s, struct why *why)
{
	AUTO_STR url = str_printf("%s/v1/artifact-uploads/%s?offset=%lld", h->url, s->id, (long long)s->received);
	size_t want = (size_t)MIN((int64_t)PIECE_BYTES, size - s->received), len = 0;

	while (len < want) {
		ssize_t n = pread(fd, buf + len, want - len, s->received + (int64_t)len);

		if (n < 0 && errno != EINTR)
			return why_set(why, ERR_IO, "it cannot be read: %s", strerror(errno));
		if (n == 0)
			return why_set(why, ERR_CONFLICT, "it changed while it was uploaded");
		len += n > 0 ? (size_t)n : 0;
	}
	return ask(h, "PUT", url, "application/octet-stream", buf, len, s, why);
}

static int send_all(
    const struct upload_host *h, int fd, int64_t size, struct standing *s, bool *progress, struct why *why)
{
	char *buf = s->ready ? NULL : mem_alloc(PIECE_BYTES);
	int rc = OK, astray = 0;

	while (rc == OK && !s->ready) {
		int64_t before = s->received;

		if (before < 0 || before > size) {
			rc = why_set(why, ERR_NET, "the artifact host has more of it than there is");
			break;
		}
		rc = send_piece(h, fd, size, buf, s, why);
		*progress |= s->received > before || (rc == OK && s->ready);
		if (rc == ERR_FENCED || (rc == OK && !s->ready && s->received <= before))
			rc = ++astray <= OFFSETS_MAX
				 ? OK
				 : why_set(why, ERR_NET, "the artifact host does not say how much of it has arrived");
		/* A refusal at the end is about the content: it is no longer what was announced. */
		if (rc == ERR_DENIED && before + (int64_t)PIECE_BYTES >= size)
			rc = why_set(why, ERR_CONFLICT, "it changed while it was uploaded");
	}
	free(buf);
	return rc;
}

int upload_file(const struct upload_host *h, const char *path, int fd, bool *ret_progress, struct why *why)
{
	__attribute__((cleanup(standing_fini))) struct standing s = {0};
	char sha256[SHA256_HEX_LEN];
	int64_t size = 0;
	int rc;

	*ret_progress = false;
	if (!sha256_hex_fd(fd, h->cancelled, h->ctx, sha256, &size))
		return errno == ECANCELED ? why_set(why, ERR_CANCELLED, "the upload was cancelled")
					  : why_set(why, ERR_IO, "it cannot be read: %s", strerror(errno));
	rc = announce(h, path, size, sha256, &s, why);
	return rc == OK ? send_all(h, fd, size, &s, ret_progress, why) : rc;
}
