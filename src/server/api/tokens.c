/* /v1/sub-tokens, /v0/worker-tokens: short-lived credentials in exchange for an API key */
#include "server/access/tokens.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include <string.h>

static json_t *token_json(const struct token *t, const unsigned char key[INSTALLATION_KEY_LEN], int64_t now_ms)
{
	AUTO_STR text = token_make(key, t, now_ms);
	json_t *o = json_object();
	char when[CLOCK_ISO_LEN];

	clock_iso8601(t->expires_at_ms, when);
	json_put(o, "accessToken", text);
	json_put(o, "expiresAt", when);
	return o;
}

/* Whole seconds: that is what a token can say. */
static int64_t in_an_hour(int64_t now_ms)
{
	return (now_ms + TOKEN_HOUR_MS) / 1000 * 1000;
}

/* A user of the key's team. ERR_EMPTY. */
static int find_member(struct api_request *rq, const char *email, int64_t id, int64_t *ret_id)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc != OK)
		return rc;
	return email != NULL
		   ? tx_query_int(tx, ret_id, "SELECT id FROM users WHERE LOWER(email) = LOWER($1) AND team_id = $2",
			 "si", email, rq->who->team_id)
		   : tx_query_int(
			 tx, ret_id, "SELECT id FROM users WHERE id = $1 AND team_id = $2", "ii", id, rq->who->team_id);
}

/* Before it is given away: a token that nobody can be told of is none. */
static int note_token(struct api_request *rq, int64_t user)
{
	const struct audit_by by = request_by(rq);
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = audit_write(tx, &by, "sub_token_minted",
		    json_pack("{s:s, s:I}", "keyId", rq->who->key_id, "forUserId", (json_int_t)user));
	return rc == OK ? tx_commit(&tx) : rc;
}

static void post_sub_token(struct api_request *rq)
{
	const json_t *id = json_object_get(rq->body, "forUserId");
	const char *email = json_string_value(json_object_get(rq->body, "forUserEmail"));
	unsigned char key[INSTALLATION_KEY_LEN];
	int64_t user = 0, now = clock_wall_ms();
	json_t *o;
	int rc;

	if ((id == NULL) == (email == NULL)) {
		api_error(rq, API_validation_error, "exactly one of 'forUserEmail' and 'forUserId' is needed");
		return;
	}
	rc = find_member(rq, email, json_integer_value(id), &user);
	if (rc == ERR_EMPTY) {
		api_error(rq, API_user_not_found, "no active member of the team has this %s",
		    email != NULL ? "e-mail address" : "id");
		return;
	}
	if (rc == OK)
		rc = installation_key(rq->api->cfg.store, TOKEN_KEY, key);
	if (rc == OK)
		rc = note_token(rq, user);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	const struct token t = {.kind = TOKEN_USER,
	    .team_id = rq->who->team_id,
	    .user_id = user,
	    .key_id = rq->who->key_id,
	    .expires_at_ms = in_an_hour(now)};

	o = token_json(&t, key, now);
	json_put_int(o, "userId", user);
	json_put_int(o, "teamId", rq->who->team_id);
	log_info("token.minted", "kind=user user=%lld key=%s", (long long)user, log_quote(rq->who->key_id));
	api_reply(rq, 200, o);
}

static void post_worker_token(struct api_request *rq)
{
	const char *type = principal_is_service_account(rq->who) ? "service_account" : "user";
	unsigned char key[INSTALLATION_KEY_LEN];
	int64_t now = clock_wall_ms();
	json_t *o;
	int rc;

	if (rq->who->by != BY_API_KEY) {
		api_error(
		    rq, API_key_not_supported, "only an API key can be exchanged: a token makes no further tokens");
		return;
	}
	rc = installation_key(rq->api->cfg.store, TOKEN_KEY, key);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	const struct token t = {.kind = TOKEN_WORKER,
	    .team_id = rq->who->team_id,
	    .key_id = rq->who->key_id,
	    .key_type = (char *)(uintptr_t)type,
	    .expires_at_ms = in_an_hour(now)};

	o = token_json(&t, key, now);
	json_put(o, "keyType", type);
	api_reply(rq, 200, o);
}

static const struct route create_sub_token = {
    .name = "createSubToken",
    .method = "POST",
    .path = "/v1/sub-tokens",
    .summary = "A token that acts as a user of the team for one hour",
    .tag = "tokens",
    .service_account = true,
    .scope = SCOPE_TOKENS_MINT,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT
		   ",\"description\":\"exactly one of the two\",\"properties\":{\"forUserEmail\":{\"type\":\"string\","
		   "\"minLength\":1},\"forUserId\":{\"type\":\"integer\",\"minimum\":1}}}",
    .responses = {{200, "{accessToken, expiresAt, userId, teamId}", .form = "SubToken"},
	{404, "There is no such user in the team"}},
    .handler = post_sub_token,
};
ROUTE(create_sub_token);

static const struct route create_worker_token = {
    .name = "createWorkerToken",
    .method = "POST",
    .path = "/v0/worker-tokens",
    .summary = "What a worker connects with for one hour, in exchange for its API key",
    .tag = "tokens",
    .rate = RATE_NONE, /* as connecting itself: a thousand workers of one account may start at once */
    .responses = {{200, "{accessToken, expiresAt, keyType: user or service_account}", .form = "WorkerToken"},
	{403, "Only an API key is exchanged, not a token"}},
    .handler = post_worker_token,
};
ROUTE(create_worker_token);
