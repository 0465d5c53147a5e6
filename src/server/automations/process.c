/* One tick on its way to an agent. The agent and the end of the tick's row are one transaction. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "server/api/route.h"
#include "server/automations/runner_priv.h"
#include "server/automations/template.h"
#include <string.h>

METRIC_COUNTER(
    outcomes, "bullpen_automation_runs_total", "Runs of automations that were worked off, by outcome.", "outcome");

struct work {
	struct automations *m;
	char *run_id, *tick, *cause, *prompt, *reason;
	int64_t created_at;
	struct automation *a; /* NULL: deleted */
	struct principal *who; /* NULL: gone */
};

static void work_fini(struct work *w)
{
	str_free(&w->run_id);
	str_free(&w->tick);
	str_free(&w->cause);
	str_free(&w->prompt);
	str_free(&w->reason);
	automation_free(&w->a);
	principal_free(&w->who);
}

int automation_is_busy(struct tx *tx, const char *automation_id, bool *ret)
{
	int64_t n = 0;
	int rc = tx_query_int(tx, &n,
	    "SELECT COUNT(*) FROM runs WHERE status IN ('CREATING', 'RUNNING') AND agent_id = (SELECT agent_id FROM "
	    "automation_runs WHERE automation_id = $1 AND state = 'started' ORDER BY ended_at DESC, id DESC LIMIT 1)",
	    "s", automation_id);

	*ret = n > 0;
	return rc;
}

/* A row that was worked off meanwhile stays as it is. */
static int end_run(struct work *w, const char *state, const char *reason)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(automations_cfg(w->m)->store, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_exec(tx,
		    "UPDATE automation_runs SET state = $2, reason = $3, prompt = NULL, ended_at = $4 WHERE id = $1 "
		    "AND "
		    "state = 'new'",
		    "sssi", w->run_id, state, reason, clock_wall_ms());
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	metric_add(&outcomes, 1, state);
	log_info("automation.end", "automation=%s run=%s state=%s reason=%s", w->a != NULL ? w->a->id : "-", w->run_id,
	    state, log_quote(reason));
	return OK;
}

static int load_work(struct work *w, struct tx *tx)
{
	AUTO(query) q = NULL;
	AUTO_STR automation = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT automation_id, tick, cause, prompt, reason, created_at FROM automation_runs WHERE id = $1 AND "
	    "state "
	    "= 'new'",
	    "s", w->run_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	automation = str_dup(query_str(q, 0));
	w->tick = str_dup(query_str(q, 1));
	w->cause = str_dup(query_str(q, 2));
	w->prompt = str_dup(query_text(q, 3));
	w->reason = str_dup(query_text(q, 4));
	w->created_at = query_int(q, 5);
	rc = automation_load(tx, automation, &w->a);
	if (rc == OK)
		rc = access_principal_of_owner(tx, w->a->owner, &w->who);
	return rc == ERR_NOT_FOUND ? OK : rc;
}

struct standing {
	bool busy; /* the one before runs, or waits before this one */
	int64_t queued;
};

static int look_at_others(struct work *w, struct tx *tx, struct standing *s)
{
	int64_t before = 0;
	int rc = automation_is_busy(tx, w->a->id, &s->busy);

	if (rc == OK)
		rc = tx_query_int(tx, &s->queued,
		    "SELECT COUNT(*) FROM automation_runs WHERE automation_id = $1 AND state = 'queued'", "s",
		    w->a->id);
	if (rc == OK)
		rc = tx_query_int(tx, &before,
		    "SELECT COUNT(*) FROM automation_runs WHERE automation_id = $1 AND state = 'queued' AND created_at "
		    "< "
		    "$2",
		    "si", w->a->id, w->created_at);
	s->busy = s->busy || before > 0;
	return rc;
}

static int queue_run(struct work *w, const struct standing *s)
{
	AUTO(tx) tx = NULL;
	int rc;

	if (s->queued >= AUTOMATION_QUEUED_MAX)
		return end_run(w, "skipped", "the one before is not over, and ten wait for it already");
	rc = tx_begin(automations_cfg(w->m)->store, TX_WRITE, &tx);
	if (rc == OK)
		rc = tx_exec(
		    tx, "UPDATE automation_runs SET state = 'queued' WHERE id = $1 AND state = 'new'", "s", w->run_id);
	return rc == OK ? tx_commit(&tx) : rc;
}

static int write_beside(void *ctx, struct tx *tx, const char *agent_id)
{
	struct work *w = ctx;
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE automation_runs SET state = 'started', agent_id = $2, prompt = NULL, ended_at = $3 WHERE id = $1 "
	    "AND state = 'new'",
	    "ssi", w->run_id, agent_id, clock_wall_ms());

	return rc == OK && n == 0 ? ERR_EMPTY : rc; /* another server was faster */
}

static int start_agent(struct work *w)
{
	AUTO_JSON body = json_deep_copy(w->a->launch);
	AUTO_FINI(inside_made) made = {0};
	AUTO_STR filled = NULL;
	char agent_id[AGENT_ID_LEN];
	struct problem p = {0};
	int rc = OK;

	if (w->prompt == NULL && w->a->secret != NULL)
		rc = template_fill(w->a->prompt, NULL, &filled);
	if (rc != OK)
		return end_run(w, "failed", "the prompt becomes too long");
	automation_agent_id(w->a->id, w->tick, agent_id);
	json_put_new(body, "prompt",
	    json_pack("{s:s}", "text",
		w->prompt != NULL ? w->prompt
		: filled != NULL  ? filled
				  : w->a->prompt));
	json_put(body, "name", w->a->name);
	json_put(body, "agentId", agent_id);
	rc = inside_create(automations_api(w->m), w->who, body, &(struct inside_also){write_beside, w}, &made, &p);
	if (rc == ERR_EMPTY)
		return OK;
	if (rc == ERR_CONFLICT)
		return end_run(w, "failed", "an agent of the id that is this run's is there already");
	if (rc == ERR_INVALID)
		return end_run(w, "failed", p.why.text);
	if (rc == OK) {
		metric_add(&outcomes, 1, "started");
		log_info("automation.started", "automation=%s run=%s agent=%s cause=%s", w->a->id, w->run_id, agent_id,
		    w->cause);
	}
	return rc;
}

static int work_off(struct work *w)
{
	AUTO(tx) tx = NULL;
	struct standing s = {0};
	int rc = tx_begin(automations_cfg(w->m)->store, TX_READ, &tx);

	if (rc == OK)
		rc = load_work(w, tx);
	if (rc == OK && w->a != NULL)
		rc = look_at_others(w, tx, &s);
	tx_free(&tx);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc; /* done before a crash */
	if (w->a == NULL)
		return end_run(w, "skipped", "the automation was deleted");
	if (!w->a->enabled && strcmp(w->cause, "manual") != 0)
		return end_run(w, "skipped", "the automation was switched off");
	if (w->who == NULL || !principal_has_scope(w->who, SCOPE_AGENTS_WRITE))
		return end_run(w, "failed", "its owner is gone, or may not start agents any more");
	if (s.busy && strcmp(w->a->concurrency, "queue") == 0)
		return queue_run(w, &s);
	if (s.busy)
		return end_run(w, "skipped", "the one before is not over");
	return start_agent(w);
}

int automation_process(struct automations *m, const struct outbox_item *item, struct why *why)
{
	__attribute__((cleanup(work_fini))) struct work w = {.m = m, .run_id = str_dup(item->payload)};
	int rc = work_off(&w);

	if (rc != OK && item->attempt >= AUTOMATION_ATTEMPTS)
		IGNORE(end_run(&w, "failed", "the server could not do it"));
	return rc == OK ? OK : why_set(why, rc, "%s", err_text(rc));
}
