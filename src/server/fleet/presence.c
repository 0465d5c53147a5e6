/* What the store holds about live connections, once they are gone: written by jobs. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/slots.h"
#include "server/fleet/tool_sets.h"
#include "server/fleet/worker_conn.h"

#define STORE_AGAIN_MS 1000

struct gone_job {
	struct fleet *fleet;
	int64_t team_id, epoch;
	char *worker_id;
	bool draining;
	bool idle; /* it goes because it has had no run for long: not if one came first */
	bool stays;
	char *run_id; /* of the claim that lost its worker; NULL if none */
};

static void gone_job_free(struct gone_job **gp)
{
	struct gone_job *g = TAKE(*gp);

	free(g->worker_id);
	free(g->run_id);
	free(g);
}

/* Rows with an older epoch than the present: the worker has registered again meanwhile, here or at another node, and
 * nothing is to be done. */
static int mark_draining(struct tx *tx, const struct gone_job *g, int64_t *ret_changed)
{
	return tx_change(tx, ret_changed,
	    "UPDATE workers SET draining = 1 WHERE team_id = $1 AND id = $2 AND link_epoch = $3", "isi", g->team_id,
	    g->worker_id, g->epoch);
}

static int remove_worker(struct tx *tx, const struct gone_job *g, int64_t *ret_changed)
{
	int rc = tool_set_release(tx, g->team_id, g->worker_id, clock_wall_ms());

	return rc != OK ? rc
			: tx_change(tx, ret_changed,
			      "DELETE FROM workers WHERE team_id = $1 AND id = $2 AND link_epoch = $3", "isi",
			      g->team_id, g->worker_id, g->epoch);
}

/* The claim begins to age. */
static int mark_lost(struct tx *tx, struct gone_job *g)
{
	int rc = tx_exec(tx, "UPDATE claims SET lost_at = $3 WHERE team_id = $1 AND worker_id = $2", "isi", g->team_id,
	    g->worker_id, clock_wall_ms());

	if (rc == OK)
		rc = tx_query_text(tx, &g->run_id,
		    "SELECT q.run_id FROM claims c JOIN requests q ON q.agent_id = c.agent_id"
		    " WHERE c.team_id = $1 AND c.worker_id = $2",
		    "is", g->team_id, g->worker_id);
	return rc == ERR_EMPTY ? OK : rc;
}

/* The worker that is idle asks before it goes: a run that is bound to it comes first. A claim without a run ends,
 * unless its pool waits for workers that are away. */
static int let_go(struct tx *tx, struct gone_job *g)
{
	int64_t runs = 0;
	int rc = tx_query_int(tx, &runs,
	    "SELECT COUNT(*) FROM claims c JOIN requests r ON r.agent_id = c.agent_id WHERE c.team_id = $1 AND"
	    " c.worker_id = $2 AND r.state IN ('claimed', 'serving')",
	    "is", g->team_id, g->worker_id);

	g->stays = rc == OK && g->idle && runs > 0;
	if (rc == OK && !g->stays)
		rc = slots_end_idle_claims(tx, g->team_id, g->worker_id);
	return rc;
}

static int store_gone(struct gone_job *g)
{
	AUTO(tx) tx = NULL;
	int64_t n = 0;
	int rc = tx_begin(g->fleet->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = g->draining ? mark_draining(tx, g, &n) : remove_worker(tx, g, &n);
	if (rc == OK && n == 1 && g->draining)
		rc = let_go(tx, g);
	if (rc == OK && g->stays)
		return OK; /* nothing of this is kept */
	if (rc == OK && n == 1)
		rc = slots_clear(tx, g->team_id, g->worker_id);
	if (rc == OK && n == 1 && !g->draining)
		rc = mark_lost(tx, g);
	return rc != OK ? rc : tx_commit(&tx);
}

/* Why runs wait has changed: that of the claim, and those of the pool that has a worker less. */
static void tell_of_loss(const struct gone_job *g)
{
	struct notify *n = g->fleet->cfg.notify;

	if (g->run_id != NULL)
		notify_send(n, &(struct note){.kind = NOTE_RUN_CHANGED, .run_id = g->run_id});
	notify_send(n, &(struct note){.kind = NOTE_QUEUE_CHANGED, .worker_id = ""});
}

static void gone_job(void *arg)
{
	AUTO(gone_job) g = arg;
	int rc = store_gone(g);

	if (rc == OK)
		tell_of_loss(g);
	else
		store_log_unavailable(g->fleet->cfg.store, rc);
	if (!g->draining || rc == OK) {
		struct hub_msg *m = hub_msg_new(g->draining ? HUB_LEAVE_STORED : HUB_GONE_STORED);

		m->team_id = g->team_id;
		m->worker_id = str_dup(g->worker_id);
		m->epoch = g->epoch;
		m->ok = g->draining ? g->stays : rc == OK;
		hub_post(g->fleet, m);
	}
}

static bool submit_gone(struct fleet *f, struct worker *w, bool draining, bool idle)
{
	struct gone_job *g = NEW(struct gone_job);

	*g = (struct gone_job){
	    .fleet = f, .team_id = w->team_id, .epoch = w->link_epoch, .draining = draining, .idle = idle};
	g->worker_id = str_dup(w->id);
	if (pool_submit(f->cfg.jobs, gone_job, g) == OK)
		return true;
	gone_job_free(&g);
	return false;
}

void store_worker_gone(struct fleet *f, struct worker *w, int64_t now_ms)
{
	/* The hub's tick comes by again while the store does not know. */
	if (w->gone_submitted || (w->gone_tried_ms != 0 && now_ms - w->gone_tried_ms < STORE_AGAIN_MS))
		return;
	w->gone_tried_ms = now_ms;
	w->gone_submitted = submit_gone(f, w, false, false);
}

void store_worker_draining(struct fleet *f, struct worker *w, bool idle)
{
	IGNORE(submit_gone(f, w, true, idle));
}

void worker_may_leave(struct worker *w, int64_t epoch, bool stays)
{
	if (w->conn == NULL || w->link_epoch != epoch || !link_ready(w->link))
		return;
	link_send_going_away_reply(w->link, stays);
	worker_conn_flush(w->conn, w->link);
}

/* What `whose` had is nobody's: it has ended. Of slots only those that have no worker left go. */
static int forget_node(struct tx *tx, const char *whose, const struct node *node)
{
	int64_t now = clock_wall_ms();
	int rc = tx_exec(tx,
	    "UPDATE tool_sets SET last_used_at = $1 WHERE hash IN"
	    " (SELECT tool_set FROM workers WHERE node_id IN ('', $2))",
	    "is", now, whose);

	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM workers WHERE node_id IN ('', $1)", "s", whose);
	if (rc == OK)
		rc = tx_exec(tx,
		    "DELETE FROM slot_labels WHERE NOT EXISTS (SELECT 1 FROM workers w"
		    " WHERE w.team_id = slot_labels.team_id AND w.id = slot_labels.worker_id)",
		    "");
	if (rc == OK)
		rc = tx_exec(tx,
		    "DELETE FROM worker_slots WHERE NOT EXISTS (SELECT 1 FROM workers w"
		    " WHERE w.team_id = worker_slots.team_id AND w.id = worker_slots.worker_id)",
		    "");
	/* Their grace begins now: while that node was away nobody could come back. One that is reserved for a worker
	 * that has never been here has lost none. */
	if (rc == OK)
		rc = tx_exec(tx,
		    "UPDATE claims SET lost_at = $1, node_id = $2, node_epoch = $3 WHERE node_id IN ('', $4)"
		    " AND connect_by IS NULL",
		    "isis", now, node->id, node->epoch, whose);
	return rc;
}

/* Rows of a later epoch cannot be: the present one is the latest. */
int fleet_recover(struct store *st, const struct node *node)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = forget_node(tx, node->id, node);
	return rc != OK ? rc : tx_commit(&tx);
}

int fleet_take_over(const struct fleet_config *cfg, bool only_left, char **ret_id)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(cfg->store, TX_WRITE, &tx);

	if (rc == OK)
		rc = node_take_over(tx, cfg->node, only_left, ret_id);
	if (rc == OK)
		rc = forget_node(tx, *ret_id, cfg->node);
	if (rc == OK && cfg->taken_over != NULL)
		rc = cfg->taken_over(cfg->ctx, tx, *ret_id);
	return rc != OK ? rc : tx_commit(&tx);
}
