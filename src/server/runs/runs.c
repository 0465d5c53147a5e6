#include "server/runs/runs.h"
#include "base/mem.h"
#include "server/runs/runs_priv.h"
#include <string.h>

int runs_start(const struct runs_config *cfg, struct fleet *fleet, struct runs **ret)
{
	struct runs *r = NEW(struct runs);
	int rc;

	r->magic = RUNS_MAGIC;
	r->cfg = *cfg;
	r->fleet = fleet;
	*ret = r;
	rc = pump_start(r);
	if (rc == OK)
		rc = supervisor_start(r);
	ENSURE(rc == OK); /* at start; without these threads there is no server */
	return OK;
}

void runs_free(struct runs **rp)
{
	struct runs *r = TAKE(*rp);

	if (r == NULL)
		return;
	atomic_store(&r->stopping, true);
	supervisor_stop(r);
	pump_stop(r);
	free(r);
}

const struct runs_config *runs_config(const struct runs *r)
{
	return &r->cfg;
}

void runs_worker_ready(void *ctx, const char *run_id)
{
	struct runs *r = OBJ_FROM(runs, ctx, RUNS_MAGIC);

	supervisor_drive(r, run_id);
}

int runs_call_run(struct tx *tx, const char *call_id, char **ret_run_id)
{
	return tx_query_text(tx, ret_run_id,
	    "SELECT c.run_id FROM tool_calls c JOIN runs r ON r.id = c.run_id"
	    " WHERE c.id = $1 AND c.state = 'pending' AND r.status IN ('CREATING', 'RUNNING')",
	    "s", call_id);
}
