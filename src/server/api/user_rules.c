/* /v1/user-rules: what a user wants each of her agents to be told. */
#include "base/clock.h"
#include "base/log.h"
#include "server/api/api_priv.h"
#include "server/runs/user_rules.h"
#include <string.h>

static json_t *user_rules_public(const struct user_rules *u)
{
	json_t *j = json_object();
	char at[CLOCK_ISO_LEN];

	json_put(j, "text", u != NULL ? u->text : "");
	if (u != NULL) {
		clock_iso8601(u->updated_at, at);
		json_put(j, "updatedAt", at);
	}
	return j;
}

static bool has_rules_of_her_own(struct api_request *rq)
{
	if (rq->who->user_id != 0)
		return true;
	api_error(rq, API_user_required, "only a person has rules of her own: use a user's key");
	return false;
}

static void get_own_rules(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO(user_rules) u = NULL;
	int rc;

	if (!has_rules_of_her_own(rq))
		return;
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = user_rules_load(tx, rq->who->user_id, &u);
	if (rc == OK)
		api_reply(rq, 200, user_rules_public(u));
	else
		api_refuse(rq, rc, NULL);
}

struct putting_own_rules {
	int64_t user_id;
	const char *text;
	struct user_rules *kept;
	struct why why;
};

static int put_own_rules_in(struct tx *tx, void *arg)
{
	struct putting_own_rules *p = arg;
	int rc = user_rules_store(tx, p->user_id, p->text, &p->why);

	user_rules_free(&p->kept); /* of an attempt that is repeated */
	return rc == OK ? user_rules_load(tx, p->user_id, &p->kept) : rc;
}

static void put_own_rules(struct api_request *rq)
{
	struct putting_own_rules p = {
	    .user_id = rq->who->user_id, .text = json_string_value(json_object_get(rq->body, "text"))};
	int rc;

	if (!has_rules_of_her_own(rq))
		return;
	rc = p.text != NULL ? store_write(rq->api->cfg.store, put_own_rules_in, &p)
			    : why_set(&p.why, ERR_INVALID, "'text' must be a text");
	if (rc == ERR_INVALID) {
		api_error(rq, API_validation_error, "%s", p.why.text);
	} else if (rc != OK) {
		api_refuse(rq, rc, NULL);
	} else {
		log_info("audit.user_rules", "user=%s key=%s bytes=%zu", log_quote(rq->who->owner),
		    log_quote(rq->who->key_name), p.kept != NULL ? strlen(p.kept->text) : 0);
		api_reply(rq, 200, user_rules_public(p.kept));
	}
	user_rules_free(&p.kept);
}

static const struct route get_user_rules = {
    .name = "getUserRules",
    .method = "GET",
    .path = "/v1/user-rules",
    .summary = "The rules of your own that each of your agents is told",
    .tag = "rules",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_READ,
    .responses = {{200, "{text, updatedAt?}", .form = "UserRules"}},
    .handler = get_own_rules,
};
ROUTE(get_user_rules);

static const struct route put_user_rules = {
    .name = "putUserRules",
    .method = "PUT",
    .path = "/v1/user-rules",
    .summary = "Replaces the rules of your own. They hold for runs that begin from then on",
    .tag = "rules",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"text\"],\"properties\":{\"text\":{"
	"\"type\":\"string\",\"description\":\"what agents are told, at most 64 KiB; an empty one removes it\"}}}",
    .max_body = (size_t)512 * 1024,
    .responses = {{200, "as getUserRules", .form = "UserRules"}},
    .handler = put_own_rules,
};
ROUTE(put_user_rules);
