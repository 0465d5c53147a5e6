#include "server/node/node.h"
#include "base/text.h"

int node_start(struct store *st, const char *id, int64_t now_ms, struct node *ret)
{
	AUTO(tx) tx = NULL;
	struct node n = {0};
	int rc = tx_begin(st, TX_WRITE, &tx);

	ENSURE(text_is_token(id, "._-", NODE_ID_MAX));
	snprintf(n.id, sizeof n.id, "%s", id);
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

int node_renew(struct store *st, const struct node *n, int64_t now_ms)
{
	AUTO(tx) tx = NULL;
	int64_t changed = 0;
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_change(tx, &changed, "UPDATE nodes SET lease_until = $3 WHERE id = $1 AND epoch = $2", "sii",
		    n->id, n->epoch, now_ms + NODE_LEASE_MS);
	if (rc == OK && changed == 0)
		return ERR_FENCED;
	return rc != OK ? rc : tx_commit(&tx);
}
