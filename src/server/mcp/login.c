/* A person allows us to use a server: the way to the authorization server and back. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/mcp/remotes_priv.h"
#include <string.h>

#define LOGIN_MS (10 * 60 * 1000)
#define DAY_MS ((int64_t)24 * 60 * 60 * 1000)
#define TRIES_MAX 5
#define WIDENED_MAX 3 /* logins for more scopes, of a server and day */
#define PROBE_MS 10000

void login_begun_fini(struct login_begun *l)
{
	str_free(&l->id);
	str_free(&l->authorize_url);
}

static char *login_place(const char *id)
{
	return str_printf("mcp-login/%s", id);
}

/* What the server says to somebody without a token. *ret_asks: it wants one. */
static int probe(struct remotes *r, const char *url, struct challenge *ret, bool *ret_asks, struct why *why)
{
	static const char *const headers[] = {
	    "Content-Type: application/json", "Accept: application/json, text/event-stream", NULL};
	static const char body[] =
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\","
	    "\"capabilities\":{},\"clientInfo\":{\"name\":\"bullpen\",\"version\":\"" BULLPEN_VERSION "\"}}}";
	const struct web_request req = {.method = "POST",
	    .url = url,
	    .body = body,
	    .headers = headers,
	    .timeout_ms = PROBE_MS,
	    .max_body = (size_t)1024 * 1024};
	AUTO_FINI(web_answer) a = {0};
	int rc = web_ask(r->rules, &req, &a, why);

	*ret_asks = rc == OK && a.status == 401;
	if (*ret_asks)
		challenge_parse(a.www_authenticate, ret);
	return rc;
}

/* Who we are there: as the definition says, by our document, or by registering (and remembering it). */
static int choose_client(struct remotes *r, const struct kept_owner *o, const json_t *definition,
    const struct oauth_server *s, const char *redirect_uri, struct oauth_client *ret, struct why *why)
{
	const json_t *auth = json_object_get(definition, "auth");
	int64_t now = clock_wall_ms();
	AUTO(tx) tx = NULL;
	int rc;

	if (auth != NULL) {
		*ret = (struct oauth_client){.id = str_dup(json_string_value(json_object_get(auth, "CLIENT_ID"))),
		    .secret = str_dup(json_string_value(json_object_get(auth, "CLIENT_SECRET")))};
		return OK;
	}
	if (s->takes_client_documents && r->client_documents && text_has_prefix(remotes_base(r), "https://")) {
		*ret = (struct oauth_client){.id = str_printf("%s" CLIENT_DOCUMENT_PATH, remotes_base(r))};
		return OK;
	}
	rc = tx_begin(r->store, TX_READ, &tx);
	if (rc == OK)
		rc = kept_client(tx, r->seal, o->team_id, s->issuer, redirect_uri, now, ret);
	tx_free(&tx);
	if (rc != ERR_EMPTY)
		return rc;
	rc = oauth_register(r->rules, s, redirect_uri, ret, why);
	if (rc == OK)
		rc = tx_begin(r->store, TX_WRITE, &tx);
	if (rc == OK && tx != NULL)
		rc = kept_client_set(tx, r->seal, o->team_id, s->issuer, redirect_uri, ret, now);
	return rc != OK ? rc : tx_commit(&tx);
}

/* What to ask for: of the definition, of the server, and what is allowed already or was found lacking. */
static int choose_scope(
    struct remotes *r, const struct kept_owner *o, const json_t *definition, struct oauth_server *s, struct why *why)
{
	AUTO_STR url = web_canonical(json_string_value(json_object_get(definition, "url")));
	AUTO_FINI(grant) g = {0};
	AUTO(tx) tx = NULL;
	int64_t n = 0;
	size_t i;
	json_t *v;
	int rc = tx_begin(r->store, TX_READ, &tx);

	if (rc == OK)
		rc = kept_grant(tx, r->seal, o, url, &g);
	if (rc == OK && g.wanted_scope != NULL) {
		AUTO_STR have = oauth_scopes_join(s->scope, g.tokens.scope != NULL ? g.tokens.scope : g.server.scope);

		free(s->scope);
		s->scope = oauth_scopes_join(have, g.wanted_scope);
		rc = tx_query_int(tx, &n,
		    "SELECT COUNT(*) FROM mcp_logins WHERE user_id = $1 AND url = $2 AND created_at > $3", "isi",
		    o->user_id, url, clock_wall_ms() - DAY_MS);
	}
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	if (n > WIDENED_MAX)
		return why_set(why, ERR_FULL, "it was asked for more rights %d times today: try tomorrow", WIDENED_MAX);
	json_array_foreach(json_object_get(json_object_get(definition, "auth"), "scopes"), i, v)
	{
		char *all = oauth_scopes_join(s->scope, json_string_value(v));

		free(s->scope);
		s->scope = all;
	}
	return OK;
}

/* What is needed when the browser is back; sealed. */
static char *seal_login(const struct remotes *r, const char *id, const struct oauth_server *s,
    const struct oauth_client *c, const char *verifier, const char *redirect_uri)
{
	AUTO_STR place = login_place(id);
	AUTO_JSON o = json_object();
	char *plain, *sealed;

	json_put_new(o, "server", oauth_server_json(s));
	json_put_new(o, "client", oauth_client_json(c));
	json_put(o, "verifier", verifier);
	json_put(o, "redirectUri", redirect_uri);
	plain = json_text(o);
	sealed = seal_text(r->seal, place, plain);
	str_wipe(&plain);
	return sealed;
}

struct beginning {
	const struct kept_owner *o;
	const char *id, *url, *sealed;
	char state_hash[SHA256_HEX_LEN];
	int64_t now;
};

static int write_login(struct tx *tx, void *arg)
{
	const struct beginning *b = arg;
	int rc = tx_exec(tx, "DELETE FROM mcp_logins WHERE expires_at < $1", "i", b->now - DAY_MS);

	if (rc == OK)
		rc = tx_exec(tx, "UPDATE mcp_logins SET secret = NULL WHERE secret IS NOT NULL AND expires_at < $1",
		    "i", b->now);
	return rc != OK ? rc
			: tx_exec(tx,
			      "INSERT INTO mcp_logins(id, state_hash, team_id, user_id, url, secret, state, created_at,"
			      " expires_at) VALUES($1, $2, $3, $4, $5, $6, 'waiting', $7, $8)",
			      "ssiissii", b->id, b->state_hash, b->o->team_id, b->o->user_id, b->url, b->sealed, b->now,
			      b->now + LOGIN_MS);
}

static char *random_state(void)
{
	uint64_t random[4];

	for (size_t i = 0; i < ARRAY_LEN(random); i++)
		random[i] = id_random64();
	return base64url_encode(random, sizeof random);
}

static int login_write(struct remotes *r, const struct kept_owner *o, const char *url, const struct oauth_server *s,
    const struct oauth_client *c, const char *redirect_uri, struct login_begun *ret)
{
	AUTO_STR id = id_new("login-");
	AUTO_STR state = random_state();
	char verifier[OAUTH_VERIFIER_LEN + 1];
	struct beginning b = {.o = o, .id = id, .url = url, .now = clock_wall_ms()};
	AUTO_STR sealed = NULL;
	int rc;

	oauth_verifier(verifier);
	sealed = seal_login(r, id, s, c, verifier, redirect_uri);
	b.sealed = sealed;
	sha256_hex(state, strlen(state), b.state_hash);
	rc = store_write(r->store, write_login, &b);
	if (rc == OK) {
		ret->authorize_url = oauth_authorize_url(s, c, redirect_uri, verifier, state);
		ret->expires_at_ms = b.now + LOGIN_MS;
		ret->id = TAKE(id);
	}
	return rc;
}

int login_begin(
    struct remotes *r, const struct kept_owner *o, const json_t *definition, struct login_begun *ret, struct why *why)
{
	const char *url = json_string_value(json_object_get(definition, "url"));
	AUTO_STR redirect_uri = remotes_redirect_uri(r);
	AUTO_STR canonical = web_canonical(url);
	AUTO_FINI(challenge) c = {0};
	AUTO_FINI(oauth_server) s = {0};
	AUTO_FINI(oauth_client) client = {0};
	bool asks = false;
	int rc = web_check_url(r->rules, url, why);

	if (rc == OK)
		rc = probe(r, url, &c, &asks, why);
	if (rc != OK)
		return rc;
	if (!asks && json_object_get(definition, "auth") == NULL)
		return ERR_EMPTY;
	rc = oauth_find(r->rules, url, &c, &s, why);
	if (rc == OK)
		rc = choose_scope(r, o, definition, &s, why);
	if (rc == OK)
		rc = choose_client(r, o, definition, &s, redirect_uri, &client, why);
	if (rc == OK)
		rc = login_write(r, o, canonical, &s, &client, redirect_uri, ret);
	if (rc == OK)
		log_info("mcp.login.begun", "user=%lld issuer=%s login=%s", (long long)o->user_id, log_quote(s.issuer),
		    ret->id);
	return rc;
}

/* A login that waits, as it was begun. */
struct login {
	char *id, *url, *verifier, *redirect_uri;
	struct kept_owner owner;
	struct grant grant; /* without tokens at first */
};

static void login_fini(struct login *l)
{
	str_free(&l->id);
	str_free(&l->url);
	str_wipe(&l->verifier);
	str_free(&l->redirect_uri);
	grant_fini(&l->grant);
}

static int read_secret(struct login *l, const json_t *o)
{
	l->verifier = str_dup(json_string_value(json_object_get(o, "verifier")));
	l->redirect_uri = str_dup(json_string_value(json_object_get(o, "redirectUri")));
	if (l->verifier == NULL || l->redirect_uri == NULL ||
	    oauth_server_read(json_object_get(o, "server"), &l->grant.server) != OK ||
	    oauth_client_read(json_object_get(o, "client"), &l->grant.client) != OK)
		return ERR_INTERNAL;
	return OK;
}

struct taking {
	struct remotes *r;
	const char *state;
	struct login *login;
};

/* A state is good for one answer, whatever that is. */
static int take_login(struct tx *tx, void *arg)
{
	struct taking *t = arg;
	char hash[SHA256_HEX_LEN];
	AUTO(query) q = NULL;
	AUTO_STR place = NULL;
	AUTO_JSON secret = NULL;
	char *plain = NULL;
	int rc;

	login_fini(t->login);
	*t->login = (struct login){0};
	sha256_hex(t->state, strlen(t->state), hash);
	rc = tx_query(tx, &q,
	    "UPDATE mcp_logins SET state = 'failed', message = 'it was cut off' WHERE state_hash = $1 AND state = "
	    "'waiting'"
	    " AND secret IS NOT NULL AND expires_at > $2 RETURNING id, team_id, user_id, url, secret",
	    "si", hash, clock_wall_ms());
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	t->login->id = str_dup(query_str(q, 0));
	t->login->owner = (struct kept_owner){query_int(q, 1), query_int(q, 2)};
	t->login->url = str_dup(query_str(q, 3));
	place = login_place(t->login->id);
	rc = seal_open(t->r->seal, place, query_str(q, 4), &plain);
	if (rc == OK)
		rc = json_parse(plain, strlen(plain), &secret, NULL);
	str_wipe(&plain);
	if (rc == OK)
		rc = read_secret(t->login, secret);
	/* To its end: the statement changes rows. */
	while (rc == OK && (rc = query_next(q)) == OK)
		;
	return rc == ERR_EMPTY ? OK : rc;
}

struct ending {
	const char *id, *message, *sealed, *code_hash;
};

static int end_login(struct tx *tx, void *arg)
{
	const struct ending *e = arg;

	return tx_exec(tx,
	    "UPDATE mcp_logins SET state = $2, message = $3, secret = $4, code_hash = $5, tries = 0 WHERE id = $1",
	    "sssss", e->id, e->sealed != NULL ? "confirm" : "failed", e->message, e->sealed, e->code_hash);
}

/* What the authorization server answered. ERR_INVALID with `why`: it is of no use. */
static int check_answer(const struct login *l, const struct login_answer *a, struct why *why)
{
	const struct oauth_server *s = &l->grant.server;

	if (a->issuer != NULL ? strcmp(a->issuer, s->issuer) != 0 : s->tells_issuer)
		return why_set(why, ERR_INVALID, "the answer is not of the authorization server that was asked");
	if (a->error != NULL)
		return why_set(why, ERR_INVALID, "the authorization server refused: %s",
		    text_is_token(a->error, "_-.", 60) ? a->error : "it did not say why");
	if (a->code == NULL || a->code[0] == '\0' || strlen(a->code) > 8192)
		return why_set(why, ERR_INVALID, "the answer has no code");
	return OK;
}

/* The grant as it will be, until the person has said that it was her. */
static char *seal_grant(const struct remotes *r, const struct login *l)
{
	AUTO_STR place = login_place(l->id);
	AUTO_JSON o = json_object();
	const struct oauth_tokens *t = &l->grant.tokens;
	char *plain, *sealed;

	json_put_new(o, "server", oauth_server_json(&l->grant.server));
	json_put_new(o, "client", oauth_client_json(&l->grant.client));
	json_put(o, "access", t->access);
	json_put(o, "refresh", t->refresh);
	json_put(o, "scope", t->scope);
	json_put_int(o, "expiresAt", t->expires_at_ms);
	plain = json_text(o);
	sealed = seal_text(r->seal, place, plain);
	str_wipe(&plain);
	return sealed;
}

int login_callback(struct remotes *r, const struct login_answer *a, char **ret_code, struct why *why)
{
	AUTO_FINI(login) l = {0};
	struct taking t = {r, a->state, &l};
	struct ending e = {0};
	char code_hash[SHA256_HEX_LEN];
	AUTO_STR code = NULL;
	AUTO_STR sealed = NULL;
	int rc, wrote;

	if (a->state == NULL || strlen(a->state) > 200)
		return ERR_NOT_FOUND;
	rc = store_write(r->store, take_login, &t);
	if (rc != OK)
		return rc;
	rc = check_answer(&l, a, why);
	if (rc == OK)
		rc = oauth_exchange(r->rules, &l.grant.server, &l.grant.client, l.redirect_uri, l.verifier, a->code,
		    &l.grant.tokens, why);
	e.id = l.id;
	if (rc == OK) {
		code = str_printf("%04u-%04u", id_random_below(10000), id_random_below(10000));
		sha256_hex(code, strlen(code), code_hash);
		sealed = seal_grant(r, &l);
		e.sealed = sealed;
		e.code_hash = code_hash;
	} else {
		e.message = why->text;
	}
	wrote = store_write(r->store, end_login, &e);
	if (wrote == OK && rc == OK)
		*ret_code = TAKE(code);
	return rc != OK ? ERR_INVALID : wrote;
}

int login_state(struct remotes *r, const struct kept_owner *o, const char *id, json_t **ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	bool open, late;
	int rc = tx_begin(r->store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT state, message, expires_at FROM mcp_logins WHERE id = $1 AND team_id = $2 AND user_id = $3",
		    "sii", id, o->team_id, o->user_id);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	open = strcmp(query_str(q, 0), "waiting") == 0 || strcmp(query_str(q, 0), "confirm") == 0;
	late = query_int(q, 2) <= clock_wall_ms();
	*ret = json_object();
	json_put(*ret, "id", id);
	json_put(*ret, "state", open && late ? "expired" : query_str(q, 0));
	json_put(*ret, "message", query_text(q, 1));
	return OK;
}

struct confirming {
	const struct audit_by *by;
	struct remotes *r;
	const struct kept_owner *o;
	const char *id;
	char hash[SHA256_HEX_LEN];
	int verdict;
};

static int read_granted(const json_t *o, struct grant *g)
{
	g->tokens = (struct oauth_tokens){.access = str_dup(json_string_value(json_object_get(o, "access"))),
	    .refresh = str_dup(json_string_value(json_object_get(o, "refresh"))),
	    .scope = str_dup(json_string_value(json_object_get(o, "scope"))),
	    .expires_at_ms = json_integer_value(json_object_get(o, "expiresAt"))};
	return g->tokens.access == NULL || oauth_server_read(json_object_get(o, "server"), &g->server) != OK ||
		       oauth_client_read(json_object_get(o, "client"), &g->client) != OK
		   ? ERR_INTERNAL
		   : OK;
}

/* The code was right: what was allowed is the user's from now on. */
static int make_grant(struct tx *tx, struct confirming *c, const char *url, const char *sealed)
{
	AUTO_STR place = login_place(c->id);
	AUTO_FINI(grant) g = {0};
	AUTO_JSON o = NULL;
	char *plain = NULL;
	int rc = seal_open(c->r->seal, place, sealed, &plain);

	if (rc == OK)
		rc = json_parse(plain, strlen(plain), &o, NULL);
	str_wipe(&plain);
	if (rc == OK)
		rc = read_granted(o, &g);
	if (rc == OK)
		rc = kept_grant_set(tx, c->r->seal, c->o, url, &g, clock_wall_ms());
	if (rc == OK)
		rc = audit_write(
		    tx, c->by, "oauth_connected", json_pack("{s:s, s:s}", "url", url, "issuer", g.server.issuer));
	return rc != OK
		   ? rc
		   : tx_exec(tx, "UPDATE mcp_logins SET state = 'done', secret = NULL, code_hash = NULL WHERE id = $1",
			 "s", c->id);
}

static int confirm_in(struct tx *tx, void *arg)
{
	struct confirming *c = arg;
	AUTO(query) q = NULL;
	AUTO_STR url = NULL;
	AUTO_STR sealed = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT state, code_hash, url, secret, tries, expires_at FROM mcp_logins WHERE id = $1 AND team_id = $2 AND"
	    " user_id = $3",
	    "sii", c->id, c->o->team_id, c->o->user_id);
	bool right, open;
	int64_t tries;

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	open = strcmp(query_str(q, 0), "confirm") == 0 && !query_is_null(q, 1) && !query_is_null(q, 3) &&
	       query_int(q, 5) > clock_wall_ms();
	if (!open)
		return ERR_CONFLICT;
	right = secret_equal(query_str(q, 1), c->hash, SHA256_HEX_LEN - 1);
	tries = query_int(q, 4) + 1;
	url = str_dup(query_str(q, 2));
	sealed = str_dup(query_str(q, 3));
	query_free(&q);
	c->verdict = right ? OK : ERR_DENIED;
	if (right)
		return make_grant(tx, c, url, sealed);
	if (tries >= TRIES_MAX)
		return tx_exec(tx,
		    "UPDATE mcp_logins SET state = 'failed', message = 'the code was wrong too often', secret = NULL "
		    "WHERE id ="
		    " $1",
		    "s", c->id);
	return tx_exec(tx, "UPDATE mcp_logins SET tries = $2 WHERE id = $1", "si", c->id, tries);
}

int login_confirm(struct remotes *r, const struct kept_owner *o, const char *id, const char *code,
    const struct audit_by *by, struct why *why)
{
	struct confirming c = {.r = r, .o = o, .id = id, .by = by};
	AUTO_STR digits = text_trim(code);
	int rc;

	sha256_hex(digits, strlen(digits), c.hash);
	rc = store_write(r->store, confirm_in, &c);
	if (rc == OK && c.verdict == ERR_DENIED)
		return why_set(why, ERR_DENIED, "that is not the code that the browser shows");
	if (rc == OK)
		log_info("mcp.login.done", "user=%lld login=%s", (long long)o->user_id, log_quote(id));
	return rc;
}

struct removing {
	const struct kept_owner *o;
	const char *url;
	const struct audit_by *by;
};

static int remove_grant(struct tx *tx, void *arg)
{
	const struct removing *m = arg;

	int rc = kept_grant_remove(tx, m->o, m->url);

	return rc != OK ? rc : audit_write(tx, m->by, "oauth_revoked", json_pack("{s:s}", "url", m->url));
}

int login_end(struct remotes *r, const struct kept_owner *o, const char *url, const struct audit_by *by)
{
	AUTO_STR canonical = web_canonical(url);
	struct removing m = {o, canonical, by};
	AUTO_FINI(grant) g = {0};
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->store, TX_READ, &tx);

	if (canonical == NULL)
		return ERR_NOT_FOUND;
	if (rc == OK)
		rc = kept_grant(tx, r->seal, o, canonical, &g);
	tx_free(&tx);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	rc = store_write(r->store, remove_grant, &m);
	if (rc == OK) {
		log_info("mcp.logout", "user=%lld issuer=%s", (long long)o->user_id, log_quote(g.server.issuer));
		oauth_revoke(
		    r->rules, &g.server, &g.client, g.tokens.refresh != NULL ? g.tokens.refresh : g.tokens.access);
	}
	return rc;
}
