/* /v1/automations: agents that begin by a schedule or a webhook. A principal's own only. */
#include "server/automations/automations.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/api/inside.h"
#include "server/automations/cron.h"
#include <string.h>

#define LIST_MAX 100

static void put_time_of(json_t *o, const char *key, int64_t ms)
{
	char when[CLOCK_ISO_LEN];

	clock_iso8601(ms, when);
	json_put(o, key, when);
}

/* `secret` (NULL: not shown) is that of its webhook. */
static json_t *automation_json(struct api *api, const struct automation *a, const char *secret)
{
	const char *base = atomic_load(&api->web_base);
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "id", a->id, "owner", a->owner, "name", a->name,
		   "prompt", a->prompt, "concurrency", a->concurrency, "enabled", a->enabled),
	       *part;

	json_object_update_missing(o, a->launch);
	if (a->cron != NULL)
		json_put_new(o, "schedule",
		    json_pack("{s:s, s:s, s:s}", "cron", a->cron, "timeZone", a->time_zone, "missed", a->missed));
	if (a->next_at != 0)
		put_time_of(o, "nextRunAt", a->next_at);
	if (a->secret != NULL) {
		AUTO_STR url = str_printf("%s/webhooks/automations/%s", base != NULL ? base : "", a->id);

		part = json_pack("{s:s, s:b}", "url", url, "timestamp", a->timestamped);
		json_put(part, "secret", secret);
		json_put_new(o, "webhook", part);
	}
	put_time_of(o, "createdAt", a->created_at);
	put_time_of(o, "updatedAt", a->updated_at);
	return o;
}

/* Reading bodies; what a member does not say stays as it is. ERR_INVALID with p. */
static int read_schedule(const json_t *body, struct automation *a, struct problem *p)
{
	static const char *const keys[] = {"cron", "timeZone", "missed", NULL};
	const json_t *s = json_object_get(body, "schedule");
	const char *cron = NULL, *zone = a->time_zone != NULL ? a->time_zone : "UTC",
		   *missed = a->missed != NULL ? a->missed : "skip";
	struct why why = {0};

	if (s == NULL)
		return OK;
	if (json_is_null(s)) {
		str_free(&a->cron);
		str_free(&a->time_zone);
		str_free(&a->missed);
		return OK;
	}
	if (!json_is_object(s))
		return problem_set(p, API_validation_error, "'schedule' must be an object, or null for none");
	cron = a->cron;
	if (json_only_keys(s, keys, "schedule", &why) != OK || json_get_string(s, "cron", &cron, &why) != OK ||
	    json_get_string(s, "timeZone", &zone, &why) != OK || json_get_string(s, "missed", &missed, &why) != OK)
		return problem_set(p, API_validation_error, "'schedule': %s", why.text);
	if (cron == NULL)
		return problem_set(p, API_validation_error, "'schedule.cron' is required");
	if (strlen(cron) > CRON_TEXT_MAX || strlen(zone) > ZONE_NAME_MAX)
		return problem_set(p, API_validation_error, "'schedule': cron has at most %d characters, timeZone %d",
		    CRON_TEXT_MAX, ZONE_NAME_MAX);
	if (strcmp(missed, "skip") != 0 && strcmp(missed, "once") != 0)
		return problem_set(p, API_validation_error, "'schedule.missed' must be skip or once");
	/* They may be a's own. */
	AUTO_STR own_cron = str_dup(cron);
	AUTO_STR own_zone = str_dup(zone);
	AUTO_STR own_missed = str_dup(missed);

	str_set(&a->cron, own_cron);
	str_set(&a->time_zone, own_zone);
	str_set(&a->missed, own_missed);
	return OK;
}

/* *ret_secret: a new one, if there is one. */
static int read_webhook(
    struct api_request *rq, struct automation *a, int64_t now_ms, char **ret_secret, struct problem *p)
{
	static const char *const keys[] = {"timestamp", "rotateSecret", NULL};
	const json_t *w = json_object_get(rq->body, "webhook");
	bool rotate = false;
	struct why why = {0};

	if (w == NULL)
		return OK;
	if (json_is_null(w)) {
		str_free(&a->secret);
		str_free(&a->old_secret);
		return OK;
	}
	if (!json_is_object(w))
		return problem_set(p, API_validation_error, "'webhook' must be an object, or null for none");
	if (json_only_keys(w, keys, "webhook", &why) != OK ||
	    json_get_bool(w, "timestamp", &a->timestamped, &why) != OK ||
	    json_get_bool(w, "rotateSecret", &rotate, &why) != OK)
		return problem_set(p, API_validation_error, "'webhook': %s", why.text);
	if (a->secret == NULL || rotate)
		*ret_secret = automation_new_secret(a, rq->api->cfg.seal, now_ms);
	return OK;
}

static void read_launch(const json_t *body, struct automation *a)
{
	static const char *const keys[] = {"repos", "env", "model", "autoCreatePR", "mode"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		json_t *v = json_object_get(body, keys[i]);

		if (v != NULL)
			json_object_set(a->launch, keys[i], v);
	}
}

static int read_texts(const json_t *body, struct automation *a, struct problem *p)
{
	const char *name = json_string_value(json_object_get(body, "name"));
	const char *prompt = json_string_value(json_object_get(body, "prompt"));
	const char *concurrency = json_string_value(json_object_get(body, "concurrency"));
	const json_t *enabled = json_object_get(body, "enabled");

	if (name != NULL && (text_is_blank(name) || text_code_points(name) > AUTOMATION_NAME_MAX))
		return problem_set(
		    p, API_validation_error, "'name' must be 1 to %d characters, not blank", AUTOMATION_NAME_MAX);
	if (prompt != NULL && (text_is_blank(prompt) || strlen(prompt) > AUTOMATION_PROMPT_MAX))
		return problem_set(p, API_validation_error, "'prompt' must be 1 to %zu bytes, not blank",
		    (size_t)AUTOMATION_PROMPT_MAX);
	if (name != NULL)
		str_set(&a->name, name);
	if (prompt != NULL)
		str_set(&a->prompt, prompt);
	if (concurrency != NULL)
		str_set(&a->concurrency, concurrency);
	if (enabled != NULL)
		a->enabled = json_is_true(enabled);
	return OK;
}

static int read_body(struct api_request *rq, struct automation *a, int64_t now_ms, char **ret_secret, struct problem *p)
{
	AUTO_JSON launch = NULL;
	struct why why = {0};
	int rc = read_texts(rq->body, a, p);

	if (rc == OK)
		rc = read_schedule(rq->body, a, p);
	if (rc == OK && automation_plan(a, now_ms, &why) != OK)
		rc = problem_set(p, API_validation_error, "'schedule': %s", why.text);
	if (rc == OK)
		rc = read_webhook(rq, a, now_ms, ret_secret, p);
	if (rc != OK)
		return rc;
	read_launch(rq->body, a);
	launch = json_deep_copy(a->launch);
	json_put_new(launch, "prompt", json_pack("{s:s}", "text", a->prompt));
	return inside_check(rq->api, rq->who, launch, p);
}

/* `secret` is taken and wiped. */
static void reply_saved(
    struct api_request *rq, int rc, int status, const struct automation *a, char *secret, const struct problem *p)
{
	if (rc == OK)
		api_reply(rq, status, automation_json(rq->api, a, secret));
	else if (rc == ERR_FULL)
		api_error(rq, API_automation_limit, "there are %d automations of this owner already", AUTOMATIONS_MAX);
	else if (rc == ERR_NOT_FOUND)
		api_error(rq, API_automation_not_found, "there is no such automation");
	else
		api_refuse(rq, rc, p);
	str_wipe(&secret);
}

static int insert_in(struct tx *tx, void *arg)
{
	return automation_insert(tx, arg);
}

static void post_automation(struct api_request *rq)
{
	AUTO(automation) a = NEW(struct automation);
	struct problem p = {0};
	char *secret = NULL;
	int64_t now = clock_wall_ms();
	int rc;

	a->id = id_new("auto-");
	a->team_id = rq->who->team_id;
	a->owner = str_dup(rq->who->owner);
	a->launch = json_object();
	a->concurrency = str_dup("skip");
	a->enabled = a->timestamped = true;
	a->created_at = a->updated_at = now;
	rc = read_body(rq, a, now, &secret, &p);
	if (rc == OK)
		rc = store_write(rq->api->cfg.store, insert_in, a);
	reply_saved(rq, rc, 201, a, secret, &p);
}

/* One of one's own. */
static int load_own(struct api_request *rq, struct tx *tx, struct automation **ret)
{
	AUTO(automation) a = NULL;
	int rc = automation_load(tx, route_param(rq, "id"), &a);

	if (rc == OK && strcmp(a->owner, rq->who->owner) != 0)
		rc = ERR_NOT_FOUND;
	if (rc == OK)
		*ret = TAKE(a);
	return rc;
}

static void patch_automation(struct api_request *rq)
{
	AUTO(automation) a = NULL;
	AUTO(automation) now_there = NULL;
	AUTO(tx) tx = NULL;
	struct problem p = {0};
	char *secret = NULL;
	int64_t now = clock_wall_ms(), read_at = 0;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = load_own(rq, tx, &a);
	tx_free(&tx);
	if (rc == OK) {
		read_at = a->updated_at;
		rc = read_body(rq, a, now, &secret, &p);
		a->updated_at = MAX(now, read_at + 1);
	}
	if (rc == OK)
		rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);
	if (rc == OK)
		rc = load_own(rq, tx, &now_there);
	if (rc == OK && now_there->updated_at != read_at)
		rc = ERR_AGAIN; /* somebody else changes it at this moment */
	/* A new name must not cost the time that has just come. */
	if (rc == OK && json_object_get(rq->body, "schedule") == NULL && a->enabled == now_there->enabled)
		a->next_at = now_there->next_at;
	if (rc == OK)
		rc = automation_update(tx, a);
	if (rc == OK)
		rc = tx_commit(&tx);
	reply_saved(rq, rc, 200, a, secret, &p);
}

static void get_automation(struct api_request *rq)
{
	AUTO(automation) a = NULL;
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = load_own(rq, tx, &a);
	reply_saved(rq, rc, 200, a, NULL, NULL);
}

static int delete_in(struct tx *tx, void *arg)
{
	struct api_request *rq = arg;
	AUTO(automation) a = NULL;
	int rc = load_own(rq, tx, &a);

	return rc == OK ? automation_delete(tx, a->id) : rc;
}

static void delete_automation(struct api_request *rq)
{
	int rc = store_write(rq->api->cfg.store, delete_in, rq);

	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:s}", "id", route_param(rq, "id")));
	else
		reply_saved(rq, rc, 200, NULL, NULL, NULL);
}

static void list_automations(struct api_request *rq)
{
	struct automation *found[LIST_MAX + 1] = {0};
	int64_t limit = query_int_of(rq, "limit", 20), before = 0;
	AUTO(tx) tx = NULL;
	AUTO_STR before_id = NULL;
	json_t *items;
	size_t n = 0;
	int rc;

	if (!query_cursor(rq, &before, &before_id))
		return;
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = automation_list(tx, rq->who->owner, before, before_id, limit + 1, found, &n);
	if (rc == OK) {
		json_t *o = json_pack("{s:o}", "items", items = json_array());

		for (size_t i = 0; i < MIN(n, (size_t)limit); i++)
			json_array_append_new(items, automation_json(rq->api, found[i], NULL));
		if (n > (size_t)limit) {
			AUTO_STR cursor = cursor_make(found[limit - 1]->created_at, found[limit - 1]->id);

			json_put(o, "nextCursor", cursor);
		}
		api_reply(rq, 200, o);
	} else {
		api_refuse(rq, rc, NULL);
	}
	for (size_t i = 0; i < ARRAY_LEN(found); i++)
		automation_free(&found[i]);
}

struct starting {
	struct api_request *rq;
	json_t *run;
};

static int start_in(struct tx *tx, void *arg)
{
	struct starting *s = arg;
	AUTO(automation) a = NULL;
	char uuid[UUID_LEN], id[AUTOMATION_RUN_ID_LEN];
	int64_t now = clock_wall_ms();
	int rc = load_own(s->rq, tx, &a);

	if (rc != OK)
		return rc;
	id_uuid(uuid);
	AUTO_STR tick = str_printf("manual/%s", uuid);
	const struct automation_tick t = {.automation_id = a->id, .tick = tick, .cause = "manual", .at_ms = now};

	json_drop(&s->run); /* of an attempt that is repeated */
	rc = automation_fire(tx, &t, now, id);
	return rc == OK ? automation_run(tx, id, &s->run) : rc;
}

static void run_automation(struct api_request *rq)
{
	struct starting s = {.rq = rq};
	int rc = store_write(rq->api->cfg.store, start_in, &s);

	if (rc == OK)
		api_reply(rq, 202, TAKE(s.run));
	else
		reply_saved(rq, rc, 200, NULL, NULL, NULL);
	json_drop(&s.run);
}

static void list_automation_runs(struct api_request *rq)
{
	AUTO(automation) a = NULL;
	AUTO(tx) tx = NULL;
	AUTO_JSON items = NULL;
	AUTO_STR before_id = NULL;
	AUTO_STR next_id = NULL;
	int64_t before = 0, next = 0;
	json_t *o;
	int rc;

	if (!query_cursor(rq, &before, &before_id))
		return;
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = load_own(rq, tx, &a);
	if (rc == OK)
		rc = automation_runs(
		    tx, a->id, before, before_id, query_int_of(rq, "limit", 20), &items, &next, &next_id);
	if (rc != OK) {
		reply_saved(rq, rc, 200, NULL, NULL, NULL);
		return;
	}
	o = json_pack("{s:O}", "items", items);
	if (next_id != NULL) {
		AUTO_STR cursor = cursor_make(next, next_id);

		json_put(o, "nextCursor", cursor);
	}
	api_reply(rq, 200, o);
}

#define MEMBERS                                                                                                        \
	"\"name\":{\"type\":\"string\",\"description\":\"1 to 100 characters, not blank\"},\"prompt\":{\"type\":"      \
	"\"string\",\"description\":\"at most 64 KiB; with a webhook {{path.to.value}} stands for a value of its "     \
	"body\"},\"repos\":{\"type\":\"array\",\"maxItems\":20,\"items\":{" SCHEMA_STRICT                              \
	",\"required\":[\"url\"],\"properties\":{\"url\":{\"type\":\"string\",\"minLength\":1},"                       \
	"\"startingRef\":" SCHEMA_STRING "}}},\"env\":{" SCHEMA_STRICT                                                 \
	",\"required\":[\"type\"],\"properties\":{\"type\":{\"type\":\"string\",\"enum\":["                            \
	"\"cloud\",\"pool\",\"machine\"]},\"name\":{\"type\":\"string\",\"minLength\":1}}},\"model\":" SCHEMA_MODEL    \
	",\"autoCreatePR\":" SCHEMA_FLAG ",\"mode\":" SCHEMA_MODE                                                      \
	",\"concurrency\":{\"type\":\"string\",\"enum\":[\"skip\",\"queue\"],\"description\":\"when it is time and "   \
	"the last run is not over; skip unless said\"},\"enabled\":" SCHEMA_FLAG                                       \
	",\"schedule\":{\"description\":\"{cron, timeZone (UTC), missed (skip, or once)}, or null for none\"}"         \
	",\"webhook\":{\"description\":\"{timestamp (true), rotateSecret}, or null for none\"}"

static const struct route list_route = {
    .name = "listAutomations",
    .method = "GET",
    .path = "/v1/automations",
    .summary = "The caller's automations, newest first",
    .tag = "automations",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{" SCHEMA_PAGE "}}",
    .responses = {{200, "{items, nextCursor?}", .form = "Automations"}},
    .handler = list_automations,
};
ROUTE(list_route);

static const struct route create_route = {
    .name = "createAutomation",
    .method = "POST",
    .path = "/v1/automations",
    .summary =
	"An agent that begins by a schedule, by a webhook, or when it is asked to. The webhook's secret is shown "
	"this once",
    .tag = "automations",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"required\":[\"name\",\"prompt\"],\"properties\":{" MEMBERS "}}",
    .responses = {{201, "The automation", .form = "Automation"}, {409, "The owner has as many as she may"}},
    .handler = post_automation,
};
ROUTE(create_route);

static const struct route get_route = {
    .name = "getAutomation",
    .method = "GET",
    .path = "/v1/automations/{id}",
    .summary = "One of the caller's automations",
    .tag = "automations",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .responses = {{200, "The automation", .form = "Automation"}, {404, "There is no such automation"}},
    .handler = get_automation,
};
ROUTE(get_route);

static const struct route patch_route = {
    .name = "changeAutomation",
    .method = "PATCH",
    .path = "/v1/automations/{id}",
    .summary = "Changes what is given. A schedule that is given begins anew: times before now are not made up for",
    .tag = "automations",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"properties\":{" MEMBERS "}}",
    .responses = {{200, "The automation, with a new secret if there is one", .form = "Automation"},
	{404, "There is no such automation"}},
    .handler = patch_automation,
};
ROUTE(patch_route);

static const struct route delete_route = {
    .name = "deleteAutomation",
    .method = "DELETE",
    .path = "/v1/automations/{id}",
    .summary = "Forgets it and its history; agents that it made stay",
    .tag = "automations",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such automation"}},
    .handler = delete_automation,
};
ROUTE(delete_route);

static const struct route run_route = {
    .name = "runAutomation",
    .method = "POST",
    .path = "/v1/automations/{id}/run",
    .summary = "Runs it now, also if it is switched off; what comes of it is in its runs",
    .tag = "automations",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{202, "The run", .form = "AutomationRun"}, {404, "There is no such automation"}},
    .handler = run_automation,
};
ROUTE(run_route);

static const struct route runs_route = {
    .name = "listAutomationRuns",
    .method = "GET",
    .path = "/v1/automations/{id}/runs",
    .summary = "What became of its times, webhooks and requests, newest first; for thirty days",
    .tag = "automations",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{" SCHEMA_PAGE "}}",
    .responses = {{200, "{items, nextCursor?}", .form = "AutomationRuns"}, {404, "There is no such automation"}},
    .handler = list_automation_runs,
};
ROUTE(runs_route);
