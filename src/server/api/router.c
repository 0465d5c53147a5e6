/* From an HTTP exchange to a handler: routes, authentication, rate limits, body and query checks, in that order. */
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "net/grpc.h"
#include "server/api/api_priv.h"
#include <string.h>
#include <strings.h>

static const struct route *const route_tables[] = {agent_routes, run_routes, meta_routes, NULL};

#define BODY_MAX (1024 * 1024)
#define BIG_BODY_MAX (128 * 1024 * 1024) /* prompts with images */
#define BIG_BODY_WEIGHT 4 /* its JSON, the images decoded and as text again stand beside it */
#define ANONYMOUS_BODY_MAX (64 * 1024)
#define UNCHECKED_BODY_MAX (64 * 1024) /* more is kept only for a key that is valid */
#define WORKER_PATH "/bullpen.worker.v1.WorkerLink/Connect"

int api_new(const struct api_config *cfg, struct api **ret)
{
	struct api *a = NEW(struct api);

	a->magic = API_MAGIC;
	a->cfg = *cfg;
	a->rate = rate_new();
	a->streams = streams_new();
	*ret = a;
	return OK;
}

void api_free(struct api **ap)
{
	struct api *a = TAKE(*ap);

	if (a == NULL)
		return;
	rate_free(&a->rate);
	streams_free(&a->streams);
	free(atomic_load(&a->web_base));
	free(a);
}

void api_set_web_base(struct api *a, const char *url)
{
	ENSURE(atomic_load(&a->web_base) == NULL);
	atomic_store(&a->web_base, str_dup(url));
}

void api_drain(struct api *a)
{
	atomic_store(&a->draining, true);
}

/* The path without doubled leading and trailing slashes: a client may join its base URL either way. */
static char *clean_path(const char *path)
{
	size_t n;

	while (path[0] == '/' && path[1] == '/')
		path++;
	n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	return str_ndup(path, n);
}

/* Matches segment by segment; "{}" takes one that is not empty. Parameters are the still encoded pieces of `path`. */
static bool matches(const char *pattern, const char *path, const char *params[], size_t lens[])
{
	size_t n = 0;

	for (;;) {
		size_t a = strcspn(pattern + 1, "/") + 1, b = strcspn(path + 1, "/") + 1;

		if (pattern[0] != path[0])
			return false;
		if (a == 3 && strncmp(pattern, "/{}", 3) == 0) {
			if (b == 1 || n == PARAMS_MAX)
				return false;
			params[n] = path + 1;
			lens[n++] = b - 1;
		} else if (a != b || strncmp(pattern, path, a) != 0) {
			return false;
		}
		pattern += a;
		path += b;
		if (*pattern == '\0' || *path == '\0')
			return *pattern == *path;
	}
}

struct match {
	const struct route *route; /* NULL: none */
	struct strbuf allowed; /* methods of the path, when only the method is wrong */
	const char *params[PARAMS_MAX];
	size_t lens[PARAMS_MAX];
};

static void find_route(const char *method, const char *path, struct match *m)
{
	*m = (struct match){.allowed = STRBUF(100)};
	for (size_t t = 0; route_tables[t] != NULL; t++) {
		for (const struct route *r = route_tables[t]; r->method != NULL; r++) {
			const char *params[PARAMS_MAX] = {0};
			size_t lens[PARAMS_MAX] = {0};

			if (!matches(r->pattern, path, params, lens))
				continue;
			strbuf_addf(&m->allowed, "%s%s", m->allowed.len ? ", " : "", r->method);
			if (strcmp(r->method, method) != 0 &&
			    !(strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0))
				continue;
			m->route = r;
			memcpy(m->params, params, sizeof params);
			memcpy(m->lens, lens, sizeof lens);
			return;
		}
	}
}

static bool is_worker_link(const struct http_exchange *x)
{
	return strcmp(http_path(x), WORKER_PATH) == 0;
}

/* A gRPC client on another path than the worker link's: it understands statuses of its own kind only. */
static bool is_other_grpc(const struct http_exchange *x)
{
	const char *type = http_header_get(x, "content-type");

	return http_version(x) == 20 && type != NULL && strncasecmp(type, "application/grpc", 16) == 0 &&
	       !is_worker_link(x);
}

/* Loop thread. */
static void on_head(void *ctx, struct http_exchange *x, struct http_plan *plan)
{
	AUTO_STR path = clean_path(http_path(x));
	struct match m;

	if (is_worker_link(x) || is_other_grpc(x)) {
		plan->mode = HTTP_BODY_STREAM;
		return;
	}
	find_route(http_method(x), path, &m);
	/* Nothing large is kept for who does not even claim to have a key. */
	if (http_header_get(x, "authorization") == NULL) {
		plan->max_body = ANONYMOUS_BODY_MAX;
	} else {
		plan->check_over = UNCHECKED_BODY_MAX;
		plan->max_body = BODY_MAX;
		if (m.route != NULL && (m.route->flags & ROUTE_BIG_BODY)) {
			plan->max_body = BIG_BODY_MAX;
			plan->weight = BIG_BODY_WEIGHT;
		}
	}
	strbuf_fini(&m.allowed);
}

static void request_init(struct api_request *rq, struct api *a, struct http_exchange *x)
{
	*rq = (struct api_request){.api = a, .x = x};
	id_uuid(rq->request_id);
}

static void request_fini(struct api_request *rq)
{
	for (size_t i = 0; i < PARAMS_MAX; i++)
		free(rq->params[i]);
	json_decref(rq->query);
	json_decref(rq->body);
	principal_free(&rq->who);
	http_exchange_free(&rq->x);
}

/* Loop thread. */
static void on_too_large(void *ctx, struct http_exchange *x)
{
	struct api *a = OBJ_FROM(api, ctx, API_MAGIC);
	struct api_request rq;

	request_init(&rq, a, x);
	if (http_no_room(x))
		api_error_headers(&rq, API_service_unavailable,
		    "the server holds too many large requests at the moment", &(struct http_header){"retry-after", "5"},
		    1);
	else if (http_header_get(x, "authorization") == NULL)
		api_error(&rq, API_unauthorized, "the API key is missing or not valid");
	else
		api_reply(&rq, 413, api_error_body(API_validation_error, "the request body is too large"));
}

static bool authenticate(struct api_request *rq)
{
	int rc = http_header_count(rq->x, "authorization") > 1
		     ? ERR_UNAUTHORIZED
		     : access_authenticate(rq->api->cfg.store, http_header_get(rq->x, "authorization"), &rq->who);

	if (rc == ERR_UNAUTHORIZED)
		api_error(rq, API_unauthorized, "the API key is missing or not valid");
	else if (rc != OK)
		api_fail(rq, rc);
	return rc == OK;
}

static bool within_rate(struct api_request *rq, const struct route *route)
{
	bool mutates = route->flags & ROUTE_MUTATES;
	int64_t limit = mutates ? rq->api->cfg.mutations_per_minute : rq->api->cfg.reads_per_minute;
	AUTO_STR key = str_printf("%s %c", rq->who->owner, mutates ? 'm' : 'r');
	struct rate_answer ans;
	char n[4][24];

	if (limit == 0 || rate_take(rq->api->rate, key, limit, &ans))
		return true;
	snprintf(n[0], sizeof n[0], "%lld", (long long)ans.retry_after_s);
	snprintf(n[1], sizeof n[1], "%lld", (long long)ans.limit);
	snprintf(n[2], sizeof n[2], "%lld", (long long)ans.remaining);
	snprintf(n[3], sizeof n[3], "%lld", (long long)ans.reset_unix_s);
	const struct http_header h[] = {{"retry-after", n[0]}, {"x-ratelimit-limit", n[1]},
	    {"x-ratelimit-remaining", n[2]}, {"x-ratelimit-reset", n[3]}};

	api_error_headers(rq, API_rate_limit_exceeded, "too many requests: try again later", h, ARRAY_LEN(h));
	return false;
}

static bool is_encoded(const struct http_exchange *x)
{
	const char *encoding = http_header_get(x, "content-encoding");

	return http_header_count(x, "content-encoding") > 1 ||
	       (encoding != NULL && strcasecmp(encoding, "identity") != 0);
}

static bool read_body(struct api_request *rq, const struct route *route)
{
	const char *type = http_header_get(rq->x, "content-type");
	struct why why = {0};
	size_t len;
	const char *body = http_body(rq->x, &len);

	if (!(route->flags & ROUTE_BODY))
		return true;
	if (is_encoded(rq->x)) {
		api_reply(rq, 415, api_error_body(API_validation_error, "the body must come without Content-Encoding"));
		return false;
	}
	if (len == 0) {
		api_error(rq, API_missing_body, "a JSON body is required");
		return false;
	}
	if (type != NULL && !(strncasecmp(type, "application/json", 16) == 0 && strchr("; \t", type[16]) != NULL)) {
		api_error(rq, API_validation_error, "Content-Type must be application/json");
		return false;
	}
	if (json_parse(body, len, &rq->body, &why) != OK) {
		api_error(rq, API_validation_error, "%s", why.text);
		return false;
	}
	if (!json_is_object(rq->body)) {
		api_error(rq, API_validation_error, "the body must be a JSON object");
		return false;
	}
	idempotency_prepare(rq);
	return true;
}

static bool is_known_key(const struct route *route, const char *key)
{
	for (size_t i = 0; route->query_keys != NULL && route->query_keys[i] != NULL; i++)
		if (strcmp(route->query_keys[i], key) == 0)
			return true;
	return false;
}

static char *query_piece(const char *s, size_t len)
{
	AUTO_STR spaced = str_ndup(s, len);
	char *out = NULL;

	for (char *c = spaced; *c != '\0'; c++)
		*c = *c == '+' ? ' ' : *c;
	return text_percent_decode(spaced, len, &out) == OK ? out : NULL;
}

static bool read_pair(struct api_request *rq, const struct route *route, const char *s, size_t len)
{
	const char *eq = memchr(s, '=', len);
	size_t key_len = eq != NULL ? (size_t)(eq - s) : len;
	AUTO_STR key = query_piece(s, key_len);
	AUTO_STR value = eq != NULL ? query_piece(eq + 1, len - key_len - 1) : str_dup("");

	if (key == NULL || value == NULL)
		api_error(rq, API_validation_error, "the query string is not valid percent-encoded UTF-8");
	else if (!is_known_key(route, key))
		api_error(rq, API_validation_error, "Unrecognized key(s) in the query: '%.100s'", key);
	else if (json_object_get(rq->query, key) != NULL)
		api_error(rq, API_validation_error, "'%s' is given twice", key);
	else
		json_put(rq->query, key, value);
	return !rq->answered;
}

static bool read_query(struct api_request *rq, const struct route *route)
{
	const char *s = http_query(rq->x);

	rq->query = json_object();
	while (*s != '\0') {
		size_t n = strcspn(s, "&");

		if (n > 0 && !read_pair(rq, route, s, n))
			return false;
		s += n + (s[n] == '&');
	}
	return true;
}

static bool read_params(struct api_request *rq, const struct match *m)
{
	for (size_t i = 0; i < PARAMS_MAX && m->params[i] != NULL; i++) {
		if (text_percent_decode(m->params[i], m->lens[i], &rq->params[i]) == OK)
			continue;
		api_error(rq, API_not_found, "the path is not valid percent-encoded UTF-8");
		return false;
	}
	return true;
}

static void dispatch(struct api_request *rq, const char *path)
{
	struct match m;

	find_route(http_method(rq->x), path, &m);
	if (m.route == NULL && m.allowed.len > 0) {
		const struct http_header allow = {"allow", m.allowed.data};

		api_error_headers(rq, API_method_not_allowed, "this path does not take that method", &allow, 1);
	} else if (m.route == NULL) {
		api_error(rq, API_not_found, "there is no such endpoint");
	} else if ((m.route->flags & ROUTE_OPEN) || (authenticate(rq) && within_rate(rq, m.route))) {
		if (read_params(rq, &m) && read_body(rq, m.route) && read_query(rq, m.route))
			m.route->handler(rq);
	}
	strbuf_fini(&m.allowed);
}

struct job {
	struct api *api;
	struct http_exchange *x;
};

/* Handler thread. */
static void handle(void *arg)
{
	struct job *job = arg;
	AUTO_STR path = clean_path(http_path(job->x));
	struct api_request rq;

	request_init(&rq, job->api, job->x);
	free(job);
	thread_context_set(rq.request_id);
	dispatch(&rq, path);
	ENSURE(rq.answered);
	thread_context_set(NULL);
	request_fini(&rq);
}

/* Handler thread: goes on with a large body, or refuses it. */
static void check_key(void *arg)
{
	struct job *job = arg;
	struct api_request rq;

	request_init(&rq, job->api, job->x);
	free(job);
	if (authenticate(&rq))
		http_pause(rq.x, false);
	request_fini(&rq);
}

/* Loop thread: no more work is taken. */
static void refuse(struct api *a, struct http_exchange *x, const char *message)
{
	struct api_request rq;
	const struct http_header retry = {"retry-after", "2"};

	request_init(&rq, a, x);
	api_error_headers(&rq, API_service_unavailable, message, &retry, 1);
}

static void submit(struct api *a, struct http_exchange *x, void (*fn)(void *))
{
	struct job *job = NEW(struct job);

	job->api = a;
	job->x = http_exchange_ref(x);
	if (pool_submit(a->cfg.handlers, fn, job) == OK)
		return;
	http_exchange_free(&job->x);
	free(job);
	refuse(a, x, "the server is overloaded");
}

/* Loop thread. Not "try later": asking again in the same way is useless. */
static void refuse_protocol(struct api *a, struct http_exchange *x)
{
	struct api_request rq;

	request_init(&rq, a, x);
	api_error(&rq, API_validation_error, "the worker link is gRPC: POST over HTTP/2");
}

/* Loop thread. */
static void refuse_method(struct http_exchange *x)
{
	AUTO_STR text = str_printf("there is no method %.200s", http_path(x));
	AUTO_STR message = grpc_message_encode(text);
	char status[12];

	snprintf(status, sizeof status, "%d", GRPC_UNIMPLEMENTED);
	IGNORE(http_reply(x, 200,
	    (struct http_header[]){
		{"content-type", "application/grpc"}, {"grpc-status", status}, {"grpc-message", message}},
	    3, "", 0));
}

/* Loop thread. */
static void on_request(void *ctx, struct http_exchange *x)
{
	struct api *a = OBJ_FROM(api, ctx, API_MAGIC);

	if (atomic_load(&a->draining)) {
		refuse(a, x, "the server is stopping");
		return;
	}
	if (is_worker_link(x)) {
		if (strcmp(http_method(x), "POST") != 0 || http_version(x) != 20)
			refuse_protocol(a, x);
		else
			fleet_connect(a->cfg.fleet, x, http_header_get(x, "authorization"));
		return;
	}
	if (is_other_grpc(x))
		refuse_method(x);
	else
		submit(a, x, handle);
}

/* Loop thread. */
static void on_check(void *ctx, struct http_exchange *x)
{
	struct api *a = OBJ_FROM(api, ctx, API_MAGIC);

	if (atomic_load(&a->draining))
		refuse(a, x, "the server is stopping");
	else
		submit(a, x, check_key);
}

struct http_callbacks api_callbacks(struct api *a)
{
	return (struct http_callbacks){
	    .ctx = a, .on_head = on_head, .on_request = on_request, .on_too_large = on_too_large, .on_check = on_check};
}
