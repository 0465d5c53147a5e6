/* The one way a run becomes terminal: run, agent, queue, open calls and the closing events change in one transaction.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "server/fleet/queue.h"
#include "server/runs/runs_priv.h"
#include <string.h>

static json_t *parse(const char *text)
{
	json_t *j = NULL;

	IGNORE(json_parse(text, strlen(text), &j, NULL));
	return j != NULL ? j : json_object(); /* a store may come from anywhere */
}

/* The tools that the worker of the run said it has; empty while the workspace was not open. */
static int load_tools(struct tx *tx, const char *run_id, json_t **ret)
{
	AUTO(query) q = NULL;
	AUTO_JSON info = NULL;
	json_t *all;
	int rc = tx_query(tx, &q,
	    "SELECT COALESCE(x.session_info, '{}'), COALESCE(t.tools, '[]') FROM runs r JOIN run_texts x ON x.run_id = "
	    "r.id"
	    " LEFT JOIN tool_sets t ON t.hash = r.tool_set WHERE r.id = $1",
	    "s", run_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	info = parse(query_str(q, 0));
	all = parse(query_str(q, 1));
	if (!json_is_array(all)) {
		json_decref(all);
		all = json_array();
	}
	json_array_extend(all, json_object_get(info, "tools"));
	*ret = all;
	return OK;
}

static int log_call_ended(struct log *l, struct query *q, const json_t *tools, const char *result, const char *message)
{
	AUTO_JSON args = parse(query_str(q, 2));
	const json_t *tool = tool_described(tools, query_str(q, 1));
	AUTO_STR sdk_args = tool_sdk_args(tool, args, STREAM_JSON_MAX);
	const struct tool_event e = {.call_id = query_str(q, 0),
	    .name = query_str(q, 1),
	    .args = query_str(q, 2),
	    .outcome = "error",
	    .result = result,
	    .message = message,
	    .sdk_type = tool_word(tool, "sdkType"),
	    .sdk_args = sdk_args};

	return log_tool_call(l, &e);
}

/* Each call that was shown as running is shown as ended. */
static int end_open_calls(struct log *l, const char *code, const char *message)
{
	struct tx *tx = l->tx;
	AUTO(query) q = NULL;
	AUTO_JSON result = json_pack("{s:s, s:s}", "message", message, "code", code);
	AUTO_STR text = json_text(result);
	AUTO_JSON tools = NULL;
	const char *run_id = l->run_id;
	int rc = tx_query(tx, &q,
	    "SELECT id, name, args FROM tool_calls WHERE run_id = $1 AND state = 'pending' AND kind = 'tool'"
	    " ORDER BY step, idx",
	    "s", run_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		if (tools == NULL)
			rc = load_tools(tx, run_id, &tools);
		if (rc == OK)
			rc = log_call_ended(l, q, tools, text, message);
	}
	if (rc != ERR_EMPTY)
		return rc;
	query_free(&q);
	return tx_exec(tx,
	    "UPDATE tool_calls SET state = 'done', outcome = 'error', result = $2, detail = $2, model_text = $3, "
	    "ended_at = $4"
	    " WHERE run_id = $1 AND state = 'pending'",
	    "sssi", run_id, text, message, clock_wall_ms());
}

static int log_result(struct log *l, const struct agent *a, const struct run_info *r)
{
	json_t *data = json_object(), *git = agent_git(a);

	json_put(data, "runId", r->id);
	json_put(data, "status", r->status);
	json_put(data, "text", r->result);
	json_put_int(data, "durationMs", r->ended_at - r->created_at);
	if (git != NULL)
		json_put_new(data, "git", git);
	if (r->error_message != NULL) {
		json_t *error = json_object();

		json_put(error, "code", r->error_code);
		json_put(error, "message", r->error_message);
		json_put_new(data, "error", error);
	}
	return log_append(l, EV_RESULT, data, NULL);
}

int run_end(struct log *l, const struct run_end *end)
{
	struct tx *tx = l->tx;
	const char *run_id = l->run_id;
	AUTO(agent) a = NULL;
	AUTO(run_info) r = NULL;
	int64_t n = 0, now = clock_wall_ms();
	const char *why_calls = strcmp(end->status, "CANCELLED") == 0 ? "cancelled" : "interrupted";
	int rc = tx_change(tx, &n,
	    "UPDATE runs SET status = $2, result = $3, error_code = $4, error_message = $5, ended_at = $6, updated_at "
	    "= $6,"
	    " owner_epoch = owner_epoch + 1 WHERE id = $1 AND status IN ('CREATING', 'RUNNING')",
	    "sssssi", run_id, end->status, end->result, end->error_code, end->error_message, now);

	if (rc == OK && n == 0)
		return ERR_CONFLICT;
	l->epoch++;
	if (rc == OK)
		rc = run_load(tx, run_id, &r);
	if (rc == OK)
		rc = tx_exec(
		    tx, "UPDATE agents SET status = 'IDLE', updated_at = $2 WHERE id = $1", "si", r->agent_id, now);
	if (rc == OK)
		rc = agent_load(tx, r->agent_id, &a);
	if (rc == OK)
		rc = end_open_calls(l, why_calls,
		    strcmp(end->status, "CANCELLED") == 0 ? "the run was cancelled"
							  : "the run ended before the call did");
	if (rc == OK)
		rc = queue_end(tx, r->agent_id, now);
	return rc != OK ? rc : log_result(l, a, r);
}

int run_end_now(struct tx *tx, const char *run_id, const struct run_end *end)
{
	struct log l;
	int rc = log_open(&l, tx, run_id);

	if (rc == OK)
		rc = run_end(&l, end);
	return rc != OK ? rc : log_close(&l);
}

/* What the assistant has said so far, for the result of a cancelled run. NULL if nothing. */
static int text_so_far(struct tx *tx, const char *run_id, char **ret)
{
	int rc = tx_query_text(
	    tx, ret, "SELECT text FROM steps WHERE run_id = $1 AND text <> '' ORDER BY step DESC LIMIT 1", "s", run_id);

	return rc == ERR_EMPTY ? OK : rc;
}

int run_cancel(struct runs *r, const char *run_id)
{
	AUTO(tx) tx = NULL;
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};
	AUTO_STR text = NULL;
	AUTO(run_info) info = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = run_load(tx, run_id, &info);
	if (rc == OK)
		rc = claim_load(tx, info->agent_id, &claim);
	if (rc == OK || rc == ERR_EMPTY)
		rc = text_so_far(tx, run_id, &text);
	if (rc == OK)
		rc = run_end_now(tx, run_id, &(struct run_end){.status = "CANCELLED", .result = text});
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	if (claim.id != NULL)
		fleet_cancel_run(r->fleet, claim.team_id, claim.worker_id, run_id);
	stream_notify(r, run_id);
	fleet_wake_scheduler(r->fleet);
	return OK;
}
