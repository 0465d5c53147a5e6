/* Calls that a nested loop performs: a conversation of its own on the same worker, whose final answer is the result.
 * The loop is a row before it does anything, found again by the call that started it; so a call that an earlier thread
 * wrote down simply goes on. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/background.h"
#include "server/runs/control_tool.h"
#include "server/runs/hooks.h"
#include "server/runs/side_job.h"
#include <string.h>

#define SDK_TEXT_MAX ((size_t)32 * 1024) /* of the last words in the twin of the call */

/* The place of a new loop in the conversation that it goes on with. ERR_CONFLICT: somebody is at it. */
static int place_in_conversation(struct tx *tx, const char *conversation_id, int64_t *ret)
{
	int64_t busy = 0;
	int rc = tx_query_int(tx, &busy,
	    "SELECT COUNT(*) FROM loops l JOIN tool_calls c ON c.id = l.parent_call_id WHERE l.conversation_id = $1"
	    " AND (c.state <> 'done' OR (c.outcome = 'success' AND EXISTS(SELECT 1 FROM background_loops b JOIN runs r"
	    " ON r.id = b.run_id WHERE b.loop_id = l.id AND b.state = 'running' AND r.status IN ('CREATING', "
	    "'RUNNING'))))",
	    "s", conversation_id);

	if (rc == OK && busy > 0)
		return ERR_CONFLICT;
	return rc != OK ? rc
			: tx_query_int(tx, ret, "SELECT MAX(seq) + 1 FROM loops WHERE conversation_id = $1", "s",
			      conversation_id);
}

/* Inside a write. A loop that this call has already stays as it is. */
static int insert_nested_loop(
    struct loop *child, const struct loop *parent, const struct loop_spec *spec, const json_t *args)
{
	AUTO_STR id = id_new("loop-");
	const char *mode = spec->read_only ? "plan" : parent->mode;
	int64_t n = 0, seq = 1;
	int rc = spec->resume != NULL ? place_in_conversation(child->tx, spec->resume, &seq) : OK;

	if (rc == OK)
		rc = tx_change(child->tx, &n,
		    "INSERT INTO loops(id, run_id, conversation_id, seq, parent_call_id, model, mode, step, step_seq, "
		    "created_at)"
		    " VALUES($1, $2, $3, $4, $5, $6, $7, 0, 0, $8) ON CONFLICT DO NOTHING",
		    "sssisssi", id, child->run->info->id, spec->resume != NULL ? spec->resume : id, seq,
		    child->parent_call_id, spec->model != NULL ? spec->model : parent->model_text, mode,
		    clock_wall_ms());
	if (rc == OK && n == 1)
		rc = tx_exec(child->tx, "INSERT INTO loop_texts(loop_id, prompt, system) VALUES($1, $2, $3)", "sss", id,
		    spec->prompt, spec->system);
	if (rc == OK && n == 1 && spec->background)
		rc = background_write_down(child, id, spec->resume != NULL ? spec->resume : id, args);
	return rc;
}

static int find_nested_loop(struct loop *child, const char *call_id, char **ret_id)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(child->run->runs->cfg.store, TX_READ, &tx);

	return rc != OK ? rc
			: tx_query_text(tx, ret_id, "SELECT id FROM loops WHERE parent_call_id = $1", "s", call_id);
}

/* The row of the loop that this call starts, new or from before. */
static int ensure_nested_loop(struct loop *child, struct side_job *j, const struct loop_spec *spec)
{
	AUTO_STR id = NULL;
	AUTO_STR call_id = str_dup(j->call_id);
	int rc = find_nested_loop(child, call_id, &id);

	if (rc == ERR_EMPTY) {
		child->parent_call_id = call_id;
		do {
			rc = loop_begin_write(child);
			if (rc == OK)
				rc = insert_nested_loop(child, j->parent, spec, j->args);
		} while (loop_end_write(child, &rc));
		child->parent_call_id = NULL;
		if (rc == OK)
			rc = find_nested_loop(child, call_id, &id);
	}
	return rc != OK ? rc : loop_load(child, id);
}

/* Its last words, and under which name they were said. */
static void succeed_nested(struct side_job *j, const struct loop *child, const char *said)
{
	const char *text = text_is_blank(said) ? "(It ended without a word.)" : said;
	AUTO_STR cut = text_cut_middle(text, strlen(text), SDK_TEXT_MAX, NULL);
	/* The model could not name it otherwise. */
	AUTO_STR told = str_printf("%s\n\n(agentId: %s)", text, child->conversation_id);
	json_int_t took = (json_int_t)MAX(clock_wall_ms() - child->created_at, 0);

	side_job_succeed(j,
	    json_pack("{s:s, s:s, s:b, s:I}", "agentId", child->conversation_id, "text", text, "isBackground", 0,
		"durationMs", took),
	    told);
	j->sdk = json_pack("{s:s, s:b, s:s, s:I, s:[{s:s, s:{s:s}}]}", "agentId", child->conversation_id,
	    "isBackground", 0, "backgroundReason", "unspecified", "durationMs", took, "conversationSteps", "type",
	    "assistantMessage", "message", "text", cut);
}

static void answer_nested(struct side_job *j, struct loop *child, int rc, const char *text)
{
	if (rc == OK && text != NULL)
		succeed_nested(j, child, text);
	else if (child->fail_code != NULL)
		side_job_fail(j, child->fail_code, child->why.text);
	else if (rc == ERR_CONFLICT)
		side_job_fail(j, "busy", "this subagent is still at work on an earlier task: wait for its report");
	else if (run_is_left(rc) || store_is_unavailable(rc))
		j->left = true;
	else
		side_job_fail(j, "internal", err_text(rc));
}

int nested_spec(
    const struct run *r, const char *name, const json_t *args, bool read_only, struct loop_spec *spec, struct why *why)
{
	const struct control_tool *tool = control_tool_find(name);

	if (tool == NULL || tool->nest == NULL)
		return why_set(why, ERR_INVALID, "this version of the control plane does not have this tool");
	return tool->nest(&(struct nest_call){.store = r->runs->cfg.store,
			      .agent_id = r->agent->id,
			      .run_id = r->info->id,
			      .args = args,
			      .session_info = r->session_info,
			      .read_only = read_only},
	    spec, why);
}

static int read_spec(struct side_job *j, struct loop_spec *spec, struct why *why)
{
	int rc;

	if (j->parent->depth >= LOOP_DEPTH_MAX)
		return why_set(why, ERR_INVALID, "loops are nested %d deep at most", LOOP_DEPTH_MAX);
	rc = nested_spec(j->parent->run, j->call->name, j->args, loop_only_plans(j->parent), spec, why);
	/* A nested loop waits for its own: it could not be told of them later. */
	spec->background = spec->background && j->parent->depth == 0;
	return rc;
}

/* The loop is a row, and begins when this answer is on disk (nested_stored). */
static void answer_at_once(struct side_job *j, const struct loop *child)
{
	AUTO_STR told = str_printf("It works in the background (agentId: %s). Go on with what does not need it; await "
				   "brings its report.",
	    child->conversation_id);

	side_job_succeed(j, json_pack("{s:s, s:b}", "agentId", child->conversation_id, "isBackground", 1), told);
	j->sdk = json_pack("{s:s, s:b, s:s, s:[]}", "agentId", child->conversation_id, "isBackground", 1,
	    "backgroundReason", "agentRequest", "conversationSteps");
}

static void perform_nested_loop(struct side_job *j)
{
	__attribute__((cleanup(loop_spec_fini))) struct loop_spec spec = {0};
	__attribute__((cleanup(loop_fini))) struct loop child = {
	    .run = j->parent->run, .depth = j->parent->depth + 1, .inbox = mailbox_ref(j->inbox), .stop = &j->stop};
	AUTO_STR text = NULL;
	struct why why = {0};
	int rc = read_spec(j, &spec, &why);

	if (rc == ERR_INVALID) {
		side_job_fail(j, "invalid_arguments", why.text);
		return;
	}
	child.offers = spec.offers;
	if (rc == OK)
		rc = ensure_nested_loop(&child, j, &spec);
	if (rc == OK && !hooks_subagent_start(j, &child))
		return;
	if (rc == OK && spec.background) {
		answer_at_once(j, &child);
		return;
	}
	if (rc == OK)
		rc = loop_run(&child, &text);
	log_info("run.nested_loop.done", "run=%s loop=%s call=%s result=%s", child.run->info->id,
	    log_quote(child.id != NULL ? child.id : ""), j->call_id, err_name(rc));
	answer_nested(j, &child, rc, text);
}

/* The deadline of the run is that of its loops. */
static int64_t nested_limit_ms(const struct loop *l, const struct call *c)
{
	return l->run->runs->cfg.run_timeout_ms;
}

static void nested_start(struct loop *l, struct call *c)
{
	side_job_start(l, c, INT64_MAX, perform_nested_loop);
	l->nested_calls++;
}

static void nested_end(struct loop *l, struct call *c)
{
	if (c->job != NULL)
		l->nested_calls--;
	side_job_join(c);
}

static void nested_stored(struct loop *l, struct call *c)
{
	nested_end(l, c);
	if (json_is_true(json_object_get(c->result, "isBackground")))
		background_begin(l);
}

const struct executor executor_loop = {
    .name = "loop",
    .limit_ms = nested_limit_ms,
    .start = nested_start,
    .stored = nested_stored,
    .abandon = nested_end,
    .leave = nested_end,
};
