/* The run thread: straight-line code from wherever the store says the run is, to its end. */
#include "server/runs/run.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/fleet/queue.h"
#include "server/runs/call.h"
#include "server/runs/end.h"
#include "server/runs/followups.h"
#include "server/runs/pull.h"
#include "server/runs/remote_side.h"
#include "server/runs/team_rules.h"
#include "server/runs/user_rules.h"
#include "server/hooks/team.h"
#include "server/runs/hooks.h"
#include <string.h>

#define ATTACH_MS 10000

static void drop_fleet_msg(void *msg)
{
	struct fleet_msg *m = msg;

	fleet_msg_free(&m);
}

static void forget_rows(struct run *r)
{
	inputs_fini(&r->inputs);
	redactor_free(&r->redactor);
	str_wipe(&r->env_json);
	str_wipe(&r->mcp_json);
	remote_side_free(&r->remote);
	agent_free(&r->agent);
	run_info_free(&r->info);
	str_free(&r->user_email);
	team_hooks_free(&r->team_hooks);
	team_rules_free(&r->team_rules);
	user_rules_free(&r->user_rules);
	str_free(&r->worker_id);
	str_free(&r->claim_id);
	str_free(&r->worker_label);
	worker_names_fini(&r->names);
}

/* Takes the run over: the thread that drove it before can write no more, because each of its writes names the epoch
 * that was valid for it. */
static int take_over_once(struct runs *runs, const char *run_id, struct run *r)
{
	AUTO(tx) tx = NULL;
	int64_t team = 0, elsewhere = 0;
	int rc = tx_begin(runs->cfg.store, TX_WRITE, &tx);

	/* The node that has the worker hears of it, too, and it alone can drive the run. */
	if (rc == OK)
		rc = tx_query_int(tx, &elsewhere,
		    "SELECT COUNT(*) FROM requests q JOIN workers w ON w.team_id = q.team_id AND w.id = q.worker_id"
		    " WHERE q.run_id = $1 AND w.node_id <> $2",
		    "ss", run_id, runs->cfg.node->id);
	if (rc == OK && elsewhere > 0)
		return ERR_LOST;
	if (rc == OK)
		rc = tx_query_int(tx, &r->epoch,
		    "UPDATE runs SET owner_epoch = owner_epoch + 1, node_id = $2, node_epoch = $3"
		    " WHERE id = $1 AND status IN ('CREATING', 'RUNNING') RETURNING owner_epoch",
		    "ssi", run_id, runs->cfg.node->id, runs->cfg.node->epoch);
	if (rc == ERR_EMPTY)
		return ERR_NOT_FOUND; /* it is terminal: nothing to do */
	if (rc == OK)
		rc = run_load(tx, run_id, &r->info);
	if (rc == OK)
		rc = agent_load(tx, r->info->agent_id, &r->agent);
	if (rc == OK)
		rc = inputs_load(tx, runs->cfg.seal, r->agent->team_id, r->agent->id, run_id, &r->inputs);
	if (rc == OK)
		rc = hooks_load_email(tx, r->agent, &r->user_email);
	if (rc == OK)
		rc = team_hooks_load(tx, r->agent->team_id, &r->team_hooks);
	if (rc == OK)
		rc = team_rules_load(tx, r->agent->team_id, &r->team_rules);
	if (rc == OK)
		rc = user_rules_load_owner(tx, r->agent->owner, &r->user_rules);
	if (rc == OK)
		rc = claim_find(tx, r->agent->id, &team, &r->worker_id, &r->claim_id);
	if (rc == ERR_EMPTY)
		return ERR_LOST; /* it is in the queue again */
	if (rc == OK)
		rc = worker_names_load(tx, team, r->worker_id, &r->names);
	if (rc == OK)
		r->worker_label = worker_label(r->names.name, r->worker_id, r->names.host);
	return rc != OK ? rc : tx_commit(&tx);
}

static int take_over(struct runs *runs, const char *run_id, struct run *r)
{
	int rc;

	while (store_is_unavailable(rc = take_over_once(runs, run_id, r)) && !atomic_load(&runs->stopping)) {
		store_log_unavailable(runs->cfg.store, rc);
		forget_rows(r);
		run_pause_for_store();
	}
	return rc;
}

/* docs/operating.md, "Variables of agents". */
static void prepare_env(struct run *r, bool worker_takes)
{
	if (json_object_size(r->inputs.env) == 0)
		return;
	r->redactor = redactor_new(r->inputs.env);
	if (strcmp(r->agent->env_type, "machine") == 0)
		r->env_withheld = "they are not sent to personal machines";
	else if (!r->inputs.sync)
		r->env_withheld = "an administrator has switched that off (bullpen admin policy --secret-sync)";
	else if (!worker_takes)
		r->env_withheld = "the worker was started without --sync-dashboard-secrets";
	else
		r->env_json = json_text(r->inputs.env);
}

/* The servers of the request, the user's and the team's: some are the worker's, the others are asked from here. One
 * that cannot be read is no reason for the run to fail. */
static void prepare_mcp(struct run *r)
{
	int rc;

	while (store_is_unavailable(rc = remote_side_new(r, &r->inputs.mcp_servers, &r->remote)) &&
	       !atomic_load(&r->runs->stopping)) {
		store_log_unavailable(r->runs->cfg.store, rc);
		run_pause_for_store();
	}
	if (rc != OK)
		return; /* the server stops */
	if (json_array_size(r->inputs.mcp_servers) > 0)
		r->mcp_json = json_text(r->inputs.mcp_servers);
}

static int attach(struct run *r, struct mailbox *inbox)
{
	void *msg = NULL;
	int rc;

	fleet_attach(r->runs->fleet, r->agent->team_id, r->worker_id, r->info->id, r->claim_id, inbox);
	rc = mailbox_receive(inbox, clock_mono_ms() + ATTACH_MS, &msg);
	if (rc != OK)
		return ERR_LOST;
	struct fleet_msg *m = msg;

	r->incarnation = m->incarnation;
	r->tool_set = TAKE(m->tools);
	r->session_claim = TAKE(m->session_claim);
	if (r->session_claim == NULL)
		r->session_claim = str_dup("");
	prepare_env(r, m->takes_env);
	prepare_mcp(r);
	rc = m->kind == FLEET_ATTACHED ? OK : m->kind == FLEET_CANCELLED ? ERR_CANCELLED : ERR_LOST;
	fleet_msg_free(&m);
	return rc;
}

static json_t *usage_update(const struct model_usage *u)
{
	return json_pack("{s:s, s:{s:I, s:I, s:I, s:I}}", "type", "turn-ended", "usage", "inputTokens",
	    (json_int_t)u->input_tokens, "outputTokens", (json_int_t)u->output_tokens, "cacheReadTokens",
	    (json_int_t)u->cache_read_tokens, "cacheWriteTokens", (json_int_t)u->cache_write_tokens);
}

int loop_write_run_end(struct loop *l, const char *text)
{
	bool failed = l->fail_code != NULL;
	int rc;

	ENSURE(l->depth == 0);
	rc = l->planned && !failed ? log_words(&l->log, text) : OK;
	/* In this order, as the reference tells it. */
	if (rc == OK && !failed)
		rc = log_update(&l->log, usage_update(&l->log.usage));
	if (rc == OK)
		rc = loop_log_step_end(l);
	if (rc == OK)
		rc = run_end(&l->log, &(struct run_end){.status = failed ? "ERROR" : "FINISHED",
					  .result = text,
					  .error_code = l->fail_code,
					  .error_message = !failed		  ? NULL
							   : l->fail_text != NULL ? l->fail_text
										  : l->why.text});
	if (rc == OK && l->end_claim)
		rc = claim_end(l->tx, l->run->agent->id, clock_wall_ms());
	l->ended = rc == OK;
	return rc;
}

/* ERROR if l->fail_code is set. */
static int end_run(struct loop *l, const char *text)
{
	const struct run *r = l->run;
	int rc;

	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = loop_write_run_end(l, text);
	} while (loop_end_write(l, &rc));
	if (rc == OK && l->end_claim)
		notify_send(r->runs->cfg.notify, &(struct note){.kind = NOTE_CLAIM_ENDED,
						     .team_id = r->agent->team_id,
						     .worker_id = r->worker_id,
						     .agent_id = r->agent->id,
						     .claim_id = r->claim_id,
						     .reason = "error"});
	return rc;
}

/* From here to the end of the run. */
static int drive_to_end(struct loop *l)
{
	AUTO_STR text = NULL;
	int rc = attach(l->run, l->inbox);

	if (rc == OK)
		rc = session_ensure(l);
	if (rc == OK)
		rc = loop_run(l, &text);
	if (rc == OK && l->ended)
		return OK;
	if (rc == OK)
		rc = session_publish_branch(l);
	if (rc == OK)
		rc = pull_of_run(l, text);
	return rc == OK || l->fail_code != NULL ? end_run(l, text) : rc;
}

static void run_fini(struct run *r)
{
	if (r->worker_id != NULL && r->agent != NULL)
		fleet_detach(r->runs->fleet, r->agent->team_id, r->worker_id, r->info->id);
	forget_rows(r);
	str_free(&r->session_claim);
	tool_set_free(&r->tool_set);
	json_decref(r->tools);
	json_decref(r->session_info);
	call_routes_free(&r->routes);
	live_free(&r->live);
}

static void drive_owned(struct run *r)
{
	struct loop l = {.run = r, .inbox = mailbox_new(256, drop_fleet_msg)};
	int rc = loop_load(&l, r->info->id);

	/* A run without its loop is a fault of the store, not somebody else's run. */
	if (rc == ERR_NOT_FOUND)
		rc = ERR_INTERNAL;
	if (rc == OK)
		rc = drive_to_end(&l);
	/* An unavailable store leaves it to the sweep to start another thread. */
	if (rc != OK && !run_is_left(rc) && !store_is_unavailable(rc)) {
		/* No failure may leave the run without an end. */
		l.fail_code = "internal_error";
		str_free(&l.fail_text);
		if (l.why.text[0] == '\0')
			why_set(&l.why, rc, "internal error: %s", err_text(rc));
		rc = end_run(&l, NULL);
	}
	log_info("run.thread.done", "run=%s worker=%s name=%s result=%s%s%s", r->info->id, log_quote(r->worker_id),
	    log_quote(r->worker_label), err_name(rc), l.fail_code != NULL ? " error=" : "",
	    l.fail_code != NULL ? log_quote(l.why.text) : "");
	if (rc == ERR_CANCELLED)
		hooks_tell_aborted(&l);
	if (rc == ERR_CANCELLED || l.ended)
		hooks_tell_end(&l, rc == ERR_CANCELLED ? "CANCELLED" : l.fail_code != NULL ? "ERROR" : "FINISHED");
	/* First the hub lets go of the inbox, then it goes. */
	run_fini(r);
	loop_fini(&l);
}

/* Rows that cannot be read would be so the next time as well, and the worker would wait for this run until it is
 * overdue. Store errors are left to the sweep, which starts another thread. */
static void end_unreadable(struct runs *runs, const char *run_id, const struct run *r, int why)
{
	AUTO_STR text = str_printf("internal error: the run cannot be taken up: %s", err_text(why));
	AUTO_STR worker = NULL;
	AUTO(tx) tx = NULL;
	int64_t team = 0;
	int rc = tx_begin(runs->cfg.store, TX_WRITE, &tx);

	if (rc == OK && r->info != NULL)
		rc = claim_find(tx, r->info->agent_id, &team, &worker, NULL);
	if (rc == OK || rc == ERR_EMPTY)
		rc = run_end_now(tx, run_id,
		    &(struct run_end){.status = "ERROR", .error_code = "internal_error", .error_message = text});
	if (rc == OK)
		rc = tx_commit(&tx);
	log_error("run.unreadable", "run=%s error=%s end=%s", run_id, err_name(why), err_name(rc));
	if (rc != OK)
		return;
	run_end_count("ERROR", "internal_error");
	run_ended(runs, team, worker, run_id);
}

void run_drive(struct runs *runs, const char *run_id)
{
	struct run r = {.runs = runs, .routes = call_routes_new(), .live = live_new()};
	AUTO_STR worker = NULL;
	int64_t team = 0;
	int rc;

	thread_context_set(run_id);
	rc = take_over(runs, run_id, &r);
	if (rc == OK) {
		worker = str_dup(r.worker_id);
		team = r.agent->team_id;
	}
	if (rc == OK) {
		drive_owned(&r);
	} else {
		if (!run_is_left(rc) && !store_is_unavailable(rc))
			end_unreadable(runs, run_id, &r, rc);
		run_fini(&r);
	}
	followups_go_on(runs, run_id);
	notify_send(runs->cfg.notify, &(struct note){.kind = NOTE_QUEUE_CHANGED,
					  .team_id = team,
					  .worker_id = worker != NULL ? worker : "",
					  .run_id = run_id});
	thread_context_set(NULL);
}
