#include "server/access/access.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/access/access_priv.h"
#include "server/access/tokens.h"
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#define KEY_MIN 20
#define KEY_MAX 128
#define KEY_TOUCH_MS ((int64_t)60 * 1000)

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
	free(p->session_id);
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

bool principal_manages(const struct principal *p)
{
	return principal_leads(p) || principal_has_scope(p, SCOPE_TEAM_ADMIN);
}

bool principal_has_scope(const struct principal *p, const char *scope)
{
	return (p->scopes & scope_bit(scope)) != 0;
}

#define PRINCIPAL_COLUMNS                                                                                              \
	"k.id, k.name, k.created_at, k.team_id, k.user_id, k.service_account_id, u.name, u.email, k.scopes, "          \
	"k.revoked_at, u.role, k.expires_at, k.used_at"

static char *owner_of(const struct principal *p)
{
	return p->user_id != 0 ? str_printf("user:%lld", (long long)p->user_id)
			       : str_printf("sa:%s", p->service_account_id);
}

/* Whatever the credential may do: an auditor changes nothing. */
static void set_role(struct principal *p, const char *stored)
{
	p->role = role_stored(stored);
	if (p->role == ROLE_AUDITOR)
		p->scopes &= scopes_that_read();
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
	set_role(p, query_text(q, 10));
	p->key_used_at = query_int(q, 12);
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
	if (!query_is_null(q, 11) && query_int(q, 11) <= clock_wall_ms())
		return refuse(refusal, "unauthorized", "the API key is over: it was made to expire");
	/* A row without an owner is damaged. All such keys would be one principal and share what it owns. */
	if (query_int(q, 4) == 0 && query_str(q, 5)[0] == '\0') {
		log_error("store.row.damaged", "table=api_keys key=%s column=user_id", log_quote(query_str(q, 0)));
		return ERR_INTERNAL;
	}
	*ret = principal_from(q);
	return OK;
}

/* A thousand workers of one key may come at once, and none of them sees what another has not written yet: who is the
 * first in a minute, of this process. That two keys share a place costs a write more, no more than that. */
static bool is_first_to_touch(const struct principal *p, int64_t now)
{
	static _Atomic uint64_t last[1024];
	uint64_t id = strtoull(p->key_id + strcspn(p->key_id, "_") + (strchr(p->key_id, '_') != NULL), NULL, 16);
	uint64_t mine = (uint64_t)(now / KEY_TOUCH_MS) << 24 | (id & 0xffffff);

	return atomic_exchange(&last[(id >> 24) % ARRAY_LEN(last)], mine) != mine;
}

/* When it was used is written once a minute at most; if that fails the request goes on all the same. */
static void touch_key(struct store *st, const struct principal *p)
{
	int64_t now = clock_wall_ms();
	AUTO(tx) tx = NULL;

	if (now - p->key_used_at < KEY_TOUCH_MS || !is_first_to_touch(p, now) || tx_begin(st, TX_WRITE, &tx) != OK)
		return;
	if (tx_exec(tx, "UPDATE api_keys SET used_at = $2 WHERE id = $1", "si", p->key_id, now) == OK)
		IGNORE(tx_commit(&tx));
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
	rc = read_key(rc, q, ret, refusal);
	tx_free(&tx);
	if (rc == OK)
		touch_key(st, *ret);
	return rc;
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
	p->key_created_at = query_int(q, 4);
	p->scopes = scopes_stored(NULL, KEY_USER);
	set_role(p, query_text(q, 3));
	p->service_account_id = str_dup("");
	p->key_id = str_dup("");
	p->key_name = str_dup("");
	p->owner = owner_of(p);
	*ret = p;
	return OK;
}

static int principal_of_account(struct tx *tx, const char *id, struct principal **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT team_id, name, created_at FROM service_accounts WHERE id = $1 AND archived_at IS NULL", "s", id);
	struct principal *p;

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	p = NEW(struct principal);
	p->team_id = query_int(q, 0);
	p->service_account_id = str_dup(id);
	p->key_id = str_dup("");
	p->key_name = str_dup(query_str(q, 1));
	p->key_created_at = query_int(q, 2);
	p->scopes = scopes_stored(NULL, KEY_SERVICE_ACCOUNT);
	p->owner = owner_of(p);
	*ret = p;
	return OK;
}

int access_principal_of_owner(struct tx *tx, const char *owner, struct principal **ret)
{
	int64_t user;

	if (text_has_prefix(owner, "sa:"))
		return principal_of_account(tx, owner + 3, ret);
	if (!text_has_prefix(owner, "user:") || text_parse_int(owner + 5, 1, INT64_MAX, &user) != OK)
		return ERR_NOT_FOUND;
	return access_principal_of_user(tx, user, ret);
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
	set_role(p, query_text(q, 2));
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
