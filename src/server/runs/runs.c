#include "server/runs/runs.h"
#include "base/mem.h"
#include "server/runs/followups.h"
#include "server/runs/run.h"
#include "server/runs/stream.h"
#include "server/runs/supervisor.h"
#include "server/runs/sweep.h"
#include <string.h>

static void drive(void *ctx, const char *run_id)
{
	run_drive(OBJ_FROM(runs, ctx, RUNS_MAGIC), run_id);
}

static void hear_run_ready(void *ctx, const struct note *note)
{
	struct runs *r = OBJ_FROM(runs, ctx, RUNS_MAGIC);

	supervisor_drive(r->supervisor, note->run_id);
}

int runs_start(const struct runs_config *cfg, struct fleet *fleet, struct runs **ret)
{
	struct runs *r = NEW(struct runs);
	int rc;

	r->magic = RUNS_MAGIC;
	r->cfg = *cfg;
	r->fleet = fleet;
	*ret = r;
	r->supervisor =
	    supervisor_new(&(struct supervisor_config){.max_threads = cfg->max_active, .drive = drive, .ctx = r});
	notify_listen(cfg->notify, NOTE_RUN_READY, hear_run_ready, r);
	rc = pump_start(r);
	if (rc == OK)
		rc = sweeper_start(r);
	ENSURE(rc == OK); /* at start; without these threads there is no server */
	return OK;
}

/* The order: first nothing new begins and every run thread ends, then the pump, which they tell of changes, and last
 * the list of threads itself, because a late note may still ask for one. */
void runs_free(struct runs **rp)
{
	struct runs *r = TAKE(*rp);

	if (r == NULL)
		return;
	atomic_store(&r->stopping, true);
	sweeper_stop(r);
	supervisor_stop(r->supervisor);
	pump_stop(r);
	supervisor_free(&r->supervisor);
	free(r);
}

const struct runs_config *runs_config(const struct runs *r)
{
	return &r->cfg;
}

void runs_count(struct runs *r, struct runs_count *ret)
{
	supervisor_count(r->supervisor, &ret->threads, &ret->waiting);
	ret->readers = pump_readers(r);
}

void run_changed(struct runs *r, const char *run_id)
{
	notify_send(r->cfg.notify, &(struct note){.kind = NOTE_RUN_CHANGED, .run_id = run_id});
}

void run_ended(struct runs *r, int64_t team_id, const char *worker_id, const char *run_id)
{
	/* Before anybody hears that the worker may be free: it is the agent's own still. */
	followups_go_on(r, run_id);
	if (worker_id != NULL)
		notify_send(r->cfg.notify,
		    &(struct note){
			.kind = NOTE_RUN_CANCELLED, .team_id = team_id, .worker_id = worker_id, .run_id = run_id});
	run_changed(r, run_id);
	notify_send(r->cfg.notify, &(struct note){.kind = NOTE_QUEUE_CHANGED,
				       .team_id = worker_id != NULL ? team_id : 0,
				       .worker_id = worker_id != NULL ? worker_id : "",
				       .run_id = run_id});
}

int runs_call_run(struct tx *tx, const char *call_id, char **ret_run_id)
{
	return tx_query_text(tx, ret_run_id,
	    "SELECT l.run_id FROM tool_calls c JOIN loops l ON l.id = c.loop_id JOIN runs r ON r.id = l.run_id"
	    " WHERE c.id = $1 AND c.state = 'pending' AND r.status IN ('CREATING', 'RUNNING')",
	    "s", call_id);
}
