/* /v1/agents/{id}/runs */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/fleet/queue.h"
#include "server/runs/publication.h"
#include <string.h>

struct run_body {
	const char *text, *mode; /* borrowed; mode NULL: the agent's */
	json_t *images; /* borrowed, as sent */
	char *model; /* NULL: the agent's */
};

static int run_from_body(struct api_request *rq, struct run_body *b, struct problem *p)
{
	int rc = read_prompt(rq->body, &b->text, &b->images, p);

	b->mode = json_string_value(json_object_get(rq->body, "mode"));
	if (rc == OK)
		rc = read_model(rq->body, &b->model, p);
	if (rc == OK)
		rc = read_env_vars(rq->body, "envVars", p);
	if (rc == OK)
		rc = check_mcp_servers(rq->body, p);
	return rc;
}

int take_images(struct api_request *rq, const char *endpoint, const char *agent_id, const json_t *images,
    const char *model, json_t **ret_images, struct problem *p)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc;

	if (json_array_size(images) == 0)
		return OK;
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK && !load_agent_to_continue(rq, tx, agent_id, &a))
		return ERR_NOT_FOUND;
	tx_free(&tx);
	if (rc != OK)
		return rc;
	rc = check_images(images, model != NULL ? model : a->model, p);
	if (rc == ERR_INTERNAL)
		log_error("store.row.damaged", "table=agents key=%s column=model", log_quote(a->id));
	return rc != OK ? rc : read_images(rq, endpoint, images, ret_images, p);
}

static void add_run(struct api_request *rq, const char *endpoint, const struct run_body *b, const struct prompt *prompt)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO_JSON body = NULL;
	__attribute__((cleanup(created_fini))) struct created made = {0};
	const struct audit_by by = request_by(rq);
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	if (idempotency_check(rq, tx, endpoint) != OK || !load_agent_to_continue(rq, tx, route_param(rq, "id"), &a))
		return;
	if (strcmp(a->status, "ARCHIVED") == 0) {
		api_error(rq, API_agent_archived, "this agent is archived: unarchive it first");
		return;
	}
	rc = run_create(rq->api->cfg.runs, tx, a, prompt, b->mode, b->model, &made);
	if (rc == OK)
		rc = keep_inputs(rq, tx, a->id, made.run->id, false);
	if (rc == OK)
		rc = follow_up_note(tx, &by, a);
	if (rc == OK) {
		body = json_pack("{s:o}", "run", run_json(a, made.run, NULL, FORM_FULL));
		rc = idempotency_keep(rq, tx, endpoint, 201, body);
	}
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == ERR_CONFLICT) {
		api_error(rq, API_agent_busy,
		    "a run of this agent is active or waits to begin: wait for its end or cancel it");
	} else if (rc != OK) {
		api_refuse(rq, rc, NULL);
	} else {
		api_reply(rq, 201, TAKE(body));
		runs_created(rq->api->cfg.runs, &made);
	}
}

static void post_runs(struct api_request *rq)
{
	AUTO_STR endpoint = str_printf("POST /v1/agents/%s/runs", route_param(rq, "id"));
	struct run_body b = {0};
	AUTO_JSON images = NULL;
	struct problem p = {.code = API_validation_error};
	int rc = run_from_body(rq, &b, &p);

	if (rc == OK)
		rc = take_images(rq, endpoint, route_param(rq, "id"), b.images, b.model, &images, &p);
	if (rc == OK)
		add_run(rq, endpoint, &b, &(struct prompt){.text = b.text, .images = images});
	else
		api_refuse(rq, rc, &p);
	free(b.model);
}

static int list_runs(struct api_request *rq, struct tx *tx, const struct agent *a, int64_t limit, int64_t before_number,
    json_t *items, char **ret_next)
{
	AUTO(query) q = NULL;
	AUTO(run_info) last = NULL;
	int rc = runs_query(tx, a->id, before_number, limit + 1, &q);

	while (rc == OK) {
		AUTO(run_info) r = NULL;

		rc = runs_next(q, &r);
		if (rc == OK && last != NULL && (int64_t)json_array_size(items) == limit) {
			*ret_next = cursor_make(last->number, last->id);
			return OK;
		}
		if (rc == OK) {
			json_array_append_new(items, run_json(a, r, NULL, FORM_LIST));
			run_info_free(&last);
			last = TAKE(r);
		}
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* Runs of one agent are ordered by number, so their cursor holds the number in place of the time. */
static void get_runs(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO_JSON items = json_array();
	AUTO_STR id = NULL;
	AUTO_STR next = NULL;
	int64_t limit, number;
	int rc;

	limit = query_int_of(rq, "limit", 0);
	if (!query_cursor(rq, &number, &id))
		return;
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK && !load_visible_agent(rq, tx, route_param(rq, "id"), true, &a))
		return;
	if (rc == OK)
		rc = list_runs(rq, tx, a, limit, number, items, &next);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	json_t *body = json_pack("{s:O}", "items", items);

	json_put(body, "nextCursor", next);
	api_reply(rq, 200, body);
}

/* Agent and run of the path; false: answered. */
static bool load_run_of_path(struct api_request *rq, struct tx *tx, struct agent **ret_agent, struct run_info **ret_run)
{
	AUTO(run_info) r = NULL;
	int rc;

	if (!load_visible_agent(rq, tx, route_param(rq, "id"), true, ret_agent))
		return false;
	rc = run_load(tx, route_param(rq, "runId"), &r);
	if (rc == OK && strcmp(r->agent_id, (*ret_agent)->id) != 0)
		rc = ERR_NOT_FOUND;
	if (rc == OK)
		*ret_run = TAKE(r);
	else if (rc == ERR_NOT_FOUND)
		api_error(rq, API_run_not_found, "this agent has no run '%.60s'", route_param(rq, "runId"));
	else
		api_refuse(rq, rc, NULL);
	return rc == OK;
}

static void get_run(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO(run_info) r = NULL;
	AUTO_JSON wait = NULL;
	AUTO_JSON body = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK && !load_run_of_path(rq, tx, &a, &r))
		return;
	if (rc == OK && !run_status_is_terminal(r->status)) {
		rc = agent_wait(rq, tx, a, &wait);
	}
	if (rc == OK) {
		body = run_json(a, r, wait, FORM_FULL);
		rc = run_put_details(tx, a, r, body);
	}
	if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, TAKE(body));
}

static void add_usage(json_t *total, const json_t *usage)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)usage, key, v)
	    json_put_int(total, key, json_integer_value(json_object_get(total, key)) + json_integer_value(v));
}

static void get_usage(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO_JSON runs = NULL;
	const char *run_id = query_text_of(rq, "runId");
	json_t *total = json_pack("{s:i, s:i, s:i, s:i, s:i}", "inputTokens", 0, "outputTokens", 0, "cacheWriteTokens",
		   0, "cacheReadTokens", 0, "totalTokens", 0),
	       *run;
	AUTO_JSON owned = total;
	size_t i;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK && !load_visible_agent(rq, tx, route_param(rq, "id"), true, &a))
		return;
	if (rc == OK)
		rc = runs_usage(tx, a->id, run_id, &runs);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	if (run_id != NULL && json_array_size(runs) == 0) {
		api_error(rq, API_run_not_found, "this agent has no run '%.60s'", run_id);
		return;
	}
	json_array_foreach(runs, i, run) add_usage(total, json_object_get(run, "usage"));
	api_reply(rq, 200, json_pack("{s:O, s:O}", "totalUsage", total, "runs", runs));
}

static void post_cancel(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO(run_info) r = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK && !load_run_of_path(rq, tx, &a, &r))
		return;
	tx_free(&tx);
	if (rc == OK)
		rc = run_cancel(rq->api->cfg.runs, r->id);
	if (rc == ERR_CONFLICT)
		api_error(rq, API_run_not_cancellable, "the run has ended already");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s}", "id", r->id));
}

/* Where to go on after Last-Event-ID. False: answered. */
static bool resume_point(struct api_request *rq, struct tx *tx, const struct run_info *r, int64_t *ret_seq)
{
	const char *id = http_header_get(rq->x, "last-event-id");
	int rc;

	*ret_seq = 0;
	if (id == NULL || id[0] == '\0')
		return true;
	rc = strlen(id) < 64 ? stream_find_event(tx, r->id, id, ret_seq) : ERR_NOT_FOUND;
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_invalid_last_event_id, "Last-Event-ID is not an event of this run");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	return rc == OK;
}

static void get_stream(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO(run_info) r = NULL;
	int64_t after = 0, retention = runs_config(rq->api->cfg.runs)->stream_retention_ms;
	char seconds[24];
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	if (!load_run_of_path(rq, tx, &a, &r))
		return;
	if (r->ended_at != 0 && clock_wall_ms() - r->ended_at > retention) {
		api_error(rq, API_stream_expired,
		    "the events of this run are kept for %lld s after its end: read the run instead",
		    (long long)(retention / 1000));
		return;
	}
	if (!resume_point(rq, tx, r, &after))
		return;
	if (!streams_take(rq->api->streams, rq->who->owner, rq->api->cfg.max_streams_per_principal, rq->x)) {
		api_error_headers(rq, API_rate_limit_exceeded,
		    "you have as many streams open as you may (limits.max_streams_per_principal)",
		    &(struct http_header){"retry-after", "5"}, 1);
		return;
	}
	snprintf(seconds, sizeof seconds, "%lld", (long long)(retention / 1000));
	const struct http_header headers[] = {{"content-type", "text/event-stream"}, {"cache-control", "no-cache"},
	    {"x-accel-buffering", "no"}, {"x-cursor-stream-retention-seconds", seconds},
	    {"x-request-id", rq->request_id}};

	if (stream_open(rq->api->cfg.runs, rq->x, headers, ARRAY_LEN(headers), a->id, r->id, after, rq->who->key_id) ==
	    OK)
		rq->answered = true;
	else
		api_error_headers(rq, API_service_unavailable, "the server opens too many streams at the moment",
		    &(struct http_header){"retry-after", "5"}, 1);
}

static const struct route create_run = {
    .name = "createRun",
    .method = "POST",
    .path = "/v1/agents/{id}/runs",
    .summary = "Gives an idle agent its next prompt",
    .tag = "runs",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"required\":[\"prompt\"],\"properties\":{\"prompt\":" SCHEMA_PROMPT
		   ",\"mode\":" SCHEMA_MODE ",\"model\":" SCHEMA_MODEL ",\"envVars\":" SCHEMA_ENV_VARS
		   ",\"mcpServers\":" SCHEMA_MCP_SERVERS "}}",
    .max_body = PROMPT_BODY_MAX,
    .weight = PROMPT_BODY_WEIGHT,
    .responses = {{201, "The run: {run}", .form = "NewRun"}, {404, "There is no such agent"},
	{409, "A run of the agent is active, or the Idempotency-Key was used for something else"},
	{501, "Something that is not built yet was asked for"}},
    .handler = post_runs,
};
ROUTE(create_run);

static const struct route list_runs_route = {
    .name = "listRuns",
    .method = "GET",
    .path = "/v1/agents/{id}/runs",
    .summary = "The runs of an agent, newest first",
    .tag = "runs",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{" SCHEMA_PAGE "}}",
    .responses = {{200, "A page: {items, nextCursor?}", .form = "Runs"}, {404, "There is no such agent"}},
    .handler = get_runs,
};
ROUTE(list_runs_route);

static const struct route get_run_route = {
    .name = "getRun",
    .method = "GET",
    .path = "/v1/agents/{id}/runs/{runId}",
    .summary = "One run, and why it waits",
    .tag = "runs",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .responses = {{200, "The run", .form = "Run"}, {404, "There is no such agent or run"}},
    .handler = get_run,
};
ROUTE(get_run_route);

static const struct route get_usage_route = {
    .name = "getUsage",
    .method = "GET",
    .path = "/v1/agents/{id}/usage",
    .summary = "The tokens of an agent's runs",
    .tag = "runs",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{\"runId\":{\"type\":\"string\",\"description\":\"that run only\"}}}",
    .responses = {{200, "In all and run by run: {totalUsage, runs}", .form = "Usage"},
	{404, "There is no such agent or run"}},
    .handler = get_usage,
};
ROUTE(get_usage_route);

static const struct route stream_run = {
    .name = "streamRun",
    .method = "GET",
    .path = "/v1/agents/{id}/runs/{runId}/stream",
    .summary = "The events of a run, resumable with Last-Event-ID",
    .tag = "runs",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .streams = true,
    .responses = {{200, "Server-sent events", "text/event-stream"}, {400, "Last-Event-ID is not an event of the run"},
	{404, "There is no such agent or run"}, {410, "The events are not kept any more"}},
    .handler = get_stream,
};
ROUTE(stream_run);

static const struct route cancel_run_route = {
    .name = "cancelRun",
    .method = "POST",
    .path = "/v1/agents/{id}/runs/{runId}/cancel",
    .summary = "Cancels a run",
    .tag = "runs",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "It is CANCELLED in every read: {id}", .form = "Id"}, {404, "There is no such agent or run"},
	{409, "The run has ended already"}},
    .handler = post_cancel,
};
ROUTE(cancel_run_route);
