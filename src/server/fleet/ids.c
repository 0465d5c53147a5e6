#include "server/fleet/ids.h"
#include "base/mem.h"
#include <string.h>

#define MINUTE_MS 60000
#define ROOM_AT_ONCE 50 /* rows that are forgotten together, so that it is not done for each new one */

int worker_id_check(struct tx *tx, const struct id_claim *c, struct why *why)
{
	AUTO_STR owner = NULL;
	int rc = tx_query_text(tx, &owner, "SELECT account FROM worker_epochs WHERE team_id = $1 AND worker_id = $2",
	    "is", c->team_id, c->worker_id);

	if (rc == ERR_EMPTY)
		return OK;
	if (rc == OK && owner[0] != '\0' && strcmp(owner, c->account) != 0)
		return why_set(why, ERR_DENIED,
		    "worker id %s is in use with another account's key: give this worker another --worker-id",
		    c->worker_id);
	return rc;
}

/* *ret: how many rows more there may be. */
static int count_ids(struct tx *tx, const struct id_claim *c, int64_t now_ms, int64_t *ret_all, int64_t *ret_new)
{
	int rc = tx_query_int(tx, ret_all, "SELECT COUNT(*) FROM worker_epochs WHERE account = $1", "s", c->account);

	/* Not more than all; and counting takes time when many come at once. */
	if (rc != OK || *ret_all < c->max_new)
		return rc;
	return tx_query_int(tx, ret_new, "SELECT COUNT(*) FROM worker_epochs WHERE account = $1 AND first_seen_at > $2",
	    "si", c->account, now_ms - MINUTE_MS);
}

static int forget_ids(struct tx *tx, const struct id_claim *c, int64_t *ret_n)
{
	return tx_change(tx, ret_n,
	    "DELETE FROM worker_epochs WHERE (team_id, worker_id) IN (SELECT e.team_id, e.worker_id FROM worker_epochs "
	    "e"
	    " WHERE e.account = $1 AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.team_id = e.team_id AND w.id ="
	    " e.worker_id) AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.team_id = e.team_id AND c.worker_id ="
	    " e.worker_id) ORDER BY e.seen_at LIMIT $2)",
	    "si", c->account, (int64_t)ROOM_AT_ONCE);
}

int worker_id_make_room(struct tx *tx, const struct id_claim *c, int64_t now_ms, struct why *why)
{
	int64_t all = 0, fresh = 0, forgotten = 0;
	int rc = tx_query_int(tx, &all, "SELECT 1 FROM worker_epochs WHERE team_id = $1 AND worker_id = $2", "is",
	    c->team_id, c->worker_id);

	if (rc != ERR_EMPTY)
		return rc;
	rc = count_ids(tx, c, now_ms, &all, &fresh);
	if (rc == OK && fresh >= c->max_new)
		return why_set(why, ERR_FULL,
		    "limit exceeded: this account has registered %lld new worker ids in the last minute",
		    (long long)fresh);
	if (rc == OK && all >= c->max_ids)
		rc = forget_ids(tx, c, &forgotten);
	if (rc == OK && all >= c->max_ids && forgotten == 0)
		return why_set(why, ERR_FULL, "limit exceeded: this account has %lld worker ids", (long long)all);
	return rc;
}

int pool_make_room(
    struct tx *tx, const struct id_claim *c, const char *pool, const char *repo, const char *repo_host, struct why *why)
{
	int64_t n = 0, forgotten = 0;
	int rc = tx_query_int(tx, &n,
	    "SELECT 1 FROM pools WHERE team_id = $1 AND name = $2 AND repo = $3 AND repo_host = $4", "isss", c->team_id,
	    pool, repo, repo_host);

	if (rc != ERR_EMPTY)
		return rc;
	rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM pools WHERE account = $1", "s", c->account);
	if (rc == OK && n >= c->max_ids)
		rc = tx_change(tx, &forgotten,
		    "DELETE FROM pools WHERE (team_id, name, repo, repo_host) IN (SELECT p.team_id, p.name, p.repo,"
		    " p.repo_host FROM pools p WHERE p.account = $1 AND NOT EXISTS (SELECT 1 FROM worker_slots s WHERE"
		    " s.team_id = p.team_id AND s.pool = p.name AND s.repo = p.repo AND s.repo_host = p.repo_host)"
		    " AND NOT EXISTS (SELECT 1 FROM requests q WHERE q.team_id = p.team_id AND q.pool = p.name)"
		    " ORDER BY p.last_seen_at LIMIT $2)",
		    "si", c->account, (int64_t)ROOM_AT_ONCE);
	if (rc == OK && n >= c->max_ids && forgotten == 0)
		return why_set(why, ERR_FULL,
		    "limit exceeded: workers of this account serve %lld different repositories and pools",
		    (long long)n);
	return rc;
}
