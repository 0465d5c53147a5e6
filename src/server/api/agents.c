/* /v1/agents */
#include "server/api/agents.h"
#include "base/mem.h"
#include "server/api/bodies.h"
#include "server/runs/subagents.h"
#include <string.h>

static void refuse_create(struct api_request *rq, const struct agents_view *v, int rc, struct problem *p)
{
	if (rc == ERR_INVALID && v->reword != NULL)
		v->reword(p);
	api_refuse(rq, rc, p);
}

int agent_write(struct api_request *rq, struct tx *tx, struct agent *a, const struct prompt *prompt,
    struct created *made, struct problem *p)
{
	int rc = agent_route(rq, tx, a, p);

	if (rc == OK)
		rc = agent_create(rq->api->cfg.runs, tx, a, prompt, made);
	if (rc == OK)
		rc = keep_given_pull(rq, tx, a);
	if (rc == OK)
		rc = keep_inputs(rq, tx, a->id, made->run->id, true);
	if (rc == OK)
		rc = subagents_store(tx, a->id, json_object_get(rq->body, "customSubagents"));
	if (rc == ERR_CONFLICT)
		return problem_set(p, API_agent_id_conflict, "agent id %s is taken", a->id);
	if (rc == ERR_DENIED)
		return problem_set(p, API_invalid_branch_name,
		    "'target.branchName' is the branch of another agent of this repository");
	return rc;
}

/* The rest of the create in one transaction; *ret_body is the answer. OK, or the answer was given. */
static int create_agent(struct api_request *rq, const struct agents_view *v, struct agent *a,
    const struct prompt *prompt, json_t **ret_body, struct created *made)
{
	AUTO(tx) tx = NULL;
	struct problem p = {.code = API_validation_error};
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc == OK) {
		rc = idempotency_check(rq, tx, v->endpoint);
		if (rc != OK)
			return rc;
		rc = agent_write(rq, tx, a, prompt, made, &p);
		if (rc == OK && v->also != NULL)
			rc = v->also(rq, tx, a);
	}
	if (rc == OK) {
		*ret_body = v->created(rq, a, made->run);
		rc = idempotency_keep(rq, tx, v->endpoint, 201, *ret_body);
	}
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		refuse_create(rq, v, rc, &p);
	return rc;
}

void agents_create(struct api_request *rq, const struct agents_view *v)
{
	AUTO(agent) a = NEW(struct agent);
	AUTO_JSON body = NULL;
	__attribute__((cleanup(created_fini))) struct created made = {0};
	struct problem p = {.code = API_validation_error};
	struct prompt prompt = {0};
	AUTO_JSON images = NULL;
	int rc = v->check != NULL ? v->check(rq, a, &p) : OK;

	if (rc == OK)
		rc = agent_from_body(rq, v->endpoint, a, &prompt, &images, &p);
	if (rc != OK) {
		refuse_create(rq, v, rc, &p);
		return;
	}
	if (create_agent(rq, v, a, &prompt, &body, &made) != OK)
		return;
	api_reply(rq, 201, TAKE(body));
	runs_created(rq->api->cfg.runs, &made);
}

#define PAGE_MAX 100

struct page {
	struct agent *v[PAGE_MAX + 1];
	size_t n;
};

static void page_fini(struct page *p)
{
	for (size_t i = 0; i < p->n; i++)
		agent_free(&p->v[i]);
}

static bool lists_team(const struct api_request *rq)
{
	const char *scope = query_text_of(rq, "scope");

	return scope != NULL && strcmp(scope, "team") == 0;
}

/* Read to the end before each is shown: showing one may ask the store for more. One row more than asked for tells
 * whether there is a next page. */
static int read_page(struct api_request *rq, struct tx *tx, bool with_archived, int64_t limit, int64_t created_at,
    const char *id, struct page *page)
{
	AUTO(query) q = NULL;
	int rc = agents_query(tx,
	    &(struct agents_filter){.owner = lists_team(rq) ? NULL : rq->who->owner,
		.team_id = rq->who->team_id,
		.with_archived = with_archived,
		.pull_url = query_text_of(rq, "prUrl")},
	    created_at, id, limit + 1, &q);

	ENSURE(limit <= PAGE_MAX);
	while (rc == OK && (int64_t)page->n <= limit) {
		rc = agents_next(q, &page->v[page->n]);
		page->n += rc == OK;
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int list_agents(struct api_request *rq, const struct agents_view *v, bool with_archived, int64_t created_at,
    const char *id, json_t *items, char **ret_next)
{
	__attribute__((cleanup(page_fini))) struct page page = {0};
	AUTO(tx) tx = NULL;
	int64_t limit = query_int_of(rq, "limit", 0);
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = read_page(rq, tx, with_archived, limit, created_at, id, &page);
	for (size_t i = 0; rc == OK && i < page.n && (int64_t)i < limit; i++) {
		json_t *item = NULL;

		rc = v->item(rq, tx, page.v[i], &item);
		if (rc == OK)
			json_array_append_new(items, item);
	}
	if (rc == OK && (int64_t)page.n > limit)
		*ret_next = cursor_make(page.v[limit - 1]->created_at, page.v[limit - 1]->id);
	return rc;
}

void agents_list(struct api_request *rq, const struct agents_view *v, bool with_archived)
{
	AUTO_JSON items = json_array();
	AUTO_STR id = NULL;
	AUTO_STR next = NULL;
	int64_t created_at;
	int rc;

	if (!query_cursor(rq, &created_at, &id))
		return;
	rc = list_agents(rq, v, with_archived, created_at, id, items, &next);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	json_t *body = json_pack("{s:O}", v->list_key, items);

	json_put(body, "nextCursor", next);
	api_reply(rq, 200, body);
}

static json_t *show_created(struct api_request *rq, const struct agent *a, const struct run_info *run)
{
	return json_pack(
	    "{s:o, s:o}", "agent", agent_json(rq->api, a, FORM_FULL), "run", run_json(a, run, NULL, FORM_FULL));
}

static int show_item(struct api_request *rq, struct tx *tx, const struct agent *a, json_t **ret)
{
	json_t *o = agent_json(rq->api, a, FORM_LIST);
	int rc = lists_team(rq) ? agent_put_owner(tx, a, o) : OK;

	if (rc == OK)
		*ret = o;
	else
		json_decref(o);
	return rc;
}

static const struct agents_view view = {
    .endpoint = AGENTS_ENDPOINT, .created = show_created, .list_key = "items", .item = show_item};

static void post_agents(struct api_request *rq)
{
	agents_create(rq, &view);
}

static void get_agents(struct api_request *rq)
{
	if (lists_team(rq) && !principal_oversees(rq->who))
		api_error(rq, API_role_required,
		    "only administrators and auditors see the agents of the whole team, in a browser");
	else
		agents_list(rq, &view, !json_is_false(json_object_get(rq->query, "includeArchived")));
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
	json_put(body, "visibility", agent_visibility(a));
	json_put_bool(body, "isOwn", strcmp(a->owner, rq->who->owner) == 0);
	json_put_bool(body, "mayFollowUp",
	    principal_has_scope(rq->who, SCOPE_AGENTS_WRITE) && follow_up_check(tx, rq->who, a, false) == OK);
	if (strcmp(a->owner, rq->who->owner) != 0 && agent_put_owner(tx, a, body) != OK)
		json_object_del(body, "owner");
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
    .responses = {{201, "The agent and its run: {agent, run}", .form = "AgentAndRun"},
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
    .query =
	"{\"type\":\"object\",\"properties\":{" SCHEMA_PAGE
	",\"prUrl\":{\"type\":\"string\",\"description\":\"only those with that pull request\"}"
	",\"includeArchived\":{\"type\":\"boolean\",\"default\":true},\"scope\":{\"type\":\"string\",\"enum\":["
	"\"mine\",\"team\"],\"default\":\"mine\",\"description\":\"team: everybody's, for administrators and auditors "
	"in a browser\"}}}",
    .responses = {{200, "A page: {items, nextCursor?}", .form = "Agents"}},
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
    .responses = {{200, "The agent", .form = "Agent"}, {404, "There is no such agent"}},
    .handler = get_agent,
};
ROUTE(get_agent_route);
