/* The one way a run becomes terminal: run, agent, queue, open calls and the closing events change in one transaction.
 */
#include "server/runs/end.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "server/runs/inputs.h"
#include "server/fleet/queue.h"
#include "server/runs/runs_priv.h"
#include "server/runs/followups.h"
#include "server/runs/tools.h"
#include "server/notices/notices.h"
#include "server/webhooks/webhooks.h"
#include <string.h>

METRIC_COUNTER(
    runs_ended, "bullpen_runs_ended_total", "Runs that became terminal, by status and error code.", "status", "code");

static json_t *parse_stored(const char *text)
{
	json_t *j = NULL;

	IGNORE(json_parse(text, strlen(text), &j, NULL));
	return j != NULL ? j : json_object(); /* a store may come from anywhere */
}

/* The tools that this run was offered; few while its workspace was not open. */
static int load_tools(struct tx *tx, const char *run_id, json_t **ret)
{
	AUTO(query) q = NULL;
	AUTO_JSON info = NULL;
	AUTO_JSON list = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COALESCE(x.session_info, '{}'), COALESCE(t.tools, '[]') FROM runs r LEFT JOIN run_sessions x ON"
	    " x.run_id = r.id LEFT JOIN tool_sets t ON t.hash = r.tool_set WHERE r.id = $1",
	    "s", run_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	info = parse_stored(query_str(q, 0));
	list = parse_stored(query_str(q, 1));
	const struct tool_set worker = {.list = list};

	*ret = tools_of_run(json_is_array(list) ? &worker : NULL, json_object_get(info, "tools"));
	return OK;
}

/* A call that was shown as running. */
struct unended_call {
	char *id, *name, *args, *parent_call_id;
};

struct open_calls {
	struct unended_call *v;
	size_t n, cap;
};

static void open_calls_fini(struct open_calls *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].id);
		free(l->v[i].name);
		free(l->v[i].args);
		free(l->v[i].parent_call_id);
	}
	free(l->v);
}

/* Read to the end before anything is written: not every database lets a transaction write while one of its queries is
 * open. */
static int end_load_open_calls(struct tx *tx, const char *run_id, struct open_calls *l)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT c.id, c.name, c.args, o.parent_call_id FROM loops o JOIN tool_calls c ON c.loop_id = o.id"
	    " WHERE (o.id = $1 OR (o.run_id = $1 AND o.parent_call_id IS NOT NULL)) AND c.state = 'pending'"
	    " AND c.kind = 'tool' ORDER BY o.created_at, c.step, c.idx",
	    "s", run_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		l->v = mem_grow(l->v, &l->cap, l->n + 1, sizeof *l->v);
		l->v[l->n++] = (struct unended_call){str_dup(query_str(q, 0)), str_dup(query_str(q, 1)),
		    str_dup(query_str(q, 2)), str_dup(query_text(q, 3))};
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int log_call_ended(
    struct log *l, const struct unended_call *c, const json_t *tools, const char *result, const char *message)
{
	AUTO_JSON args = parse_stored(c->args);
	const json_t *tool = tool_described(tools, c->name);
	AUTO_STR sdk_args = tool_sdk_args(tool, args, STREAM_JSON_MAX);
	const struct tool_event e = {.call_id = c->id,
	    .name = c->name,
	    .args = c->args,
	    .outcome = "error",
	    .result = result,
	    .message = message,
	    .sdk_type = json_word(tool, "sdkType"),
	    .sdk_args = sdk_args};
	int rc;

	l->parent_call_id = c->parent_call_id;
	rc = log_tool_call(l, &e);
	l->parent_call_id = NULL;
	return rc;
}

/* Each call that was shown as running is shown as ended, those of nested loops too. */
static int end_open_calls(struct log *l, const char *code, const char *message)
{
	__attribute__((cleanup(open_calls_fini))) struct open_calls open = {0};
	AUTO_JSON result = json_pack("{s:s, s:s}", "message", message, "code", code);
	AUTO_STR text = json_text(result);
	AUTO_JSON tools = NULL;
	int rc = end_load_open_calls(l->tx, l->run_id, &open);

	if (rc == OK && open.n > 0)
		rc = load_tools(l->tx, l->run_id, &tools);
	for (size_t i = 0; rc == OK && i < open.n; i++)
		rc = log_call_ended(l, &open.v[i], tools, text, message);
	if (rc != OK)
		return rc;
	return tx_exec(l->tx,
	    "UPDATE tool_calls SET state = 'done', outcome = 'error', result = $2, detail = $2, model_text = $3, "
	    "ended_at = $4"
	    " WHERE (loop_id = $1 OR loop_id IN (SELECT id FROM loops WHERE run_id = $1 AND parent_call_id IS NOT "
	    "NULL))"
	    " AND state = 'pending'",
	    "sssi", l->run_id, text, message, clock_wall_ms());
}

static int log_result(struct log *l, const struct agent *a, const struct run_info *r)
{
	json_t *data = json_object(), *git = a != NULL ? agent_git(a) : NULL;

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

/* An agent whose row is damaged must not keep its run from ending. */
static int load_agent_or_none(struct tx *tx, const char *id, struct agent **ret)
{
	int rc = agent_load(tx, id, ret);

	return rc == ERR_INTERNAL ? OK : rc;
}

static int tell_outside(struct tx *tx, const struct agent *a, const struct run_info *r)
{
	const struct webhook_event e = {.team_id = a->team_id,
	    .agent_id = a->id,
	    .status = r->status,
	    .repository = a->repo_url,
	    .ref = a->starting_ref,
	    .branch = a->pushed_branch,
	    .pull_url = a->pull_url,
	    .summary = r->result,
	    .at_ms = r->ended_at};

	const struct notice_run notice = {.agent_id = a->id,
	    .run_id = r->id,
	    .status = r->status,
	    .result = r->result,
	    .error = r->error_message,
	    .pull_url = a->pull_url,
	    .branch = a->pushed_branch,
	    .at_ms = r->ended_at};
	int rc = webhook_event(tx, &e);

	return rc == OK ? notice_run_ended(tx, &notice) : rc;
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
	ENSURE(l->parent_call_id == NULL && run_status_is_terminal(end->status));
	/* Whatever thread has the run is fenced from here on. */
	l->epoch++;
	if (rc == OK)
		rc = run_load(tx, run_id, &r);
	if (rc == OK)
		rc = tx_exec(
		    tx, "UPDATE agents SET status = 'IDLE', updated_at = $2 WHERE id = $1", "si", r->agent_id, now);
	if (rc == OK)
		rc = load_agent_or_none(tx, r->agent_id, &a);
	if (rc == OK)
		rc = end_open_calls(l, why_calls,
		    strcmp(end->status, "CANCELLED") == 0 ? "the run was cancelled"
							  : "the run ended before the call did");
	if (rc == OK)
		rc = queue_end(tx, r->agent_id, now);
	if (rc == OK)
		rc = inputs_forget_run(tx, r->agent_id, run_id);
	if (rc == OK && a != NULL)
		rc = tell_outside(tx, a, r);
	return rc != OK ? rc : log_result(l, a, r);
}

void run_end_count(const char *status, const char *error_code)
{
	metric_add(&runs_ended, 1, status, error_code != NULL ? error_code : "");
}

int run_end_now(struct tx *tx, const char *run_id, const struct run_end *end)
{
	struct log l;
	int rc = log_open(&l, tx, run_id, NULL);

	if (rc == OK)
		rc = run_end(&l, end);
	return rc != OK ? rc : log_close(&l);
}

/* The newest text of the model, as the result of a cancelled run. NULL if there is none. */
static int text_so_far(struct tx *tx, const char *run_id, char **ret)
{
	int rc = tx_query_text(tx, ret,
	    "SELECT text FROM steps WHERE loop_id = $1 AND text <> '' ORDER BY step DESC LIMIT 1", "s", run_id);

	return rc == ERR_EMPTY ? OK : rc;
}

int run_cancel_now(struct tx *tx, const char *run_id)
{
	AUTO_STR text = NULL;
	int rc = text_so_far(tx, run_id, &text);

	return rc != OK ? rc : run_end_now(tx, run_id, &(struct run_end){.status = "CANCELLED", .result = text});
}

int run_cancel(struct runs *r, const char *run_id)
{
	AUTO(tx) tx = NULL;
	AUTO_STR worker = NULL;
	int64_t team = 0;
	AUTO(run_info) info = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = run_load(tx, run_id, &info);
	if (rc == OK)
		rc = claim_find(tx, info->agent_id, &team, &worker, NULL);
	if (rc == OK || rc == ERR_EMPTY)
		rc = run_cancel_now(tx, run_id);
	/* Who stops an agent wants it to stop, not to begin with the next thing. */
	if (rc == OK)
		rc = followups_drop(tx, info->agent_id);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	run_end_count("CANCELLED", NULL);
	run_ended(r, team, worker, run_id);
	return OK;
}
