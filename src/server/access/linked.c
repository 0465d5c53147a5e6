/* Whose account it is. */
#include "base/id.h"
#include "base/mem.h"
#include "base/seal.h"
#include "server/access/linked.h"
#include <sodium.h>
#include <string.h>

static json_t *record(const char *action, const struct linked *a, int64_t user_id)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "action", action, "surface", a->surface, "place", a->place,
	    "account", a->account, "login", a->login, "userId", (json_int_t)user_id);
}

int linked_add(struct tx *tx, const struct audit_by *by, const struct linked *a, int64_t user_id, int64_t now_ms)
{
	json_t *data;
	int64_t before = 0;
	int rc =
	    tx_query_int(tx, &before, "SELECT user_id FROM accounts WHERE surface = $1 AND place = $2 AND account = $3",
		"sss", a->surface, a->place, a->account);

	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	rc = tx_exec(tx,
	    "INSERT INTO accounts(surface, place, account, login, team_id, user_id, created_at) VALUES($1, $2, $3, $4, "
	    "$5, $6, $7)"
	    " ON CONFLICT(surface, place, account) DO UPDATE SET login = excluded.login, team_id = excluded.team_id,"
	    " user_id = excluded.user_id, created_at = excluded.created_at",
	    "ssssiii", a->surface, a->place, a->account, a->login, by->team_id, user_id, now_ms);
	if (rc != OK)
		return rc;
	data = record("linked", a, user_id);
	if (before != 0 && before != user_id)
		json_put_int(data, "before", before);
	return audit_write(tx, by, "linked_account", data);
}

/* One of those meant; ERR_EMPTY: there is none. */
static int remove_one(
    struct tx *tx, const struct audit_by *by, const char *surface, const char *place, const char *account)
{
	struct audit_by whose = *by;
	AUTO(query) q = NULL;
	AUTO_STR id = NULL;
	AUTO_STR login = NULL;
	int64_t user;
	int rc = tx_query(tx, &q,
	    "SELECT account, login, user_id, team_id FROM accounts WHERE surface = $1 AND place = $2 AND (account = $3"
	    " OR login = $3) LIMIT 1",
	    "sss", surface, place, account);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	id = str_dup(query_str(q, 0));
	login = str_dup(query_str(q, 1));
	user = query_int(q, 2);
	whose.team_id = query_int(q, 3);
	query_free(&q);
	rc = tx_exec(
	    tx, "DELETE FROM accounts WHERE surface = $1 AND place = $2 AND account = $3", "sss", surface, place, id);
	return rc != OK ? rc
			: audit_write(tx, &whose, "linked_account",
			      record("unlinked", &(struct linked){surface, place, id, login}, user));
}

int linked_remove(struct tx *tx, const struct audit_by *by, const char *surface, const char *place, const char *account,
    int64_t *ret_n)
{
	int rc;

	*ret_n = 0;
	while ((rc = remove_one(tx, by, surface, place, account)) == OK)
		++*ret_n;
	return rc == ERR_EMPTY ? OK : rc;
}

int linked_find(struct tx *tx, const char *surface, const char *place, const char *account, int64_t *ret_user_id)
{
	int rc = tx_query_int(tx, ret_user_id,
	    "SELECT a.user_id FROM accounts a JOIN users u ON u.id = a.user_id AND u.team_id = a.team_id"
	    " WHERE a.surface = $1 AND a.place = $2 AND a.account = $3",
	    "sss", surface, place, account);

	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int linked_find_email(struct tx *tx, const char *email, int64_t *ret_user_id)
{
	int rc = tx_query_int(tx, ret_user_id, "SELECT id FROM users WHERE LOWER(email) = LOWER($1)", "s", email);

	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int link_offer(struct tx *tx, const struct linked *a, int64_t now_ms, char **ret_secret)
{
	unsigned char bytes[32];
	char secret[2 * sizeof bytes + 1], hash[SHA256_HEX_LEN];
	int rc;

	randombytes_buf(bytes, sizeof bytes);
	sodium_bin2hex(secret, sizeof secret, bytes, sizeof bytes);
	sha256_hex(secret, strlen(secret), hash);
	rc = tx_exec(tx, "DELETE FROM account_links WHERE expires_at <= $1", "i", now_ms);
	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO account_links(id, surface, place, account, login, expires_at) VALUES($1, $2, $3, $4, "
		    "$5, $6)",
		    "sssssi", hash, a->surface, a->place, a->account, a->login, now_ms + LINK_OFFER_MS);
	if (rc == OK)
		*ret_secret = str_dup(secret);
	return rc;
}

int link_look(struct tx *tx, const char *secret, int64_t now_ms, char **ret_surface, char **ret_login)
{
	AUTO(query) q = NULL;
	char hash[SHA256_HEX_LEN];
	int rc;

	sha256_hex(secret, strlen(secret), hash);
	rc = tx_query(
	    tx, &q, "SELECT surface, login FROM account_links WHERE id = $1 AND expires_at > $2", "si", hash, now_ms);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	*ret_surface = str_dup(query_str(q, 0));
	*ret_login = str_dup(query_str(q, 1));
	return OK;
}

int link_take(struct tx *tx, const struct audit_by *by, const char *secret, int64_t user_id, int64_t now_ms,
    char **ret_surface, char **ret_login)
{
	AUTO(query) q = NULL;
	char hash[SHA256_HEX_LEN];
	AUTO_STR place = NULL;
	AUTO_STR account = NULL;
	int rc;

	sha256_hex(secret, strlen(secret), hash);
	rc = tx_query(tx, &q,
	    "DELETE FROM account_links WHERE id = $1 AND expires_at > $2 RETURNING surface, place, account, login",
	    "si", hash, now_ms);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	*ret_surface = str_dup(query_str(q, 0));
	place = str_dup(query_str(q, 1));
	account = str_dup(query_str(q, 2));
	*ret_login = str_dup(query_str(q, 3));
	/* To its end: the statement must be over before the next. */
	rc = query_next(q);
	if (rc != ERR_EMPTY)
		return rc == OK ? ERR_INTERNAL : rc;
	const struct linked a = {*ret_surface, place, account, *ret_login};

	return linked_add(tx, by, &a, user_id, now_ms);
}
