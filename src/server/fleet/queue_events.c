#include "server/fleet/queue_events.h"
#include "base/mem.h"

int queue_event_add(struct tx *tx, int64_t team_id, const char *kind, const char *agent_id, const char *pool,
    const char *repo, const char *repo_host, const char *worker_id, int64_t offline_until, int64_t now_ms)
{
	/* The newest row is never forgotten, so no number comes twice. */
	return tx_exec(tx,
	    "INSERT INTO queue_events(team_id, seq, at, kind, agent_id, pool, repo, repo_host, worker_id, "
	    "offline_until)"
	    " SELECT $1, COALESCE(MAX(e.seq), 0) + 1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $9 > 0 THEN $9 END"
	    " FROM queue_events e WHERE e.team_id = $1",
	    "iissssssi", team_id, now_ms, kind, agent_id, pool, repo, repo_host, worker_id, offline_until);
}

int queue_event_newest(struct tx *tx, int64_t team_id, int64_t *ret_seq)
{
	return tx_query_int(
	    tx, ret_seq, "SELECT COALESCE(MAX(seq), 0) FROM queue_events WHERE team_id = $1", "i", team_id);
}

int queue_event_is_kept(struct tx *tx, int64_t team_id, int64_t seq, bool *ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COALESCE(MIN(seq), 1), COALESCE(MAX(seq), 0) FROM queue_events WHERE team_id = $1", "i", team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		*ret = seq + 1 >= query_int(q, 0) && seq <= query_int(q, 1);
	return rc;
}

void queue_event_fini(struct queue_event *e)
{
	str_free(&e->agent_id);
	str_free(&e->pool);
}

int queue_event_load(struct tx *tx, int64_t team_id, int64_t seq, struct queue_event *events, size_t max, size_t *ret_n)
{
	AUTO(query) q = NULL;
	size_t n = 0;
	int rc = tx_query(tx, &q,
	    "SELECT seq, kind, agent_id, pool FROM queue_events WHERE team_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
	    "iii", team_id, seq, (int64_t)max);

	while (rc == OK && n < max && (rc = query_next(q)) == OK) {
		struct queue_event *e = &events[n++];

		*e = (struct queue_event){.seq = query_int(q, 0)};
		snprintf(e->kind, sizeof e->kind, "%s", query_str(q, 1));
		e->agent_id = str_dup(query_str(q, 2));
		e->pool = str_dup(query_str(q, 3));
	}
	*ret_n = n;
	return rc == ERR_EMPTY ? OK : rc;
}
