/* The rules of the sweep about workers that do not come: reserved ones, hibernated ones, personal machines. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/fleet/queue.h"
#include "server/runs/sweep_priv.h"

#define STARTS_MAX 3 /* as in the index requests_failed */

static void tell_requeued(struct runs *r, const struct overdue *o)
{
	run_changed(r, o->run_id);
	notify_send(
	    r->cfg.notify, &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = o->team_id, .agent_id = o->agent_id});
}

/* In a transaction of its own. */
static int change(struct runs *r, const struct overdue *o, int64_t before_ms,
    int (*fn)(struct tx *tx, const char *agent_id, int64_t before_ms, int64_t now_ms))
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = fn(tx, o->agent_id, before_ms, clock_wall_ms());
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		tell_requeued(r, o);
	return rc;
}

static int move_unconnected(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	return change(r, o, before_ms, queue_start_failed);
}

int sweep_connect_timeouts(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int rc = sweep_find(r,
	    "SELECT c.agent_id, q.run_id, c.worker_id, q.state, c.team_id FROM claims c LEFT JOIN requests q ON"
	    " q.agent_id = c.agent_id WHERE c.connect_by IS NOT NULL AND c.connect_by < $1 LIMIT 100",
	    now_ms, -1, &l);

	return rc != OK ? rc : sweep_move(r, "connect_timeouts", &l, now_ms, move_unconnected);
}

static int move_lapsed(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	return change(r, o, before_ms, queue_lapse);
}

int sweep_offline_lapses(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int rc = sweep_find(r,
	    "SELECT agent_id, run_id, worker_id, state, team_id FROM requests WHERE offline_until IS NOT NULL AND"
	    " offline_until < $1 LIMIT 100",
	    now_ms, -1, &l);

	return rc != OK ? rc : sweep_move(r, "offline_lapses", &l, now_ms, move_lapsed);
}

static int still_failed(struct tx *tx, const struct overdue *o, int64_t before_ms)
{
	return queue_check_queued(tx, o->agent_id, o->run_id);
}

static int move_failed(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	static const struct verdict v = {"ERROR", "worker_start_failed",
	    "a worker was claimed for this run three times, and each time it did not connect or was not one that "
	    "serves "
	    "the request",
	    still_failed, false};

	return sweep_end(r, o, &v, before_ms);
}

int sweep_start_failures(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int rc = sweep_find(r,
	    "SELECT agent_id, run_id, '', state, team_id FROM requests WHERE (starts >= 3 OR mismatches >= 3)"
	    " AND state = 'queued' AND queued_at <= $1 LIMIT 100",
	    now_ms, -1, &l);

	return rc != OK ? rc : sweep_move(r, "start_failures", &l, now_ms, move_failed);
}

static int machine_still_away(struct tx *tx, const struct overdue *o, int64_t before_ms)
{
	return queue_check_queued(tx, o->agent_id, o->run_id);
}

/* worker_id is the machine's name. */
static int move_machine_away(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	struct overdue without = *o;
	AUTO_STR text = o->worker_id[0] != '\0'
			    ? str_printf("machine %s is not connected", o->worker_id)
			    : str_dup("none of your machines that serve the repository is connected");
	const struct verdict v = {"ERROR", "worker_lost", text, machine_still_away, false};
	char none[] = "";

	without.worker_id = none;
	return sweep_end(r, &without, &v, before_ms);
}

int sweep_machines_away(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int64_t before = now_ms - r->cfg.machine_wait_ms;
	int rc = sweep_find(r,
	    "SELECT r.agent_id, r.run_id, r.machine, r.state, r.team_id FROM requests r WHERE r.machine IS NOT NULL AND"
	    " r.state = 'queued' AND r.queued_at < $1 AND NOT EXISTS(SELECT 1 FROM workers w JOIN worker_slots s ON"
	    " s.team_id = w.team_id AND s.worker_id = w.id WHERE w.team_id = r.team_id AND w.user_id = r.user_id AND"
	    " w.personal = 1 AND (r.machine = '' OR w.name = r.machine) AND s.repo = r.repo AND (s.repo_host = "
	    "r.repo_host"
	    " OR s.repo_host = '' OR r.repo_host = '')) LIMIT 100",
	    before, -1, &l);

	return rc != OK ? rc : sweep_move(r, "machines_away", &l, before, move_machine_away);
}

static int move_reclaim(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
	AUTO(tx) tx = NULL;
	int64_t now = clock_wall_ms();
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = queue_reclaim(tx, o->agent_id, now - r->cfg.reclaim_idle_ms, now, &left);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	notify_send(r->cfg.notify, &(struct note){.kind = NOTE_CLAIM_ENDED,
				       .team_id = left.team_id,
				       .worker_id = left.worker_id,
				       .agent_id = left.agent_id,
				       .claim_id = left.claim_id});
	notify_send(r->cfg.notify,
	    &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = left.team_id, .worker_id = left.worker_id});
	return OK;
}

/* A worker that never leaves by itself and keeps the claim of an agent that is done would starve the pool. */
int sweep_reclaim(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int64_t before = now_ms - r->cfg.reclaim_after_ms;
	int rc;

	if (r->cfg.reclaim_after_ms == 0 || r->cfg.reclaim_idle_ms == 0)
		return OK;
	rc = sweep_find(r,
	    "SELECT agent_id, run_id, '', state, team_id FROM requests WHERE state = 'queued' AND queued_at < $1 AND"
	    " machine IS NULL AND EXISTS(SELECT 1 FROM worker_slots s WHERE s.team_id = requests.team_id AND s.pool ="
	    " requests.pool AND s.repo = requests.repo AND s.state = 4) ORDER BY queued_at, agent_id LIMIT 100",
	    before, -1, &l);
	return rc != OK ? rc : sweep_move(r, "reclaim", &l, before, move_reclaim);
}
