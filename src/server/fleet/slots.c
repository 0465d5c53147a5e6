#include "server/fleet/slots.h"
#include "base/mem.h"

int slots_clear(struct tx *tx, int64_t team_id, const char *worker_id)
{
	int rc =
	    tx_exec(tx, "DELETE FROM worker_slots WHERE team_id = $1 AND worker_id = $2", "is", team_id, worker_id);

	return rc != OK ? rc
			: tx_exec(tx, "DELETE FROM slot_labels WHERE team_id = $1 AND worker_id = $2", "is", team_id,
			      worker_id);
}

int slots_put(struct tx *tx, int64_t team_id, const char *worker_id, const struct slot *s, const struct labels *labels,
    int64_t now_ms)
{
	int rc = tx_exec(tx,
	    "INSERT INTO worker_slots(team_id, pool, repo, repo_host, worker_id, state, idle_since, n_labels)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
	    "issssiii", team_id, s->pool, s->repo, s->repo_host, worker_id, (int64_t)SLOT_BUSY, now_ms,
	    (int64_t)labels->n);

	for (size_t i = 0; rc == OK && i < labels->n; i++)
		rc = tx_exec(tx,
		    "INSERT INTO slot_labels(team_id, pool, repo, repo_host, worker_id, pair, state, n_labels, "
		    "idle_since)"
		    " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
		    "isssssiii", team_id, s->pool, s->repo, s->repo_host, worker_id, labels->v[i], (int64_t)SLOT_BUSY,
		    (int64_t)labels->n, now_ms);
	return rc;
}

/* What decides the state. */
struct occupancy {
	int64_t max_sessions, claims, idle_claims;
	bool unfit, keeps_claims, has_labels;
};

static int read_occupancy(struct tx *tx, int64_t team_id, const char *worker_id, struct occupancy *o)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT w.max_sessions, w.unfit_code, w.keeps_claims, w.labels,"
	    " (SELECT COUNT(*) FROM claims c WHERE c.team_id = $1 AND c.worker_id = $2),"
	    " (SELECT COUNT(*) FROM claims c WHERE c.team_id = $1 AND c.worker_id = $2 AND c.idle_since IS NOT NULL)"
	    " FROM workers w WHERE w.team_id = $1 AND w.id = $2",
	    "is", team_id, worker_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	*o = (struct occupancy){.max_sessions = query_int(q, 0),
	    .unfit = query_str(q, 1)[0] != '\0',
	    .keeps_claims = query_int(q, 2) != 0,
	    .has_labels = query_str(q, 3)[0] == '[' && query_str(q, 3)[1] != ']',
	    .claims = query_int(q, 4),
	    .idle_claims = query_int(q, 5)};
	return OK;
}

static enum slot_state state_of(const struct occupancy *o)
{
	if (o->unfit)
		return SLOT_UNFIT;
	if (o->claims < o->max_sessions)
		return SLOT_FREE;
	if (o->idle_claims == 0)
		return SLOT_BUSY;
	return o->keeps_claims ? SLOT_KEPT : SLOT_HELD;
}

int slots_follow(struct tx *tx, int64_t team_id, const char *worker_id, int64_t since_ms)
{
	struct occupancy o;
	int64_t state;
	int rc = read_occupancy(tx, team_id, worker_id, &o);

	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	state = state_of(&o);
	rc = tx_exec(tx,
	    "UPDATE workers SET busy = $3, idle_since = CASE WHEN $4 < 0 THEN idle_since ELSE $4 END"
	    " WHERE team_id = $1 AND id = $2",
	    "isii", team_id, worker_id, o.claims, since_ms);
	if (rc == OK)
		rc = tx_exec(tx,
		    "UPDATE worker_slots SET state = $3, idle_since = CASE WHEN $4 < 0 THEN idle_since ELSE $4 END"
		    " WHERE team_id = $1 AND worker_id = $2",
		    "isii", team_id, worker_id, state, since_ms);
	if (rc == OK && o.has_labels)
		rc = tx_exec(tx,
		    "UPDATE slot_labels SET state = $3, idle_since = CASE WHEN $4 < 0 THEN idle_since ELSE $4 END"
		    " WHERE team_id = $1 AND worker_id = $2",
		    "isii", team_id, worker_id, state, since_ms);
	return rc;
}

int slots_end_idle_claims(struct tx *tx, int64_t team_id, const char *worker_id)
{
	return tx_exec(tx,
	    "DELETE FROM claims WHERE team_id = $1 AND worker_id = $2 AND idle_since IS NOT NULL AND NOT EXISTS(SELECT "
	    "1 FROM"
	    " pools p WHERE p.team_id = claims.team_id AND p.name = claims.pool AND p.repo = claims.repo AND"
	    " p.ready_timeout_s > 0)",
	    "is", team_id, worker_id);
}
