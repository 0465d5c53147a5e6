/* /v0/private-workers/claim, /tokens, /claims/{id}/release, /claims/{id}/fail: what a controller does with claims */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/access/tokens.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/fleet/claim_calls.h"
#include <string.h>

#define MESSAGE_MAX 500 /* characters */

/* Ids are compared in small letters; nothing has one of another form. */
static char *agent_id_of(const char *given)
{
	char *id = str_dup(given);

	id_lower(id);
	return id;
}

static const char *claim_text(const struct api_request *rq, const char *name)
{
	return json_string_value(json_object_get(rq->body, name));
}

static bool check_worker_id(struct api_request *rq, const char *id)
{
	if (text_is_token(id, "._:-", 128))
		return true;
	api_error(rq, API_validation_error, "'workerId' must be 1 to 128 characters of A-Z a-z 0-9 . _ : -");
	return false;
}

/* Answers {id, workerId} and, with a claim id, a session token for it. */
static void reply_claim(struct api_request *rq, const char *agent_id, const char *worker_id, const char *claim_id,
    const unsigned char key[INSTALLATION_KEY_LEN])
{
	int64_t now = clock_wall_ms();
	json_t *o = json_object();
	char when[CLOCK_ISO_LEN];

	json_put(o, "id", agent_id);
	json_put(o, "workerId", worker_id);
	if (claim_id != NULL) {
		const struct token t = {.kind = TOKEN_SESSION,
		    .team_id = rq->who->team_id,
		    .key_id = rq->who->key_id,
		    .expires_at_ms = (now + TOKEN_WEEK_MS) / 1000 * 1000,
		    .agent_id = (char *)(uintptr_t)agent_id,
		    .worker_id = (char *)(uintptr_t)worker_id,
		    .claim_id = (char *)(uintptr_t)claim_id};
		AUTO_STR token = token_make(key, &t, now);

		clock_iso8601(t.expires_at_ms, when);
		json_put(o, "token", token);
		json_put(o, "expiresAt", when);
		log_info("token.minted", "kind=session agent=%s worker=%s key=%s", agent_id, log_quote(worker_id),
		    log_quote(rq->who->key_id));
	}
	api_reply(rq, 200, o);
}

struct claiming {
	const struct audit_by *by; /* a token will be made; NULL: none */
	struct claim_ask ask;
	int64_t now_ms;
	struct claim_made made;
	struct why why;
};

static int note_minted(struct tx *tx, const struct audit_by *by, const char *agent_id, const char *worker_id)
{
	return audit_write(
	    tx, by, "session_token_minted", json_pack("{s:s, s:s}", "agentId", agent_id, "workerId", worker_id));
}

static int claim_in(struct tx *tx, void *arg)
{
	struct claiming *c = arg;

	claim_made_fini(&c->made);
	int rc = claim_reserve(tx, &c->ask, c->now_ms, &c->made, &c->why);

	return rc != OK || c->by == NULL ? rc : note_minted(tx, c->by, c->ask.agent_id, c->ask.worker_id);
}

static void tell_claimed(struct api_request *rq, const struct claiming *c)
{
	struct notify *n = runs_config(rq->api->cfg.runs)->notify;

	log_info("claim.reserved", "agent=%s worker=%s connected=%d key=%s", c->ask.agent_id,
	    log_quote(c->ask.worker_id), c->made.run_id != NULL, log_quote(rq->who->key_id));
	if (c->made.run_id != NULL) {
		notify_send(n, &(struct note){.kind = NOTE_RUN_READY, .run_id = c->made.run_id});
		notify_send(n, &(struct note){.kind = NOTE_RUN_CHANGED, .run_id = c->made.run_id});
	}
	/* Nothing is to be paired, but why others wait may have changed, and the queue's watchers look. */
	notify_send(n, &(struct note){.kind = NOTE_QUEUE_CHANGED, .worker_id = ""});
}

static void refuse_claim(struct api_request *rq, int rc, const struct why *why)
{
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_not_found, "%s", why->text);
	else if (rc == ERR_CONFLICT)
		api_error(rq, API_already_claimed, "%s", why->text);
	else if (rc == ERR_INVALID)
		api_error(rq, API_validation_error, "%s", why->text);
	else
		api_refuse(rq, rc, NULL);
}

static void post_claim(struct api_request *rq)
{
	bool with_token = json_is_true(json_object_get(rq->body, "sessionToken"));
	AUTO_STR agent = agent_id_of(claim_text(rq, "id"));
	unsigned char key[INSTALLATION_KEY_LEN];
	const struct audit_by by = request_by(rq);
	struct claiming c = {.by = with_token ? &by : NULL, .now_ms = clock_wall_ms()};
	int rc;

	if (!check_worker_id(rq, claim_text(rq, "workerId")))
		return;
	/* Before the claim is made: without a key there would be a claim and no token. */
	if (with_token && installation_key(rq->api->cfg.store, TOKEN_KEY, key) != OK) {
		api_error(rq, API_session_token_unavailable, "no token can be made now; nothing was claimed");
		return;
	}
	c.ask = (struct claim_ask){.team_id = rq->who->team_id,
	    .agent_id = agent,
	    .worker_id = claim_text(rq, "workerId"),
	    .connect_by_ms = c.now_ms + rq->api->cfg.claim_connect_ms};
	rc = store_write(rq->api->cfg.store, claim_in, &c);
	if (rc == OK) {
		tell_claimed(rq, &c);
		reply_claim(rq, agent, c.ask.worker_id, with_token ? c.made.claim_id : NULL, key);
	} else {
		refuse_claim(rq, rc, &c.why);
	}
	claim_made_fini(&c.made);
}

static void post_session_token(struct api_request *rq)
{
	const struct audit_by by = request_by(rq);
	AUTO_STR agent = agent_id_of(claim_text(rq, "id"));
	unsigned char key[INSTALLATION_KEY_LEN];
	AUTO_STR claim = NULL;
	AUTO(tx) tx = NULL;
	struct why why;
	int rc;

	if (!check_worker_id(rq, claim_text(rq, "workerId")))
		return;
	if (installation_key(rq->api->cfg.store, TOKEN_KEY, key) != OK) {
		api_error(rq, API_session_token_unavailable, "no token can be made now");
		return;
	}
	rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);
	if (rc == OK)
		rc = claim_find_pair(tx, rq->who->team_id, agent, claim_text(rq, "workerId"), &claim, &why);
	if (rc == OK)
		rc = note_minted(tx, &by, agent, claim_text(rq, "workerId"));
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		reply_claim(rq, agent, claim_text(rq, "workerId"), claim, key);
	else
		refuse_claim(rq, rc, &why);
}

static void reply_ended(struct api_request *rq, const char *agent_id, const char *worker_id)
{
	api_reply(rq, 200, json_pack("{s:s, s:s}", "id", agent_id, "workerId", worker_id));
}

static void post_release(struct api_request *rq)
{
	AUTO_STR agent = agent_id_of(route_param(rq, "id"));
	AUTO_STR worker = NULL;
	struct why why;
	int rc = runs_release_claim(rq->api->cfg.runs, rq->who->team_id, agent, &worker, &why);

	if (rc == OK)
		reply_ended(rq, agent, worker);
	else if (rc == ERR_CONFLICT)
		api_error(rq, API_worker_in_use, "%s", why.text);
	else
		refuse_claim(rq, rc, &why);
}

/* Without what a terminal obeys, but for the ends of lines and tabs; trimmed. malloc'ed. */
static char *clean_message(const char *given)
{
	struct strbuf b = STRBUF(strlen(given) + 1);
	size_t len = strlen(given);

	for (size_t i = 0; i < len;) {
		uint32_t c;
		size_t n = text_utf8_decode(given + i, len - i, &c);

		if (n == 0)
			break; /* a JSON string is UTF-8 */
		if (c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f && (c < 0x80 || c > 0x9f)))
			strbuf_add(&b, given + i, n);
		i += n;
	}
	AUTO_STR kept = strbuf_take(&b);

	return text_trim(kept);
}

static void post_fail(struct api_request *rq)
{
	AUTO_STR agent = agent_id_of(route_param(rq, "id"));
	AUTO_STR message = clean_message(claim_text(rq, "message"));
	enum claim_fault fault = CLAIM_NO_TURN;
	AUTO_STR worker = NULL;
	struct why why;
	int rc;

	if (message[0] == '\0' || text_code_points(message) > MESSAGE_MAX) {
		api_error(rq, API_validation_error, "'message' must be 1 to 500 characters");
		return;
	}
	rc = runs_fail_claim(rq->api->cfg.runs, rq->who->team_id, agent, message, &worker, &fault, &why);
	if (rc == OK)
		reply_ended(rq, agent, worker);
	else if (rc == ERR_CONFLICT)
		api_error(rq, fault == CLAIM_CONNECTED ? API_worker_connected : API_no_turn_waiting, "%s", why.text);
	else
		refuse_claim(rq, rc, &why);
}

#define SCHEMA_ID "{\"type\":\"string\",\"minLength\":1,\"description\":\"of the pending request: the agent's\"}"
#define SCHEMA_WORKER "{\"type\":\"string\",\"minLength\":1}"

static const struct route claim_request = {
    .name = "claimPendingRequest",
    .method = "POST",
    .path = "/v0/private-workers/claim",
    .summary = "Reserves a pending request for a worker id, before or after that worker is started",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"required\":[\"id\",\"workerId\"],\"properties\":{\"id\":" SCHEMA_ID
		   ",\"workerId\":" SCHEMA_WORKER ",\"sessionToken\":" SCHEMA_FLAG "}}",
    .responses = {{200, "{id, workerId}, and where a session token was asked for {token, expiresAt}", .form = "Claim"},
	{404, "Nothing of that id waits"}, {409, "Another worker has the request, or the worker another request"}},
    .handler = post_claim,
};
ROUTE(claim_request);

static const struct route create_session_token = {
    .name = "createSessionToken",
    .method = "POST",
    .path = "/v0/private-workers/tokens",
    .summary = "A token with which the claim's worker, and nobody else, connects",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"required\":[\"id\",\"workerId\"],\"properties\":{\"id\":" SCHEMA_ID
		   ",\"workerId\":" SCHEMA_WORKER "}}",
    .responses = {{200, "{id, workerId, token, expiresAt}", .form = "SessionToken"},
	{404, "No claim binds that worker to that agent"}},
    .handler = post_session_token,
};
ROUTE(create_session_token);

static const struct route release_claim = {
    .name = "releaseClaim",
    .method = "POST",
    .path = "/v0/private-workers/claims/{id}/release",
    .summary = "Ends the claim of an agent: its worker exits, what waits for it is queued again",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id, workerId}", .form = "Claim"}, {400, "A turn uses the worker"},
	{404, "There is no live claim"}},
    .handler = post_release,
};
ROUTE(release_claim);

static const struct route fail_claim = {
    .name = "failClaim",
    .method = "POST",
    .path = "/v0/private-workers/claims/{id}/fail",
    .summary = "Says that the claimed worker cannot be started: the turn ends with the message",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"required\":[\"message\"],\"properties\":{\"message\":{\"type\":\"string\","
		   "\"description\":\"1 to 500 characters, shown to the user\"}}}",
    .responses = {{200, "{id, workerId}", .form = "Claim"}, {400, "No turn waits, or the worker is connected"},
	{404, "There is no live claim"}},
    .handler = post_fail,
};
ROUTE(fail_claim);
