/* PUT /v1/agents/{id}/sharing: the owner opens an agent to the members of the team, or closes it again. They read it in
 * their browsers, with what GET answers; nothing that changes it is theirs (objects.c has the rule). */
#include "base/log.h"
#include "base/mem.h"
#include "server/api/agents.h"
#include "server/api/bodies.h"
#include "server/node/notify.h"
#include <string.h>

const char *agent_visibility(const struct agent *a)
{
	return a->of_team ? "team" : "private";
}

static void put_sharing(struct api_request *rq)
{
	const char *visibility = json_string_value(json_object_get(rq->body, "visibility"));
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc == OK && !load_visible_agent(rq, tx, route_param(rq, "id"), false, &a))
		return;
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE agents SET visibility = $2 WHERE id = $1", "ss", a->id, visibility);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	if (strcmp(visibility, "private") == 0)
		notify_send(runs_config(rq->api->cfg.runs)->notify,
		    &(struct note){.kind = NOTE_AGENT_PRIVATE, .agent_id = a->id});
	log_info("audit.sharing", "agent=%s visibility=%s by=%s key=%s", a->id, visibility, log_quote(rq->who->owner),
	    log_quote(rq->who->key_name));
	api_reply(rq, 200, json_pack("{s:s}", "visibility", visibility));
}

static const struct route put_sharing_route = {
    .name = "putSharing",
    .method = "PUT",
    .path = "/v1/agents/{id}/sharing",
    .summary = "Says who else may read an agent in the dashboard: nobody, or the members of the team",
    .tag = "agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{" SCHEMA_STRICT ",\"required\":[\"visibility\"],\"properties\":{\"visibility\":{\"type\":\"string\","
	"\"enum\":[\"private\",\"team\"]}}}",
    .responses = {{200, "{visibility}", .form = "Sharing"}, {404, "There is no such agent"}},
    .handler = put_sharing,
};
ROUTE(put_sharing_route);
