/* /v1/agents/{id}/public-artifacts: which files of an agent have an address without a key, and taking it back. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include <string.h>

static void add_public(void *ctx, const char *path, int64_t created_at)
{
	char at[CLOCK_ISO_LEN];

	clock_iso8601(created_at, at);
	json_array_append_new(ctx, json_pack("{s:s, s:s}", "path", path, "createdAt", at));
}

static void list_public(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO_JSON items = json_array();
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK && !load_visible_agent(rq, tx, route_param(rq, "id"), true, &a))
		return;
	if (rc == OK)
		rc = artifact_public_each(tx, a->id, add_public, items);
	if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:O}", "items", items));
}

static void revoke_public(struct api_request *rq)
{
	const struct audit_by by = request_by(rq);
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int64_t n = 0;
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc == OK && !load_visible_agent(rq, tx, route_param(rq, "id"), false, &a))
		return;
	if (rc == OK)
		rc = artifact_public_revoke(tx, &by, a->id, query_text_of(rq, "path"), &n);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:I}", "revoked", (json_int_t)n));
}

static const struct route list_public_route = {
    .name = "listPublicArtifacts",
    .method = "GET",
    .path = "/v1/agents/{id}/public-artifacts",
    .summary = "Which of the agent's files can be read without a key, because a pull request shows them",
    .tag = "artifacts",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .responses = {{200, "{items: [{path, createdAt}]}", .form = "PublicArtifacts"}, {404, "There is no such agent"}},
    .handler = list_public,
};
ROUTE(list_public_route);

static const struct route revoke_public_route = {
    .name = "revokePublicArtifacts",
    .method = "DELETE",
    .path = "/v1/agents/{id}/public-artifacts",
    .summary = "Closes the public addresses of the agent's files, or of one, for good",
    .tag = "artifacts",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .query = "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\",\"minLength\":1,"
	     "\"description\":\"as in the list; absent: all\"}}}",
    .responses = {{200, "{revoked}: how many", .form = "Revoked"}, {404, "There is no such agent"}},
    .handler = revoke_public,
};
ROUTE(revoke_public_route);
