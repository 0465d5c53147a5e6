/* /v1/me, /v1/models, and what machines ask: /healthz, /readyz, /metrics, /openapi.yaml */
#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "server/api/api_priv.h"
#include "server/api/routes.h"
#include "server/models/models.h"
#include <string.h>

static void get_me(struct api_request *rq)
{
	json_t *o = json_object();
	char when[CLOCK_ISO_LEN];

	clock_iso8601(rq->who->key_created_at, when);
	json_put(o, "apiKeyName", rq->who->key_name);
	json_put(o, "createdAt", when);
	if (!principal_is_service_account(rq->who)) {
		json_put_int(o, "userId", rq->who->user_id);
		json_put(o, "userEmail", rq->who->user_email);
		json_put(o, "userFirstName", rq->who->user_name);
	}
	api_reply(rq, 200, o);
}

static json_t *model_json(const struct model *m)
{
	json_t *o =
	    json_pack("{s:s, s:s, s:s}", "id", m->id, "displayName", m->display_name, "description", m->description);

	if (json_array_size(m->aliases) > 0)
		json_object_set(o, "aliases", m->aliases);
	if (json_array_size(m->parameters) > 0)
		json_object_set(o, "parameters", m->parameters);
	json_object_set(o, "variants", m->variants);
	return o;
}

static void get_models(struct api_request *rq)
{
	json_t *items = json_array();
	size_t n;
	const struct model *models = models_all(&n);

	for (size_t i = 0; i < n; i++)
		json_array_append_new(items, model_json(&models[i]));
	api_reply(rq, 200, json_pack("{s:o}", "items", items));
}

static void healthz(struct api_request *rq)
{
	api_reply(rq, 200, json_pack("{s:s}", "status", "ok"));
}

/* Ready is who can take requests: the store answers. (While the server stops, every request is refused before it comes
 * here.) */
static void readyz(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	struct why gone;
	int64_t n;
	int rc;

	if (store_is_gone(rq->api->cfg.store, &gone)) {
		api_reply(rq, 503, json_pack("{s:s, s:s}", "status", "unavailable", "reason", gone.text));
		return;
	}
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM teams", "");
	if (rc != OK)
		api_reply(rq, 503, json_pack("{s:s, s:s}", "status", "unavailable", "reason", "store"));
	else
		api_reply(rq, 200,
		    json_pack("{s:s, s:i}", "status", "ok", "workers", (int)fleet_connected(rq->api->cfg.fleet)));
}

/* Tens of kilobytes; far from the bound, which only keeps a mistake from eating the memory. */
#define METRICS_MAX ((size_t)16 * 1024 * 1024)

static void get_metrics(struct api_request *rq)
{
	struct strbuf b = STRBUF(METRICS_MAX);
	int rc = metrics_write(&b);

	if (rc == OK)
		api_reply_bytes(rq, 200, METRICS_CONTENT_TYPE, strbuf_str(&b), b.len, NULL, 0);
	else
		api_refuse(rq, rc, NULL);
	strbuf_fini(&b);
}

static void get_openapi(struct api_request *rq)
{
	AUTO_STR text = openapi_text();

	api_reply_bytes(rq, 200, "application/yaml", text, strlen(text), NULL, 0);
}

static const struct route get_me_route = {
    .name = "getMe",
    .method = "GET",
    .path = "/v1/me",
    .summary = "Whose key this is",
    .tag = "meta",
    .rate = RATE_READ,
    .responses = {{200, "{apiKeyName, createdAt}, and for a user {userId, userEmail?, userFirstName?}", .form = "Me"}},
    .handler = get_me,
};
ROUTE(get_me_route);

static const struct route list_models_route = {
    .name = "listModels",
    .method = "GET",
    .path = "/v1/models",
    .summary = "The models that runs may have",
    .tag = "meta",
    .scope = SCOPE_MODELS_READ,
    .rate = RATE_READ,
    .responses = {{200, "{items}", .form = "Models"}},
    .handler = get_models,
};
ROUTE(list_models_route);

static const struct route healthz_route = {
    .name = "getHealth",
    .method = "GET",
    .path = "/healthz",
    .summary = "The process lives",
    .tag = "meta",
    .open = true,
    .responses = {{200, "{status}", .form = "Health"}},
    .handler = healthz,
};
ROUTE(healthz_route);

static const struct route readyz_route = {
    .name = "getReadiness",
    .method = "GET",
    .path = "/readyz",
    .summary = "The store answers",
    .tag = "meta",
    .open = true,
    .responses = {{200, "{status, workers}", .form = "Health"},
	{503, "Not ready: {status, reason}", "application/json", "NotReady"}},
    .handler = readyz,
};
ROUTE(readyz_route);

static const struct route metrics_route = {
    .name = "getMetrics",
    .method = "GET",
    .path = "/metrics",
    .summary = "Figures in the text format of Prometheus",
    .tag = "meta",
    .open_on_loopback = true,
    .scope = SCOPE_METRICS_READ,
    .responses = {{200, "The figures", "text/plain"}},
    .handler = get_metrics,
};
ROUTE(metrics_route);

static const struct route openapi_route = {
    .name = "getOpenapi",
    .method = "GET",
    .path = "/openapi.yaml",
    .summary = "This document",
    .tag = "meta",
    .open = true,
    .responses = {{200, "OpenAPI 3.1", "application/yaml"}},
    .handler = get_openapi,
};
ROUTE(openapi_route);
