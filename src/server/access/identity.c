/* Signing in whom the OpenID provider knows. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/seal.h"
#include "server/access/access_priv.h"
#include "server/access/browser.h"
#include <string.h>

struct signing_in {
	const struct identity *id;
	const char *cookie;
	int64_t now;
};

/* A key for the sessions of this person. Nobody ever sees it: revoking it ends them. */
static int make_key(struct tx *tx, int64_t user_id, int64_t now, char **ret_id)
{
	AUTO_STR secret = browser_secret_new();
	char hash[SHA256_HEX_LEN], hex[17];
	AUTO_STR id = NULL;
	int rc;

	id_hex(hex, 8);
	id = str_printf("key_%s", hex);
	sha256_hex(secret, strlen(secret), hash);
	rc = tx_exec(tx,
	    "INSERT INTO api_keys(id, hash, suffix, team_id, user_id, name, created_at) VALUES($1, $2, $3, 1, $4, "
	    "'browser sessions', $5)",
	    "sssii", id, hash, secret + strlen(secret) - 4, user_id, now);
	str_wipe(&secret);
	if (rc == OK)
		*ret_id = TAKE(id);
	return rc;
}

/* The account of the address, unless that is another person's at the same provider: addresses are given to others when
 * people leave. */
static int find_account(struct tx *tx, const struct signing_in *s, int64_t *ret_user)
{
	int64_t others = 0;
	int rc = access_find_user(tx, s->id->name, s->id->email, ret_user);

	if (rc == ERR_EMPTY && !s->id->create)
		return ERR_NOT_FOUND;
	if (rc == ERR_EMPTY)
		return access_user_of(tx, s->id->name, s->id->email, s->now, ret_user);
	if (rc == OK)
		rc = tx_query_int(tx, &others, "SELECT COUNT(*) FROM identities WHERE user_id = $1 AND issuer = $2",
		    "is", *ret_user, s->id->issuer);
	return rc != OK ? rc : others > 0 ? ERR_CONFLICT : OK;
}

static int link_account(struct tx *tx, const struct signing_in *s, int64_t *ret_user, char **ret_key)
{
	int rc = find_account(tx, s, ret_user);

	if (rc == OK)
		rc = make_key(tx, *ret_user, s->now, ret_key);
	return rc != OK
		   ? rc
		   : tx_exec(tx,
			 "INSERT INTO identities(issuer, subject, user_id, key_id, created_at, used_at) VALUES($1, $2, "
			 "$3, $4, $5, $5)",
			 "ssisi", s->id->issuer, s->id->subject, *ret_user, *ret_key, s->now);
}

/* A key that was revoked has ended the sessions; a new one begins when the provider says again who that is. */
static int use_account(struct tx *tx, const struct signing_in *s, int64_t user, bool revoked, char **key)
{
	int rc = OK;

	if (revoked) {
		str_free(key);
		rc = make_key(tx, user, s->now, key);
	}
	return rc != OK
		   ? rc
		   : tx_exec(tx, "UPDATE identities SET key_id = $3, used_at = $4 WHERE issuer = $1 AND subject = $2",
			 "sssi", s->id->issuer, s->id->subject, *key, s->now);
}

static int sign_in(struct tx *tx, void *arg)
{
	struct signing_in *s = arg;
	AUTO(query) q = NULL;
	AUTO_STR key = NULL;
	int64_t user = 0;
	int rc = tx_query(tx, &q,
	    "SELECT i.user_id, i.key_id, k.revoked_at FROM identities i LEFT JOIN api_keys k ON k.id = i.key_id WHERE "
	    "i.issuer = $1 AND i.subject = $2",
	    "ss", s->id->issuer, s->id->subject);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK) {
		bool revoked = !query_is_null(q, 2);

		user = query_int(q, 0);
		key = str_dup(query_str(q, 1));
		query_free(&q);
		rc = use_account(tx, s, user, revoked, &key);
	} else if (rc == ERR_EMPTY) {
		query_free(&q);
		rc = link_account(tx, s, &user, &key);
	}
	if (rc == OK && s->id->decides_role)
		rc = tx_exec(tx, "UPDATE users SET role = $2 WHERE id = $1 AND role IN ('member', 'admin')", "is", user,
		    role_name(s->id->is_admin ? ROLE_ADMIN : ROLE_MEMBER));
	return rc != OK ? rc : browser_insert_session(tx, key, s->cookie, "oidc", s->now);
}

int browser_sign_in_by_identity(struct store *st, const struct identity *id, char **ret_cookie)
{
	AUTO_STR cookie = browser_secret_new();
	struct signing_in s = {.id = id, .cookie = cookie, .now = clock_wall_ms()};
	int rc = store_write(st, sign_in, &s);

	if (rc == OK)
		*ret_cookie = TAKE(cookie);
	return rc;
}
