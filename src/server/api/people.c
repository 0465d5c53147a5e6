/* /v1/users: the people of the team, and what they are. */
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/access/members.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"

static void get_users(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	json_t *items = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = members_list(tx, rq->who->team_id, &items);
	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:o}", "items", items));
	else
		api_refuse(rq, rc, NULL);
}

struct setting_role {
	struct api_request *rq;
	struct audit_by by;
	int64_t id;
	enum role role;
	struct why why;
};

static int set_role_in(struct tx *tx, void *arg)
{
	struct setting_role *s = arg;

	return member_set_role(tx, s->rq->who, &s->by, s->id, s->role, &s->why);
}

static void put_role(struct api_request *rq)
{
	struct setting_role s = {.rq = rq, .by = request_by(rq)};
	int rc = ERR_NOT_FOUND;

	ENSURE(role_parse(json_word(rq->body, "role"), &s.role)); /* the schema has looked */
	if (text_parse_int(route_param(rq, "id"), 1, INT64_MAX, &s.id) == OK)
		rc = store_write(rq->api->cfg.store, set_role_in, &s);
	if (rc == ERR_NOT_FOUND) {
		api_error(rq, API_user_not_found, "nobody in this team has this id");
	} else if (rc == ERR_DENIED) {
		api_error(rq, API_role_required, "%s", s.why.text);
	} else if (rc == ERR_CONFLICT) {
		api_error(rq, API_last_admin,
		    "the last administrator of a team stays one: make somebody else an administrator first");
	} else if (rc != OK) {
		api_refuse(rq, rc, NULL);
	} else {
		log_info("user.role", "user=%lld role=%s by=%s", (long long)s.id, role_name(s.role),
		    log_quote(rq->who->owner));
		api_reply(rq, 200, json_pack("{s:I, s:s}", "id", (json_int_t)s.id, "role", role_name(s.role)));
	}
}

static const struct route list_users = {
    .name = "listUsers",
    .method = "GET",
    .path = "/v1/users",
    .summary = "The people of the team, with their roles",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_READ,
    .responses = {{200, "{items: [{id, name, email?, role, createdAt, signsInWith?}]}", .form = "Users"}},
    .handler = get_users,
};
ROUTE(list_users);

static const struct route put_user_role = {
    .name = "putUserRole",
    .method = "PUT",
    .path = "/v1/users/{id}/role",
    .summary = "Changes a person's role; the last administrator of a team stays one, and an owner's role is her own",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"required\":[\"role\"],\"properties\":{\"role\":{\"type\":\"string\",\"enum\":["
		   "\"member\",\"auditor\",\"admin\",\"owner\"]}}}",
    .responses = {{200, "{id, role}", .form = "UserRole"}, {404, "There is no such person"},
	{409, "This is the last administrator"}},
    .handler = put_role,
};
ROUTE(put_user_role);
