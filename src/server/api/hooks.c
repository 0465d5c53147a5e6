/* /v1/hooks: the hooks that every worker of the team runs. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/hooks/team.h"
#include <string.h>

static json_t *hooks_public(const struct team_hooks *t)
{
	json_t *j = NULL, *none;
	char at[CLOCK_ISO_LEN];

	if (t != NULL)
		IGNORE(json_parse(t->content, strlen(t->content), &j, NULL));
	none = json_pack("{s:{}, s:{}}", "hooks", "files");
	if (!json_is_object(j)) {
		json_decref(j);
		j = json_incref(none);
	}
	json_decref(none);
	json_put_new(j, "hash", t != NULL ? json_string(t->hash) : json_null());
	if (t != NULL) {
		clock_iso8601(t->updated_at, at);
		json_put(j, "updatedAt", at);
		json_put(j, "updatedBy", t->updated_by);
	}
	return j;
}

static void get_hooks(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(team_hooks) t = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = team_hooks_load(tx, rq->who->team_id, &t);
	if (rc == OK)
		api_reply(rq, 200, hooks_public(t));
	else
		api_refuse(rq, rc, NULL);
}

struct putting {
	int64_t team_id;
	const json_t *content;
	const struct audit_by *by;
	struct team_hooks *kept;
	struct why why;
};

static int put_in(struct tx *tx, void *arg)
{
	struct putting *p = arg;
	int rc = team_hooks_store(tx, p->team_id, p->content, p->by->actor, &p->why);

	team_hooks_free(&p->kept); /* of an attempt that is repeated */
	if (rc == OK)
		rc = team_hooks_load(tx, p->team_id, &p->kept);
	return rc != OK ? rc
			: audit_write(tx, p->by, "team_hook",
			      json_pack("{s:s?}", "hash", p->kept != NULL ? p->kept->hash : NULL));
}

static void put_hooks(struct api_request *rq)
{
	const struct audit_by by = request_by(rq);
	struct putting p = {.team_id = rq->who->team_id, .content = rq->body, .by = &by};
	int rc = store_write(rq->api->cfg.store, put_in, &p);

	if (rc == ERR_INVALID) {
		api_error(rq, API_validation_error, "%s", p.why.text);
	} else if (rc != OK) {
		api_refuse(rq, rc, NULL);
	} else {
		log_info("audit.team_hook", "team=%lld by=%s key=%s hash=%s", (long long)p.team_id, log_quote(by.actor),
		    log_quote(rq->who->key_name), p.kept != NULL ? p.kept->hash : "none");
		api_reply(rq, 200, hooks_public(p.kept));
	}
	team_hooks_free(&p.kept);
}

static const struct route get_team_hooks = {
    .name = "getTeamHooks",
    .method = "GET",
    .path = "/v1/hooks",
    .summary = "The hooks that every worker of the team runs",
    .tag = "hooks",
    .scope = SCOPE_HOOKS_WRITE,
    .rate = RATE_READ,
    .responses = {{200, "{hooks, files, hash, updatedAt?, updatedBy?}; hash is null if there are none",
	.form = "TeamHooks"}},
    .handler = get_hooks,
};
ROUTE(get_team_hooks);

static const struct route put_team_hooks = {
    .name = "putTeamHooks",
    .method = "PUT",
    .path = "/v1/hooks",
    .summary = "Replaces the team's hooks; without any the team has none. They hold for runs that begin from then on",
    .tag = "hooks",
    .scope = SCOPE_HOOKS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
		   "\"hooks\":{\"type\":\"object\",\"description\":\"as in hooks.json: event to array of {command, "
		   "matcher?, timeout?, failClosed?, loop_limit?}\"},"
		   "\"files\":{\"type\":\"object\",\"description\":\"name to text: scripts in the folder where the "
		   "commands run\"}}}",
    .max_body = (size_t)2 * 1024 * 1024,
    .responses = {{200, "as getTeamHooks", .form = "TeamHooks"}},
    .handler = put_hooks,
};
ROUTE(put_team_hooks);
