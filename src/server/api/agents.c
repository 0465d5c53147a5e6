/* /v1/agents */
#include "server/api/agents.h"
#include "base/mem.h"
#include <string.h>

/* The rest of the create in one transaction; *ret_body is the answer. OK, or the answer was given. */
static int create_agent(
    struct api_request *rq, struct agent *a, const struct prompt *prompt, json_t **ret_body, struct created *made)
{
	AUTO(tx) tx = NULL;
	struct problem p = {.code = API_validation_error};
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc == OK) {
		rc = idempotency_check(rq, tx, AGENTS_ENDPOINT);
		if (rc != OK)
			return rc;
		rc = agent_route(rq, tx, a, &p);
	}
	if (rc == OK)
		rc = agent_create(rq->api->cfg.runs, tx, a, prompt, made);
	if (rc == ERR_CONFLICT) {
		api_error(rq, API_agent_id_conflict, "agent id %s is taken", a->id);
		return rc;
	}
	if (rc == OK) {
		*ret_body = json_pack("{s:o, s:o}", "agent", agent_json(rq->api, a, FORM_FULL), "run",
		    run_json(a, made->run, NULL, FORM_FULL));
		rc = idempotency_keep(rq, tx, AGENTS_ENDPOINT, 201, *ret_body);
	}
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		api_refuse(rq, rc, &p);
	return rc;
}

static void post_agents(struct api_request *rq)
{
	AUTO(agent) a = NEW(struct agent);
	AUTO_JSON body = NULL;
	__attribute__((cleanup(created_fini))) struct created made = {0};
	struct problem p = {.code = API_validation_error};
	struct prompt prompt = {0};
	AUTO_JSON images = NULL;
	int rc = agent_from_body(rq, a, &prompt, &images, &p);

	if (rc != OK) {
		api_refuse(rq, rc, &p);
		return;
	}
	if (create_agent(rq, a, &prompt, &body, &made) != OK)
		return;
	api_reply(rq, 201, TAKE(body));
	runs_created(rq->api->cfg.runs, &made);
}

/* One row more than asked for tells whether there is a next page. */
static int list_agents(
    struct api_request *rq, int64_t limit, int64_t created_at, const char *id, json_t *items, char **ret_next)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	AUTO(agent) last = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = agents_query(tx, rq->who->owner, created_at, id, limit + 1, &q);
	while (rc == OK) {
		AUTO(agent) a = NULL;

		rc = agents_next(q, &a);
		if (rc == OK && (int64_t)json_array_size(items) == limit) {
			*ret_next = cursor_make(last->created_at, last->id);
			return OK;
		}
		if (rc == OK) {
			json_array_append_new(items, agent_json(rq->api, a, FORM_LIST));
			agent_free(&last);
			last = TAKE(a);
		}
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static void get_agents(struct api_request *rq)
{
	AUTO_JSON items = json_array();
	AUTO_STR id = NULL;
	AUTO_STR next = NULL;
	int64_t limit, created_at;
	bool include_archived = true;
	int rc = OK;

	if (!query_limit(rq, &limit) || !query_cursor(rq, &created_at, &id) ||
	    !query_bool(rq, "includeArchived", &include_archived))
		return;
	/* No agent here has a pull request. */
	if (query_get(rq, "prUrl") == NULL)
		rc = list_agents(rq, limit, created_at, id, items, &next);
	if (rc != OK) {
		api_fail(rq, rc);
		return;
	}
	json_t *body = json_pack("{s:O}", "items", items);

	json_put(body, "nextCursor", next);
	api_reply(rq, 200, body);
}

static void get_agent(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc != OK)
		api_fail(rq, rc);
	else if (load_visible_agent(rq, tx, rq->params[0], true, &a))
		api_reply(rq, 200, agent_json(rq->api, a, FORM_FULL));
}

static const char *const list_keys[] = {"limit", "cursor", "prUrl", "includeArchived", NULL};

const struct route agent_routes[] = {
    {"POST", "/v1/agents", ROUTE_BODY | ROUTE_MUTATES | ROUTE_BIG_BODY, post_agents, NULL},
    {"GET", "/v1/agents", 0, get_agents, list_keys},
    {"GET", "/v1/agents/{}", 0, get_agent, NULL},
    {0},
};
