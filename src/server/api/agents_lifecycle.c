/* /v1/agents/{id}/archive, /unarchive, DELETE /v1/agents/{id} */
#include "base/mem.h"
#include "server/api/agents.h"

void agent_change(struct api_request *rq, const char *id, int (*change)(struct api_request *rq, const char *agent_id))
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK && !load_visible_agent(rq, tx, id, false, &a))
		return;
	tx_free(&tx);
	if (rc == OK)
		rc = change(rq, a->id);
	if (rc == ERR_NOT_FOUND) /* deleted meanwhile */
		api_error(rq, API_agent_not_found, "there is no agent '%.60s'", a->id);
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s}", "id", a->id));
}

static int put_by(struct api_request *rq, const char *agent_id)
{
	return agent_archive(rq->api->cfg.runs, agent_id);
}

static int bring_back(struct api_request *rq, const char *agent_id)
{
	return agent_unarchive(rq->api->cfg.runs, agent_id);
}

int agent_end(struct api_request *rq, const char *agent_id)
{
	const struct audit_by by = request_by(rq);

	return agent_delete(rq->api->cfg.runs, agent_id, &by);
}

static void post_archive(struct api_request *rq)
{
	agent_change(rq, route_param(rq, "id"), put_by);
}

static void post_unarchive(struct api_request *rq)
{
	agent_change(rq, route_param(rq, "id"), bring_back);
}

static void delete_agent(struct api_request *rq)
{
	agent_change(rq, route_param(rq, "id"), agent_end);
}

static const struct route archive_agent_route = {
    .name = "archiveAgent",
    .method = "POST",
    .path = "/v1/agents/{id}/archive",
    .summary = "Puts an agent away: it can be read, and gets no new runs; an active one is cancelled",
    .tag = "agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such agent"}},
    .handler = post_archive,
};
ROUTE(archive_agent_route);

static const struct route unarchive_agent_route = {
    .name = "unarchiveAgent",
    .method = "POST",
    .path = "/v1/agents/{id}/unarchive",
    .summary = "Brings an agent back that was put away",
    .tag = "agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such agent"}},
    .handler = post_unarchive,
};
ROUTE(unarchive_agent_route);

static const struct route delete_agent_route = {
    .name = "deleteAgent",
    .method = "DELETE",
    .path = "/v1/agents/{id}",
    .summary = "Deletes an agent and all that is its; an active run is cancelled",
    .tag = "agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such agent"}},
    .handler = delete_agent,
};
ROUTE(delete_agent_route);
