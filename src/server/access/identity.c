/* Signing in whom the OpenID provider knows. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/access/access_priv.h"
#include "server/access/browser.h"
#include <string.h>

struct signing_in {
	const struct identity *id;
	struct audit_by by; /* the provider: it says who is there and what they are */
	const char *cookie;
	int64_t now;
};

/* The account of the address, unless that is another person's at the same provider: addresses are given to others when
 * people leave. */
static int find_account(struct tx *tx, const struct signing_in *s, int64_t *ret_user)
{
	int64_t others = 0;
	int rc = access_find_user(tx, s->id->name, s->id->email, ret_user);

	if (rc == ERR_EMPTY && !s->id->create)
		return ERR_NOT_FOUND;
	if (rc == ERR_EMPTY)
		return access_user_of(tx, &s->by, s->id->name, s->id->email, s->now, ret_user);
	if (rc == OK)
		rc = tx_query_int(tx, &others, "SELECT COUNT(*) FROM identities WHERE user_id = $1 AND issuer = $2",
		    "is", *ret_user, s->id->issuer);
	return rc != OK ? rc : others > 0 ? ERR_CONFLICT : OK;
}

static int link_account(struct tx *tx, const struct signing_in *s, int64_t *ret_user, char **ret_key)
{
	int rc = find_account(tx, s, ret_user);

	if (rc == OK)
		rc = access_insert_browser_key(tx, &s->by, *ret_user, ret_key);
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
		rc = access_insert_browser_key(tx, &s->by, user, key);
	}
	return rc != OK
		   ? rc
		   : tx_exec(tx, "UPDATE identities SET key_id = $3, used_at = $4 WHERE issuer = $1 AND subject = $2",
			 "sssi", s->id->issuer, s->id->subject, *key, s->now);
}

static int take_role(struct tx *tx, const struct signing_in *s, int64_t user)
{
	AUTO_STR stored = NULL;
	int rc = tx_query_text(tx, &stored, "SELECT role FROM users WHERE id = $1", "i", user);
	enum role was;

	if (rc != OK)
		return rc;
	was = role_stored(stored);
	return was == ROLE_OWNER || was == ROLE_AUDITOR
		   ? OK
		   : member_write_role(tx, &s->by, user, was, s->id->is_admin ? ROLE_ADMIN : ROLE_MEMBER);
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
		rc = take_role(tx, s, user);
	return rc != OK ? rc : browser_insert_session(tx, key, s->cookie, s->now, "oidc", s->id->ip);
}

int browser_sign_in_by_identity(struct store *st, const struct identity *id, char **ret_cookie)
{
	AUTO_STR cookie = browser_secret_new();
	struct signing_in s = {.id = id,
	    .by = {.team_id = 1, .actor = AUDIT_PROVIDER, .name = id->email, .ip = id->ip},
	    .cookie = cookie,
	    .now = clock_wall_ms()};
	int rc = store_write(st, sign_in, &s);

	if (rc == OK)
		*ret_cookie = TAKE(cookie);
	return rc;
}
