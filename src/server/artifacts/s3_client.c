/* One request to S3: signed, sent, tried again, and what is wrong in words. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/text.h"
#include "server/artifacts/s3_priv.h"
#include <string.h>
#include <time.h>

#define TRIES_MAX 6
#define BUDGET_MS 20000 /* no further try begins behind it */
#define PROBE_MS 2000
#define PAUSE_FIRST_MS 100
#define PAUSE_MAX_MS 5000
#define CONNECT_MS 5000
#define STALL_MS 10000
#define PATIENT_STALL_MS 60000
#define ANSWER_MAX ((size_t)2 * 1024 * 1024)
#define SKEW_MAX_MS ((int64_t)15 * 60 * 1000) /* what S3 takes */
#define COMPLAIN_MS 60000
#define HEADERS_MAX 8
#define HASH_OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

METRIC_COUNTER(
    requests, "bullpen_s3_requests_total", "Requests to the storage of artifacts, each try.", "method", "code");

void s3_answer_fini(struct s3_answer *a)
{
	strbuf_fini(&a->body);
	str_free(&a->etag);
}

char *s3_object(const struct s3 *s, const char *key)
{
	ENSURE(id_is(key, ""));
	return str_printf("%s%s%.2s/%s", s->prefix, s->prefix[0] != '\0' ? "/" : "", key, key);
}

char *s3_path(const struct s3 *s, const char *object)
{
	AUTO_STR bucket = s->in_path ? str_printf("/%s", s->bucket) : str_dup("");
	AUTO_STR encoded = object != NULL ? sigv4_encode(object, false) : NULL;

	return str_printf(
	    "%s%s%s", bucket, encoded != NULL || bucket[0] == '\0' ? "/" : "", encoded != NULL ? encoded : "");
}

/* What is sent once. */
struct attempt {
	struct s3 *s;
	const struct s3_request *rq;
	const char *path, *hash; /* the latter of the body */
	struct s3_credentials who;
	struct http_client_response got;
	int64_t retry_after_ms;
};

static bool is_stopping(void *ctx)
{
	return atomic_load(&((struct attempt *)ctx)->s->stop);
}

static int send_signed(
    struct attempt *a, const struct sigv4_request *what, const char *at, const char *url, struct why *why)
{
	const struct sigv4_who who = {
	    .access_key = a->who.access_key, .secret_key = a->who.secret_key, .region = a->s->region, .service = "s3"};
	AUTO_STR authorization = sigv4_authorization(&who, what, at);
	struct http_header headers[HEADERS_MAX + 1];
	size_t n = 0;

	for (size_t i = 0; i < what->n_headers; i++)
		headers[n++] = (struct http_header){what->headers[i].name, what->headers[i].value};
	headers[n++] = (struct http_header){"authorization", authorization};
	const struct http_client_request req = {.method = a->rq->method,
	    .url = url,
	    .pool = a->s->pool,
	    .ca_file = a->s->ca_file,
	    .ca_setting = "s3.ca_file",
	    .headers = headers,
	    .n_headers = n,
	    .body = a->rq->body,
	    .body_len = a->rq->body_len,
	    .connect_timeout_ms = CONNECT_MS,
	    .stall_timeout_ms = a->rq->patient ? PATIENT_STALL_MS : STALL_MS,
	    .max_body = a->rq->max_body > 0 ? a->rq->max_body : ANSWER_MAX,
	    .cancelled = is_stopping,
	    .ctx = a};

	return http_client_do(&req, &a->got, why);
}

static int send_once(struct attempt *a, struct why *why)
{
	const struct s3_request *rq = a->rq;
	AUTO_STR query = sigv4_query(rq->query, rq->n_query);
	AUTO_STR url = str_printf("%s%s%s%s", a->s->inner.base, a->path, rq->n_query > 0 ? "?" : "", query);
	struct sigv4_pair headers[HEADERS_MAX] = {{"host", a->s->inner.host}, {"x-amz-content-sha256", a->hash}};
	struct sigv4_request what = {.method = rq->method,
	    .path = a->path,
	    .query = rq->query,
	    .n_query = rq->n_query,
	    .headers = headers,
	    .payload = a->hash};
	char at[SIGV4_TIME_LEN];
	size_t n = 2;

	sigv4_time(clock_wall_ms(), at);
	headers[n++] = (struct sigv4_pair){"x-amz-date", at};
	if (a->who.session_token != NULL)
		headers[n++] = (struct sigv4_pair){"x-amz-security-token", a->who.session_token};
	if (rq->range != NULL)
		headers[n++] = (struct sigv4_pair){"range", rq->range};
	if (rq->body != NULL)
		headers[n++] = (struct sigv4_pair){"content-type", "application/octet-stream"};
	what.n_headers = n;
	return send_signed(a, &what, at, url, why);
}

static bool is_code(const struct s3_answer *r, const char *code)
{
	return strcmp(r->error.code, code) == 0;
}

static bool is_one_of(const struct s3_answer *r, const char *const *codes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_code(r, codes[i]))
			return true;
	return false;
}

static void explain_keys(const struct attempt *a, const struct s3_answer *r, struct why *why)
{
	const struct s3 *s = a->s;

	if (is_code(r, "SignatureDoesNotMatch"))
		why_set(why, ERR_NET,
		    "%s refuses the signature: the secret key in %s is not that of the access key in %s, or a proxy "
		    "changes the request or its Host",
		    s->inner.host, s->secret_key_file, s->access_key_file);
	else if (is_code(r, "InvalidAccessKeyId"))
		why_set(why, ERR_NET, "%s does not know the access key in %s%s", s->inner.host, s->access_key_file,
		    s->session_token_file != NULL ? "" : ": a temporary one needs s3.session_token_file, too");
	else if (is_code(r, "ExpiredToken") || is_code(r, "InvalidToken"))
		why_set(why, ERR_NET, "the session token is over or not valid: %s must have a new one",
		    s->session_token_file != NULL ? s->session_token_file : "s3.session_token_file");
	else
		why_set(why, ERR_NET,
		    "access to the bucket '%s' is denied (%.120s): the key must be allowed to get, put and delete "
		    "objects below '%s', to list the bucket, and to list and abort its multipart uploads",
		    s->bucket, r->error.message, s->prefix);
}

static void explain(const struct attempt *a, const struct s3_answer *r, struct why *why)
{
	static const char *const about_keys[] = {
	    "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "AccessDenied"};
	static const char *const about_region[] = {"AuthorizationHeaderMalformed", "PermanentRedirect",
	    "IllegalLocationConstraintException", "TemporaryRedirect"};
	const struct s3 *s = a->s;
	int64_t skew = http_client_clock_skew_ms(&a->got);
	bool skewed = skew != INT64_MAX && (skew > SKEW_MAX_MS || skew < -SKEW_MAX_MS);

	if (is_code(r, "RequestTimeTooSkewed") || (r->status == 403 && skewed))
		why_set(why, ERR_NET,
		    "the clock of this machine is %lld s %s that of %s, which takes no such request: set it by NTP",
		    (long long)(skew == INT64_MAX ? 0 : llabs(skew) / 1000), skew < 0 ? "behind" : "ahead of",
		    s->inner.host);
	else if (is_code(r, "NoSuchBucket"))
		why_set(why, ERR_NET, "%s has no bucket '%s': make it, or mend s3.bucket", s->inner.host, s->bucket);
	else if (is_one_of(r, about_keys, ARRAY_LEN(about_keys)))
		explain_keys(a, r, why);
	else if (is_one_of(r, about_region, ARRAY_LEN(about_region)) && r->error.region[0] != '\0')
		why_set(why, ERR_NET, "the bucket '%s' is in the region %s: set s3.region", s->bucket, r->error.region);
	else if (r->error.code[0] != '\0')
		why_set(why, ERR_NET, "%s answered HTTP %d, %s: %.200s", s->inner.host, r->status, r->error.code,
		    r->error.message);
	else
		why_set(why, ERR_NET,
		    "%s answered HTTP %d without a word of S3's: is there an S3 server behind it, and nothing in "
		    "between?",
		    s->inner.host, r->status);
}

/* ERR_AGAIN: another try may help. */
static int judge(struct attempt *a, struct s3_answer *r, struct why *why)
{
	static const char *const passing[] = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout",
	    "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody", "OperationAborted", "ThrottlingException"};
	int64_t seconds;
	bool changed = false;

	r->status = a->got.status;
	s3_xml_error(strbuf_str(&r->body), r->body.len, &r->error);
	if (r->status >= 200 && r->status < 300 && (!a->rq->xml || r->error.code[0] == '\0'))
		return OK;
	explain(a, r, why);
	if (is_code(r, "NoSuchKey") || is_code(r, "NoSuchUpload"))
		return ERR_NOT_FOUND;
	if (r->status == 416)
		return ERR_EMPTY;
	if (a->got.retry_after != NULL && text_parse_int(a->got.retry_after, 0, 3600, &seconds) == OK)
		a->retry_after_ms = seconds * 1000;
	if (is_one_of(r, passing, ARRAY_LEN(passing)) || r->status == 429 || (r->status >= 500 && r->status != 501))
		return ERR_AGAIN;
	/* Somebody may have put new keys there since they were read. */
	if (r->status == 403 || is_code(r, "ExpiredToken")) {
		s3_credentials_fini(&a->who);
		s3_credentials_take(a->s, true, &a->who, &changed);
	}
	return changed ? ERR_AGAIN : ERR_NET;
}

static int try_once(struct attempt *a, struct s3_answer *r, struct why *why)
{
	char code[16] = "none";
	int rc;

	s3_answer_fini(r);
	*r = (struct s3_answer){0};
	a->retry_after_ms = 0;
	rc = send_once(a, why);
	if (rc == OK) {
		snprintf(code, sizeof code, "%d", a->got.status);
		r->body = a->got.body;
		a->got.body = STRBUF(0);
		r->etag = TAKE(a->got.etag);
		rc = judge(a, r, why);
	} else if (rc == ERR_TOO_LARGE) {
		rc = why_set(why, ERR_NET, "%s answers more than was asked for", a->s->inner.host);
	} else if (rc != ERR_CANCELLED) {
		rc = ERR_AGAIN;
	}
	metric_add(&requests, 1, a->rq->method, code);
	http_client_response_fini(&a->got);
	return rc;
}

/* Between half of it and all of it, so that many that were refused at once do not come back at once. */
static void pause_for(struct s3 *s, int64_t ms)
{
	int64_t until = clock_mono_ms() + ms / 2 + id_random_below((uint32_t)(ms / 2 + 1));

	while (!atomic_load(&s->stop) && clock_mono_ms() < until) {
		int64_t left = MIN(until - clock_mono_ms(), 100);
		const struct timespec t = {.tv_nsec = MAX(left, 1) * 1000000};

		nanosleep(&t, NULL);
	}
}

static void complain(struct s3 *s, const char *text)
{
	int64_t now = clock_mono_ms();
	bool due;

	pthread_mutex_lock(&s->lock);
	due = s->complained_ms == 0 || now - s->complained_ms > COMPLAIN_MS;
	if (due)
		s->complained_ms = now;
	pthread_mutex_unlock(&s->lock);
	if (due)
		log_warn("artifacts.s3.failed", "error=%s", log_quote(text));
}

/* Whether a request may be made; *ret_probe: this is the one that looks whether S3 is there again. */
static bool may_ask(struct s3 *s, bool *ret_probe)
{
	bool may;

	pthread_mutex_lock(&s->lock);
	*ret_probe = s->down && !s->probing && clock_mono_ms() >= s->probe_ms;
	may = !s->down || *ret_probe;
	s->probing |= *ret_probe;
	pthread_mutex_unlock(&s->lock);
	return may;
}

static void set_down(struct s3 *s, bool down, bool probe)
{
	pthread_mutex_lock(&s->lock);
	s->down = down;
	s->probe_ms = clock_mono_ms() + PROBE_MS;
	if (probe)
		s->probing = false;
	pthread_mutex_unlock(&s->lock);
}

static bool is_down(struct s3 *s)
{
	bool down;

	pthread_mutex_lock(&s->lock);
	down = s->down;
	pthread_mutex_unlock(&s->lock);
	return down;
}

/* ERR_AGAIN: none of the tries helped. */
static int try_all(struct attempt *a, struct s3_answer *r, struct why *why)
{
	int64_t end = clock_mono_ms() + BUDGET_MS, pause = PAUSE_FIRST_MS;
	int rc;

	for (int n = 1;; n++) {
		rc = try_once(a, r, why);
		if (rc != ERR_AGAIN)
			return rc;
		pause = MIN(MAX(pause, a->retry_after_ms), PAUSE_MAX_MS);
		if (n == TRIES_MAX || clock_mono_ms() + pause > end || is_down(a->s))
			return ERR_AGAIN;
		pause_for(a->s, pause);
		if (atomic_load(&a->s->stop))
			return ERR_CANCELLED;
		pause *= 2;
	}
}

static int try_if_up(struct attempt *a, struct s3_answer *r, struct why *why)
{
	bool probe = false;
	int rc;

	if (!may_ask(a->s, &probe))
		return why_set(why, ERR_NET, "%s did not answer a moment ago", a->s->inner.host);
	rc = try_all(a, r, why);
	set_down(a->s, rc == ERR_AGAIN, probe);
	return rc == ERR_AGAIN ? ERR_NET : rc;
}

int s3_do(struct s3 *s, const struct s3_request *rq, struct s3_answer *ret, struct why *why)
{
	AUTO_STR path = s3_path(s, rq->object);
	char hash[SHA256_HEX_LEN] = HASH_OF_NOTHING;
	struct attempt a = {.s = s, .rq = rq, .path = path, .hash = hash};
	struct why own = {0};
	int rc;

	*ret = (struct s3_answer){0};
	if (rq->body_len > 0)
		sha256_hex(rq->body, rq->body_len, hash);
	s3_credentials_take(s, false, &a.who, NULL);
	rc = try_if_up(&a, ret, &own);
	s3_credentials_fini(&a.who);
	/* Who does not want the words has nobody to tell them. */
	if (rc == ERR_NET && why == NULL)
		complain(s, own.text);
	if (rc != OK)
		why_set(why, rc, "%s", own.text);
	return rc;
}
