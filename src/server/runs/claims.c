/* What a controller's word about a claim means for the run: release and fail. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/fleet/claim_calls.h"
#include "server/runs/end.h"
#include "server/runs/runs_priv.h"
#include <string.h>

/* The run that had begun on a worker that is away now is over: it is not repeated elsewhere. */
static int end_lost_run(struct tx *tx, const struct claim_state *s)
{
	AUTO_STR text =
	    str_printf("the claim of worker %s was released while it was away; work that was not pushed stays"
		       " on that machine",
		s->worker_id);

	return run_end_now(
	    tx, s->run_id, &(struct run_end){.status = "ERROR", .error_code = "worker_lost", .error_message = text});
}

static int release_in(struct tx *tx, int64_t team_id, const char *agent_id, struct claim_state *s, struct why *why)
{
	int rc = claim_look(tx, team_id, agent_id, s, why);

	if (rc == OK && s->run_id != NULL && s->connected && !s->waking)
		return why_set(
		    why, ERR_CONFLICT, "a turn uses worker %s: cancel it, or wait for its end", s->worker_id);
	if (rc == OK && s->serving)
		rc = end_lost_run(tx, s);
	if (rc == OK)
		rc = claim_release(tx, team_id, agent_id, s, clock_wall_ms());
	/* Whatever thread has the run is fenced from here on. */
	if (rc == OK && s->run_id != NULL && !s->serving)
		rc = tx_exec(tx, "UPDATE runs SET owner_epoch = owner_epoch + 1 WHERE id = $1", "s", s->run_id);
	return rc;
}

int runs_release_claim(struct runs *r, int64_t team_id, const char *agent_id, char **ret_worker_id, struct why *why)
{
	__attribute__((cleanup(claim_state_fini))) struct claim_state s = {0};
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = release_in(tx, team_id, agent_id, &s, why);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	log_info("claim.released", "agent=%s worker=%s", agent_id, log_quote(s.worker_id));
	if (s.serving) {
		run_end_count("ERROR", "worker_lost");
		run_ended(r, team_id, s.worker_id, s.run_id);
	} else if (s.run_id != NULL) {
		run_changed(r, s.run_id);
	}
	notify_send(r->cfg.notify, &(struct note){.kind = NOTE_CLAIM_ENDED,
				       .team_id = team_id,
				       .worker_id = s.worker_id,
				       .agent_id = agent_id,
				       .claim_id = s.claim_id,
				       .reason = "aborted"});
	fleet_release(r->fleet, team_id, s.worker_id, NOTE_CLAIM_RELEASED);
	notify_send(
	    r->cfg.notify, &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = team_id, .agent_id = agent_id});
	*ret_worker_id = TAKE(s.worker_id);
	return OK;
}

static int fail_in(struct tx *tx, int64_t team_id, const char *agent_id, const char *text, struct claim_state *s,
    enum claim_fault *ret_fault, struct why *why)
{
	int rc = claim_look(tx, team_id, agent_id, s, why);

	if (rc == OK && s->run_id == NULL) {
		*ret_fault = CLAIM_NO_TURN;
		return why_set(why, ERR_CONFLICT, "no turn of %s waits for worker %s: release the claim instead",
		    agent_id, s->worker_id);
	}
	if (rc == OK && s->connected) {
		*ret_fault = CLAIM_CONNECTED;
		return why_set(why, ERR_CONFLICT, "worker %s is connected", s->worker_id);
	}
	if (rc == OK)
		rc = run_end_now(tx, s->run_id,
		    &(struct run_end){.status = "ERROR", .error_code = "worker_start_failed", .error_message = text});
	return rc != OK ? rc : claim_end(tx, agent_id, clock_wall_ms());
}

int runs_fail_claim(struct runs *r, int64_t team_id, const char *agent_id, const char *message, char **ret_worker_id,
    enum claim_fault *ret_fault, struct why *why)
{
	__attribute__((cleanup(claim_state_fini))) struct claim_state s = {0};
	AUTO_STR text = str_printf("The pool could not start a worker for this agent: %s", message);
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = fail_in(tx, team_id, agent_id, text, &s, ret_fault, why);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	log_info("claim.failed", "agent=%s worker=%s", agent_id, log_quote(s.worker_id));
	run_end_count("ERROR", "worker_start_failed");
	run_ended(r, team_id, s.worker_id, s.run_id);
	*ret_worker_id = TAKE(s.worker_id);
	return OK;
}
