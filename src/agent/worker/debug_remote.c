/* `agent worker debug`: what the control plane says of this worker's credential and pool, and whether it can be
 * reached. */
#include "agent/worker/auth.h"
#include "agent/worker/debug_priv.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/http_client.h"
#include <string.h>
#include <time.h>

#define ASK_LIMIT_MS 10000
#define CLOCK_OFF_S 60
#define TOKEN_LIFE_MS (60 * 60 * 1000)
#define POOLS_SHOWN 10

/* What is known of the other side so far. */
struct remote {
	const struct worker_options *options;
	json_t *report, *checks;
	const char *method; /* of the credential */
	char *token; /* what is shown; NULL: nothing */
	const char *key_type;
	bool reached; /* a control plane answered */
	bool clock_judged;
};

static void add_check(struct remote *r, const char *name, enum health_grade grade, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
static void add_check(struct remote *r, const char *name, enum health_grade grade, const char *fmt, ...)
{
	va_list ap;
	AUTO_STR text = NULL;

	va_start(ap, fmt);
	text = str_vprintf(fmt, ap);
	va_end(ap);
	json_array_append_new(r->checks, debug_check(name, grade, text));
}

/* GET of a path. With `why` if no answer came. */
static int ask(struct remote *r, const char *path, struct http_client_response *ret, struct why *why)
{
	AUTO_STR url = str_printf("%s%s", r->options->endpoint, path);
	AUTO_STR bearer = str_printf("Bearer %s", r->token != NULL ? r->token : "");
	const struct http_header headers[] = {
	    {"authorization", bearer}, {"user-agent", "bullpen-agent/" BULLPEN_VERSION}};
	int rc = http_client_do(&(struct http_client_request){.method = "GET",
				    .url = url,
				    .headers = headers,
				    .n_headers = ARRAY_LEN(headers),
				    .timeout_ms = ASK_LIMIT_MS},
	    ret, why);

	explicit_bzero(bearer, strlen(bearer));
	return rc;
}

static json_t *body_of(const struct http_client_response *a)
{
	json_t *doc = NULL;

	if (json_parse(strbuf_str(&a->body), a->body.len, &doc, NULL) == OK && !json_is_object(doc))
		json_drop(&doc);
	return doc;
}

static char *host_of(const char *endpoint)
{
	const char *begin = strstr(endpoint, "://") + 3;

	return str_ndup(begin, strcspn(begin, "/"));
}

/* By how much this machine's clock is ahead. */
static void judge_clock(struct remote *r, int64_t ahead_s)
{
	r->clock_judged = true;
	if (ahead_s > CLOCK_OFF_S || ahead_s < -CLOCK_OFF_S)
		add_check(r, "clock", HEALTH_WARN,
		    "the clock of this machine is %lld s %s that of %s: certificates and tokens may be refused; set it "
		    "by NTP",
		    (long long)(ahead_s > 0 ? ahead_s : -ahead_s), ahead_s > 0 ? "ahead of" : "behind",
		    r->options->endpoint);
	else
		add_check(r, "clock", HEALTH_PASS, "within %d s of the control plane's", CLOCK_OFF_S);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static void read_date(struct remote *r, const char *date)
{
	struct tm t = {0};
	const char *end = date != NULL ? strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &t) : NULL;

	if (end != NULL && end[0] == '\0')
		judge_clock(r, clock_wall_ms() / 1000 - (int64_t)timegm(&t));
}

static void take_credential(struct remote *r)
{
	const struct worker_options *o = r->options;
	struct why why = {""};

	r->method = o->auth_token_file != NULL ? "auth-token-file"
		    : o->auth_token != NULL    ? "auth-token"
		    : o->api_key != NULL       ? "api-key"
					       : "none";
	r->key_type = "unknown";
	if (o->auth_token_file != NULL && auth_read_file(o->auth_token_file, &r->token, &why) != OK)
		add_check(r, "token-file", HEALTH_WARN, "%s: agent worker start waits for it up to 30 s", why.text);
	else if (o->auth_token_file == NULL)
		r->token = str_dup(o->auth_token != NULL ? o->auth_token : o->api_key);
}

/* What /v1/me says: a person has a user, a machine has not. NULL: fine. */
static const char *judge_me(struct remote *r, const struct http_client_response *a, const json_t *doc)
{
	const char *code = NULL;

	IGNORE(json_get_string(json_object_get(doc, "error"), "code", &code, NULL));
	/* A token that serves one claim is refused wherever a worker does not call. */
	if (code != NULL && strcmp(code, "wrong_endpoint") == 0) {
		r->key_type = "session_token";
		return NULL;
	}
	if (a->status == 401)
		return "the key is not known to the control plane, or was revoked";
	if (a->status != 200)
		return "the control plane refuses the key";
	r->key_type = json_object_get(doc, "userId") != NULL ? "user" : "service_account";
	return NULL;
}

static void put_auth(struct remote *r, const char *status, const char *detail)
{
	json_put_new(r->report, "auth",
	    json_pack("{s:s, s:s, s:s, s:o}", "method", r->method, "keyType", r->key_type, "status", status, "detail",
		json_lossy(detail, strlen(detail))));
	add_check(r, "auth",
	    strcmp(status, "pass") == 0	  ? HEALTH_PASS
	    : strcmp(status, "warn") == 0 ? HEALTH_WARN
					  : HEALTH_FATAL,
	    "%s", detail);
}

/* The exchange that a start would begin with knows the kind of the key best. */
static const char *exchange(struct remote *r, struct why *why)
{
	AUTO_STR token = NULL;
	AUTO_STR type = NULL;
	int64_t lifetime = 0, wait = 0;
	int rc = auth_exchange(r->options->endpoint, r->options->api_key, &token, &type, &lifetime, &wait, why);
	static const char *const known[] = {
	    "service_account", "user", "user_scoped", "session_token", "team", "organization"};

	if (token != NULL)
		explicit_bzero(token, strlen(token));
	if (rc == ERR_UNAUTHORIZED)
		return why->text;
	/* A token is made for an hour, so its end tells the time over there. */
	if (rc == OK && !r->clock_judged)
		judge_clock(r, (TOKEN_LIFE_MS - lifetime) / 1000);
	for (size_t i = 0; rc == OK && i < ARRAY_LEN(known); i++)
		if (strcmp(type, known[i]) == 0)
			r->key_type = known[i];
	return NULL;
}

static void judge_auth(struct remote *r, const struct http_client_response *a, const json_t *doc)
{
	struct why why = {""};
	const char *bad = judge_me(r, a, doc);

	if (bad == NULL && r->options->api_key != NULL)
		bad = exchange(r, &why);
	if (bad == NULL && strcmp(r->key_type, "unknown") != 0 &&
	    auth_check_key_type(r->key_type, r->options->pool != NULL, &why) != OK)
		bad = why.text;
	if (bad != NULL) {
		AUTO_STR text = str_printf("%s%s",
		    strcmp(r->key_type, "user") == 0 && r->options->pool != NULL ? "this is a person's key; " : "",
		    bad);

		put_auth(r, "fail", text);
	} else if (strcmp(r->key_type, "service_account") == 0) {
		put_auth(r, "pass", "the key is a service account's");
	} else if (strcmp(r->key_type, "unknown") == 0) {
		put_auth(r, "warn", "the control plane does not say what kind of key this is");
	} else {
		put_auth(r, "pass",
		    strcmp(r->key_type, "session_token") == 0 ? "the token serves one claim" : "the key is a person's");
	}
}

/* A server that is no control plane answers otherwise, or not in JSON. */
static bool is_control_plane(const struct http_client_response *a, const json_t *doc)
{
	return doc != NULL && (a->status == 200 || json_object_get(doc, "error") != NULL) && a->status != 404;
}

static void put_connectivity(struct remote *r, bool pass, int64_t latency_ms)
{
	AUTO_STR host = host_of(r->options->endpoint);

	json_put_new(r->report, "connectivity",
	    json_pack("[{s:s, s:s, s:I}]", "host", host, "status", pass ? "pass" : "fail", "latencyMs",
		(json_int_t)latency_ms));
}

static void look_at_endpoint(struct remote *r)
{
	struct http_client_response a = {0};
	struct why why = {""};
	int64_t begin = clock_mono_ms(), took;
	AUTO_JSON doc = NULL;
	int rc = ask(r, "/v1/me", &a, &why);

	took = clock_mono_ms() - begin;
	doc = rc == OK ? body_of(&a) : NULL;
	r->reached = rc == OK && is_control_plane(&a, doc);
	put_connectivity(r, r->reached, took);
	if (rc != OK)
		add_check(r, "connectivity", HEALTH_FATAL, "%s", why.text);
	else if (!r->reached)
		add_check(r, "connectivity", HEALTH_FATAL,
		    "%s answers, but not as a control plane (HTTP %d): is the endpoint right?", r->options->endpoint,
		    a.status);
	else
		add_check(
		    r, "connectivity", HEALTH_PASS, "%s answers in %lld ms", r->options->endpoint, (long long)took);
	if (rc == OK)
		read_date(r, a.date);
	if (r->token == NULL && r->options->auth_token_file == NULL)
		put_auth(r, "fail", "there is no credential: set CURSOR_API_KEY or give --api-key");
	else if (r->reached && r->token != NULL)
		judge_auth(r, &a, doc);
	else
		put_auth(
		    r, "warn", r->token != NULL ? "the control plane could not be asked" : "there is no token yet");
	http_client_response_fini(&a);
}

/* What of a worker is shown. */
static json_t *worker_json(const json_t *w)
{
	static const char *const keys[] = {"workerId", "name", "isInUse", "repoOwner", "repoName"};
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (json_object_get(w, keys[i]) != NULL)
			json_put_new(o, keys[i], json_deep_copy(json_object_get(w, keys[i])));
	return o;
}

/* Only service accounts may list; a control plane without that list says 404. */
static void look_at_workers(struct remote *r)
{
	struct http_client_response a = {0};
	struct why why = {""};
	AUTO_JSON doc = NULL;
	json_t *workers = json_array(), *count = json_null(), *item;
	size_t i;

	if (r->reached && strcmp(r->key_type, "service_account") == 0 &&
	    ask(r, "/v0/private-workers?limit=100", &a, &why) == OK && a.status == 200)
		doc = body_of(&a);
	if (json_is_integer(json_object_get(doc, "totalCount")))
		count = json_integer(json_integer_value(json_object_get(doc, "totalCount")));
	json_array_foreach(json_object_get(doc, "workers"), i, item)
	{
		json_array_append_new(workers, worker_json(item));
	}
	json_put_new(r->report, "visibilityProbe",
	    json_pack("{s:{s:o, s:o}}", "privacy", "totalCount", count, "workers", workers));
	if (json_is_integer(count))
		add_check(r, "visibility", HEALTH_PASS, "the control plane sees %lld workers of this team",
		    (long long)json_integer_value(count));
	http_client_response_fini(&a);
}

/* A new pool is no mistake, a name that is spelled wrong is. */
static void judge_pool(struct remote *r, const json_t *pools)
{
	struct strbuf names = STRBUF(2048);
	size_t i, shown = 0;
	json_t *item;

	json_array_foreach(pools, i, item)
	{
		const char *name = json_string_value(json_object_get(item, "poolName"));

		if (name == NULL)
			continue;
		if (strcmp(name, r->options->pool) == 0) {
			add_check(r, "pool", HEALTH_PASS, "the pool %s is known", name);
			strbuf_fini(&names);
			return;
		}
		if (shown < POOLS_SHOWN && strstr(strbuf_str(&names), name) == NULL)
			strbuf_addf(&names, "%s%.63s", shown++ > 0 ? ", " : "", name);
	}
	add_check(r, "pool", HEALTH_WARN,
	    "the pool %s is not known yet; this worker would make it. Is it spelled as requests do? Known are: %s",
	    r->options->pool, shown > 0 ? strbuf_str(&names) : "none");
	strbuf_fini(&names);
}

static void look_at_pools(struct remote *r)
{
	struct http_client_response a = {0};
	struct why why = {""};
	AUTO_JSON doc = NULL;

	if (!r->reached || r->options->pool == NULL || strcmp(r->key_type, "service_account") != 0)
		return;
	if (ask(r, "/v0/private-workers/pools", &a, &why) == OK && a.status == 200)
		doc = body_of(&a);
	if (json_is_array(json_object_get(doc, "pools")))
		judge_pool(r, json_object_get(doc, "pools"));
	http_client_response_fini(&a);
}

void debug_remote(const struct worker_options *o, json_t *report)
{
	struct remote r = {.options = o, .report = report, .checks = json_object_get(report, "checks")};

	take_credential(&r);
	look_at_endpoint(&r);
	/* This control plane has no other mode: what a worker sends serves the run and nothing else. */
	json_put_new(report, "privacy",
	    json_pack("{s:s, s:s}", "mode", r.reached ? "enabled" : "unknown", "status", r.reached ? "pass" : "warn"));
	look_at_workers(&r);
	look_at_pools(&r);
	if (r.token != NULL)
		explicit_bzero(r.token, strlen(r.token));
	free(r.token);
}
