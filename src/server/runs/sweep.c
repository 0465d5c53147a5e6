/* Nothing is ever stuck: whatever is not terminal has a deadline and a next state, and this is where it gets there.
 * Each rule finds a few rows by index and moves them in a transaction of their own; a rule that meets a changed row
 * does nothing. */
#include "server/runs/sweep_priv.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/fleet/label.h"
#include "server/fleet/queue.h"
#include "server/runs/end.h"
#include "server/runs/followups.h"
#include "server/runs/retention.h"
#include "server/runs/supervisor.h"
#include <string.h>

#define ATTEMPTS_MAX 3
#define SWEEP_MS 2000
#define RETENTION_BUDGET_MS 200

void overdue_list_fini(struct overdue_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->rows[i].agent_id);
		free(l->rows[i].run_id);
		free(l->rows[i].worker_id);
		free(l->rows[i].state);
	}
}

int sweep_find(struct runs *r, const char *sql, int64_t before_ms, int64_t more, struct overdue_list *l)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(r->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q, sql, more < 0 ? "i" : "ii", before_ms, more);
	while (rc == OK && l->n < SWEEP_BATCH && (rc = query_next(q)) == OK)
		l->rows[l->n++] = (struct overdue){.agent_id = str_dup(query_str(q, 0)),
		    .run_id = str_dup(query_str(q, 1)),
		    .worker_id = str_dup(query_str(q, 2)),
		    .state = str_dup(query_str(q, 3)),
		    .team_id = query_int(q, 4)};
	return rc == ERR_EMPTY ? OK : rc;
}

static int still_lost(struct tx *tx, const struct overdue *o, int64_t before_ms)
{
	return queue_check_lost(tx, o->agent_id, o->run_id, o->worker_id, before_ms);
}

static int still_queued(struct tx *tx, const struct overdue *o, int64_t before_ms)
{
	return queue_check_queued(tx, o->agent_id, o->run_id);
}

int sweep_end(struct runs *r, const struct overdue *o, const struct verdict *v, int64_t before_ms)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK && v->check != NULL)
		rc = v->check(tx, o, before_ms);
	if (rc == OK)
		rc = run_end_now(tx, o->run_id,
		    &(struct run_end){.status = v->status, .error_code = v->code, .error_message = v->text});
	if (rc == OK && v->end_claim)
		rc = claim_end(tx, o->agent_id, clock_wall_ms());
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK) {
		log_warn("run.ended.by_sweep", "run=%s status=%s code=%s", o->run_id, v->status, v->code);
		run_end_count(v->status, v->code);
		run_ended(r, o->team_id, o->worker_id[0] != '\0' ? o->worker_id : NULL, o->run_id);
	}
	return rc;
}

static int requeue(struct runs *r, const struct overdue *o, int64_t before_ms, int64_t *ret_attempts)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = queue_requeue_lost(
		    tx, o->agent_id, o->run_id, o->worker_id, before_ms, clock_wall_ms(), ret_attempts);
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE runs SET owner_epoch = owner_epoch + 1 WHERE id = $1", "s", o->run_id);
	if (rc == OK)
		rc = tx_commit(&tx);
	/* Its readers were told that it waits for that worker; the pump compares reasons of queued runs only. */
	if (rc == OK)
		run_changed(r, o->run_id);
	return rc;
}

static char *label_of(struct runs *r, const struct overdue *o)
{
	AUTO(tx) tx = NULL;
	char *label = NULL;

	if (tx_begin(r->cfg.store, TX_READ, &tx) != OK || worker_label_load(tx, o->team_id, o->worker_id, &label) != OK)
		return str_dup(o->worker_id);
	return label;
}

/* A worker that did not come back: a run that had not begun goes to another, one that had ends. */
static int give_up_worker(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	AUTO_STR label = label_of(r, o);
	AUTO_STR text =
	    str_printf("worker %s was lost and did not come back within %lld s; work that was not pushed stays on "
		       "that machine",
		label, (long long)(r->cfg.loss_grace_ms / 1000));
	const struct verdict lost = {"ERROR", "worker_lost", text, still_lost, true};
	const struct verdict too_often = {"ERROR", "worker_lost", text, still_queued, false};
	int64_t attempts = 0;
	int rc;

	if (strcmp(o->state, "claimed") != 0)
		return sweep_end(r, o, &lost, before_ms);
	rc = requeue(r, o, before_ms, &attempts);
	return rc == OK && attempts >= ATTEMPTS_MAX ? sweep_end(r, o, &too_often, before_ms) : rc;
}

static int drop_lost_claim(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = claim_end_lost(tx, o->agent_id, o->worker_id, before_ms, clock_wall_ms());
	return rc != OK ? rc : tx_commit(&tx);
}

static int drop_idle_claim(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	AUTO(tx) tx = NULL;
	AUTO_STR claim = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = claim_end_idle(tx, o->agent_id, o->worker_id, before_ms, clock_wall_ms(), &claim);
	if (rc == OK)
		rc = tx_commit(&tx);
	/* The note names the claim: by now the agent may have the same worker again, under another one. */
	if (rc == OK)
		notify_send(r->cfg.notify, &(struct note){.kind = NOTE_CLAIM_ENDED,
					       .team_id = o->team_id,
					       .worker_id = o->worker_id,
					       .agent_id = o->agent_id,
					       .claim_id = claim});
	return rc;
}

int sweep_move(struct runs *r, const char *rule, const struct overdue_list *l, int64_t before_ms, sweep_mover *move)
{
	for (size_t i = 0; i < l->n; i++) {
		int rc = move(r, &l->rows[i], before_ms);

		r->sweeper->moved |= rc == OK;
		if (store_is_unavailable(rc))
			return rc;
		/* ERR_EMPTY and ERR_CONFLICT: it changed since it was found. */
		if (rc != OK && rc != ERR_EMPTY && rc != ERR_CONFLICT)
			log_error("sweep.failed", "rule=%s agent=%s run=%s error=%s", rule, l->rows[i].agent_id,
			    l->rows[i].run_id, err_name(rc));
	}
	return OK;
}

static int move_lost(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	return o->run_id[0] != '\0' ? give_up_worker(r, o, before_ms) : drop_lost_claim(r, o, before_ms);
}

static int lost_workers(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int64_t before = now_ms - r->cfg.loss_grace_ms;
	int rc = sweep_find(r,
	    "SELECT c.agent_id, q.run_id, c.worker_id, q.state, c.team_id FROM claims c"
	    " LEFT JOIN requests q ON q.agent_id = c.agent_id WHERE c.lost_at IS NOT NULL AND c.lost_at < $1"
	    " AND COALESCE(q.state, '') <> 'offline' AND NOT EXISTS(SELECT 1 FROM pools p WHERE p.team_id = c.team_id"
	    " AND p.name = c.pool AND p.repo = c.repo AND p.ready_timeout_s > 0 AND (q.state IS NULL OR"
	    " (q.state = 'serving' AND c.lost_at >= $1 + $2 - p.ready_timeout_s * 1000))) LIMIT 100",
	    before, r->cfg.loss_grace_ms, &l);

	return rc != OK ? rc : sweep_move(r, "lost_workers", &l, before, move_lost);
}

static int idle_claims(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int64_t before = now_ms - r->cfg.idle_release_ms;
	int rc;

	if (r->cfg.idle_release_ms == 0)
		return OK;
	rc = sweep_find(r,
	    "SELECT c.agent_id, '', c.worker_id, '', c.team_id FROM claims c WHERE c.idle_since IS NOT NULL AND"
	    " c.idle_since < $1 AND NOT EXISTS(SELECT 1 FROM workers w WHERE w.team_id = c.team_id AND w.id = "
	    "c.worker_id"
	    " AND w.keeps_claims = 1) AND NOT (c.lost_at IS NOT NULL AND EXISTS(SELECT 1 FROM pools p WHERE p.team_id "
	    "="
	    " c.team_id AND p.name = c.pool AND p.repo = c.repo AND p.ready_timeout_s > 0)) LIMIT 100",
	    before, -1, &l);
	return rc != OK ? rc : sweep_move(r, "idle_claims", &l, before, drop_idle_claim);
}

static int move_queued(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	AUTO_STR text =
	    str_printf("no worker took the request within %lld s", (long long)(r->cfg.queue_timeout_ms / 1000));
	const struct verdict v = {"EXPIRED", "queue_timeout", text, still_queued, false};

	return sweep_end(r, o, &v, before_ms);
}

static int queue_timeouts(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int64_t before = now_ms - r->cfg.queue_timeout_ms;
	int rc = sweep_find(r,
	    "SELECT agent_id, run_id, '', state, team_id FROM requests WHERE state = 'queued' AND queued_at < $1 "
	    "LIMIT "
	    "100",
	    before, -1, &l);

	return rc != OK ? rc : sweep_move(r, "queue_timeouts", &l, before, move_queued);
}

static int move_too_long(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	AUTO_STR text = str_printf("the run took longer than %lld s", (long long)(r->cfg.run_timeout_ms / 1000));
	const struct verdict v = {"EXPIRED", "run_timeout", text, NULL, false};

	return sweep_end(r, o, &v, before_ms);
}

static int run_timeouts(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int64_t before = now_ms - r->cfg.run_timeout_ms;
	int rc = sweep_find(r,
	    "SELECT q.agent_id, q.run_id, q.worker_id, q.state, q.team_id FROM requests q JOIN runs r ON r.id = "
	    "q.run_id"
	    " WHERE q.state IN ('claimed', 'serving', 'offline') AND r.started_at IS NOT NULL AND r.started_at < $1 "
	    "LIMIT 100",
	    before, -1, &l);

	return rc != OK ? rc : sweep_move(r, "run_timeouts", &l, before, move_too_long);
}

/* A run that has a worker and never gets as far as its first step: queue_timeout does not see it, for it is bound, nor
 * run_timeout, for it has not begun. */
static int never_begun(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int64_t before = now_ms - r->cfg.queue_timeout_ms - r->cfg.run_timeout_ms;
	int rc = sweep_find(r,
	    "SELECT q.agent_id, q.run_id, q.worker_id, q.state, q.team_id FROM requests q JOIN runs r ON r.id = "
	    "q.run_id"
	    " WHERE q.state = 'claimed' AND r.started_at IS NULL AND r.created_at < $1 LIMIT 100",
	    before, -1, &l);

	return rc != OK ? rc : sweep_move(r, "never_begun", &l, before, move_too_long);
}

static int move_followup(struct runs *r, const struct overdue *o, int64_t before_ms)
{
	return followup_begin(r, o->agent_id);
}

/* Follow-ups of agents whose run has ended: the server stopped in between, or the store could not be written. */
static int followups_left(struct runs *r, int64_t now_ms)
{
	__attribute__((cleanup(overdue_list_fini))) struct overdue_list l = {0};
	int rc = sweep_find(r,
	    "SELECT a.id, '', '', '', a.team_id FROM agents a WHERE a.status = 'IDLE' AND $1 >= 0 AND a.id IN (SELECT "
	    "agent_id"
	    " FROM queued_followups) LIMIT 100",
	    now_ms, -1, &l);

	return rc != OK ? rc : sweep_move(r, "followups", &l, now_ms, move_followup);
}

/* A line for each kind of row that is forgotten would say nothing: only a failure is told. */
static int forget_old(struct runs *r, int64_t now_ms)
{
	const struct runs_config *c = &r->cfg;
	const struct retention keep = {.events_ms = c->stream_retention_ms,
	    .images_ms = c->image_retention_ms,
	    .conversations_ms = c->conversation_retention_ms,
	    .agents_ms = c->agent_retention_ms,
	    .audit_ms = c->audit_retention_ms,
	    .traces_ms = c->trace_retention_ms};

	return retention_step(c->store, &keep, now_ms, RETENTION_BUDGET_MS, &r->sweeper->free_space);
}

static void sweep_once(struct runs *r)
{
	static const struct {
		const char *name;
		int (*apply)(struct runs *r, int64_t now_ms);
	} rules[] = {{"lost_workers", lost_workers}, {"idle_claims", idle_claims}, {"queue_timeouts", queue_timeouts},
	    {"run_timeouts", run_timeouts}, {"never_begun", never_begun}, {"connect_timeouts", sweep_connect_timeouts},
	    {"offline_lapses", sweep_offline_lapses}, {"start_failures", sweep_start_failures},
	    {"machines_away", sweep_machines_away}, {"reclaim", sweep_reclaim}, {"followups", followups_left},
	    {"forget_old", forget_old}};
	int64_t now = clock_wall_ms();

	r->sweeper->moved = false;
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		int rc = rules[i].apply(r, now);

		if (store_is_unavailable(rc)) {
			store_log_unavailable(r->cfg.store, rc);
			break;
		}
		if (rc != OK)
			log_error("sweep.failed", "rule=%s error=%s", rules[i].name, err_name(rc));
	}
	/* Reasons to wait change by the clock too; all is looked through only if something was moved. */
	notify_send(
	    r->cfg.notify, &(struct note){.kind = NOTE_QUEUE_CHANGED, .worker_id = r->sweeper->moved ? NULL : ""});
}

/* Runs that have a worker connected to this node and no thread: a wake-up was lost, or no thread could be had. */
static void drive_forgotten(struct runs *r)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(r->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT q.run_id FROM requests q JOIN workers w ON w.team_id = q.team_id AND w.id = q.worker_id"
		    " WHERE q.state IN ('claimed', 'serving') AND w.node_id = $1",
		    "s", r->cfg.node->id);
	while (rc == OK && (rc = query_next(q)) == OK)
		if (!supervisor_knows(r->supervisor, query_str(q, 0)))
			supervisor_drive(r->supervisor, query_str(q, 0));
	supervisor_tick(r->supervisor);
}

static char gone_token;

static void sweeper_main(void *arg)
{
	struct sweeper *s = arg;
	struct runs *r = OBJ_FROM(runs, s->runs, RUNS_MAGIC);
	struct mailbox *gone = mailbox_ref(s->gone);
	void *msg;

	while (mailbox_receive(s->stop, clock_mono_ms() + SWEEP_MS, &msg) == ERR_TIMEOUT) {
		sweep_once(r);
		drive_forgotten(r);
	}
	/* After this word sweeper_stop frees `s`. */
	IGNORE(mailbox_post_always(gone, &gone_token));
	mailbox_free(&gone);
}

int sweeper_start(struct runs *r)
{
	struct sweeper *s = NEW(struct sweeper);

	*s =
	    (struct sweeper){.runs = r, .stop = mailbox_new(1, NULL), .gone = mailbox_new(1, NULL), .free_space = true};
	r->sweeper = s;
	return thread_start("sweeper", 512 * 1024, sweeper_main, s);
}

void sweeper_stop(struct runs *r)
{
	struct sweeper *s = r->sweeper;
	void *word;

	mailbox_close(s->stop);
	ENSURE(mailbox_receive(s->gone, INT64_MAX, &word) == OK);
	r->sweeper = NULL; /* not before: its thread uses it */
	mailbox_free(&s->stop);
	mailbox_free(&s->gone);
	free(s);
}
