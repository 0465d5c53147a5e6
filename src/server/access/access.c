#include "server/access/access.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "base/text.h"
#include "server/access/access_priv.h"
#include "server/access/tokens.h"
#include <string.h>
#include <strings.h>

#define KEY_PREFIX "crsr_"
#define KEY_MIN 20
#define KEY_MAX 128
#define USER_ID_TRIES 100

void principal_free(struct principal **pp)
{
	struct principal *p = TAKE(*pp);

	if (p == NULL)
		return;
	free(p->service_account_id);
	free(p->owner);
	free(p->key_id);
	free(p->key_name);
	free(p->user_name);
	free(p->user_email);
	free(p->only_agent);
	free(p->only_worker);
	free(p);
}

bool principal_is_service_account(const struct principal *p)
{
	return p->user_id == 0;
}

/* The key of an Authorization value, malloc'ed; NULL if it has not the form. */
static char *access_key_of(const char *authorization)
{
	AUTO_STR decoded = NULL;
	char *colon;
	size_t len;

	if (strncasecmp(authorization, "Bearer ", 7) == 0)
		return text_trim(authorization + 7);
	if (strncasecmp(authorization, "Basic ", 6) != 0)
		return NULL;
	AUTO_STR encoded = text_trim(authorization + 6);

	if (base64_decode(encoded, strlen(encoded), &decoded, &len) != OK || strlen(decoded) != len)
		return NULL;
	colon = strchr(decoded, ':');
	if (colon == NULL)
		return NULL;
	*colon = '\0'; /* the password, empty or not, is ignored */
	return TAKE(decoded);
}

bool principal_leads(const struct principal *p)
{
	return p->by == BY_BROWSER && p->role >= ROLE_ADMIN;
}

bool principal_oversees(const struct principal *p)
{
	return p->by == BY_BROWSER && p->role >= ROLE_AUDITOR;
}

bool principal_has_scope(const struct principal *p, const char *scope)
{
	return (p->scopes & scope_bit(scope)) != 0;
}

#define PRINCIPAL_COLUMNS                                                                                              \
	"k.id, k.name, k.created_at, k.team_id, k.user_id, k.service_account_id, u.name, u.email, k.scopes, "          \
	"k.revoked_at, u.role"

static char *owner_of(const struct principal *p)
{
	return p->user_id != 0 ? str_printf("user:%lld", (long long)p->user_id)
			       : str_printf("sa:%s", p->service_account_id);
}

static struct principal *principal_from(struct query *q)
{
	struct principal *p = NEW(struct principal);

	p->key_id = str_dup(query_str(q, 0));
	p->key_name = str_dup(query_str(q, 1));
	p->key_created_at = query_int(q, 2);
	p->team_id = query_int(q, 3);
	p->user_id = query_int(q, 4);
	p->service_account_id = str_dup(query_str(q, 5));
	p->user_name = str_dup(query_text(q, 6));
	p->user_email = str_dup(query_text(q, 7));
	p->scopes = scopes_stored(query_text(q, 8), p->user_id != 0 ? KEY_USER : KEY_SERVICE_ACCOUNT);
	p->role = role_stored(query_text(q, 10));
	p->admin = p->role >= ROLE_ADMIN;
	/* Whatever the key may do: an auditor changes nothing. */
	if (p->role == ROLE_AUDITOR)
		p->scopes &= scopes_that_read();
	p->owner = owner_of(p);
	return p;
}

static int refuse(struct refusal *r, const char *code, const char *sentence)
{
	r->code = code;
	return why_set(&r->why, ERR_UNAUTHORIZED, "%s", sentence);
}

/* The key that the query finds. Takes the query. */
static int read_key(int rc, struct query *taken, struct principal **ret, struct refusal *refusal)
{
	AUTO(query) q = taken;

	if (rc == OK)
		rc = query_next(q);
	if (rc == ERR_EMPTY)
		return refuse(refusal, "unauthorized", "the API key is missing or not valid");
	if (rc != OK)
		return rc;
	if (!query_is_null(q, 9))
		return refuse(refusal, "key_revoked", "the API key that this token was made with was revoked");
	/* A row without an owner is damaged. All such keys would be one principal and share what it owns. */
	if (query_int(q, 4) == 0 && query_str(q, 5)[0] == '\0') {
		log_error("store.row.damaged", "table=api_keys key=%s column=user_id", log_quote(query_str(q, 0)));
		return ERR_INTERNAL;
	}
	*ret = principal_from(q);
	return OK;
}

static int authenticate_key(struct store *st, const char *key, struct principal **ret, struct refusal *refusal)
{
	AUTO(tx) tx = NULL;
	struct query *q = NULL;
	char hash[SHA256_HEX_LEN];
	int rc;

	sha256_hex(key, strlen(key), hash);
	rc = tx_begin(st, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT " PRINCIPAL_COLUMNS
		    " FROM api_keys k LEFT JOIN users u ON u.id = k.user_id WHERE k.hash = $1 AND k.revoked_at IS NULL",
		    "s", hash);
	return read_key(rc, q, ret, refusal);
}

int access_principal_of_key(struct tx *tx, const char *key_id, struct principal **ret)
{
	struct refusal refusal;
	struct query *q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT " PRINCIPAL_COLUMNS
	    " FROM api_keys k LEFT JOIN users u ON u.id = k.user_id WHERE k.id = $1 AND k.revoked_at IS NULL",
	    "s", key_id);

	return read_key(rc, q, ret, &refusal);
}

int access_principal_of_user(struct tx *tx, int64_t user_id, struct principal **ret)
{
	AUTO(query) q = NULL;
	int rc =
	    tx_query(tx, &q, "SELECT team_id, name, email, role, created_at FROM users WHERE id = $1", "i", user_id);
	struct principal *p;

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	p = NEW(struct principal);
	p->team_id = query_int(q, 0);
	p->user_id = user_id;
	p->user_name = str_dup(query_str(q, 1));
	p->user_email = str_dup(query_text(q, 2));
	p->admin = strcmp(query_str(q, 3), "admin") == 0;
	p->key_created_at = query_int(q, 4);
	p->scopes = scopes_stored(NULL, KEY_USER);
	p->service_account_id = str_dup("");
	p->key_id = str_dup("");
	p->key_name = str_dup("");
	p->owner = owner_of(p);
	*ret = p;
	return OK;
}

/* It acts as that user, with what users may do by default; the key that made it only decides how long. */
static int become_user(struct tx *tx, const struct token *t, struct principal *p, struct refusal *refusal)
{
	AUTO(query) q = NULL;
	int rc = tx_query(
	    tx, &q, "SELECT name, email, role FROM users WHERE id = $1 AND team_id = $2", "ii", t->user_id, t->team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == ERR_EMPTY)
		return refuse(refusal, "unauthorized", "the user of this token is not there any more");
	if (rc != OK)
		return rc;
	p->user_id = t->user_id;
	p->scopes = scopes_stored(NULL, KEY_USER);
	p->role = role_stored(query_text(q, 2));
	p->admin = p->role >= ROLE_ADMIN;
	if (p->role == ROLE_AUDITOR)
		p->scopes &= scopes_that_read();
	str_set(&p->service_account_id, "");
	str_set(&p->user_name, query_text(q, 0));
	str_set(&p->user_email, query_text(q, 1));
	free(p->owner);
	p->owner = owner_of(p);
	return OK;
}

static int bind_to_claim(struct tx *tx, const struct token *t, struct principal *p, struct refusal *refusal)
{
	int64_t one;
	int rc = tx_query_int(tx, &one,
	    "SELECT 1 FROM claims WHERE agent_id = $1 AND id = $2 AND team_id = $3 AND worker_id = $4", "ssis",
	    t->agent_id, t->claim_id, t->team_id, t->worker_id);

	if (rc == ERR_EMPTY)
		return refuse(refusal, "claim_ended", "the claim of this session token has ended");
	if (rc != OK)
		return rc;
	p->only_agent = str_dup(t->agent_id);
	p->only_worker = str_dup(t->worker_id);
	return OK;
}

static int refuse_expired(const struct token *t, struct refusal *refusal)
{
	char when[CLOCK_ISO_LEN];

	clock_iso8601(t->expires_at_ms, when);
	refusal->code = "token_expired";
	return why_set(&refusal->why, ERR_UNAUTHORIZED, "the token expired at %s", when);
}

/* A signature alone never suffices: the store is asked about everything that may have ended since. */
static int authenticate_token(struct store *st, const char *text, struct principal **ret, struct refusal *refusal)
{
	static const enum credential by[] = {
	    [TOKEN_WORKER] = BY_WORKER_TOKEN, [TOKEN_USER] = BY_USER_TOKEN, [TOKEN_SESSION] = BY_SESSION_TOKEN};
	unsigned char key[INSTALLATION_KEY_LEN];
	AUTO(principal) p = NULL;
	AUTO(token) t = NULL;
	AUTO(tx) tx = NULL;
	struct query *q = NULL;
	int rc = installation_key(st, TOKEN_KEY, key);

	if (rc == OK)
		rc = token_read(key, text, &t);
	if (rc == ERR_UNAUTHORIZED)
		return refuse(refusal, "unauthorized", "the token is not one of this server's");
	if (rc == OK && t->expires_at_ms <= clock_wall_ms())
		return refuse_expired(t, refusal);
	if (rc == OK)
		rc = tx_begin(st, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT " PRINCIPAL_COLUMNS
		    " FROM api_keys k LEFT JOIN users u ON u.id = k.user_id WHERE k.id = $1 AND k.team_id = $2",
		    "si", t->key_id, t->team_id);
	if (rc == OK)
		rc = read_key(rc, q, &p, refusal);
	if (rc == OK)
		p->by = by[t->kind];
	if (rc == OK && t->kind == TOKEN_USER)
		rc = become_user(tx, t, p, refusal);
	if (rc == OK && t->kind == TOKEN_SESSION)
		rc = bind_to_claim(tx, t, p, refusal);
	if (rc == OK)
		*ret = TAKE(p);
	return rc;
}

int access_authenticate_worker(
    struct store *st, const char *authorization, struct principal **ret, struct refusal *refusal)
{
	AUTO_STR key = authorization != NULL ? access_key_of(authorization) : NULL;

	if (key != NULL && token_has_form(key))
		return authenticate_token(st, key, ret, refusal);
	if (key == NULL || strlen(key) < KEY_MIN || strlen(key) > KEY_MAX)
		return refuse(refusal, "unauthorized", "the API key is missing or not valid");
	return authenticate_key(st, key, ret, refusal);
}

int access_authenticate(struct store *st, const char *authorization, struct principal **ret)
{
	AUTO(principal) p = NULL;
	struct refusal refusal;
	int rc = access_authenticate_worker(st, authorization, &p, &refusal);

	if (rc == OK && p->by != BY_API_KEY && p->by != BY_USER_TOKEN)
		return ERR_DENIED;
	if (rc == OK)
		*ret = TAKE(p);
	return rc;
}

int access_find_user(struct tx *tx, const char *name, const char *email, int64_t *ret_id)
{
	return email != NULL
		   ? tx_query_int(tx, ret_id, "SELECT id FROM users WHERE LOWER(email) = LOWER($1)", "s", email)
		   : tx_query_int(tx, ret_id, "SELECT id FROM users WHERE email IS NULL AND name = $1", "s", name);
}

int access_user_of(struct tx *tx, const char *name, const char *email, int64_t now, int64_t *ret_id)
{
	int rc = access_find_user(tx, name, email, ret_id);

	/* The indexes decide, not a look before: where writers run side by side another may take the number, or create
	 * the same user, at any moment. In the first case there is still no such user, and the next number is tried. */
	for (int i = 0; rc == ERR_EMPTY && i < USER_ID_TRIES; i++) {
		rc = tx_exec(tx,
		    "INSERT INTO users(id, team_id, name, email, created_at)"
		    " SELECT COALESCE(MAX(id), 0) + 1, 1, $1, $2, $3 FROM users WHERE TRUE ON CONFLICT DO NOTHING",
		    "ssi", name, email, now);
		if (rc == OK)
			rc = access_find_user(tx, name, email, ret_id);
	}
	return rc == ERR_EMPTY ? ERR_CONFLICT : rc;
}

static int service_account_of(struct tx *tx, const char *name, int64_t now, char **ret_id)
{
	AUTO_STR id = NULL;
	char hex[25];
	int rc;

	/* Creates it unless there is one; the index on the name decides. */
	id_hex(hex, 12);
	id = str_printf("sa_%s", hex);
	rc = tx_exec(tx,
	    "INSERT INTO service_accounts(id, team_id, name, created_at) VALUES($1, 1, $2, $3) ON CONFLICT DO NOTHING",
	    "ssi", id, name, now);
	return rc != OK ? rc
			: tx_query_text(
			      tx, ret_id, "SELECT id FROM service_accounts WHERE team_id = 1 AND name = $1", "s", name);
}

/* `scopes`: as they are stored; NULL: the default of the type, whatever it will be. */
static int insert_key(struct tx *tx, const struct key_request *req, const char *scopes, const char *key)
{
	AUTO_STR account = NULL;
	AUTO_STR id = NULL;
	char hash[SHA256_HEX_LEN], hex[17];
	int64_t user = 0, now = clock_wall_ms();
	int rc = req->type == KEY_USER ? access_user_of(tx, req->name, req->email, now, &user)
				       : service_account_of(tx, req->name, now, &account);

	if (rc != OK)
		return rc;
	id_hex(hex, 8);
	id = str_printf("key_%s", hex);
	sha256_hex(key, strlen(key), hash);
	if (req->type == KEY_USER)
		return tx_exec(tx,
		    "INSERT INTO api_keys(id, hash, suffix, team_id, user_id, name, created_at, scopes)"
		    " VALUES($1, $2, $3, 1, $4, $5, $6, $7)",
		    "sssisis", id, hash, key + strlen(key) - 4, user, req->name, now, scopes);
	return tx_exec(tx,
	    "INSERT INTO api_keys(id, hash, suffix, team_id, service_account_id, name, created_at, scopes)"
	    " VALUES($1, $2, $3, 1, $4, $5, $6, $7)",
	    "sssssis", id, hash, key + strlen(key) - 4, account, req->name, now, scopes);
}

/* One line that a terminal only shows: it stands in lists and logs. */
static bool is_one_line(const char *s)
{
	for (const char *c = s; *c != '\0'; c++)
		if (terminal_control_len(c) > 0)
			return false;
	return text_is_utf8(s, strlen(s));
}

static int check_request(const struct key_request *req, char **ret_scopes, struct why *why)
{
	const char *name = req->name, *email = req->email;

	if (text_is_blank(name) || strlen(name) > 100 || !is_one_line(name))
		return why_set(why, ERR_INVALID, "--name must be 1 to 100 bytes of text in one line");
	if (email != NULL && (strchr(email, '@') == NULL || strlen(email) > 254 || !is_one_line(email)))
		return why_set(why, ERR_INVALID, "--email must be an e-mail address");
	if (email != NULL && req->type == KEY_SERVICE_ACCOUNT)
		return why_set(why, ERR_INVALID, "--email goes with --type user: a service account has none");
	return req->scopes != NULL ? scopes_read(req->scopes, req->type, ret_scopes, why) : OK;
}

int access_key_check(const struct key_request *req, struct why *why)
{
	AUTO_STR scopes = NULL;

	return check_request(req, &scopes, why);
}

int access_key_create(struct store *st, const struct key_request *req, char **ret_key, struct why *why)
{
	AUTO(tx) tx = NULL;
	AUTO_STR scopes = NULL;
	char key[sizeof KEY_PREFIX + 64];
	int rc = check_request(req, &scopes, why);

	if (rc != OK)
		return rc;
	memcpy(key, KEY_PREFIX, sizeof KEY_PREFIX);
	id_hex(key + strlen(KEY_PREFIX), 32);
	rc = tx_begin(st, TX_WRITE, &tx);
	if (rc == OK)
		rc = insert_key(tx, req, scopes, key);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return why_set(why, rc, "the key could not be stored: %s", err_text(rc));
	*ret_key = str_dup(key);
	return OK;
}

static json_t *key_row(struct query *q)
{
	json_t *row = json_object();
	char when[CLOCK_ISO_LEN];

	json_put(row, "id", query_str(q, 0));
	json_put(row, "name", query_str(q, 1));
	json_put(row, "type", query_is_null(q, 3) ? "service_account" : "user");
	json_put(row, "owner", query_is_null(q, 3) ? query_str(q, 4) : query_str(q, 5));
	json_put(row, "suffix", query_str(q, 2));
	AUTO_STR scopes =
	    scopes_text(scopes_stored(query_text(q, 8), query_is_null(q, 3) ? KEY_SERVICE_ACCOUNT : KEY_USER));

	json_put(row, "scopes", scopes);
	clock_iso8601(query_int(q, 6), when);
	json_put(row, "createdAt", when);
	if (!query_is_null(q, 7)) {
		clock_iso8601(query_int(q, 7), when);
		json_put(row, "revokedAt", when);
	}
	return row;
}

int access_key_list(struct store *st, json_t **ret)
{
	AUTO_JSON rows = json_array();
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT k.id, k.name, k.suffix, k.user_id, k.service_account_id, COALESCE(u.email, u.name), "
		    "k.created_at,"
		    " k.revoked_at, k.scopes FROM api_keys k LEFT JOIN users u ON u.id = k.user_id ORDER BY "
		    "k.created_at, k.id",
		    "");
	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(rows, key_row(q));
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(rows);
	return OK;
}

int access_key_revoke(struct store *st, const char *which)
{
	AUTO(tx) tx = NULL;
	char hash[SHA256_HEX_LEN];
	int64_t n = 0;
	int rc = tx_begin(st, TX_WRITE, &tx);

	sha256_hex(which, strlen(which), hash);
	if (rc == OK)
		rc = tx_change(tx, &n,
		    "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE id = $1 OR hash = $2", "ssi",
		    which, hash, clock_wall_ms());
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	return n == 0 ? ERR_NOT_FOUND : OK;
}
