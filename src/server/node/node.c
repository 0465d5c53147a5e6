#include "server/node/node.h"
#include "base/text.h"

int node_start(struct store *st, const char *id, struct node *ret)
{
	AUTO(tx) tx = NULL;
	struct node n = {0};
	int64_t now_ms = 0;
	int rc = tx_begin(st, TX_WRITE, &tx);

	ENSURE(text_is_token(id, "._-", NODE_ID_MAX));
	snprintf(n.id, sizeof n.id, "%s", id);
	if (rc == OK)
		rc = tx_now(tx, &now_ms);
	if (rc == OK)
		rc = tx_query_int(tx, &n.epoch,
		    "INSERT INTO nodes(id, epoch, started_at, lease_until) VALUES($1, 1, $2, $3)"
		    " ON CONFLICT(id) DO UPDATE SET epoch = nodes.epoch + 1, started_at = excluded.started_at,"
		    " lease_until = excluded.lease_until RETURNING epoch",
		    "sii", id, now_ms, now_ms + NODE_LEASE_MS);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		*ret = n;
	return rc;
}

int node_renew(struct store *st, const struct node *n)
{
	AUTO(tx) tx = NULL;
	int64_t changed = 0, now_ms = 0;
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_now(tx, &now_ms);
	if (rc == OK)
		rc = tx_change(tx, &changed, "UPDATE nodes SET lease_until = $3 WHERE id = $1 AND epoch = $2", "sii",
		    n->id, n->epoch, now_ms + NODE_LEASE_MS);
	if (rc == OK && changed == 0)
		return ERR_FENCED;
	return rc != OK ? rc : tx_commit(&tx);
}

/* What leases are compared with. One that was given up is 1. */
static int over_before(struct tx *tx, bool only_left, int64_t *ret)
{
	*ret = 2;
	return only_left ? OK : tx_now(tx, ret);
}

static int count_where(struct store *st, const struct node *n, bool only_left, const char *sql, int64_t *ret)
{
	AUTO(tx) tx = NULL;
	int64_t now = 0;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = over_before(tx, only_left, &now);
	return rc != OK ? rc : tx_query_int(tx, ret, sql, "si", n->id, now);
}

int node_count_peers(struct store *st, const struct node *n, int64_t *ret)
{
	return count_where(st, n, false, "SELECT COUNT(*) FROM nodes WHERE id <> $1 AND lease_until > $2", ret);
}

/* 0: it was taken over. */
#define IS_OVER "id <> $1 AND lease_until > 0 AND lease_until < $2"

bool node_is_any_over(struct store *st, const struct node *n, bool only_left)
{
	int64_t any = 0;

	return count_where(st, n, only_left, "SELECT COUNT(*) FROM nodes WHERE " IS_OVER, &any) == OK && any > 0;
}

/* Its epoch changes with it, so that it finds itself fenced, whatever it was about to do. */
int node_take_over(struct tx *tx, const struct node *n, bool only_left, char **ret_id)
{
	int64_t now = 0;
	int rc = over_before(tx, only_left, &now);

	if (rc == OK)
		rc = tx_query_text(tx, ret_id, "SELECT id FROM nodes WHERE " IS_OVER " ORDER BY lease_until LIMIT 1",
		    "si", n->id, now);
	return rc != OK
		   ? rc
		   : tx_exec(tx, "UPDATE nodes SET epoch = epoch + 1, lease_until = 0 WHERE id = $1", "s", *ret_id);
}

void node_leave(struct store *st, const struct node *n)
{
	AUTO(tx) tx = NULL;

	if (tx_begin(st, TX_WRITE, &tx) == OK &&
	    tx_exec(tx, "UPDATE nodes SET lease_until = 1 WHERE id = $1 AND epoch = $2", "si", n->id, n->epoch) == OK)
		IGNORE(tx_commit(&tx));
}
