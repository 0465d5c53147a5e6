/* The agent loop: ask the model, perform its calls, ask again, until it answers without a call. Where the loop stands
 * is read from the store once, when a thread takes it over; from there on the conversation grows in memory as the rows
 * do.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "server/runs/background.h"
#include "server/runs/remote_side.h"
#include "server/runs/control_tool.h"
#include "server/runs/conversation.h"
#include "server/runs/hooks.h"
#include "server/runs/loop_context.h"
#include "server/runs/mcp_tools.h"
#include "server/runs/response.h"
#include "server/runs/result_images.h"
#include "server/runs/subagents.h"
#include "server/runs/team_rules.h"
#include "server/runs/tools.h"
#include "server/runs/user_rules.h"
#include <string.h>

#define PARALLEL_MAX 8

int loop_load(struct loop *l, const char *id)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT conversation_id, parent_call_id, model, mode, step, created_at FROM loops WHERE id = $1",
		    "s", id);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	l->thread = pthread_self();
	l->id = str_dup(id);
	l->conversation_id = str_dup(query_str(q, 0));
	l->parent_call_id = str_dup(query_text(q, 1));
	l->model_text = str_dup(query_str(q, 2));
	l->mode = str_dup(query_str(q, 3));
	l->committed = (struct loop_progress){query_int(q, 4), clock_mono_ms()};
	l->created_at = query_int(q, 5);
	return OK;
}

void loop_fini(struct loop *l)
{
	tx_free(&l->tx);
	mailbox_free(&l->inbox);
	json_decref(l->model_params);
	json_decref(l->tools);
	json_decref(l->all);
	json_decref(l->untold);
	model_memo_fini(&l->memo);
	free(l->system);
	free(l->id);
	free(l->conversation_id);
	free(l->parent_call_id);
	free(l->mode);
	free(l->model_text);
	free(l->fail_text);
	free(l->subagent_type);
	free(l->subagent_task);
	free(l->subagent_description);
}

int loop_log_step_end(struct loop *l)
{
	int64_t took = clock_mono_ms() - l->progress.step_began_ms;

	if (l->progress.step == 0)
		return OK;
	return log_update(&l->log, json_pack("{s:s, s:I, s:I}", "type", "step-completed", "stepId",
				       (json_int_t)(l->progress.step - 1), "stepDurationMs", (json_int_t)MAX(took, 0)));
}

static bool is_read(const struct loop *l, const struct call *c)
{
	return strcmp(json_word(tool_of_call(l, c), "class"), "read") == 0;
}

/* Reads may go on side by side, and the nested loops of the run's own: those of nested ones go one after the other, so
 * that no more than PARALLEL_MAX work at once. */
static bool is_parallel(const struct loop *l, const struct call *c)
{
	return is_read(l, c) || (c->executor == &executor_loop && l->depth == 0);
}

/* Models call what they were not offered, too. A name that is no tool of the run is left to whoever performs it: it
 * says which names there are. */
struct refusal {
	const char *code, *text; /* NULL: it is performed */
};

static struct refusal judge_call(const struct loop *l, const struct call *c)
{
	const json_t *tool = tool_of_call(l, c);
	bool too_deep = c->executor == &executor_loop && l->depth >= LOOP_DEPTH_MAX; /* told by the executor */

	if (c->fault != NULL)
		return (struct refusal){"bad_arguments", c->fault};
	if (loop_only_plans(l) && !tool_is_harmless(tool))
		return (struct refusal){"plan_mode", l->depth == 0 ? "not in plan mode: this run may only read"
								   : "not here: this subagent may only read"};
	if (tool == NULL && !c->taken_over && strcmp(c->name, MCP_TOOL) == 0)
		return (struct refusal){"unknown_tool", "there is no such tool of an MCP server"};
	if (tool != NULL && !too_deep && tool_described(l->tools, json_word(tool, "name")) == NULL)
		return (struct refusal){"not_offered", "this tool is not among those that you are given"};
	return (struct refusal){0};
}

/* Calls that may be parallel and follow each other go at once, everything else one after the other in the order given.
 */
static int perform_in_order(struct loop *l, struct call *calls, size_t n)
{
	for (size_t i = 0; i < n;) {
		struct refusal refusal;
		size_t m = 1;
		int rc;

		if (calls[i].done) {
			i++;
			continue;
		}
		refusal = judge_call(l, &calls[i]);
		if (refusal.code != NULL) {
			rc = call_reject(l, &calls[i], refusal.code, refusal.text);
		} else {
			while (m < PARALLEL_MAX && i + m < n && is_parallel(l, &calls[i]) &&
			       is_parallel(l, &calls[i + m]) && judge_call(l, &calls[i + m]).code == NULL &&
			       !calls[i + m].done)
				m++;
			rc = background_make_place(l, calls + i, &m);
			if (rc != OK)
				return rc;
			for (size_t k = i; k < i + m; k++)
				calls[k].beside = m > 1;
			rc = calls_perform(l, calls + i, m);
		}
		if (rc != OK)
			return rc;
		i += m;
	}
	return OK;
}

/* An answer may come in pieces, when the limit of output cuts it off and the model goes on. */
#define PIECES_MAX 4
#define CORRECTIONS_MAX 1
#define ANSWER_MAX ((size_t)4 * 1024 * 1024)

struct final_answer {
	struct strbuf text;
	int pieces;
	int unparsed; /* tool calls written as text, one after the other */
	bool complete; /* nothing more is asked for */
	char stop[16]; /* of the last piece */
};

/* Takes a step into account. */
static void answer_take_step(struct final_answer *a, const char *text, size_t n_calls, const char *stop)
{
	if (n_calls > 0) {
		strbuf_clear(&a->text);
		a->pieces = a->unparsed = 0;
		return;
	}
	if (strcmp(stop, stop_text(MODEL_STOP_UNPARSED)) == 0) {
		strbuf_clear(&a->text);
		a->pieces = 0;
		a->unparsed++;
	}
	IGNORE(strbuf_adds(&a->text, text));
	snprintf(a->stop, sizeof a->stop, "%s", stop);
	a->pieces += a->unparsed == 0;
	a->complete = !step_goes_on(stop, n_calls) || a->pieces == PIECES_MAX || a->unparsed > CORRECTIONS_MAX;
}

/* Where the loop stands. */
struct position {
	int64_t step; /* the next to ask for */
	struct context context;
	struct final_answer answer;
	struct model_response response;
	struct call *open; /* calls of the last step, if an earlier thread did not bring them to an end */
	size_t n_open;
};

static void position_fini(struct position *p)
{
	for (size_t i = 0; i < p->n_open; i++)
		call_fini(&p->open[i]);
	free(p->open);
	context_fini(&p->context);
	strbuf_fini(&p->answer.text);
	response_fini(&p->response);
}

static struct call call_from_row(struct query *q, int64_t step)
{
	const char *args = query_str(q, 2);
	struct call c = {.kind = CALL_TOOL, .step = step, .idx = query_int(q, 3), .taken_over = true};

	c.id = str_dup(query_str(q, 0));
	c.name = str_dup(query_str(q, 1));
	c.incarnation = strtoull(query_str(q, 4), NULL, 16);
	c.fault = str_dup(query_text(q, 5));
	c.executor = executor_by_name(query_str(q, 6));
	IGNORE(json_parse(args, strlen(args), &c.args, NULL));
	if (c.args == NULL) /* we wrote it, but a store may come from anywhere */
		c.args = json_object();
	return c;
}

static int loop_load_open_calls(struct loop *l, struct tx *tx, struct position *p)
{
	AUTO(query) q = NULL;
	size_t cap = 0;
	int rc = tx_query(tx, &q,
	    "SELECT id, name, args, idx, incarnation, fault, executor FROM tool_calls WHERE loop_id = $1 AND step = $2"
	    " AND kind = 'tool' AND state = 'pending' ORDER BY idx",
	    "si", l->id, p->step - 1);

	while (rc == OK && (rc = query_next(q)) == OK) {
		p->open = mem_grow(p->open, &cap, p->n_open + 1, sizeof *p->open);
		p->open[p->n_open++] = call_from_row(q, p->step - 1);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static void answer_forget(struct final_answer *a)
{
	strbuf_clear(&a->text);
	a->pieces = a->unparsed = 0;
	a->complete = false;
	a->stop[0] = '\0';
}

/* The answer is none if a hook had the loop go on behind it. */
static int find_followup(struct loop *l, struct tx *tx, struct position *p)
{
	int64_t n = 0;
	int rc = tx_query_int(
	    tx, &n, "SELECT COUNT(*) FROM hook_messages WHERE loop_id = $1 AND step = $2", "si", l->id, p->step);

	if (rc == OK && n > 0)
		answer_forget(&p->answer);
	return rc;
}

static int loop_find_position(struct loop *l, struct position *p)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int64_t n_calls = 0;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(
		    tx, &q, "SELECT step, text, calls, stop FROM steps WHERE loop_id = $1 ORDER BY step", "s", l->id);
	while (rc == OK && (rc = query_next(q)) == OK) {
		p->step = query_int(q, 0) + 1;
		n_calls = query_int(q, 2);
		answer_take_step(&p->answer, query_str(q, 1), (size_t)n_calls, query_str(q, 3));
	}
	if (rc == ERR_EMPTY)
		rc = n_calls > 0 ? loop_load_open_calls(l, tx, p) : OK;
	if (rc == OK)
		rc = find_followup(l, tx, p);
	return rc;
}

/* After the open calls were settled: what the model is told, and what was logged already of the next step. */
static int load_context(struct loop *l, struct position *p)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	p->response = MODEL_RESPONSE(l, p->step);
	if (rc == OK)
		rc = response_load_logged(&p->response, tx);
	tx_free(&tx);
	return rc != OK ? rc : loop_context_load(l, &p->context);
}

static void add_step(const struct model_response *s, json_t *messages)
{
	json_t *step = conversation_begin_step(s->text, s->native);

	for (size_t i = 0; i < s->n_calls; i++)
		conversation_add_call(step, s->calls[i].id, mcp_shown_name(s->calls[i].name, s->calls[i].args),
		    mcp_shown_args(s->calls[i].name, s->calls[i].args));
	conversation_end_step(messages, step, stop_text(s->stop));
}

/* Hooks of its calls can read it. */
static void note_step(struct loop *l, const struct position *p)
{
	AUTO_JSON step = json_array();

	add_step(&p->response, step);
	hooks_note_messages(l, step, context_length(&p->context));
}

static void remember_step(const struct loop *l, struct position *p)
{
	const struct model_response *s = &p->response;
	const struct model_usage *u = &s->usage;
	json_t *messages = p->context.messages;

	add_step(s, messages);
	context_counted(&p->context, u->input_tokens + u->cache_read_tokens + u->cache_write_tokens + u->output_tokens);
	for (size_t i = 0; i < s->n_calls; i++) {
		const struct call *c = &s->calls[i];

		conversation_add_result(
		    messages, c->id, mcp_shown_name(c->name, c->args), c->outcome, c->model_text, c->detail);
		result_images_show(json_array_get(messages, json_array_size(messages) - 1), c->result, c->detail);
	}
	result_images_bound(messages);
	if (!l->model->takes_images)
		conversation_drop_images(messages);
}

/* Asks until the conversation fits. */
static int request_step(struct loop *l, struct position *p)
{
	unsigned level = 0;
	int rc = loop_context_fit(l, &p->context, p->step);

	if (rc != OK)
		return rc;
	p->response.may_end_run = l->depth == 0 && l->background == NULL && p->answer.pieces == 0 &&
				  !session_publishes(l) && !hooks_listen(l, "stop") &&
				  !hooks_listen(l, "afterAgentResponse") && !hooks_listen(l, "afterAgentThought");
	p->response.keeps_thinking = hooks_listen(l, "afterAgentThought");
	while ((rc = response_request(&p->response, p->context.messages)) == ERR_TOO_LARGE) {
		rc = loop_context_refused(l, &p->context, p->step, &level);
		if (rc != OK)
			return rc;
	}
	return rc;
}

/* A plan, or a question, if the calls of that step brought one. What a row says decides, so that it is the same after a
 * crash. */
static int take_last_word(struct loop *l, struct position *p, int64_t step)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = OK;

	if (l->depth > 0)
		return OK;
	rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT name, args FROM tool_calls WHERE loop_id = $1 AND step = $2 AND kind = 'tool' AND outcome "
		    "= "
		    "'success' ORDER BY idx DESC",
		    "si", l->id, step);
	while (rc == OK && !p->answer.complete && (rc = query_next(q)) == OK) {
		const struct control_tool *tool = control_tool_find(query_str(q, 0));
		AUTO_JSON args = NULL;

		if (tool == NULL || tool->final_arg == NULL || (tool->plan_only && !loop_only_plans(l)) ||
		    json_parse(query_str(q, 1), strlen(query_str(q, 1)), &args, NULL) != OK)
			continue;
		strbuf_clear(&p->answer.text);
		IGNORE(strbuf_adds(&p->answer.text, json_string_value(json_object_get(args, tool->final_arg))));
		snprintf(p->answer.stop, sizeof p->answer.stop, "%s", stop_text(MODEL_STOP_DONE));
		l->planned = p->answer.complete = true;
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* Most steps bring none, and need not be looked up. */
static bool may_have_last_word(const struct model_response *s)
{
	for (size_t i = 0; i < s->n_calls; i++) {
		const struct control_tool *tool = control_tool_find(s->calls[i].name);

		if (tool != NULL && tool->final_arg != NULL)
			return true;
	}
	return false;
}

static int refresh_tools(struct loop *l);

static int take_step(struct loop *l, struct position *p)
{
	struct model_response *s = &p->response;
	int64_t max_steps = l->run->runs->cfg.max_steps;
	int rc;

	if (p->step >= max_steps)
		return loop_fail(
		    l, "step_limit", "the run took more than %lld steps (max_steps)", (long long)max_steps);
	rc = refresh_tools(l);
	if (rc == OK)
		rc = request_step(l, p);
	if (rc == OK)
		note_step(l, p);
	if (rc == OK)
		rc = hooks_after_response(l, p->step, strbuf_str(&s->thinking), s->text);
	l->said = s->text;
	if (rc == OK)
		rc = perform_in_order(l, s->calls, s->n_calls);
	l->said = NULL;
	if (rc != OK)
		return rc;
	answer_take_step(&p->answer, s->text, s->n_calls, stop_text(s->stop));
	if (may_have_last_word(s)) {
		rc = take_last_word(l, p, p->step);
		if (rc != OK)
			return rc;
	}
	if (!p->answer.complete)
		remember_step(l, p);
	response_fini(s);
	p->step++;
	p->response = MODEL_RESPONSE(l, p->step);
	return OK;
}

static int load_own_system(struct loop *l, char **ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_text(tx, ret, "SELECT system FROM loop_texts WHERE loop_id = $1", "s", l->id);
	return rc == ERR_EMPTY ? OK : rc;
}

/* The user's subagents, for a loop that can hand work to them. */
static int load_subagents(struct loop *l, char **ret)
{
	AUTO(tx) tx = NULL;
	AUTO_JSON list = NULL;
	int rc;

	if (tool_described(l->tools, TASK_TOOL) == NULL)
		return OK;
	rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = subagents_load(tx, l->run->agent->id, &list);
	if (rc == OK)
		subagents_add_files(list, l->run->session_info);
	if (rc == OK)
		*ret = subagents_offer(list);
	return rc;
}

static bool is_interrupted(void *ctx)
{
	return loop_is_interrupted(ctx);
}

/* The servers that are asked from here, as they are now. */
static int refresh_remote(struct loop *l)
{
	AUTO_JSON servers = remote_side_list(l->run->remote, is_interrupted, l);

	if (servers != NULL)
		live_set_control(l->run, servers);
	return loop_is_interrupted(l) ? l->detach_reason : OK;
}

/* What the model is asked with, anew if there are other tools than before. */
static int refresh_tools(struct loop *l)
{
	AUTO_STR own_system = NULL;
	AUTO_STR subagents = NULL;
	AUTO_STR mcp = NULL;
	AUTO_STR team = team_rules_text(l->run->team_rules);
	bool changed = false;
	int rc;

	/* What the worker has said meanwhile is in the inbox. */
	if (l->depth == 0 && loop_is_interrupted(l))
		return l->detach_reason;
	if (l->depth == 0 && (rc = refresh_remote(l)) != OK)
		return rc;
	rc = live_refresh(l, &changed);
	if (rc != OK || !changed)
		return rc;
	json_decref(l->tools);
	l->tools = tools_offered(
	    l->all, &(struct tool_offer){.depth = l->depth, .plan = loop_only_plans(l), .offers = l->offers});
	rc = l->depth > 0 ? load_own_system(l, &own_system) : OK;
	if (rc == OK)
		rc = load_subagents(l, &subagents);
	if (rc != OK)
		return rc;
	mcp = loop_only_plans(l) ? NULL : live_instructions(l->run);
	free(l->system);
	l->system = context_system_text(
	    l->run->session_info, &(struct loop_words){.plans = loop_only_plans(l),
				      .is_nested = l->depth > 0,
				      .team = team,
				      .user = l->run->user_rules != NULL ? l->run->user_rules->text : NULL,
				      .own = own_system,
				      .subagents = subagents,
				      .mcp = mcp});
	if (l->model->context_window > 0) {
		AUTO_STR tools = json_text(l->tools);

		l->fixed_bytes = strlen(l->system) + strlen(tools);
	}
	return OK;
}

/* The model of the loop and what it is asked with each time: the same bytes, so that providers may cache them. */
static int prepare_model(struct loop *l)
{
	AUTO_JSON chosen = NULL;
	struct why why = {0};

	IGNORE(json_parse(l->model_text, strlen(l->model_text), &chosen, NULL));
	l->model = model_find(json_string_value(json_object_get(chosen, "id")));
	if (l->model == NULL)
		return loop_fail(l, "model_error",
		    "the model of this run is not configured any more: name another one in a follow-up, or restore it "
		    "in [models]");
	if (model_params(l->model, json_object_get(chosen, "params"), &l->model_params, &why) != OK)
		return loop_fail(l, "model_error", "%s", why.text);
	return refresh_tools(l);
}

/* An answer that is none: the loop fails, with the text as its result. */
static int judge_answer(struct loop *l, const struct final_answer *a)
{
	if (strcmp(a->stop, "refusal") == 0)
		return loop_fail(l, "model_error",
		    "model %s declined to answer%s%.200s: change the prompt or choose another model", l->model->id,
		    a->text.len > 0 ? ": " : "", strbuf_str(&a->text));
	if (strcmp(a->stop, "length") == 0)
		return loop_fail(l, "model_error",
		    "the answer of model %s was cut off %d times by the limit of its output: raise max_output_tokens "
		    "or ask for less at once",
		    l->model->id, a->pieces);
	if (strcmp(a->stop, stop_text(MODEL_STOP_UNPARSED)) == 0)
		return loop_fail(l, "tool_calls_as_text",
		    "model %s wrote its tool calls as text, again after it was corrected: the parser of tool calls of "
		    "its "
		    "server is off or of another model (vLLM: --enable-auto-tool-choice --tool-call-parser NAME; "
		    "llama.cpp: --jinja)",
		    l->model->id);
	return OK;
}

/* Until there is an answer; one that is none fails the loop. */
static int take_steps(struct loop *l, struct position *p)
{
	int rc = OK;

	while (rc == OK && !p->answer.complete)
		rc = take_step(l, p);
	return rc == OK ? judge_answer(l, &p->answer) : rc;
}

/* It goes on with what a hook said, as if its user had. */
static int go_on(struct loop *l, struct position *p)
{
	l->fail_code = NULL;
	l->why = (struct why){0};
	str_free(&l->fail_text);
	l->planned = false;
	answer_forget(&p->answer);
	response_fini(&p->response);
	context_fini(&p->context);
	return load_context(l, p);
}

/* The run does not end before those that work behind it; what they say, and nobody has collected, the model hears once
 * more. A plan or a question stays the last word: then a later run hears it. */
static int hear_background(struct loop *l, struct position *p, bool *ret_more)
{
	bool told = false;
	int rc = background_settle(l, p->step, &told);

	if (rc == OK && told && !l->planned) {
		rc = go_on(l, p);
		*ret_more = true;
	}
	return rc;
}

/* To an answer that no hook wants more of. */
static int run_to_end(struct loop *l, struct position *p)
{
	for (;;) {
		AUTO_STR followup = NULL;
		bool more = false;
		int rc = take_steps(l, p), asked;

		if ((rc != OK && l->fail_code == NULL) || l->ended)
			return rc;
		if (rc == OK && (asked = hear_background(l, p, &more)) != OK)
			return asked;
		if (more)
			continue;
		asked = hooks_stop(l, p->step, strbuf_str(&p->answer.text), &followup);
		if (asked == OK && followup != NULL)
			asked = go_on(l, p);
		if (asked != OK || followup == NULL)
			return asked != OK ? asked : rc;
	}
}

int loop_run(struct loop *l, char **ret_text)
{
	__attribute__((cleanup(position_fini))) struct position p = {.answer.text = STRBUF(ANSWER_MAX)};
	int rc = loop_find_position(l, &p);

	if (rc == OK && l->depth == 0 && p.step == 0)
		rc = hooks_before_prompt(l);
	if (rc == OK)
		rc = prepare_model(l);
	if (rc == OK)
		rc = background_resume(l);
	if (rc == OK)
		rc = perform_in_order(l, p.open, p.n_open);
	if (rc == OK && !p.answer.complete)
		rc = take_last_word(l, &p, p.step - 1);
	if (rc == OK && !p.answer.complete)
		rc = load_context(l, &p);
	if (rc == OK)
		rc = run_to_end(l, &p);
	background_stop(l);
	if (p.answer.complete)
		*ret_text = strbuf_take(&p.answer.text);
	return rc;
}
