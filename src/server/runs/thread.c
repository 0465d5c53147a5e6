/* The run thread: straight-line code from wherever the store says the run is, to its end. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/fleet/queue.h"
#include "server/runs/run_thread_priv.h"
#include <string.h>

#define ATTACH_MS 10000

/* Takes the run over: whoever drove it before can write no more. */
static int take_over(struct runs *runs, const char *run_id, struct run *r)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(runs->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_query_int(tx, &r->epoch,
		    "UPDATE runs SET owner_epoch = owner_epoch + 1 WHERE id = $1 AND status IN ('CREATING', 'RUNNING')"
		    " RETURNING owner_epoch",
		    "s", run_id);
	if (rc == ERR_EMPTY)
		return ERR_NOT_FOUND; /* it is terminal: nothing to do */
	if (rc == OK)
		rc = run_load(tx, run_id, &r->info);
	if (rc == OK)
		rc = agent_load(tx, r->info->agent_id, &r->agent);
	if (rc == OK)
		rc = claim_load(tx, r->agent->id, &r->claim);
	if (rc == ERR_EMPTY)
		return ERR_LOST; /* it is in the queue again */
	return rc != OK ? rc : tx_commit(&tx);
}

static int attach(struct run *r)
{
	void *msg = NULL;
	int rc;

	fleet_attach(r->runs->fleet, r->agent->team_id, r->claim.worker_id, r->info->id, r->inbox);
	rc = mailbox_receive(r->inbox, clock_mono_ms() + ATTACH_MS, &msg);
	if (rc != OK)
		return ERR_LOST;
	struct fleet_msg *m = msg;

	r->incarnation = m->incarnation;
	r->tool_set = TAKE(m->tools);
	r->session_claim = TAKE(m->session_claim);
	rc = m->kind == FLEET_ATTACHED ? OK : m->kind == FLEET_CANCELLED ? ERR_CANCELLED : ERR_LOST;
	fleet_msg_free(&m);
	return rc;
}

int run_write_end(struct run *r, const char *text)
{
	struct log *l = r->log;
	bool failed = r->fail_code != NULL;
	int rc = l->step > 0 ? log_step_end(r, l->step - 1) : OK;

	if (rc == OK && !failed)
		rc = log_update(
		    l, json_pack("{s:s, s:{s:I, s:I, s:I, s:I}}", "type", "turn-ended", "usage", "inputTokens",
			   (json_int_t)l->usage.input_tokens, "outputTokens", (json_int_t)l->usage.output_tokens,
			   "cacheReadTokens", (json_int_t)l->usage.cache_read_tokens, "cacheWriteTokens",
			   (json_int_t)l->usage.cache_write_tokens));
	if (rc == OK)
		rc = run_end(l, &(struct run_end){.status = failed ? "ERROR" : "FINISHED",
				    .result = text,
				    .error_code = r->fail_code,
				    .error_message = failed ? r->why.text : NULL});
	r->ended = rc == OK;
	return rc;
}

static int write_end(struct run *r, struct tx *tx, void *arg)
{
	return run_write_end(r, arg);
}

/* ERROR if r->fail_code is set. */
static int end(struct run *r, char *text)
{
	return run_write(r, write_end, text);
}

/* From here to the end of the turn. */
static int drive(struct run *r)
{
	AUTO_STR text = NULL;
	int rc = attach(r);

	if (rc == OK)
		rc = session_ensure(r);
	if (rc == OK)
		rc = steps_run(r, &text);
	if (rc == OK && r->ended)
		return OK;
	if (rc == OK)
		rc = session_publish_branch(r);
	return rc == OK || r->fail_code != NULL ? end(r, text) : rc;
}

static void drop_msg(void *msg)
{
	struct fleet_msg *m = msg;

	fleet_msg_free(&m);
}

static void run_fini(struct run *r)
{
	if (r->claim.worker_id != NULL && r->agent != NULL)
		fleet_detach(r->runs->fleet, r->agent->team_id, r->claim.worker_id, r->info->id);
	mailbox_free(&r->inbox);
	agent_free(&r->agent);
	run_info_free(&r->info);
	tool_set_free(&r->tool_set);
	json_decref(r->tools);
	json_decref(r->session_info);
	json_decref(r->model_params);
	model_memo_fini(&r->memo);
	free(r->system);
	claim_fini(&r->claim);
	free(r->session_claim);
}

void run_thread(struct runs *runs, const char *run_id)
{
	struct run r = {.runs = runs};
	int rc;

	thread_context_set(run_id);
	r.inbox = mailbox_new(256, drop_msg);
	while (store_is_unavailable(rc = take_over(runs, run_id, &r)) && !atomic_load(&runs->stopping)) {
		store_log_unavailable(runs->cfg.store, rc);
		agent_free(&r.agent);
		run_info_free(&r.info);
		claim_fini(&r.claim);
		run_pause_for_store();
	}
	if (rc == OK) {
		rc = drive(&r);
		/* An unavailable store leaves it to the sweep to start another thread. */
		if (rc != OK && !run_is_left(rc) && !store_is_unavailable(rc)) {
			/* No failure may leave the run without an end. */
			r.fail_code = "internal_error";
			if (r.why.text[0] == '\0')
				why_set(&r.why, rc, "internal error: %s", err_text(rc));
			rc = end(&r, NULL);
		}
		log_info("run.thread.done", "run=%s worker=%s result=%s%s%s", run_id, log_quote(r.claim.worker_id),
		    err_name(rc), r.fail_code != NULL ? " error=" : "",
		    r.fail_code != NULL ? log_quote(r.why.text) : "");
	}
	run_fini(&r);
	fleet_wake_scheduler(runs->fleet);
	thread_context_set(NULL);
}
