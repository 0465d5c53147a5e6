/* What the store holds about live connections, once they are gone: written by jobs. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/fleet/fleet_priv.h"

struct gone_job {
	struct fleet *fleet;
	int64_t team_id, epoch;
	char *worker_id;
	bool draining;
};

static int store_gone(const struct gone_job *g)
{
	AUTO(tx) tx = NULL;
	int64_t n = 0;
	int rc = tx_begin(g->fleet->cfg.store, TX_WRITE, &tx);

	/* An older epoch: the worker has registered again meanwhile, nothing is to be done. */
	if (rc == OK && g->draining)
		rc = tx_change(tx, &n,
		    "UPDATE workers SET draining = 1 WHERE team_id = $1 AND id = $2 AND link_epoch = $3", "isi",
		    g->team_id, g->worker_id, g->epoch);
	else if (rc == OK && (rc = tool_set_release(tx, g->team_id, g->worker_id, clock_wall_ms())) == OK)
		rc = tx_change(tx, &n, "DELETE FROM workers WHERE team_id = $1 AND id = $2 AND link_epoch = $3", "isi",
		    g->team_id, g->worker_id, g->epoch);
	if (rc == OK && n == 1)
		rc = tx_exec(tx, "DELETE FROM worker_slots WHERE team_id = $1 AND worker_id = $2", "is", g->team_id,
		    g->worker_id);
	if (rc == OK && n == 1 && !g->draining)
		rc = tx_exec(tx, "UPDATE claims SET lost_at = $3 WHERE team_id = $1 AND worker_id = $2", "isi",
		    g->team_id, g->worker_id, clock_wall_ms());
	return rc != OK ? rc : tx_commit(&tx);
}

static void gone_job(void *arg)
{
	struct gone_job *g = arg;
	int rc = store_gone(g);

	if (rc != OK)
		store_log_unavailable(g->fleet->cfg.store, rc);
	if (!g->draining) {
		struct hub_msg *m = hub_msg_new(HUB_GONE_STORED);

		m->team_id = g->team_id;
		m->worker_id = str_dup(g->worker_id);
		m->epoch = g->epoch;
		m->ok = rc == OK;
		hub_post(g->fleet, m);
	}
	free(g->worker_id);
	free(g);
}

static bool submit_gone(struct fleet *f, struct worker *w, bool draining)
{
	struct gone_job *g = NEW(struct gone_job);

	*g = (struct gone_job){.fleet = f, .team_id = w->team_id, .epoch = w->link_epoch, .draining = draining};
	g->worker_id = str_dup(w->id);
	if (pool_submit(f->cfg.jobs, gone_job, g) == OK)
		return true;
	free(g->worker_id);
	free(g);
	return false;
}

void store_worker_gone(struct fleet *f, struct worker *w, int64_t now_ms)
{
	/* The hub's tick comes by again while the store does not know. */
	if (w->gone_submitted || (w->gone_tried_ms != 0 && now_ms - w->gone_tried_ms < STORE_AGAIN_MS))
		return;
	w->gone_tried_ms = now_ms;
	w->gone_submitted = submit_gone(f, w, false);
}

void store_worker_draining(struct fleet *f, struct worker *w)
{
	IGNORE(submit_gone(f, w, true));
}

int fleet_recover(struct store *st)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_exec(tx, "UPDATE tool_sets SET last_used_at = $1 WHERE hash IN (SELECT tool_set FROM workers)",
		    "i", clock_wall_ms());
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM workers", "");
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM worker_slots", "");
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE claims SET lost_at = $1", "i", clock_wall_ms());
	return rc != OK ? rc : tx_commit(&tx);
}
