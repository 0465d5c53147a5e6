/* Putting agents away and deleting them. What is active is cancelled, and the worker is let go, in the same
 * transaction: an agent that is away holds nothing. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/runs/inputs.h"
#include "server/fleet/queue.h"
#include "server/runs/end.h"
#include "server/runs/followups.h"
#include "server/runs/retention.h"
#include "server/runs/runs_priv.h"
#include "server/notices/notices.h"
#include "server/pulls/pulls.h"
#include "server/webhooks/webhooks.h"
#include <string.h>

/* What is to be told after the commit. */
struct put_away {
	const struct audit_by *by; /* deleting */
	char *run_id; /* that was cancelled; NULL: none was active */
	char *worker_id, *claim_id; /* of the claim that ended; NULL: there was none */
	int64_t team_id;
};

static void put_away_fini(struct put_away *p)
{
	free(p->run_id);
	free(p->worker_id);
	free(p->claim_id);
}

static int cancel_active(struct tx *tx, const char *agent_id, struct put_away *ret)
{
	int rc = tx_query_text(tx, &ret->run_id,
	    "SELECT id FROM runs WHERE agent_id = $1 AND status IN ('CREATING', 'RUNNING')", "s", agent_id);

	if (rc == OK)
		rc = run_cancel_now(tx, ret->run_id);
	return rc == ERR_EMPTY ? OK : rc;
}

static int let_worker_go(struct tx *tx, const char *agent_id, struct put_away *ret)
{
	int64_t team = 0;
	int rc = claim_find(tx, agent_id, &team, &ret->worker_id, &ret->claim_id);

	if (rc == OK)
		rc = claim_end(tx, agent_id, clock_wall_ms());
	return rc == ERR_EMPTY ? OK : rc;
}

static void tell(struct runs *r, const char *agent_id, const struct put_away *p)
{
	if (p->run_id != NULL) {
		run_end_count("CANCELLED", NULL);
		run_ended(r, p->team_id, p->worker_id, p->run_id);
	}
	if (p->worker_id == NULL)
		return;
	notify_send(r->cfg.notify, &(struct note){.kind = NOTE_CLAIM_ENDED,
				       .team_id = p->team_id,
				       .worker_id = p->worker_id,
				       .agent_id = agent_id,
				       .claim_id = p->claim_id,
				       .reason = "user_close"});
	notify_send(r->cfg.notify,
	    &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = p->team_id, .worker_id = p->worker_id});
}

static int archive_in(struct tx *tx, const char *agent_id, struct put_away *p)
{
	AUTO(agent) a = NULL;
	int rc = agent_load(tx, agent_id, &a);

	if (rc != OK || strcmp(a->status, "ARCHIVED") == 0)
		return rc;
	p->team_id = a->team_id;
	rc = cancel_active(tx, agent_id, p);
	if (rc == OK)
		rc = followups_drop(tx, agent_id);
	if (rc == OK)
		rc = let_worker_go(tx, agent_id, p);
	return rc != OK ? rc
			: tx_exec(tx, "UPDATE agents SET status = 'ARCHIVED', updated_at = $2 WHERE id = $1", "si",
			      agent_id, clock_wall_ms());
}

/* Addresses of its artifacts that need no key are closed with it. */
static int note_public_artifacts(struct tx *tx, const struct audit_by *by, const char *agent_id)
{
	int64_t n = 0;
	int rc = tx_query_int(
	    tx, &n, "SELECT COUNT(*) FROM public_artifacts WHERE agent_id = $1 AND revoked_at IS NULL", "s", agent_id);

	if (rc != OK || n == 0)
		return rc;
	return audit_write(tx, by, "artifact_shared_public",
	    json_pack("{s:s, s:s, s:I}", "action", "revoked", "agentId", agent_id, "count", (json_int_t)n));
}

/* Hidden from here on, and its conversation is no longer one that a run could continue. The rows go by and by
 * (retention.c): the log of a run can be long, and nobody shall wait for that. */
static int delete_in(struct tx *tx, const char *agent_id, struct put_away *p)
{
	AUTO(agent) a = NULL;
	int rc = agent_load(tx, agent_id, &a);

	if (rc != OK)
		return rc;
	p->team_id = a->team_id;
	rc = cancel_active(tx, agent_id, p);
	if (rc == OK)
		rc = followups_drop(tx, agent_id);
	if (rc == OK)
		rc = webhook_drop(tx, agent_id);
	if (rc == OK)
		rc = pull_drop(tx, agent_id);
	if (rc == OK)
		rc = notice_drop(tx, agent_id);
	if (rc == OK)
		rc = let_worker_go(tx, agent_id, p);
	if (rc == OK)
		rc = tx_exec(tx,
		    "UPDATE agents SET status = 'DELETED', kept = 0, updated_at = $2, name = '', metadata = NULL, "
		    "kept_work "
		    "= NULL"
		    " WHERE id = $1",
		    "si", agent_id, clock_wall_ms());
	if (rc == OK)
		rc = inputs_forget_agent(tx, agent_id);
	if (rc == OK)
		rc = conversation_detach(tx, agent_id);
	if (rc == OK)
		rc = note_public_artifacts(tx, p->by, agent_id);
	if (rc == OK)
		rc = artifacts_let_go(tx, agent_id);
	/* So that their events are the first to be forgotten. */
	if (rc == OK)
		rc =
		    tx_exec(tx, "UPDATE runs SET ended_at = 1, result = NULL, error_message = NULL WHERE agent_id = $1",
			"s", agent_id);
	if (rc == OK)
		rc = audit_write(tx, p->by, "agent_deleted", json_pack("{s:s}", "agentId", agent_id));
	return rc;
}

static int put_away(struct runs *r, const char *agent_id, const struct audit_by *by,
    int (*how)(struct tx *tx, const char *agent_id, struct put_away *p))
{
	__attribute__((cleanup(put_away_fini))) struct put_away p = {.by = by};
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = how(tx, agent_id, &p);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		tell(r, agent_id, &p);
	return rc;
}

int agent_archive(struct runs *r, const char *agent_id)
{
	return put_away(r, agent_id, NULL, archive_in);
}

int agent_delete(struct runs *r, const char *agent_id, const struct audit_by *by)
{
	int rc = put_away(r, agent_id, by, delete_in);

	if (rc == OK)
		log_info("agent.deleted", "agent=%s", agent_id);
	return rc;
}

int agent_unarchive(struct runs *r, const char *agent_id)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = agent_load(tx, agent_id, &a);
	if (rc != OK || strcmp(a->status, "ARCHIVED") != 0)
		return rc;
	rc = tx_exec(
	    tx, "UPDATE agents SET status = 'IDLE', updated_at = $2 WHERE id = $1", "si", agent_id, clock_wall_ms());
	return rc != OK ? rc : tx_commit(&tx);
}

static int find_active(struct runs *r, const char *agent_id, char **ret_run)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_READ, &tx);

	return rc != OK ? rc
			: tx_query_text(tx, ret_run,
			      "SELECT id FROM runs WHERE agent_id = $1 AND status IN ('CREATING', 'RUNNING')", "s",
			      agent_id);
}

static int drop_waiting(struct runs *r, const char *agent_id)
{
	AUTO(tx) tx = NULL;
	int64_t n = 0;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = followups_count(tx, agent_id, &n);
	if (rc == OK && n == 0)
		return ERR_CONFLICT;
	if (rc == OK)
		rc = followups_drop(tx, agent_id);
	return rc != OK ? rc : tx_commit(&tx);
}

int agent_stop(struct runs *r, const char *agent_id)
{
	int rc;

	do {
		AUTO_STR run = NULL;

		rc = find_active(r, agent_id, &run);
		if (rc == ERR_EMPTY)
			return drop_waiting(r, agent_id);
		if (rc == OK)
			rc = run_cancel(r, run);
	} while (rc == ERR_CONFLICT); /* it ended meanwhile, and another may have begun: there are few of these */
	return rc;
}
