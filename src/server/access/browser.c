#include "server/access/browser.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/seal.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/access/access_priv.h"
#include <string.h>

#define SECRET_BYTES 32
#define SECRET_LEN ((size_t)SECRET_BYTES * 2)
#define TOUCH_MS ((int64_t)60 * 1000) /* how exact "without a request" is */

char *browser_secret_new(void)
{
	AUTO_STR s = mem_alloc(SECRET_LEN + 1);

	id_hex(s, SECRET_BYTES);
	return TAKE(s);
}

/* Its value in a Cookie header: "a=b; bullpen_session=…". NULL: it is not there, or has another form. malloc'ed. */
static char *cookie_of(const char *cookies)
{
	static const char name[] = BROWSER_COOKIE "=";

	for (const char *at = cookies; at != NULL && *at != '\0';) {
		const char *end = strchr(at, ';');
		size_t len;

		at += strspn(at, " \t");
		len = end != NULL && end >= at ? (size_t)(end - at) : strlen(at);
		if (len == sizeof name - 1 + SECRET_LEN && text_has_prefix(at, name)) {
			AUTO_STR value = str_ndup(at + sizeof name - 1, SECRET_LEN);

			return strspn(value, "0123456789abcdef") == SECRET_LEN ? TAKE(value) : NULL;
		}
		at = end != NULL ? end + 1 : NULL;
	}
	return NULL;
}

static int note_session(struct tx *tx, const char *key_id, const char *ip, const char *type, json_t *data)
{
	AUTO_JSON owned = data;
	AUTO(principal) p = NULL;
	int rc = access_principal_of_key(tx, key_id, &p);

	/* A session that ends with its key is nobody's. */
	if (rc != OK)
		return rc == ERR_UNAUTHORIZED ? OK : rc;
	const struct audit_by by = {.team_id = p->team_id,
	    .actor = p->owner,
	    .name = p->user_email != NULL ? p->user_email : p->user_name,
	    .ip = ip};

	return audit_write(tx, &by, type, TAKE(owned));
}

/* Those that are over go with each new one: there are few. `how` is for the audit log. */
int browser_insert_session(
    struct tx *tx, const char *key_id, const char *secret, int64_t now, const char *how, const char *ip)
{
	char hash[SHA256_HEX_LEN];
	int rc = tx_exec(tx, "DELETE FROM browser_sessions WHERE used_at < $1 OR created_at < $2", "ii",
	    now - BROWSER_IDLE_MS, now - BROWSER_LIFE_MS);

	sha256_hex(secret, strlen(secret), hash);
	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO browser_sessions(id, key_id, created_at, used_at, via) VALUES($1, $2, $3, $3, $4)",
		    "ssis", hash, key_id, now, how);
	return rc != OK ? rc : note_session(tx, key_id, ip, "login", json_pack("{s:s}", "by", how));
}

int browser_sign_in_by_key(struct store *st, const char *key, const char *ip, char **ret_cookie)
{
	AUTO_STR bearer = str_printf("Bearer %s", key);
	AUTO_STR secret = browser_secret_new();
	AUTO(principal) p = NULL;
	AUTO(tx) tx = NULL;
	int rc = access_authenticate(st, bearer, &p);

	if (rc == ERR_DENIED || (rc == OK && (p->by != BY_API_KEY || principal_is_service_account(p))))
		return ERR_UNAUTHORIZED;
	if (rc == OK)
		rc = tx_begin(st, TX_WRITE, &tx);
	if (rc == OK)
		rc = browser_insert_session(tx, p->key_id, secret, clock_wall_ms(), "key", ip);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		*ret_cookie = TAKE(secret);
	return rc;
}

/* The link is gone in the transaction that makes the session, so it works once. */
int browser_sign_in_by_link(struct store *st, const char *secret, const char *ip, char **ret_cookie)
{
	AUTO_STR cookie = browser_secret_new();
	AUTO_STR key_id = NULL;
	AUTO(tx) tx = NULL;
	char hash[SHA256_HEX_LEN];
	int64_t now = clock_wall_ms(), n = 0;
	int rc = tx_begin(st, TX_WRITE, &tx);

	sha256_hex(secret, strlen(secret), hash);
	if (rc == OK)
		rc = tx_query_text(
		    tx, &key_id, "SELECT key_id FROM login_links WHERE id = $1 AND expires_at > $2", "si", hash, now);
	if (rc == ERR_EMPTY)
		return ERR_UNAUTHORIZED;
	if (rc == OK)
		rc = tx_change(tx, &n, "DELETE FROM login_links WHERE id = $1", "s", hash);
	if (rc == OK && n == 0)
		return ERR_UNAUTHORIZED;
	if (rc == OK)
		rc = browser_insert_session(tx, key_id, cookie, now, "link", ip);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		*ret_cookie = TAKE(cookie);
	return rc;
}

/* That it was used is written once a minute at most; if that fails the request goes on all the same. */
static void touch(struct store *st, const char *hash, int64_t used, int64_t now)
{
	AUTO(tx) tx = NULL;

	if (now - used < TOUCH_MS || tx_begin(st, TX_WRITE, &tx) != OK)
		return;
	if (tx_exec(tx, "UPDATE browser_sessions SET used_at = $2 WHERE id = $1", "si", hash, now) == OK)
		IGNORE(tx_commit(&tx));
}

int browser_authenticate(struct store *st, const char *cookies, struct principal **ret)
{
	AUTO_STR secret = cookie_of(cookies);
	AUTO(principal) p = NULL;
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	char hash[SHA256_HEX_LEN];
	int64_t now = clock_wall_ms(), used = 0;
	int rc;

	if (secret == NULL)
		return ERR_EMPTY;
	sha256_hex(secret, SECRET_LEN, hash);
	rc = tx_begin(st, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT key_id, used_at FROM browser_sessions WHERE id = $1 AND used_at >= $2 AND created_at >= $3",
		    "sii", hash, now - BROWSER_IDLE_MS, now - BROWSER_LIFE_MS);
	if (rc == OK)
		rc = query_next(q);
	if (rc == ERR_EMPTY)
		return ERR_UNAUTHORIZED;
	if (rc == OK) {
		used = query_int(q, 1);
		rc = access_principal_of_key(tx, query_str(q, 0), &p);
	}
	query_free(&q);
	tx_free(&tx);
	if (rc != OK)
		return rc;
	touch(st, hash, used, now);
	p->by = BY_BROWSER;
	if (principal_oversees(p))
		p->scopes |= scope_bit(SCOPE_AGENTS_TEAM);
	p->session_id = str_dup(hash);
	*ret = TAKE(p);
	return OK;
}

/* What a session that is over leaves to be told. */
static int read_session(struct tx *tx, const char *hash, char **ret_key, bool *ret_oidc)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT key_id, via FROM browser_sessions WHERE id = $1", "s", hash);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK) {
		*ret_key = str_dup(query_str(q, 0));
		*ret_oidc = strcmp(query_str(q, 1), "oidc") == 0;
	}
	return rc;
}

int browser_sign_out(struct store *st, const char *cookies, const char *ip, bool *ret_oidc)
{
	AUTO_STR secret = cookie_of(cookies);
	AUTO_STR key_id = NULL;
	AUTO(tx) tx = NULL;
	char hash[SHA256_HEX_LEN];
	int rc;

	*ret_oidc = false;
	if (secret == NULL)
		return OK;
	sha256_hex(secret, SECRET_LEN, hash);
	rc = tx_begin(st, TX_WRITE, &tx);
	if (rc == OK)
		rc = read_session(tx, hash, &key_id, ret_oidc);
	if (rc == ERR_EMPTY)
		return OK;
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM browser_sessions WHERE id = $1", "s", hash);
	if (rc == OK)
		rc = note_session(tx, key_id, ip, "logout", json_object());
	return rc == OK ? tx_commit(&tx) : rc;
}

int login_link_create(struct store *st, const struct audit_by *by, const char *name, const char *email,
    char **ret_secret, struct why *why)
{
	const struct key_request req = {.type = KEY_USER, .name = name, .email = email, .for_browser = true};
	AUTO_STR secret = browser_secret_new();
	AUTO_FINI(key_made) made = {0};
	AUTO(tx) tx = NULL;
	char hash[SHA256_HEX_LEN];
	int64_t now = clock_wall_ms();
	int rc = access_key_create(st, by, &req, &made, why);

	if (rc != OK)
		return rc;
	rc = tx_begin(st, TX_WRITE, &tx);
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM login_links WHERE expires_at <= $1", "i", now);
	sha256_hex(secret, strlen(secret), hash);
	if (rc == OK)
		rc = tx_exec(tx, "INSERT INTO login_links(id, key_id, expires_at) VALUES($1, $2, $3)", "ssi", hash,
		    made.id, now + LOGIN_LINK_MS);
	if (rc == OK)
		rc = audit_write(tx, by, "login_link", json_pack("{s:s}", "email", email));
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return why_set(why, rc, "the link could not be stored: %s", err_text(rc));
	*ret_secret = TAKE(secret);
	return OK;
}
