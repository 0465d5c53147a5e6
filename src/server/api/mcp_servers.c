/* /v1/mcp-servers: MCP servers that users and teams keep for all their agents */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/api/mcp_servers.h"
#include <string.h>

#define TEST_MS 25000

/* A user's are her own, a service account's are the team's. */
struct kept_owner mcp_owner(const struct api_request *rq)
{
	return (struct kept_owner){.team_id = rq->who->team_id, .user_id = rq->who->user_id};
}

/* The team's, for who manages it and says so. False: answered. */
static bool owner_of_new(struct api_request *rq, struct kept_owner *ret)
{
	const char *scope = query_text_of(rq, "scope");

	*ret = mcp_owner(rq);
	if (scope == NULL)
		return true;
	if (strcmp(scope, "user") == 0 && ret->user_id == 0) {
		api_error(rq, API_user_required, "only a person has MCP servers of her own: use a user's key");
		return false;
	}
	if (strcmp(scope, "user") == 0 || ret->user_id == 0)
		return true;
	if (!principal_manages(rq->who)) {
		api_error(rq, API_scope_required,
		    "only an administrator in the dashboard, or a key with the scope " SCOPE_TEAM_ADMIN
		    ", changes the team's servers");
		return false;
	}
	ret->user_id = 0;
	return true;
}

/* Who reads a server learns which secrets it has, not what they are. */
static json_t *hidden(const json_t *texts)
{
	json_t *o = json_object(), *v;
	const char *name;

	json_object_foreach((json_t *)texts, name, v) json_put(o, name, "***");
	return o;
}

static json_t *definition_shown(const json_t *definition)
{
	json_t *o = json_copy((json_t *)definition), *auth = json_object_get(definition, "auth");

	if (json_object_get(o, "headers") != NULL)
		json_put_new(o, "headers", hidden(json_object_get(o, "headers")));
	if (json_object_get(o, "env") != NULL)
		json_put_new(o, "env", hidden(json_object_get(o, "env")));
	if (auth != NULL) {
		json_t *shown = json_copy(auth);

		if (json_object_get(shown, "CLIENT_SECRET") != NULL)
			json_put(shown, "CLIENT_SECRET", "***");
		json_put_new(o, "auth", shown);
	}
	return o;
}

static void put_time(json_t *o, const char *name, const json_t *server)
{
	char when[CLOCK_ISO_LEN];

	clock_iso8601(json_integer_value(json_object_get(server, name)), when);
	json_put(o, name, when);
}

/* `granted`: the caller has allowed us to use it. */
static json_t *server_shown(const json_t *server, bool granted)
{
	const json_t *definition = json_object_get(server, "definition");
	json_t *o = definition_shown(definition);

	json_object_set(o, "id", json_object_get(server, "id"));
	json_object_set(o, "scope", json_object_get(server, "scope"));
	if (json_object_get(definition, "url") != NULL)
		json_put_bool(o, "loggedIn", granted);
	if (json_object_get(o, "type") == NULL)
		json_put(o, "type", json_object_get(definition, "url") != NULL ? "http" : "stdio");
	put_time(o, "createdAt", server);
	put_time(o, "updatedAt", server);
	return o;
}

static int is_granted(
    struct api_request *rq, struct tx *tx, const struct kept_owner *o, const json_t *server, bool *ret)
{
	const char *url = json_string_value(json_object_get(json_object_get(server, "definition"), "url"));
	AUTO_STR canonical = url != NULL ? web_canonical(url) : NULL;
	int64_t n = 0;
	int rc = OK;

	if (canonical != NULL && o->user_id != 0)
		rc = tx_query_int(tx, &n,
		    "SELECT COUNT(*) FROM mcp_grants WHERE team_id = $1 AND user_id = $2 AND url = $3", "iis",
		    o->team_id, o->user_id, canonical);
	*ret = n > 0;
	return rc;
}

static void get_servers(struct api_request *rq)
{
	const struct kept_owner o = mcp_owner(rq);
	AUTO_JSON items = json_array();
	AUTO_JSON all = NULL;
	AUTO(tx) tx = NULL;
	json_t *server;
	size_t i;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = kept_servers(tx, rq->api->cfg.seal, &o, &all);
	json_array_foreach(all, i, server)
	{
		bool granted = false;

		if (rc == OK)
			rc = is_granted(rq, tx, &o, server, &granted);
		json_array_append_new(items, server_shown(server, granted));
	}
	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:O}", "items", items));
	else
		api_refuse(rq, rc, NULL);
}

struct adding {
	struct api_request *rq;
	const char *id;
	struct kept_owner owner;
	int64_t now;
};

static int note_server(struct tx *tx, const struct api_request *rq, const char *action, const char *id,
    const struct kept_owner *o, const char *name)
{
	const struct audit_by by = request_by(rq);
	json_t *data = json_object();

	json_put(data, "action", action);
	json_put(data, "serverId", id);
	json_put(data, "scope", o->user_id == 0 ? "team" : "user");
	json_put(data, "name", name);
	return audit_write(tx, &by, "mcp_server_config", data);
}

static int add_in(struct tx *tx, void *arg)
{
	struct adding *a = arg;

	int rc = kept_server_add(tx, a->rq->api->cfg.seal, &a->owner, a->id, a->rq->body, a->rq->who->owner, a->now);

	return rc != OK ? rc
			: note_server(tx, a->rq, "created", a->id, &a->owner,
			      json_string_value(json_object_get(a->rq->body, "name")));
}

static void post_server(struct api_request *rq)
{
	AUTO_STR id = id_new("mcp-");
	struct adding a = {.rq = rq, .id = id, .now = clock_wall_ms()};
	const char *url = json_string_value(json_object_get(rq->body, "url"));
	AUTO_JSON server = NULL;
	struct problem p = {0};
	struct why why = {0};
	int rc;

	if (!owner_of_new(rq, &a.owner))
		return;
	rc = check_mcp_server(rq->body, "server", &p);
	/* What could never be asked is said now, and not by the first run. */
	if (rc == OK && url != NULL && web_check_url(remotes_rules(rq->api->cfg.remotes), url, &why) != OK)
		rc = problem_set(&p, API_validation_error, "'url' %s", why.text);
	if (rc == OK)
		rc = store_write(rq->api->cfg.store, add_in, &a);
	if (rc == ERR_CONFLICT) {
		api_error(rq, API_mcp_server_exists, "there is an MCP server of that name already: delete it first");
		return;
	}
	if (rc == ERR_FULL) {
		api_error(
		    rq, API_validation_error, "there are %d MCP servers already: delete one first", KEPT_SERVERS_MAX);
		return;
	}
	if (rc != OK) {
		api_refuse(rq, rc, &p);
		return;
	}
	log_info("mcp.server.kept", "server=%s owner=%s", id, log_quote(rq->who->owner));
	server = json_pack("{s:s, s:s, s:O, s:I, s:I}", "id", id, "scope", a.owner.user_id == 0 ? "team" : "user",
	    "definition", rq->body, "createdAt", (json_int_t)a.now, "updatedAt", (json_int_t)a.now);
	api_reply(rq, 201, server_shown(server, false));
}

struct server_removing {
	struct api_request *rq;
	struct kept_owner owner;
	const char *id;
};

static int server_remove_in(struct tx *tx, void *arg)
{
	struct server_removing *m = arg;

	int rc = kept_server_remove(tx, m->rq->api->cfg.seal, &m->owner, m->id);

	return rc != OK ? rc : note_server(tx, m->rq, "deleted", m->id, &m->owner, NULL);
}

static void delete_server(struct api_request *rq)
{
	struct server_removing m = {.rq = rq, .owner = mcp_owner(rq), .id = route_param(rq, "id")};
	int rc = store_write(rq->api->cfg.store, server_remove_in, &m);

	if (rc == ERR_NOT_FOUND && m.owner.user_id != 0 && principal_manages(rq->who)) {
		m.owner.user_id = 0;
		rc = store_write(rq->api->cfg.store, server_remove_in, &m);
	}
	if (rc == ERR_NOT_FOUND) {
		api_error(rq, API_mcp_server_not_found, "there is no such MCP server of %s",
		    m.owner.user_id != 0 ? "yours (an administrator or a service account's key deletes the team's)"
					 : "the team");
		return;
	}
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	log_info("mcp.server.deleted", "server=%s owner=%s", log_quote(m.id), log_quote(rq->who->owner));
	api_reply(rq, 200, json_pack("{s:s}", "id", m.id));
}

int mcp_find_server(struct api_request *rq, json_t **ret_definition)
{
	const struct kept_owner o = mcp_owner(rq);
	AUTO_JSON server = NULL;
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = kept_server(tx, rq->api->cfg.seal, &o, route_param(rq, "id"), &server);
	if (rc == OK)
		*ret_definition = json_incref(json_object_get(server, "definition"));
	else if (rc == ERR_NOT_FOUND)
		api_error(rq, API_mcp_server_not_found, "there is no such MCP server");
	else
		api_refuse(rq, rc, NULL);
	return rc;
}

bool mcp_begin_asking(struct api_request *rq)
{
	struct api *a = rq->api;

	if (atomic_fetch_add(&a->fetching, 1) < a->cfg.max_fetching)
		return true;
	atomic_fetch_sub(&a->fetching, 1);
	api_error(rq, API_service_unavailable, "too many requests ask other servers now: try again in a moment");
	return false;
}

void mcp_end_asking(struct api_request *rq)
{
	atomic_fetch_sub(&rq->api->fetching, 1);
}

static void post_test(struct api_request *rq)
{
	AUTO_STR nobody = id_new("test-"); /* a connection of its own: the test shall be one */
	const struct remote_who who = {.owner = mcp_owner(rq), .agent_id = nobody};
	AUTO_JSON definition = NULL;
	AUTO_JSON definitions = NULL;
	AUTO_JSON listed = NULL;

	if (mcp_find_server(rq, &definition) != OK)
		return;
	if (json_object_get(definition, "url") == NULL) {
		api_error(rq, API_validation_error,
		    "this server is started by a worker: a run with it tells whether it works");
		return;
	}
	if (!mcp_begin_asking(rq))
		return;
	definitions = json_pack("[O]", definition);
	listed = remote_list(rq->api->cfg.remotes, &who, definitions, TEST_MS, NULL);
	mcp_end_asking(rq);
	api_reply(rq, 200, json_incref(json_array_get(listed, 0)));
}

static const struct route list_mcp_servers = {
    .name = "listMcpServers",
    .method = "GET",
    .path = "/v1/mcp-servers",
    .summary = "The MCP servers that your agents have besides those of their requests: yours and the team's",
    .tag = "mcp",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .responses = {{200,
	"{items: [{id, scope: user or team, name, type, …, loggedIn?, createdAt, updatedAt}]}; secrets are ***",
	.form = "McpServers"}},
    .handler = get_servers,
};
ROUTE(list_mcp_servers);

static const struct route create_mcp_server = {
    .name = "createMcpServer",
    .method = "POST",
    .path = "/v1/mcp-servers",
    .summary = "Keeps an MCP server: a user's for her agents, a service account's for the team",
    .tag = "mcp",
    .scope = SCOPE_MCP_WRITE,
    .rate = RATE_MUTATION,
    .query = "{\"type\":\"object\",\"properties\":{\"scope\":{\"type\":\"string\",\"enum\":[\"user\",\"team\"],"
	     "\"description\":\"whose it is; team: only with team:admin, or as an administrator in the browser\"}}}",
    .body = BODY_JSON,
    .body_schema = SCHEMA_MCP_SERVER,
    .responses = {{201, "The server", .form = "McpServer"}, {409, "There is one of that name"}},
    .handler = post_server,
};
ROUTE(create_mcp_server);

static const struct route delete_mcp_server = {
    .name = "deleteMcpServer",
    .method = "DELETE",
    .path = "/v1/mcp-servers/{id}",
    .summary = "Forgets an MCP server, and what was allowed there",
    .tag = "mcp",
    .scope = SCOPE_MCP_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such server"}},
    .handler = delete_server,
};
ROUTE(delete_mcp_server);

static const struct route test_mcp_server = {
    .name = "testMcpServer",
    .method = "POST",
    .path = "/v1/mcp-servers/{id}/test",
    .summary = "Connects to a server with a URL and lists its tools",
    .tag = "mcp",
    .scope = SCOPE_MCP_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{name, state: ready, failed, starting or auth_required, reason?, instructions?, tools}",
		      .form = "McpListing"},
	{404, "There is no such server"}},
    .handler = post_test,
};
ROUTE(test_mcp_server);
