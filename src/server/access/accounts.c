#include "server/access/accounts.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "server/access/access_priv.h"
#include <string.h>

static void put_time(json_t *row, const char *name, struct query *q, int column)
{
	char when[CLOCK_ISO_LEN];

	if (query_is_null(q, column))
		return;
	clock_iso8601(query_int(q, column), when);
	json_put(row, name, when);
}

int accounts_list(struct tx *tx, int64_t team_id, json_t **ret)
{
	AUTO_JSON rows = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT s.id, s.name, s.created_at, s.archived_at, (SELECT COUNT(*) FROM api_keys k WHERE"
	    " k.service_account_id = s.id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2))"
	    " FROM service_accounts s WHERE s.team_id = $1 ORDER BY s.created_at, s.id",
	    "ii", team_id, clock_wall_ms());

	while (rc == OK && (rc = query_next(q)) == OK) {
		json_t *row = json_object();

		json_put(row, "id", query_str(q, 0));
		json_put(row, "name", query_str(q, 1));
		put_time(row, "createdAt", q, 2);
		put_time(row, "archivedAt", q, 3);
		json_put_int(row, "keys", query_int(q, 4));
		json_array_append_new(rows, row);
	}
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(rows);
	return OK;
}

struct account_making {
	const struct audit_by *by;
	const char *name, *id;
};

static int account_make_in(struct tx *tx, void *arg)
{
	const struct account_making *m = arg;
	int rc = tx_exec(tx, "INSERT INTO service_accounts(id, team_id, name, created_at) VALUES($1, $2, $3, $4)",
	    "sisi", m->id, m->by->team_id, m->name, clock_wall_ms());

	return rc != OK
		   ? rc
		   : audit_write(tx, m->by, "service_account",
			 json_pack("{s:s, s:s, s:s}", "action", "created", "serviceAccountId", m->id, "name", m->name));
}

int account_create(struct store *st, const struct audit_by *by, const char *name, char **ret_id, struct why *why)
{
	AUTO_STR id = NULL;
	char hex[25];
	int rc;

	if (!is_name(name))
		return why_set(why, ERR_INVALID, "'name' must be 1 to 100 bytes of text in one line");
	id_hex(hex, 12);
	id = str_printf("sa_%s", hex);
	rc = store_write(st, account_make_in, &(struct account_making){by, name, id});
	if (rc == OK)
		*ret_id = TAKE(id);
	return rc;
}

int account_find(struct tx *tx, int64_t team_id, const char *id)
{
	int64_t one;
	int rc =
	    tx_query_int(tx, &one, "SELECT 1 FROM service_accounts WHERE id = $1 AND team_id = $2", "si", id, team_id);

	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

struct archiving {
	const struct audit_by *by;
	const char *id;
};

static int archive_account_in(struct tx *tx, void *arg)
{
	const struct archiving *a = arg;
	int64_t now = clock_wall_ms(), changed = 0, keys = 0;
	int rc = account_find(tx, a->by->team_id, a->id);

	if (rc == OK)
		rc = tx_change(tx, &changed,
		    "UPDATE service_accounts SET archived_at = $2 WHERE id = $1 AND archived_at IS NULL", "si", a->id,
		    now);
	if (rc != OK || changed == 0)
		return rc;
	rc = tx_change(tx, &keys,
	    "UPDATE api_keys SET revoked_at = $2 WHERE service_account_id = $1 AND revoked_at IS NULL", "si", a->id,
	    now);
	return rc != OK ? rc
			: audit_write(tx, a->by, "service_account",
			      json_pack("{s:s, s:s, s:I}", "action", "archived", "serviceAccountId", a->id,
				  "keysRevoked", (json_int_t)keys));
}

int account_archive(struct store *st, const struct audit_by *by, const char *id)
{
	return store_write(st, archive_account_in, &(struct archiving){by, id});
}

int users_list(struct tx *tx, int64_t team_id, json_t **ret)
{
	AUTO_JSON rows = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT id, name, email, role, created_at FROM users WHERE team_id = $1 ORDER BY created_at, id", "i",
	    team_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		json_t *row = json_object();

		json_put_int(row, "id", query_int(q, 0));
		json_put(row, "name", query_str(q, 1));
		json_put(row, "email", query_text(q, 2));
		json_put(row, "role", query_str(q, 3));
		put_time(row, "createdAt", q, 4);
		json_array_append_new(rows, row);
	}
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(rows);
	return OK;
}

struct role_setting {
	const struct audit_by *by;
	int64_t id;
	const char *email, *role;
};

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

static int end_keys_of_admins(struct tx *tx, const struct audit_by *by, int64_t user_id)
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

static int change_role(struct tx *tx, const struct role_setting *s, int64_t id, const char *before)
{
	int64_t admins = 0;
	int rc = OK;

	if (strcmp(before, s->role) == 0)
		return OK;
	if (strcmp(s->role, "admin") != 0 && strcmp(s->by->actor, AUDIT_ADMIN_COMMAND) != 0)
		rc = tx_query_int(tx, &admins, "SELECT COUNT(*) FROM users WHERE team_id = $1 AND role = 'admin'", "i",
		    s->by->team_id);
	if (rc == OK && admins == 1)
		return ERR_CONFLICT;
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE users SET role = $2 WHERE id = $1", "is", id, s->role);
	if (rc == OK)
		rc = audit_write(tx, s->by, "update_user_role",
		    json_pack("{s:I, s:s, s:s}", "userId", (json_int_t)id, "before", before, "after", s->role));
	if (rc == OK && strcmp(s->role, "admin") != 0)
		rc = end_keys_of_admins(tx, s->by, id);
	return rc;
}

static int set_role_in(struct tx *tx, void *arg)
{
	const struct role_setting *s = arg;
	AUTO_STR before = NULL;
	AUTO(query) q = NULL;
	int64_t id = 0;
	int rc = tx_query(tx, &q,
	    "SELECT id, role FROM users WHERE team_id = $1 AND (id = $2 OR ($2 = 0 AND LOWER(email) = LOWER($3)))",
	    "iis", s->by->team_id, s->id, s->email != NULL ? s->email : "");

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK) {
		id = query_int(q, 0);
		before = str_dup(query_str(q, 1));
	}
	query_free(&q);
	return rc == OK ? change_role(tx, s, id, before) : rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int user_set_role(struct store *st, const struct audit_by *by, int64_t id, const char *email, const char *role)
{
	return store_write(st, set_role_in, &(struct role_setting){by, id, email, role});
}
