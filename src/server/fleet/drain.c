#include "server/fleet/drain.h"
#include "server/fleet/slots.h"

static int count_runs(struct tx *tx, int64_t team_id, const char *worker_id, int64_t *ret)
{
	return tx_query_int(tx, ret,
	    "SELECT COUNT(*) FROM claims c JOIN requests q ON q.agent_id = c.agent_id WHERE c.team_id = $1 AND"
	    " c.worker_id = $2",
	    "is", team_id, worker_id);
}

int drain_begin(struct tx *tx, int64_t team_id, const char *worker_id, bool *ret_idle)
{
	int64_t n = 0, runs = 0;
	int rc = tx_change(tx, &n, "UPDATE workers SET draining = 2 WHERE team_id = $1 AND id = $2 AND draining <> 1",
	    "is", team_id, worker_id);

	if (rc == OK && n == 0)
		return ERR_NOT_FOUND;
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE worker_epochs SET drained = 1 WHERE team_id = $1 AND worker_id = $2", "is",
		    team_id, worker_id);
	if (rc == OK)
		rc = slots_clear(tx, team_id, worker_id);
	if (rc == OK)
		rc = count_runs(tx, team_id, worker_id, &runs);
	*ret_idle = runs == 0;
	return rc;
}

int drain_finish(struct tx *tx, int64_t team_id, const char *worker_id)
{
	int64_t one, runs = 0;
	int rc = tx_query_int(tx, &one, "SELECT 1 FROM workers WHERE team_id = $1 AND id = $2 AND draining = 2", "is",
	    team_id, worker_id);

	if (rc == OK)
		rc = count_runs(tx, team_id, worker_id, &runs);
	if (rc == OK && runs > 0)
		return ERR_EMPTY;
	/* Once: after this it is one that has said that it goes. */
	if (rc == OK)
		rc = tx_exec(
		    tx, "UPDATE workers SET draining = 1 WHERE team_id = $1 AND id = $2", "is", team_id, worker_id);
	if (rc == OK)
		rc = slots_end_idle_claims(tx, team_id, worker_id);
	return rc;
}
