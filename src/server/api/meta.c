/* /v1/me, /v1/models, /healthz, /readyz */
#include "base/clock.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/models/models.h"

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
	int64_t n;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM teams", "");
	if (rc != OK)
		api_reply(rq, 503, json_pack("{s:s, s:s}", "status", "unavailable", "reason", "store"));
	else
		api_reply(rq, 200,
		    json_pack("{s:s, s:i}", "status", "ok", "workers", (int)fleet_connected(rq->api->cfg.fleet)));
}

const struct route meta_routes[] = {
    {"GET", "/v1/me", 0, get_me, NULL},
    {"GET", "/v1/models", 0, get_models, NULL},
    {"GET", "/healthz", ROUTE_OPEN, healthz, NULL},
    {"GET", "/readyz", ROUTE_OPEN, readyz, NULL},
    {0},
};
