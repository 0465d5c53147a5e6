/* From an HTTP exchange to a handler: routes, authentication, rate limits, body and query checks, in that order. */
#include "base/id.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "net/grpc.h"
#include "server/access/browser.h"
#include "server/api/api_priv.h"
#include "server/api/fleet_watch.h"
#include "server/api/input.h"
#include "server/api/routes.h"
#include "server/api/upload.h"
#include <string.h>
#include <strings.h>

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
	a->watches = watches_new(cfg->store, runs_config(cfg->runs)->notify);
	*ret = a;
	return OK;
}

void api_free(struct api **ap)
{
	struct api *a = TAKE(*ap);

	if (a == NULL)
		return;
	watches_free(&a->watches); /* its exchanges hold places among the streams */
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
	AUTO_STR path = route_clean_path(http_path(x));
	struct route_match m;
	const struct route *r;

	if (is_worker_link(x) || is_other_grpc(x)) {
		plan->mode = HTTP_BODY_STREAM;
		return;
	}
	route_find(http_method(x), path, &m);
	r = m.known != NULL ? m.known->route : NULL;
	plan->max_body = r != NULL && r->max_body > 0 ? r->max_body : ROUTE_BODY_DEFAULT;
	if (r != NULL && r->weight > 0)
		plan->weight = r->weight;
	if (r != NULL && r->body == BODY_UPLOAD) {
		plan->mode = HTTP_BODY_STREAM;
	} else if (r == NULL || !r->open) {
		/* Nothing large is kept for who does not even claim to have a key. */
		if (http_header_get(x, "authorization") == NULL)
			plan->max_body = MIN(plan->max_body, ANONYMOUS_BODY_MAX);
		else
			plan->check_over = UNCHECKED_BODY_MAX;
	}
	route_match_fini(&m);
}

static void request_init(struct api_request *rq, struct api *a, struct http_exchange *x)
{
	const char *peer = http_peer(x), *colon = strrchr(peer, ':');

	*rq = (struct api_request){.api = a, .x = x};
	id_uuid(rq->request_id);
	snprintf(rq->ip, sizeof rq->ip, "%.*s", (int)(colon != NULL ? (size_t)(colon - peer) : strlen(peer)), peer);
}

struct audit_by request_by(const struct api_request *rq)
{
	const struct principal *p = rq->who;

	return (struct audit_by){.team_id = p->team_id,
	    .actor = p->owner,
	    .name = p->user_email != NULL  ? p->user_email
		    : p->user_name != NULL ? p->user_name
					   : p->key_name,
	    .ip = rq->ip};
}

static void request_fini(struct api_request *rq)
{
	for (size_t i = 0; i < ROUTE_PARAMS_MAX; i++)
		free(rq->params[i]);
	upload_free(&rq->upload);
	json_decref(rq->query);
	json_decref(rq->body);
	principal_free(&rq->who);
	http_exchange_free(&rq->x);
}

/* Whether the request means a route that asks for no key. */
static bool is_open(const struct http_exchange *x)
{
	AUTO_STR path = route_clean_path(http_path(x));
	struct route_match m;
	bool open;

	route_find(http_method(x), path, &m);
	open = m.known != NULL && m.known->route->open;
	route_match_fini(&m);
	return open;
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
	else if (http_header_get(x, "authorization") == NULL && http_header_get(x, "cookie") == NULL && !is_open(x))
		api_error(&rq, API_unauthorized, "the API key is missing or not valid");
	else
		api_reply(&rq, 413, api_error_body(&rq, API_validation_error, "the request body is too large"));
}

/* A browser sends its cookie along with whatever page asks. A header of our own it sends to other sites only after it
 * has asked them (CORS), which we refuse; so what has it comes from our page. (SameSite=Strict says the same to newer
 * browsers.) */
static bool may_come_by_cookie(struct http_exchange *x)
{
	const char *method = http_method(x);

	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 || http_header_get(x, CSRF_HEADER) != NULL;
}

static int by_header_or_cookie(struct api_request *rq)
{
	const char *authorization = http_header_get(rq->x, "authorization"),
		   *cookies = http_header_get(rq->x, "cookie");
	struct store *st = rq->api->cfg.store;

	if (authorization == NULL && cookies != NULL && may_come_by_cookie(rq->x)) {
		int rc = browser_authenticate(st, cookies, &rq->who);

		if (rc != ERR_EMPTY)
			return rc;
	}
	return access_authenticate(st, authorization, &rq->who);
}

static bool router_authenticate(struct api_request *rq)
{
	int rc = http_header_count(rq->x, "authorization") > 1 ? ERR_UNAUTHORIZED : by_header_or_cookie(rq);

	if (rc == ERR_UNAUTHORIZED)
		api_error(rq, API_unauthorized, "the API key is missing or not valid");
	else if (rc == ERR_DENIED)
		api_error(rq, API_key_not_supported, "this token is for connecting workers and nothing else");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	return rc == OK;
}

/* What a request takes one of, in this order. */
struct allowance {
	const char *of; /* in the bucket's key */
	int64_t limit, window_s; /* limit 0: none */
};

static size_t allowances_of(const struct api_request *rq, struct allowance out[2])
{
	const struct api_config *cfg = &rq->api->cfg;

	switch (rq->route->rate) {
	case RATE_READ:
		out[0] = (struct allowance){"r", cfg->reads_per_minute, 60};
		return 1;
	case RATE_MUTATION:
		out[0] = (struct allowance){"m", cfg->mutations_per_minute, 60};
		return 1;
	case RATE_REPOSITORIES:
		out[0] = (struct allowance){"repositories", cfg->repositories_per_minute, 60};
		out[1] = (struct allowance){"repositories/h", cfg->repositories_per_hour, 3600};
		return 2;
	case RATE_V0_ARTIFACTS:
		out[0] = (struct allowance){"v0 artifacts", cfg->v0_artifacts_per_minute, 60};
		out[1] = (struct allowance){"v0 artifacts/h", cfg->v0_artifacts_per_hour, 3600};
		return 2;
	default:
		return 0;
	}
}

static void refuse_rate(struct api_request *rq, const struct rate_answer *ans)
{
	char n[4][24];

	snprintf(n[0], sizeof n[0], "%lld", (long long)ans->retry_after_s);
	snprintf(n[1], sizeof n[1], "%lld", (long long)ans->limit);
	snprintf(n[2], sizeof n[2], "%lld", (long long)ans->remaining);
	snprintf(n[3], sizeof n[3], "%lld", (long long)ans->reset_unix_s);
	const struct http_header h[] = {{"retry-after", n[0]}, {"x-ratelimit-limit", n[1]},
	    {"x-ratelimit-remaining", n[2]}, {"x-ratelimit-reset", n[3]}};

	api_error_headers(rq, API_rate_limit_exceeded, "too many requests: try again later", h, ARRAY_LEN(h));
}

static bool router_within_rate(struct api_request *rq)
{
	struct allowance takes[2];
	size_t n = allowances_of(rq, takes);

	for (size_t i = 0; i < n; i++) {
		AUTO_STR key = str_printf("%s %s", rq->who->owner, takes[i].of);
		struct rate_answer ans;

		if (takes[i].limit == 0 || rate_take(rq->api->rate, key, takes[i].limit, takes[i].window_s, &ans))
			continue;
		refuse_rate(rq, &ans);
		return false;
	}
	return true;
}

/* What the roles are about: the whole team's. */
static bool scope_is_of_roles(const char *scope)
{
	static const char *const scopes[] = {SCOPE_FLEET_READ, SCOPE_FLEET_WRITE, SCOPE_HOOKS_WRITE, SCOPE_RULES_WRITE,
	    SCOPE_TEAM_ADMIN, SCOPE_AUDIT_READ, SCOPE_METRICS_READ, SCOPE_WEBHOOKS_WRITE};

	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		if (strcmp(scope, scopes[i]) == 0)
			return true;
	return false;
}

static bool route_reads(const struct route *r)
{
	return strcmp(r->method, "GET") == 0;
}

/* What a person's role gives in a browser besides what her keys may do: an admin everything that is the team's, an
 * auditor what only reads of it. */
static bool role_gives(const struct principal *p, const struct route *r)
{
	return r->scope != NULL && scope_is_of_roles(r->scope) &&
	       (principal_leads(p) || (principal_oversees(p) && route_reads(r)));
}

/* The one place that decides what a key, or a person in a browser, may do. */
static bool has_scope(struct api_request *rq)
{
	const struct route *r = rq->route;

	if (role_gives(rq->who, r))
		return true;
	if (r->people && rq->who->by == BY_BROWSER) {
		rq->only_own = true;
		return true;
	}
	/* Scopes say it for all other routes. */
	if (r->scope == NULL && !route_reads(r) && rq->who->role == ROLE_AUDITOR) {
		api_error(rq, API_role_required, "an auditor reads everything and changes nothing");
		return false;
	}
	if (r->service_account && !principal_is_service_account(rq->who)) {
		api_error(rq, API_service_account_required, "only a service account's API key may do that");
		return false;
	}
	if (r->scope == NULL || principal_has_scope(rq->who, r->scope))
		return true;
	api_error(rq, API_scope_required, "this key may not do that: it lacks the scope %s", r->scope);
	return false;
}

/* In this order, so that a request that is refused for its scope or its content counts against the limits, too. */
static bool is_admitted(struct api_request *rq)
{
	if (rq->route->open || (rq->route->open_on_loopback && rq->api->cfg.is_local))
		return true;
	return router_authenticate(rq) && router_within_rate(rq) && has_scope(rq);
}

/* An upload holds a handler's thread as long as its client likes to send. */
static void handle_upload(struct api_request *rq)
{
	const struct http_header retry = {"retry-after", "5"};

	if (atomic_fetch_add(&rq->api->uploading, 1) < rq->api->cfg.max_fetching)
		rq->route->handler(rq);
	else
		api_error_headers(rq, API_service_unavailable, "the server takes as many uploads as it may", &retry, 1);
	atomic_fetch_sub(&rq->api->uploading, 1);
}

static void handle_matched(struct api_request *rq, const struct route_match *m)
{
	rq->route = m->known->route;
	if (!is_admitted(rq) || !input_read_params(rq, m) || !input_read_body(rq, m->known) ||
	    !input_read_query(rq, m->known))
		return;
	if (rq->route->body == BODY_UPLOAD)
		handle_upload(rq);
	else
		rq->route->handler(rq);
}

static void dispatch(struct api_request *rq, const char *path)
{
	struct route_match m;

	route_find(http_method(rq->x), path, &m);
	if (m.known != NULL) {
		handle_matched(rq, &m);
	} else if (m.allowed.len > 0) {
		const struct http_header allow = {"allow", m.allowed.data};

		api_error_headers(rq, API_method_not_allowed, "this path does not take that method", &allow, 1);
	} else {
		api_error(rq, API_not_found, "there is no such endpoint");
	}
	route_match_fini(&m);
}

struct handler_job {
	struct api *api;
	struct http_exchange *x;
	struct upload *upload; /* NULL: the body is whole */
};

/* Handler thread. */
static void handle_request(void *arg)
{
	struct handler_job *job = arg;
	AUTO_STR path = route_clean_path(http_path(job->x));
	struct api_request rq;

	request_init(&rq, job->api, job->x);
	rq.upload = job->upload;
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
	struct handler_job *job = arg;
	struct api_request rq;

	request_init(&rq, job->api, job->x);
	free(job);
	if (router_authenticate(&rq))
		http_pause(rq.x, false);
	request_fini(&rq);
}

/* Loop thread: no more work is taken. */
static void refuse_unavailable(struct api *a, struct http_exchange *x, const char *message)
{
	struct api_request rq;
	const struct http_header retry = {"retry-after", "2"};

	request_init(&rq, a, x);
	api_error_headers(&rq, API_service_unavailable, message, &retry, 1);
}

/* `upload` is taken. */
static void submit_job(struct api *a, struct http_exchange *x, void (*fn)(void *), struct upload *upload)
{
	struct handler_job *job = NEW(struct handler_job);

	job->api = a;
	job->upload = upload;
	job->x = http_exchange_ref(x);
	if (pool_submit(a->cfg.handlers, fn, job) == OK)
		return;
	http_exchange_free(&job->x);
	upload_free(&job->upload);
	free(job);
	refuse_unavailable(a, x, "the server is overloaded");
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

/* Loop thread. The upload that the plan of on_head has begun; NULL: the body is whole. */
static struct upload *upload_of(struct api *a, struct http_exchange *x)
{
	AUTO_STR path = route_clean_path(http_path(x));
	struct upload *u = NULL;
	struct route_match m;

	route_find(http_method(x), path, &m);
	if (m.known != NULL && m.known->route->body == BODY_UPLOAD)
		u = upload_new(
		    x, m.known->route->max_body > 0 ? m.known->route->max_body : ROUTE_BODY_DEFAULT, &a->draining);
	route_match_fini(&m);
	return u;
}

/* Loop thread. */
static void on_request(void *ctx, struct http_exchange *x)
{
	struct api *a = OBJ_FROM(api, ctx, API_MAGIC);

	if (atomic_load(&a->draining)) {
		refuse_unavailable(a, x, "the server is stopping");
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
		submit_job(a, x, handle_request, upload_of(a, x));
}

/* Loop thread. */
static void on_check(void *ctx, struct http_exchange *x)
{
	struct api *a = OBJ_FROM(api, ctx, API_MAGIC);

	if (atomic_load(&a->draining))
		refuse_unavailable(a, x, "the server is stopping");
	else
		submit_job(a, x, check_key, NULL);
}

struct http_callbacks api_callbacks(struct api *a)
{
	return (struct http_callbacks){
	    .ctx = a, .on_head = on_head, .on_request = on_request, .on_too_large = on_too_large, .on_check = on_check};
}
