#include "server/access/keys.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/terminal.h"
#include "base/text.h"
#include "server/access/access_priv.h"
#include <string.h>

#define KEY_PREFIX "crsr_"
#define USER_ID_TRIES 100

void key_made_fini(struct key_made *m)
{
	str_free(&m->id);
	str_wipe(&m->key);
}

int access_find_user(struct tx *tx, const char *name, const char *email, int64_t *ret_id)
{
	return email != NULL
		   ? tx_query_int(tx, ret_id, "SELECT id FROM users WHERE LOWER(email) = LOWER($1)", "s", email)
		   : tx_query_int(tx, ret_id, "SELECT id FROM users WHERE email IS NULL AND name = $1", "s", name);
}

static int note_user(struct tx *tx, const struct audit_by *by, int64_t id, const char *name, const char *email)
{
	json_t *data = json_object();

	json_put_int(data, "userId", id);
	json_put(data, "name", name);
	json_put(data, "email", email);
	return audit_write(tx, by, "add_user", data);
}

int access_user_of(
    struct tx *tx, const struct audit_by *by, const char *name, const char *email, int64_t now, int64_t *ret_id)
{
	int rc = access_find_user(tx, name, email, ret_id);

	/* The indexes decide, not a look before: where writers run side by side another may take the number, or create
	 * the same user, at any moment. In the first case there is still no such user, and the next number is tried. */
	for (int i = 0; rc == ERR_EMPTY && i < USER_ID_TRIES; i++) {
		int64_t n = 0;

		rc = tx_change(tx, &n,
		    "INSERT INTO users(id, team_id, name, email, created_at)"
		    " SELECT COALESCE(MAX(id), 0) + 1, 1, $1, $2, $3 FROM users WHERE TRUE ON CONFLICT DO NOTHING",
		    "ssi", name, email, now);
		if (rc == OK)
			rc = access_find_user(tx, name, email, ret_id);
		if (rc == OK && n > 0)
			rc = note_user(tx, by, *ret_id, name, email);
	}
	return rc == ERR_EMPTY ? ERR_CONFLICT : rc;
}

static int account_of(struct tx *tx, const struct audit_by *by, const char *name, int64_t now, char **ret_id)
{
	AUTO_STR id = NULL;
	char hex[25];
	int64_t n = 0;
	int rc;

	/* Creates it unless there is one; the index on the name decides. */
	id_hex(hex, 12);
	id = str_printf("sa_%s", hex);
	rc = tx_change(tx, &n,
	    "INSERT INTO service_accounts(id, team_id, name, created_at) VALUES($1, 1, $2, $3) ON CONFLICT DO NOTHING",
	    "ssi", id, name, now);
	if (rc == OK && n > 0)
		rc = audit_write(tx, by, "service_account",
		    json_pack("{s:s, s:s, s:s}", "action", "created", "serviceAccountId", id, "name", name));
	if (rc == OK)
		rc = tx_query_text(tx, ret_id,
		    "SELECT id FROM service_accounts WHERE team_id = 1 AND name = $1 AND archived_at IS NULL", "s",
		    name);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

static int check_account(struct tx *tx, const char *id)
{
	int64_t one;
	int rc = tx_query_int(
	    tx, &one, "SELECT 1 FROM service_accounts WHERE id = $1 AND team_id = 1 AND archived_at IS NULL", "s", id);

	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

static int owner_row(struct tx *tx, const struct audit_by *by, const struct key_request *req, int64_t now,
    int64_t *ret_user, char **ret_account)
{
	*ret_user = req->user_id;
	if (req->type == KEY_USER)
		return req->user_id != 0 ? OK : access_user_of(tx, by, req->name, req->email, now, ret_user);
	if (req->account_id == NULL)
		return account_of(tx, by, req->name, now, ret_account);
	*ret_account = str_dup(req->account_id);
	return check_account(tx, req->account_id);
}

/* What the audit log says of a key. */
struct key_note {
	const char *action, *id, *name, *suffix, *account;
	int64_t user_id;
	unsigned scopes;
	const char *replaces; /* rotated: the key before; else NULL */
};

static int note_key(struct tx *tx, const struct audit_by *by, const struct key_note *n)
{
	AUTO_STR scopes = scopes_text(n->scopes);
	json_t *data = json_object();

	json_put(data, "action", n->action);
	json_put(data, "keyId", n->id);
	json_put(data, "name", n->name);
	json_put(data, "suffix", n->suffix);
	json_put(data, "scopes", scopes);
	json_put(data, "replaces", n->replaces);
	if (n->user_id != 0)
		json_put_int(data, "userId", n->user_id);
	else
		json_put(data, "serviceAccountId", n->account);
	return audit_write(tx, by, n->user_id != 0 ? "user_api_key" : "service_account_key", data);
}

/* A fresh key of this owner; `scopes` as they are stored. */
struct new_key {
	const char *action, *name, *scopes, *account, *replaces;
	int64_t user_id, expires_at;
	bool for_browser;
};

static int insert_key(struct tx *tx, const struct audit_by *by, const struct new_key *k, struct key_made *ret)
{
	char key[sizeof KEY_PREFIX + 64], hash[SHA256_HEX_LEN], hex[17];
	const char *suffix = key + sizeof key - 1 - 4;
	int rc;

	memcpy(key, KEY_PREFIX, sizeof KEY_PREFIX);
	id_hex(key + strlen(KEY_PREFIX), 32);
	sha256_hex(key, strlen(key), hash);
	id_hex(hex, 8);
	str_free(&ret->id);
	ret->id = str_printf("key_%s", hex);
	rc = tx_exec(tx,
	    "INSERT INTO api_keys(id, hash, suffix, team_id, user_id, service_account_id, name, created_at, scopes,"
	    " expires_at, for_browser) VALUES($1, $2, $3, 1, NULLIF($4, 0), $5, $6, $7, $8, NULLIF($9, 0), $10)",
	    "sssissisii", ret->id, hash, suffix, k->user_id, k->account, k->name, clock_wall_ms(), k->scopes,
	    k->expires_at, (int64_t)k->for_browser);
	if (rc == OK && !k->for_browser)
		rc = note_key(tx, by,
		    &(struct key_note){.action = k->action,
			.id = ret->id,
			.name = k->name,
			.suffix = suffix,
			.account = k->account,
			.user_id = k->user_id,
			.scopes = scopes_stored(k->scopes, k->user_id != 0 ? KEY_USER : KEY_SERVICE_ACCOUNT),
			.replaces = k->replaces});
	str_wipe(&ret->key);
	if (rc == OK)
		ret->key = str_dup(key);
	return rc;
}

int access_insert_browser_key(struct tx *tx, const struct audit_by *by, int64_t user_id, char **ret_id)
{
	const struct new_key k = {.name = "browser sessions", .user_id = user_id, .for_browser = true};
	AUTO_FINI(key_made) made = {0};
	int rc = insert_key(tx, by, &k, &made);

	if (rc == OK)
		*ret_id = TAKE(made.id);
	return rc;
}

/* One line that a terminal only shows: it stands in lists and logs. */
static bool is_one_line(const char *s)
{
	for (const char *c = s; *c != '\0'; c++)
		if (terminal_control_len(c) > 0)
			return false;
	return text_is_utf8(s, strlen(s));
}

bool is_name(const char *s)
{
	return !text_is_blank(s) && strlen(s) <= 100 && is_one_line(s);
}

static int check_request(const struct key_request *req, char **ret_scopes, struct why *why)
{
	const char *email = req->email;

	if (!is_name(req->name))
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

struct creating {
	const struct audit_by *by;
	const struct key_request *req;
	const char *scopes;
	struct key_made *made;
};

static int create_in(struct tx *tx, void *arg)
{
	const struct creating *c = arg;
	AUTO_STR account = NULL;
	int64_t user = 0;
	int rc = owner_row(tx, c->by, c->req, clock_wall_ms(), &user, &account);

	return rc != OK ? rc
			: insert_key(tx, c->by,
			      &(struct new_key){.action = "created",
				  .name = c->req->name,
				  .scopes = c->scopes,
				  .account = account,
				  .user_id = user,
				  .expires_at = c->req->expires_at,
				  .for_browser = c->req->for_browser},
			      c->made);
}

int access_key_create(
    struct store *st, const struct audit_by *by, const struct key_request *req, struct key_made *ret, struct why *why)
{
	AUTO_STR scopes = NULL;
	AUTO_FINI(key_made) made = {0};
	int rc = check_request(req, &scopes, why);

	if (rc != OK)
		return rc;
	rc = store_write(st, create_in, &(struct creating){by, req, scopes, &made});
	if (rc == ERR_NOT_FOUND)
		return why_set(why, rc, "there is no such service account, or it was archived");
	if (rc != OK)
		return why_set(why, rc, "the key could not be stored: %s", err_text(rc));
	*ret = made;
	made = (struct key_made){0};
	return OK;
}

static void put_when(json_t *row, const char *name, struct query *q, int column)
{
	char when[CLOCK_ISO_LEN];

	if (query_is_null(q, column))
		return;
	clock_iso8601(query_int(q, column), when);
	json_put(row, name, when);
}

static json_t *scopes_json(unsigned set)
{
	AUTO_STR text = scopes_text(set);
	json_t *all = json_array();

	for (const char *s = text; set != 0 && *s != '\0';) {
		size_t n = strcspn(s, ",");

		json_array_append_new(all, json_stringn(s, n));
		s += n + (s[n] == ',');
	}
	return all;
}

static json_t *key_row(struct query *q)
{
	bool user = !query_is_null(q, 3);
	json_t *row = json_object();

	json_put(row, "id", query_str(q, 0));
	json_put(row, "name", query_str(q, 1));
	json_put(row, "type", user ? "user" : "service_account");
	json_put(row, "owner", query_str(q, 5));
	if (user)
		json_put_int(row, "userId", query_int(q, 3));
	else
		json_put(row, "serviceAccountId", query_str(q, 4));
	json_put(row, "suffix", query_str(q, 2));
	json_put_new(
	    row, "scopes", scopes_json(scopes_stored(query_text(q, 8), user ? KEY_USER : KEY_SERVICE_ACCOUNT)));
	put_when(row, "createdAt", q, 6);
	put_when(row, "lastUsedAt", q, 9);
	put_when(row, "expiresAt", q, 10);
	put_when(row, "revokedAt", q, 7);
	return row;
}

int access_key_list(struct tx *tx, int64_t team_id, const struct key_scope *whose, bool all, json_t **ret)
{
	AUTO_JSON rows = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT k.id, k.name, k.suffix, k.user_id, k.service_account_id, COALESCE(u.email, u.name, s.name,"
	    " k.service_account_id), k.created_at, k.revoked_at, k.scopes, k.used_at, k.expires_at FROM api_keys k"
	    " LEFT JOIN users u ON u.id = k.user_id LEFT JOIN service_accounts s ON s.id = k.service_account_id"
	    " WHERE k.team_id = $1 AND ($2 = 0 OR k.user_id = $2) AND ($3 = '' OR k.service_account_id = $3)"
	    " AND ($4 = 1 OR k.for_browser = 0) ORDER BY k.created_at, k.id",
	    "iisi", team_id, whose->user_id, whose->account_id != NULL ? whose->account_id : "", (int64_t)all);

	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(rows, key_row(q));
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(rows);
	return OK;
}

/* A key as it is found for a change; strings malloc'ed. */
struct found_key {
	char *id, *name, *suffix, *account, *scopes;
	int64_t user_id, expires_at;
	bool revoked, for_browser;
};

static void found_key_fini(struct found_key *k)
{
	free(k->id);
	free(k->name);
	free(k->suffix);
	free(k->account);
	free(k->scopes);
}

static int find_key(
    struct tx *tx, int64_t team_id, const struct key_scope *whose, const char *which, struct found_key *ret)
{
	AUTO(query) q = NULL;
	char hash[SHA256_HEX_LEN];
	int rc;

	sha256_hex(which, strlen(which), hash);
	rc = tx_query(tx, &q,
	    "SELECT id, name, suffix, service_account_id, scopes, user_id, expires_at, revoked_at,"
	    " for_browser FROM api_keys WHERE (id = $1 OR hash = $2) AND team_id = $3 AND ($4 = 0 OR user_id = $4) AND "
	    "($5 = '' OR"
	    " service_account_id = $5)",
	    "ssiis", which, hash, team_id, whose->user_id, whose->account_id != NULL ? whose->account_id : "");
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		*ret = (struct found_key){.id = str_dup(query_str(q, 0)),
		    .name = str_dup(query_str(q, 1)),
		    .suffix = str_dup(query_str(q, 2)),
		    .account = str_dup(query_text(q, 3)),
		    .scopes = str_dup(query_text(q, 4)),
		    .user_id = query_int(q, 5),
		    .expires_at = query_int(q, 6),
		    .revoked = !query_is_null(q, 7),
		    .for_browser = query_int(q, 8) != 0};
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

static int end_key(struct tx *tx, const char *id)
{
	return tx_exec(
	    tx, "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1", "si", id, clock_wall_ms());
}

struct changing {
	const struct audit_by *by;
	const struct key_scope *whose;
	const char *which;
	const struct principal *limit; /* rotating; may be NULL */
	struct key_made *made; /* likewise */
};

static int revoke_in(struct tx *tx, void *arg)
{
	const struct changing *c = arg;
	AUTO_FINI(found_key) k = {0};
	int rc = find_key(tx, c->by->team_id, c->whose, c->which, &k);

	if (rc != OK || k.revoked)
		return rc;
	rc = end_key(tx, k.id);
	return rc != OK ? rc
			: note_key(tx, c->by,
			      &(struct key_note){.action = "revoked",
				  .id = k.id,
				  .name = k.name,
				  .suffix = k.suffix,
				  .account = k.account,
				  .user_id = k.user_id,
				  .scopes = scopes_stored(k.scopes, k.user_id != 0 ? KEY_USER : KEY_SERVICE_ACCOUNT)});
}

int access_key_revoke(struct store *st, const struct audit_by *by, const struct key_scope *whose, const char *which)
{
	return store_write(st, revoke_in, &(struct changing){.by = by, .whose = whose, .which = which});
}

static int rotate_in(struct tx *tx, void *arg)
{
	const struct changing *c = arg;
	AUTO_FINI(found_key) k = {0};
	int rc = find_key(tx, c->by->team_id, c->whose, c->which, &k);

	if (rc == OK && (k.revoked || k.for_browser || (k.expires_at != 0 && k.expires_at <= clock_wall_ms())))
		return ERR_NOT_FOUND;
	if (rc == OK && c->limit != NULL && !scopes_are_within(c->limit, scopes_stored(k.scopes, KEY_USER)))
		return ERR_DENIED;
	if (rc == OK)
		rc = end_key(tx, k.id);
	return rc != OK ? rc
			: insert_key(tx, c->by,
			      &(struct new_key){.action = "rotated",
				  .name = k.name,
				  .scopes = k.scopes,
				  .account = k.account,
				  .replaces = k.id,
				  .user_id = k.user_id,
				  .expires_at = k.expires_at},
			      c->made);
}

int access_key_rotate(struct store *st, const struct audit_by *by, const struct key_scope *whose, const char *id,
    const struct principal *limit, struct key_made *ret)
{
	AUTO_FINI(key_made) made = {0};
	int rc = store_write(
	    st, rotate_in, &(struct changing){.by = by, .whose = whose, .which = id, .limit = limit, .made = &made});

	if (rc != OK)
		return rc;
	*ret = made;
	made = (struct key_made){0};
	return OK;
}

/* Those that only an administrator could give her, or herself. */
static int keys_of_admins(struct tx *tx, int64_t user_id, json_t *ret_ids)
{
	AUTO(query) q = NULL;
	int rc =
	    tx_query(tx, &q, "SELECT id, scopes FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL", "i", user_id);

	while (rc == OK && (rc = query_next(q)) == OK)
		if (scopes_need_admin(scopes_stored(query_text(q, 1), KEY_USER)))
			json_array_append_new(ret_ids, json_string(query_str(q, 0)));
	return rc == ERR_EMPTY ? OK : rc;
}

int access_end_keys_of_admins(struct tx *tx, const struct audit_by *by, int64_t user_id)
{
	AUTO_JSON ids = json_array();
	json_t *id;
	size_t i;
	int rc = keys_of_admins(tx, user_id, ids);

	json_array_foreach(ids, i, id)
	{
		if (rc == OK)
			rc = tx_exec(tx, "UPDATE api_keys SET revoked_at = $2 WHERE id = $1", "si",
			    json_string_value(id), clock_wall_ms());
		if (rc == OK)
			rc = audit_write(tx, by, "user_api_key",
			    json_pack("{s:s, s:O, s:I, s:s}", "action", "revoked", "keyId", id, "userId",
				(json_int_t)user_id, "because", "no administrator any more"));
	}
	return rc;
}
