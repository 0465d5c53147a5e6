/* /v0/private-workers/pools: the rows of the team's pools */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/fleet/fleet_rows.h"
#include <string.h>

#define REPO_MAX 512

static void fleet_get_pools(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	json_t *pools = NULL;
	int rc = OK;

	/* A personal machine is in no pool. */
	if (strcmp(query_text_of(rq, "scope"), "personal") == 0) {
		api_reply(rq, 200, json_pack("{s:[]}", "pools"));
		return;
	}
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = fleet_pools(tx, rq->who->team_id, json_is_true(json_object_get(rq->query, "includeStale")),
		    clock_wall_ms(), &pools);
	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:o}", "pools", pools));
	else
		api_refuse(rq, rc, NULL);
}

static bool is_pool_name(const char *s)
{
	return text_is_token(s, "._-", 63) && strchr("._-", s[0]) == NULL;
}

static bool is_repo_part(const char *s, bool with_slash)
{
	if (s[0] == '\0' || strlen(s) > REPO_MAX / 2 || (!with_slash && strchr(s, '/') != NULL))
		return false;
	for (const char *c = s; *c != '\0'; c++)
		if ((unsigned char)*c <= 0x20 || *c == 0x7f)
			return false;
	return s[0] != '/' && s[strlen(s) - 1] != '/';
}

/* What POST and DELETE have in common. *ret_repo (malloc'ed): owner/name, "" for any. False: answered. */
static bool read_row(struct api_request *rq, const char *scope, const char *name, const char *owner, const char *repo,
    const char *names[3], char **ret_repo)
{
	if (strcmp(scope, "user") == 0)
		api_error(rq, API_validation_error,
		    "'scope' user: a service account has no pools of its own, only its team has");
	else if (!is_pool_name(name))
		api_error(rq, API_validation_error,
		    "'%s' must be 1 to 63 characters of A-Z a-z 0-9 . _ - and begin with a letter or digit", names[0]);
	else if ((owner == NULL) != (repo == NULL))
		api_error(rq, API_validation_error, "'%s' and '%s' go together: both or neither", names[1], names[2]);
	else if (owner != NULL && (!is_repo_part(owner, true) || !is_repo_part(repo, false)))
		api_error(rq, API_validation_error, "'%s' and '%s' must name a repository", names[1], names[2]);
	else
		*ret_repo = owner != NULL ? str_printf("%s/%s", owner, repo) : str_dup("");
	return !rq->answered;
}

struct registering {
	const struct audit_by *by;
	struct pool_row row;
	int64_t now_ms;
	struct why why;
};

static int note_pool(struct tx *tx, const struct audit_by *by, const char *type, const char *name, const char *repo)
{
	json_t *data = json_pack("{s:s}", "pool", name);

	if (repo[0] != '\0')
		json_put(data, "repository", repo);
	return audit_write(tx, by, type, data);
}

static int register_in(struct tx *tx, void *arg)
{
	struct registering *r = arg;

	int rc = fleet_pool_register(tx, &r->row, r->now_ms, &r->why);

	return rc != OK ? rc : note_pool(tx, r->by, "pool_registered", r->row.name, r->row.repo_name);
}

static const char *body_text(const struct api_request *rq, const char *name)
{
	return json_string_value(json_object_get(rq->body, name));
}

static void post_pool(struct api_request *rq)
{
	const json_t *window = json_object_get(rq->body, "workerReadyTimeoutSeconds");
	AUTO_STR repo = NULL;
	const struct audit_by by = request_by(rq);
	struct registering r = {.by = &by, .now_ms = clock_wall_ms()};
	int rc;

	if (!read_row(rq, body_text(rq, "scope"), body_text(rq, "poolName"), body_text(rq, "repoOwner"),
		body_text(rq, "repoName"), (const char *[]){"poolName", "repoOwner", "repoName"}, &repo))
		return;
	r.row = (struct pool_row){.team_id = rq->who->team_id,
	    .name = body_text(rq, "poolName"),
	    .repo_name = repo,
	    .repo_url = body_text(rq, "repoUrl"),
	    .account = rq->who->service_account_id,
	    .ready_timeout_s = window != NULL ? json_integer_value(window) : -1};
	if (r.row.repo_url != NULL && repo[0] == '\0') {
		api_error(rq, API_validation_error, "'repoUrl' goes with 'repoOwner' and 'repoName'");
		return;
	}
	rc = store_write(rq->api->cfg.store, register_in, &r);
	if (rc == ERR_INVALID || rc == ERR_FULL) {
		api_error(rq, API_validation_error, "%s", r.why.text);
		return;
	}
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	log_info("pool.registered", "pool=%s repo=%s account=%s", r.row.name, log_quote(repo), r.row.account);
	notify_send(runs_config(rq->api->cfg.runs)->notify, &(struct note){.kind = NOTE_QUEUE_CHANGED});
	api_reply(rq, 200, json_pack("{s:b}", "registered", 1));
}

struct removing {
	const struct audit_by *by;
	int64_t team_id, now_ms;
	const char *name, *repo;
	bool done;
};

static int remove_in(struct tx *tx, void *arg)
{
	struct removing *r = arg;

	int rc = fleet_pool_remove(tx, r->team_id, r->name, r->repo, r->now_ms, &r->done);

	return rc != OK || !r->done ? rc : note_pool(tx, r->by, "pool_deregistered", r->name, r->repo);
}

static void delete_pool(struct api_request *rq)
{
	const char *name = query_text_of(rq, "pool_name");
	const struct audit_by by = request_by(rq);
	AUTO_STR repo = NULL;
	struct removing r;
	int rc;

	if (!read_row(rq, query_text_of(rq, "scope"), name, query_text_of(rq, "repo_owner"),
		query_text_of(rq, "repo_name"), (const char *[]){"pool_name", "repo_owner", "repo_name"}, &repo))
		return;
	r = (struct removing){.by = &by,
	    .team_id = rq->who->team_id,
	    .now_ms = clock_wall_ms(),
	    .name = name,
	    .repo = repo,
	    .done = false};
	rc = store_write(rq->api->cfg.store, remove_in, &r);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	if (r.done)
		log_info(
		    "pool.removed", "pool=%s repo=%s account=%s", name, log_quote(repo), rq->who->service_account_id);
	api_reply(rq, 200, json_pack("{s:b}", "deregistered", r.done));
}

static const struct route list_pools = {
    .name = "listPrivateWorkerPools",
    .method = "GET",
    .path = "/v0/private-workers/pools",
    .summary = "The team's pools, one row for each repository that one serves",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{\"scope\":{\"type\":\"string\",\"enum\":[\"all\",\"team_pool\","
	     "\"personal\"],\"default\":\"all\"},\"includeStale\":{\"type\":\"boolean\",\"default\":false,"
	     "\"description\":\"also those without worker and request for 30 days\"}}}",
    .responses = {{200, "{pools}", .form = "Pools"}},
    .handler = fleet_get_pools,
};
ROUTE(list_pools);

static const struct route register_pool = {
    .name = "registerPrivateWorkerPool",
    .method = "POST",
    .path = "/v0/private-workers/pools",
    .summary = "Makes a pool known before it has a worker, or changes its reconnect window",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{" SCHEMA_STRICT ",\"required\":[\"scope\",\"poolName\"],\"properties\":{\"scope\":{\"type\":\"string\","
	"\"enum\":[\"user\",\"team\"]},\"poolName\":" SCHEMA_STRING ",\"repoOwner\":" SCHEMA_STRING
	",\"repoName\":" SCHEMA_STRING ",\"repoUrl\":" SCHEMA_STRING
	",\"workerReadyTimeoutSeconds\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":3600,\"description\":\"how "
	"long "
	"a follow-up waits for the agent's own worker to come back; 0: not at all\"}}}",
    .responses = {{200, "{registered}", .form = "Registered"}},
    .handler = post_pool,
};
ROUTE(register_pool);

static const struct route remove_pool = {
    .name = "deregisterPrivateWorkerPool",
    .method = "DELETE",
    .path = "/v0/private-workers/pools",
    .summary = "Hides a pool until somebody registers it again; its workers stay connected",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_WRITE,
    .rate = RATE_MUTATION,
    .query =
	"{\"type\":\"object\",\"required\":[\"scope\",\"pool_name\"],\"properties\":{\"scope\":{\"type\":\"string\","
	"\"enum\":[\"user\",\"team\"]},\"pool_name\":{\"type\":\"string\"},\"repo_owner\":{\"type\":\"string\"},"
	"\"repo_name\":{\"type\":\"string\"}}}",
    .responses = {{200, "{deregistered}", .form = "Deregistered"}},
    .handler = delete_pool,
};
ROUTE(remove_pool);
