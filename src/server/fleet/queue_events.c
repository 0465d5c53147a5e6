#include "server/fleet/queue_events.h"

/* The number is the next of the team. Two writers at once would take the same one; the key refuses the second, whose
 * transaction is then repeated by its caller. (With SQLite writers come one after the other.) */
int queue_event_add(struct tx *tx, int64_t team_id, const char *kind, const char *agent_id, const char *pool,
    const char *repo, const char *repo_host, const char *worker_id, int64_t offline_until, int64_t now_ms)
{
	return tx_exec(tx,
	    "INSERT INTO queue_events(team_id, seq, at, kind, agent_id, pool, repo, repo_host, worker_id, "
	    "offline_until)"
	    " SELECT $1, COALESCE(MAX(seq), 0) + 1, $9, $2, $3, $4, $5, $6, $7, $8 FROM queue_events WHERE team_id = "
	    "$1",
	    "issssssii", team_id, kind, agent_id, pool, repo, repo_host, worker_id, offline_until, now_ms);
}
