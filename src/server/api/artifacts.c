/* GET /v1/agents/{id}/artifacts, …/artifacts/download, and the same below /v0 */
#include "base/artifact_path.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/artifact_names.h"
#include "server/api/artifacts_v0.h"
#include "server/api/v0.h"
#include "server/api/bodies.h"
#include <string.h>

/* The list of one agent, in the form of one of the two generations of the API. */
struct artifact_list {
	json_t *items;
	bool v0;
};

static int add_item(void *ctx, const struct artifact *f)
{
	struct artifact_list *l = ctx;
	char at[CLOCK_ISO_LEN];
	json_t *o = json_object();

	clock_iso8601(f->updated_at, at);
	if (l->v0) {
		AUTO_STR path = v0_artifact_path(f->path);

		json_put(o, "absolutePath", path);
	} else {
		json_put(o, "path", f->path);
	}
	json_put_int(o, "sizeBytes", f->size_bytes);
	json_put(o, "updatedAt", at);
	json_array_append_new(l->items, o);
	return OK;
}

/* The agent that is asked about; false: the answer was given. */
static bool load_agent(struct api_request *rq, struct tx *tx, bool v0, struct agent **ret)
{
	AUTO_STR id = v0 ? v0_id(rq) : str_dup(route_param(rq, "id"));

	if (id == NULL || !load_visible_agent(rq, tx, id, true, ret))
		return false;
	if (!v0 || !v0_artifacts_are_over((*ret)->created_at, clock_wall_ms()))
		return true;
	api_error(
	    rq, API_validation_error, "the agent is older than six months: its artifacts are not served any more");
	return false;
}

static void list_artifacts(struct api_request *rq, bool v0)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO_JSON items = json_array();
	struct artifact_list l = {.items = items, .v0 = v0};
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK && !load_agent(rq, tx, v0, &a))
		return;
	if (rc == OK)
		rc = artifacts_each(tx, a->id, add_item, &l);
	if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:O}", v0 ? "artifacts" : "items", items));
}

/* The path as the rows have it; malloc'ed. ERR_INVALID with p. */
static int read_path(const struct api_request *rq, bool v0, char **ret, struct problem *p)
{
	const char *given = query_text_of(rq, "path");
	AUTO_STR path = v0 ? v0_artifact_rel(given) : str_dup(given);

	p->code = API_validation_error;
	if (path == NULL)
		return problem_set(p, API_validation_error,
		    "'path' must be an absolute path below " V0_ARTIFACTS ", as the list has it");
	if (artifact_path_check(path, &p->why) != OK) {
		struct why reason = p->why;

		return problem_set(p, API_validation_error, "'path': %s", reason.text);
	}
	*ret = TAKE(path);
	return OK;
}

static int find_artifact(struct api_request *rq, bool v0, const char *path, struct artifact *ret)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc != OK)
		return rc;
	return load_agent(rq, tx, v0, &a) ? artifact_by_path(tx, a->id, path, ret) : ERR_CLOSED;
}

static void link_artifact(struct api_request *rq, bool v0)
{
	AUTO_FINI(artifact) f = {0};
	AUTO_STR path = NULL;
	AUTO_STR url = NULL;
	AUTO_STR disposition = NULL;
	struct problem p = {.code = API_validation_error};
	char at[CLOCK_ISO_LEN];
	int64_t until;
	int rc = read_path(rq, v0, &path, &p);

	if (rc == OK)
		rc = find_artifact(rq, v0, path, &f);
	if (rq->answered)
		return;
	if (rc == ERR_NOT_FOUND) {
		api_error(rq, API_artifact_not_found, "the agent has no such artifact");
		return;
	}
	if (rc != OK) {
		api_refuse(rq, rc, &p);
		return;
	}
	disposition = artifact_disposition(f.path);
	url = artifact_link(rq->api->cfg.artifacts, f.generation, disposition, clock_wall_ms(), &until);
	clock_iso8601(until, at);
	api_reply(rq, 200, json_pack("{s:s, s:s}", "url", url, "expiresAt", at));
}

static void get_artifacts(struct api_request *rq)
{
	list_artifacts(rq, false);
}

static void get_artifacts_v0(struct api_request *rq)
{
	list_artifacts(rq, true);
}

static void get_download(struct api_request *rq)
{
	link_artifact(rq, false);
}

static void get_download_v0(struct api_request *rq)
{
	link_artifact(rq, true);
}

static const struct route list_artifacts_route = {
    .name = "listArtifacts",
    .method = "GET",
    .path = "/v1/agents/{id}/artifacts",
    .summary = "Files that the agent left under artifacts/ of its workspace, newest first",
    .tag = "artifacts",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .responses = {{200, "{items: [{path, sizeBytes, updatedAt}]}", .form = "Artifacts"},
	{404, "There is no such agent"}},
    .handler = get_artifacts,
};
ROUTE(list_artifacts_route);

static const struct route download_artifact_route = {
    .name = "downloadArtifact",
    .method = "GET",
    .path = "/v1/agents/{id}/artifacts/download",
    .summary = "A link to one of these files that needs no key, for 15 minutes",
    .tag = "artifacts",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"required\":[\"path\"],\"properties\":{\"path\":{\"type\":\"string\","
	     "\"description\":\"as in the list: artifacts/…\"}}}",
    .responses = {{200, "{url, expiresAt}", .form = "ArtifactLink"}, {404, "There is no such agent or artifact"}},
    .handler = get_download,
};
ROUTE(download_artifact_route);

static const struct route list_artifacts_v0_route = {
    .name = "listArtifactsV0",
    .method = "GET",
    .path = "/v0/agents/{id}/artifacts",
    .summary = "Files that the agent left under artifacts/ of its workspace; of agents of at most six months",
    .tag = "v0",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_V0_ARTIFACTS,
    .responses = {{200, "{artifacts: [{absolutePath, sizeBytes, updatedAt}]}", .form = "V0Artifacts"},
	{404, "There is no such agent"}},
    .handler = get_artifacts_v0,
};
ROUTE(list_artifacts_v0_route);

static const struct route download_artifact_v0_route = {
    .name = "downloadArtifactV0",
    .method = "GET",
    .path = "/v0/agents/{id}/artifacts/download",
    .summary = "A link to one of these files that needs no key, for 15 minutes",
    .tag = "v0",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_V0_ARTIFACTS,
    .query = "{\"type\":\"object\",\"required\":[\"path\"],\"properties\":{\"path\":{\"type\":\"string\","
	     "\"description\":\"as in the list: /opt/cursor/artifacts/…\"}}}",
    .responses = {{200, "{url, expiresAt}", .form = "ArtifactLink"}, {404, "There is no such agent or artifact"}},
    .handler = get_download_v0,
};
ROUTE(download_artifact_v0_route);
