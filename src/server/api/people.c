/* /v1/users: the people of the team, and who administers it. */
#include "base/mem.h"
#include "base/text.h"
#include "server/access/accounts.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"

static void get_users(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	json_t *items = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = users_list(tx, rq->who->team_id, &items);
	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:o}", "items", items));
	else
		api_refuse(rq, rc, NULL);
}

static void put_role(struct api_request *rq)
{
	const char *role = json_string_value(json_object_get(rq->body, "role"));
	const struct audit_by by = request_by(rq);
	int64_t id = 0;
	int rc = text_parse_int(route_param(rq, "id"), 1, INT64_MAX, &id);

	rc = rc != OK ? ERR_NOT_FOUND : user_set_role(rq->api->cfg.store, &by, id, NULL, role);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_user_not_found, "there is no such user in the team");
	else if (rc == ERR_CONFLICT)
		api_error(rq, API_last_admin,
		    "the last administrator of a team stays one: make somebody else an administrator first");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:I, s:s}", "id", (json_int_t)id, "role", role));
}

static const struct route list_users = {
    .name = "listUsers",
    .method = "GET",
    .path = "/v1/users",
    .summary = "The people of the team",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_READ,
    .responses = {{200, "{items}", .form = "Users"}},
    .handler = get_users,
};
ROUTE(list_users);

static const struct route put_user_role = {
    .name = "putUserRole",
    .method = "PUT",
    .path = "/v1/users/{id}/role",
    .summary = "Makes somebody an administrator of the team, or a member; the last administrator stays one",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"required\":[\"role\"],\"properties\":{\"role\":{\"type\":\"string\",\"enum\":"
		   "[\"member\",\"admin\"]}}}",
    .responses = {{200, "{id, role}", .form = "UserRole"}, {404, "There is no such user"},
	{409, "This is the last administrator"}},
    .handler = put_role,
};
ROUTE(put_user_role);
