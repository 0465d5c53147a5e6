/* /v1/agents */
#include "server/api/agents.h"
#include "base/mem.h"
#include "server/api/bodies.h"
#include "server/runs/subagents.h"
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
	if (rc == OK)
		rc = keep_inputs(rq, tx, a->id, made->run->id, true);
	if (rc == OK)
		rc = subagents_store(tx, a->id, json_object_get(rq->body, "customSubagents"));
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
		rc = agents_query(tx, rq->who->owner, !json_is_false(json_object_get(rq->query, "includeArchived")),
		    created_at, id, limit + 1, &q);
	while (rc == OK) {
		AUTO(agent) a = NULL;

		rc = agents_next(q, &a);
		if (rc == OK && last != NULL && (int64_t)json_array_size(items) == limit) {
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
	int rc = OK;

	limit = query_int_of(rq, "limit", 0);
	if (!query_cursor(rq, &created_at, &id))
		return;
	/* No agent here has a pull request. */
	if (query_text_of(rq, "prUrl") == NULL)
		rc = list_agents(rq, limit, created_at, id, items, &next);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	json_t *body = json_pack("{s:O}", "items", items);

	json_put(body, "nextCursor", next);
	api_reply(rq, 200, body);
}

/* With the reason why its run waits, if it does. */
static void reply_agent(struct api_request *rq, struct tx *tx, const struct agent *a)
{
	AUTO_JSON wait = NULL;
	json_t *body;
	int rc = agent_wait(rq, tx, a, &wait);

	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	body = agent_json(rq->api, a, FORM_FULL);
	if (wait != NULL)
		json_object_set(body, "wait", wait);
	api_reply(rq, 200, body);
}

static void get_agent(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc != OK)
		api_refuse(rq, rc, NULL);
	else if (load_visible_agent(rq, tx, route_param(rq, "id"), true, &a))
		reply_agent(rq, tx, a);
}

#define REPO_SCHEMA                                                                                                    \
	"{" SCHEMA_STRICT ",\"required\":[\"url\"],\"properties\":{\"url\":{\"type\":\"string\",\"minLength\":1},"     \
	"\"startingRef\":" SCHEMA_STRING ",\"prUrl\":" SCHEMA_STRING "}}"
#define ENV_SCHEMA                                                                                                     \
	"{" SCHEMA_STRICT ",\"required\":[\"type\"],\"properties\":{\"type\":{\"type\":\"string\",\"enum\":["          \
	"\"cloud\",\"pool\",\"machine\"]},"                                                                            \
	"\"name\":{\"type\":\"string\",\"minLength\":1}}}"

static const struct route create_agent_route = {
    .name = "createAgent",
    .method = "POST",
    .path = "/v1/agents",
    .summary = "Creates an agent and its first run",
    .tag = "agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{" SCHEMA_STRICT ",\"required\":[\"prompt\"],\"properties\":{\"prompt\":" SCHEMA_PROMPT
	",\"model\":" SCHEMA_MODEL ",\"name\":{\"type\":\"string\",\"description\":\"1 to 100 characters, not blank\"}"
	",\"env\":" ENV_SCHEMA ",\"repos\":{\"type\":\"array\",\"maxItems\":20,\"items\":" REPO_SCHEMA
	"},\"workOnCurrentBranch\":" SCHEMA_FLAG ",\"autoCreatePR\":" SCHEMA_FLAG
	",\"skipReviewerRequest\":" SCHEMA_FLAG ",\"openAsCursorGithubApp\":" SCHEMA_FLAG ",\"mode\":" SCHEMA_MODE
	",\"agentId\":{\"type\":\"string\",\"description\":\"bc- and a UUID\"},\"envVars\":" SCHEMA_ENV_VARS
	",\"runEnvVars\":" SCHEMA_ENV_VARS ",\"mcpServers\":" SCHEMA_MCP_SERVERS
	",\"customSubagents\":" SCHEMA_SUBAGENTS ",\"agentServeAgent\":{},\"usePrivateWorker\":" SCHEMA_FLAG
	",\"labels\":{\"description\":\"what the worker must have: a list of key=value, a list of {key, value}, or an "
	"object\"}"
	",\"metadata\":{\"type\":\"object\",\"maxProperties\":50,"
	"\"additionalProperties\":" SCHEMA_STRING
	",\"description\":\"keys of at most 64 characters, values of at most 1024 bytes\"}}}",
    .max_body = PROMPT_BODY_MAX,
    .weight = PROMPT_BODY_WEIGHT,
    .responses = {{201, "The agent and its run: {agent, run}"},
	{409, "The agentId is taken, or the Idempotency-Key was used for something else"},
	{501, "Something that is not built yet was asked for"}},
    .handler = post_agents,
};
ROUTE(create_agent_route);

static const struct route list_agents_route = {
    .name = "listAgents",
    .method = "GET",
    .path = "/v1/agents",
    .summary = "The caller's agents, newest first",
    .tag = "agents",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{" SCHEMA_PAGE
	     ",\"prUrl\":{\"type\":\"string\",\"description\":\"only those with that pull request\"}"
	     ",\"includeArchived\":{\"type\":\"boolean\",\"default\":true}}}",
    .responses = {{200, "A page: {items, nextCursor?}"}},
    .handler = get_agents,
};
ROUTE(list_agents_route);

static const struct route get_agent_route = {
    .name = "getAgent",
    .method = "GET",
    .path = "/v1/agents/{id}",
    .summary = "One agent",
    .tag = "agents",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .responses = {{200, "The agent"}, {404, "There is no such agent"}},
    .handler = get_agent,
};
ROUTE(get_agent_route);
