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
