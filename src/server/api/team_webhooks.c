/* /v1/webhooks: addresses that are told when a run of any agent of the team has ended. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "net/fetch.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/webhooks/team.h"
#include <string.h>
#include <strings.h>

#define NAME_CHARACTERS 100
#define EVENTS_MAX 10

static void refuse(struct api_request *rq, int rc)
{
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_webhook_not_found, "there is no such webhook");
	else if (rc == ERR_FULL)
		api_error(rq, API_webhook_limit, "the team has %d webhooks already", TEAM_WEBHOOKS_MAX);
	else
		api_refuse(rq, rc, NULL);
}

static void get_webhooks(struct api_request *rq)
{
	AUTO_JSON items = NULL;
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = team_webhook_list(tx, rq->who->team_id, &items);
	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:O}", "items", items));
	else
		api_refuse(rq, rc, NULL);
}

static bool is_url_taken(struct api_request *rq, const char *url)
{
	struct why why = {0};

	if (text_code_points(url) > WEBHOOK_URL_MAX)
		api_error(rq, API_validation_error, "'url' must be at most %d characters", WEBHOOK_URL_MAX);
	else if (fetch_check_url(url, rq->api->cfg.allow_private_urls, &why) != OK)
		api_error(rq, API_validation_error, "'url' %s", why.text);
	else if (!rq->api->cfg.allow_http_webhooks && strncasecmp(url, "https:", 6) != 0)
		api_error(rq, API_validation_error, "'url' must be https (the server's webhooks.allow_http is off)");
	else
		return true;
	return false;
}

static bool are_events_known(struct api_request *rq, const json_t *events)
{
	const json_t *e;
	size_t i;

	if (json_array_size(events) == 0) {
		api_error(rq, API_validation_error, "'events' must not be empty: " TEAM_WEBHOOK_EVENTS);
		return false;
	}
	json_array_foreach((json_t *)events, i, e)
	{
		if (team_webhook_event_is_known(json_string_value(e)))
			continue;
		api_error(rq, API_validation_error, "'events[%zu]' must be one of " TEAM_WEBHOOK_EVENTS, i);
		return false;
	}
	return true;
}

/* False: answered. */
static bool read_new(struct api_request *rq, const json_t *events, struct team_webhook *w)
{
	w->name = json_string_value(json_object_get(rq->body, "name"));
	w->url = json_word(rq->body, "url");
	w->secret = json_string_value(json_object_get(rq->body, "secret"));
	w->events = events;
	if (w->name == NULL)
		w->name = "";
	if (text_code_points(w->name) > NAME_CHARACTERS) {
		api_error(rq, API_validation_error, "'name' must be at most %d characters", NAME_CHARACTERS);
		return false;
	}
	if (w->secret != NULL &&
	    (text_code_points(w->secret) < WEBHOOK_SECRET_MIN || text_code_points(w->secret) > WEBHOOK_SECRET_MAX)) {
		api_error(rq, API_validation_error, "'secret' must be %d to %d characters", WEBHOOK_SECRET_MIN,
		    WEBHOOK_SECRET_MAX);
		return false;
	}
	return is_url_taken(rq, w->url) && are_events_known(rq, events);
}

struct adding {
	struct api_request *rq;
	const struct team_webhook *w;
	char *id;
};

static int add_in(struct tx *tx, void *arg)
{
	struct adding *a = arg;
	const struct audit_by by = request_by(a->rq);
	int rc;

	str_free(&a->id); /* of an attempt that is repeated */
	rc = team_webhook_add(tx, a->rq->api->cfg.seal, a->w, &a->id);
	return rc != OK ? rc
			: audit_write(tx, &by, "team_webhook",
			      json_pack("{s:s, s:s, s:s}", "change", "created", "id", a->id, "url", a->w->url));
}

static void post_webhook(struct api_request *rq)
{
	AUTO_JSON events = json_incref(json_object_get(rq->body, "events"));
	const char *base = atomic_load(&rq->api->web_base);
	struct team_webhook w = {.team_id = rq->who->team_id,
	    .base_url = base != NULL ? base : "",
	    .created_by = rq->who->owner,
	    .created_at = clock_wall_ms()};
	struct adding a = {.rq = rq, .w = &w};
	char own[65] = "", when[CLOCK_ISO_LEN];
	int rc;

	if (events == NULL)
		events = json_pack("[s]", "statusChange");
	if (!read_new(rq, events, &w))
		return;
	if (w.secret == NULL) {
		id_hex(own, 32);
		w.secret = own;
	}
	rc = store_write(rq->api->cfg.store, add_in, &a);
	if (rc == OK) {
		json_t *o = json_pack("{s:s, s:s, s:s, s:O, s:s}", "id", a.id, "name", w.name, "url", w.url, "events",
		    events, "createdBy", w.created_by);

		clock_iso8601(w.created_at, when);
		json_put(o, "createdAt", when);
		json_put(o, "secret", own[0] != '\0' ? own : NULL);
		api_reply(rq, 201, o);
	} else {
		refuse(rq, rc);
	}
	explicit_bzero(own, sizeof own);
	str_free(&a.id);
}

static int remove_in(struct tx *tx, void *arg)
{
	struct api_request *rq = arg;
	const struct audit_by by = request_by(rq);
	AUTO_STR url = NULL;
	int rc = team_webhook_remove(tx, rq->who->team_id, route_param(rq, "id"), &url);

	return rc != OK
		   ? rc
		   : audit_write(tx, &by, "team_webhook",
			 json_pack("{s:s, s:s, s:s}", "change", "deleted", "id", route_param(rq, "id"), "url", url));
}

static void delete_webhook(struct api_request *rq)
{
	int rc = store_write(rq->api->cfg.store, remove_in, rq);

	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:s}", "id", route_param(rq, "id")));
	else
		refuse(rq, rc);
}

static void get_deliveries(struct api_request *rq)
{
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
		rc = team_webhook_find(tx, rq->who->team_id, route_param(rq, "id"));
	if (rc == OK)
		rc = team_delivery_list(tx, route_param(rq, "id"), query_text_of(rq, "state"), before, before_id,
		    query_int_of(rq, "limit", 20), &items, &next, &next_id);
	if (rc != OK) {
		refuse(rq, rc);
		return;
	}
	o = json_pack("{s:O}", "items", items);
	if (next_id != NULL) {
		AUTO_STR cursor = cursor_make(next, next_id);

		json_put(o, "nextCursor", cursor);
	}
	api_reply(rq, 200, o);
}

static int again_in(struct tx *tx, void *arg)
{
	struct api_request *rq = arg;

	return team_delivery_again(
	    tx, rq->who->team_id, route_param(rq, "id"), route_param(rq, "deliveryId"), clock_wall_ms());
}

static void post_redeliver(struct api_request *rq)
{
	int rc = store_write(rq->api->cfg.store, again_in, rq);

	if (rc == OK)
		api_reply(rq, 202, json_pack("{s:s}", "id", route_param(rq, "deliveryId")));
	else if (rc == ERR_NOT_FOUND)
		api_error(rq, API_delivery_not_found, "this webhook has no such delivery (any more)");
	else if (rc == ERR_CONFLICT)
		api_error(rq, API_delivery_not_ended, "it waits for its next attempt already");
	else
		api_refuse(rq, rc, NULL);
}

static const struct route list_webhooks = {
    .name = "listTeamWebhooks",
    .method = "GET",
    .path = "/v1/webhooks",
    .summary = "The team's webhooks, with how many deliveries wait and how many are dead",
    .tag = "webhooks",
    .scope = SCOPE_WEBHOOKS_WRITE,
    .rate = RATE_READ,
    .responses = {{200, "{items}", .form = "TeamWebhooks"}},
    .handler = get_webhooks,
};
ROUTE(list_webhooks);

static const struct route create_webhook = {
    .name = "createTeamWebhook",
    .method = "POST",
    .path = "/v1/webhooks",
    .summary =
	"An address that is told when a run of any agent of the team has ended. A secret that is made here is shown "
	"this once",
    .tag = "webhooks",
    .scope = SCOPE_WEBHOOKS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{" SCHEMA_STRICT ",\"required\":[\"url\"],\"properties\":{\"url\":{\"type\":\"string\",\"minLength\":1},"
	"\"name\":" SCHEMA_STRING
	",\"secret\":{\"type\":\"string\",\"description\":\"32 to 256 characters; absent: one "
	"is made\"},\"events\":{\"type\":\"array\",\"maxItems\":10,\"items\":" SCHEMA_STRING
	",\"description\":\"" TEAM_WEBHOOK_EVENTS "; absent: all\"}}}",
    .responses = {{201, "The webhook, with its secret if it was made here", .form = "TeamWebhook"},
	{409, "The team has as many as it may"}},
    .handler = post_webhook,
};
ROUTE(create_webhook);

static const struct route remove_webhook = {
    .name = "deleteTeamWebhook",
    .method = "DELETE",
    .path = "/v1/webhooks/{id}",
    .summary = "Forgets the address and what was not delivered to it",
    .tag = "webhooks",
    .scope = SCOPE_WEBHOOKS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such webhook"}},
    .handler = delete_webhook,
};
ROUTE(remove_webhook);

static const struct route list_deliveries = {
    .name = "listTeamWebhookDeliveries",
    .method = "GET",
    .path = "/v1/webhooks/{id}/deliveries",
    .summary = "What was told there, waits, or is dead, newest first; for seven days after its end",
    .tag = "webhooks",
    .scope = SCOPE_WEBHOOKS_WRITE,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{\"state\":{\"type\":\"string\",\"enum\":[\"waiting\",\"delivered\","
	     "\"dead\"]}," SCHEMA_PAGE "}}",
    .responses = {{200, "{items, nextCursor?}", .form = "Deliveries"}, {404, "There is no such webhook"}},
    .handler = get_deliveries,
};
ROUTE(list_deliveries);

static const struct route redeliver = {
    .name = "redeliverTeamWebhook",
    .method = "POST",
    .path = "/v1/webhooks/{id}/deliveries/{deliveryId}/redeliver",
    .summary = "Delivers it once more, with the same id",
    .tag = "webhooks",
    .scope = SCOPE_WEBHOOKS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{202, "{id}", .form = "Id"}, {404, "There is no such delivery"}, {409, "It has not ended yet"}},
    .handler = post_redeliver,
};
ROUTE(redeliver);
