/* /v1/rules: the rules that every agent of the team is told. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/runs/team_rules.h"
#include <string.h>

static json_t *rules_public(const struct team_rules *t)
{
	json_t *j = json_object();
	char at[CLOCK_ISO_LEN];

	json_put_new(j, "rules", t != NULL ? json_incref(t->list) : json_array());
	if (t != NULL) {
		clock_iso8601(t->updated_at, at);
		json_put(j, "updatedAt", at);
		json_put(j, "updatedBy", t->updated_by);
	}
	return j;
}

static void get_rules(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(team_rules) t = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = team_rules_load(tx, rq->who->team_id, &t);
	if (rc == OK)
		api_reply(rq, 200, rules_public(t));
	else
		api_refuse(rq, rc, NULL);
}

struct putting_rules {
	int64_t team_id;
	const json_t *list;
	const struct audit_by *by;
	struct team_rules *kept;
	struct why why;
};

/* Their names; what they say is for agents. */
static json_t *rules_note(const struct team_rules *t)
{
	json_t *names = json_array(), *rule;
	size_t i;

	json_array_foreach(t != NULL ? t->list : NULL, i, rule) json_array_append(names, json_object_get(rule, "name"));
	return json_pack("{s:o}", "rules", names);
}

static int put_rules_in(struct tx *tx, void *arg)
{
	struct putting_rules *p = arg;
	int rc = team_rules_store(tx, p->team_id, p->list, p->by->actor, &p->why);

	team_rules_free(&p->kept); /* of an attempt that is repeated */
	if (rc == OK)
		rc = team_rules_load(tx, p->team_id, &p->kept);
	return rc != OK ? rc : audit_write(tx, p->by, "team_rule", rules_note(p->kept));
}

static void put_rules(struct api_request *rq)
{
	const struct audit_by by = request_by(rq);
	struct putting_rules p = {.team_id = rq->who->team_id, .list = json_object_get(rq->body, "rules"), .by = &by};
	int rc = store_write(rq->api->cfg.store, put_rules_in, &p);

	if (rc == ERR_INVALID) {
		api_error(rq, API_validation_error, "%s", p.why.text);
	} else if (rc != OK) {
		api_refuse(rq, rc, NULL);
	} else {
		log_info("audit.team_rule", "team=%lld by=%s key=%s rules=%zu", (long long)p.team_id,
		    log_quote(by.actor), log_quote(rq->who->key_name),
		    p.kept != NULL ? json_array_size(p.kept->list) : 0);
		api_reply(rq, 200, rules_public(p.kept));
	}
	team_rules_free(&p.kept);
}

static const struct route get_team_rules = {
    .name = "getTeamRules",
    .method = "GET",
    .path = "/v1/rules",
    .summary = "The rules that every agent of the team is told",
    .tag = "rules",
    .scope = SCOPE_RULES_WRITE,
    .rate = RATE_READ,
    .responses = {{200, "{rules, updatedAt?, updatedBy?}", .form = "TeamRules"}},
    .handler = get_rules,
};
ROUTE(get_team_rules);

static const struct route put_team_rules = {
    .name = "putTeamRules",
    .method = "PUT",
    .path = "/v1/rules",
    .summary = "Replaces the team's rules. They hold for runs that begin from then on",
    .tag = "rules",
    .scope = SCOPE_RULES_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"rules\"],\"properties\":{\"rules\":{"
	"\"type\":\"array\",\"maxItems\":100,\"items\":{\"type\":\"object\",\"additionalProperties\":false,"
	"\"required\":[\"name\",\"text\"],\"properties\":{"
	"\"name\":{\"type\":\"string\",\"description\":\"1 to 64 of A-Z a-z 0-9 . _ -, each once\"},"
	"\"text\":{\"type\":\"string\",\"description\":\"what agents are told\"},"
	"\"glob\":{\"type\":\"string\",\"description\":\"file patterns, with commas between them: it comes with the "
	"first file that one matches, instead of from the start\"},"
	"\"enforced\":{\"type\":\"boolean\",\"description\":\"members may not switch it off\"}}}}}}",
    .max_body = (size_t)1024 * 1024,
    .responses = {{200, "as getTeamRules", .form = "TeamRules"}},
    .handler = put_rules,
};
ROUTE(put_team_rules);
