/* Nothing is ever stuck: whatever is not terminal has a deadline and a next state, and this is where it gets there.
 * Each rule finds a few rows by index and moves them in a transaction of their own; a rule that meets a changed row
 * does nothing. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/fleet/queue.h"
#include "server/runs/runs_priv.h"
#include <string.h>

#define BATCH 100
#define ATTEMPTS_MAX 3

struct overdue {
	char *agent_id, *run_id, *worker_id, *state;
	int64_t team_id;
};

static void overdue_fini(struct overdue *o)
{
	free(o->agent_id);
	free(o->run_id);
	free(o->worker_id);
	free(o->state);
}

struct overdue_list {
	struct overdue rows[BATCH];
	size_t n;
};

static void overdue_list_fini(struct overdue_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		overdue_fini(&l->rows[i]);
}

/* Rows are (agent_id, run_id, worker_id, state, team_id), older than the limit in $1. */
static int find(struct runs *r, const char *sql, int64_t before_ms, struct overdue_list *l)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(r->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q, sql, "i", before_ms);
	while (rc == OK && l->n < BATCH && (rc = query_next(q)) == OK)
		l->rows[l->n++] = (struct overdue){.agent_id = str_dup(query_str(q, 0)),
		    .run_id = str_dup(query_str(q, 1)),
		    .worker_id = str_dup(query_str(q, 2)),
		    .state = str_dup(query_str(q, 3)),
		    .team_id = query_int(q, 4)};
	return rc == ERR_EMPTY ? OK : rc;
}

static int end_as(
    struct runs *r, const struct overdue *o, const char *status, const char *code, const char *message, bool end_claim)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = run_end(
		    tx, o->run_id, &(struct run_end){.status = status, .error_code = code, .error_message = message});
	if (rc == OK && end_claim)
		rc = claim_end(tx, o->agent_id, clock_wall_ms());
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK) {
		log_warn("run.ended.by_sweep", "run=%s status=%s code=%s", o->run_id, status, code);
		if (o->worker_id[0] != '\0')
			fleet_cancel_run(r->fleet, o->team_id, o->worker_id, o->run_id);
		stream_notify(r, o->run_id);
	}
	return rc;
}

static int requeue(struct runs *r, const struct overdue *o, int64_t *ret_attempts)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = queue_requeue(tx, o->agent_id, clock_wall_ms(), ret_attempts);
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE runs SET owner_epoch = owner_epoch + 1 WHERE id = $1", "s", o->run_id);
	return rc != OK ? rc : tx_commit(&tx);
}

/* A worker that did not come back: a turn that had not begun goes to another, one that had ends. */
static int give_up_worker(struct runs *r, const struct overdue *o)
{
	AUTO_STR text =
	    str_printf("worker %s was lost and did not come back within %lld s; work that was not pushed stays on "
		       "that machine",
		o->worker_id, (long long)(r->cfg.loss_grace_ms / 1000));
	int64_t attempts = 0;
	int rc;

	if (strcmp(o->state, "claimed") != 0)
		return end_as(r, o, "ERROR", "worker_lost", text, true);
	rc = requeue(r, o, &attempts);
	if (rc == OK && attempts >= ATTEMPTS_MAX)
		return end_as(r, o, "ERROR", "worker_lost", text, true);
	return rc;
}

static int drop_idle_claim(struct runs *r, const struct overdue *o, bool connected)
{
	AUTO(tx) tx = NULL;
	int64_t n = 0;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM requests WHERE agent_id = $1", "s", o->agent_id);
	if (rc != OK || n > 0)
		return rc;
	rc = claim_end(tx, o->agent_id, clock_wall_ms());
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK && connected)
		fleet_close_session(r->fleet, o->team_id, o->worker_id, o->agent_id);
	return rc;
}

static int lost_workers(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int rc = find(r,
	    "SELECT c.agent_id, q.run_id, c.worker_id, q.state, c.team_id FROM claims c"
	    " LEFT JOIN requests q ON q.agent_id = c.agent_id WHERE c.lost_at IS NOT NULL AND c.lost_at < $1 LIMIT 100",
	    now_ms - r->cfg.loss_grace_ms, &l);

	for (size_t i = 0; i < l.n && (rc == OK || rc == ERR_CONFLICT); i++)
		rc =
		    l.rows[i].run_id[0] != '\0' ? give_up_worker(r, &l.rows[i]) : drop_idle_claim(r, &l.rows[i], false);
	return rc == ERR_CONFLICT ? OK : rc;
}

static int idle_claims(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int rc = r->cfg.idle_release_ms == 0 ? OK
					     : find(r,
						   "SELECT agent_id, '', worker_id, '', team_id FROM claims WHERE "
						   "idle_since IS NOT NULL AND idle_since < $1"
						   " LIMIT 100",
						   now_ms - r->cfg.idle_release_ms, &l);

	for (size_t i = 0; i < l.n && rc == OK; i++)
		rc = drop_idle_claim(r, &l.rows[i], true);
	return rc;
}

static int queue_timeouts(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	AUTO_STR text =
	    str_printf("no worker took the request within %lld s", (long long)(r->cfg.queue_timeout_ms / 1000));
	int rc = find(r,
	    "SELECT agent_id, run_id, '', state, team_id FROM requests WHERE state = 'queued' AND queued_at < $1 LIMIT "
	    "100",
	    now_ms - r->cfg.queue_timeout_ms, &l);

	for (size_t i = 0; i < l.n && (rc == OK || rc == ERR_CONFLICT); i++)
		rc = end_as(r, &l.rows[i], "EXPIRED", "queue_timeout", text, false);
	return rc == ERR_CONFLICT ? OK : rc;
}

static int run_timeouts(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	AUTO_STR text = str_printf("the run took longer than %lld s", (long long)(r->cfg.run_timeout_ms / 1000));
	int rc = find(r,
	    "SELECT q.agent_id, q.run_id, q.worker_id, q.state, q.team_id FROM requests q JOIN runs r ON r.id = "
	    "q.run_id"
	    " WHERE r.started_at IS NOT NULL AND r.started_at < $1 LIMIT 100",
	    now_ms - r->cfg.run_timeout_ms, &l);

	for (size_t i = 0; i < l.n && (rc == OK || rc == ERR_CONFLICT); i++)
		rc = end_as(r, &l.rows[i], "EXPIRED", "run_timeout", text, false);
	return rc == ERR_CONFLICT ? OK : rc;
}

/* Events of runs that ended long ago, a few runs at a time. */
static int forget_events(struct runs *r, int64_t now_ms)
{
	AUTO(tx) tx = NULL;
	int64_t old = 0;
	int rc = tx_begin(r->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_int(tx, &old, "SELECT COUNT(*) FROM runs WHERE ended_at < $1 AND last_seq > 0", "i",
		    now_ms - r->cfg.stream_retention_ms);
	tx_free(&tx);
	if (rc != OK || old == 0)
		return rc;
	rc = tx_begin(r->cfg.store, TX_WRITE, &tx);
	if (rc == OK)
		rc = tx_exec(tx,
		    "DELETE FROM events WHERE run_id IN (SELECT id FROM runs WHERE ended_at < $1 AND last_seq > 0 "
		    "ORDER BY ended_at"
		    " LIMIT 20)",
		    "i", now_ms - r->cfg.stream_retention_ms);
	if (rc == OK)
		rc = tx_exec(tx,
		    "UPDATE runs SET last_seq = 0 WHERE id IN (SELECT id FROM runs WHERE ended_at < $1 AND last_seq > 0"
		    " ORDER BY ended_at LIMIT 20)",
		    "i", now_ms - r->cfg.stream_retention_ms);
	return rc != OK ? rc : tx_commit(&tx);
}

void sweep(struct runs *r)
{
	int64_t now = clock_wall_ms();
	int rc = lost_workers(r, now);

	if (rc == OK)
		rc = idle_claims(r, now);
	if (rc == OK)
		rc = queue_timeouts(r, now);
	if (rc == OK)
		rc = run_timeouts(r, now);
	if (rc == OK)
		rc = forget_events(r, now);
	if (store_is_unavailable(rc))
		store_log_unavailable(r->cfg.store, rc);
	else if (rc != OK)
		log_error("sweep.failed", "error=%s", err_name(rc));
	fleet_wake_scheduler(r->fleet);
}
