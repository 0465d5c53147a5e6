/* The agent loop: ask the model, perform its calls, ask again, until it answers without a call. Where the run stands is
 * read from the store once, when a thread takes it over; from there on the conversation grows in memory as the rows do.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "server/runs/run_thread_priv.h"
#include <string.h>

#define PARALLEL_MAX 8

static bool plan_forbids(const struct run *r, const char *name)
{
	return strcmp(r->info->mode, "plan") == 0 && strcmp(tool_field(r, name, "class"), "read") != 0;
}

static bool is_read(const struct run *r, const struct call *c)
{
	return strcmp(tool_field(r, c->name, "class"), "read") == 0;
}

/* Reads that follow each other go at once, everything else one after the other in the order given. */
static int perform_in_order(struct run *r, struct call *calls, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t m = 1;
		int rc;

		if (calls[i].done) {
			i++;
			continue;
		}
		if (calls[i].fault != NULL) {
			rc = call_reject(r, &calls[i], "bad_arguments", calls[i].fault);
		} else if (plan_forbids(r, calls[i].name)) {
			rc = call_reject(r, &calls[i], "plan_mode", "not in plan mode: this run may only read");
		} else {
			while (m < PARALLEL_MAX && i + m < n && is_read(r, &calls[i]) && is_read(r, &calls[i + m]) &&
			       calls[i + m].fault == NULL && !calls[i + m].done)
				m++;
			rc = calls_perform(r, calls + i, m);
		}
		if (rc != OK)
			return rc;
		i += m;
	}
	return OK;
}

/* An answer may come in pieces, when the limit of output cuts it off and the model goes on. */
#define PIECES_MAX 4
#define ANSWER_MAX ((size_t)4 * 1024 * 1024)

struct answer {
	struct strbuf text;
	int pieces;
	bool final; /* nothing more is asked for */
	char stop[16]; /* of the last piece */
};

/* Takes a step into account. */
static void answer_take(struct answer *a, const char *text, size_t n_calls, const char *stop)
{
	if (n_calls > 0) {
		strbuf_clear(&a->text);
		a->pieces = 0;
		return;
	}
	IGNORE(strbuf_adds(&a->text, text));
	snprintf(a->stop, sizeof a->stop, "%s", stop);
	a->pieces++;
	a->final = !step_goes_on(stop, n_calls) || a->pieces == PIECES_MAX;
}

/* Where the run stands. */
struct position {
	int64_t step; /* the next to ask for */
	struct context context;
	struct answer answer;
	struct speech speech;
	struct call *open; /* calls of the last step, if a former thread did not bring them to an end */
	size_t n_open;
};

static void position_fini(struct position *p)
{
	for (size_t i = 0; i < p->n_open; i++)
		call_fini(&p->open[i]);
	free(p->open);
	context_fini(&p->context);
	strbuf_fini(&p->answer.text);
	speech_fini(&p->speech);
}

static int load_open_calls(struct run *r, struct tx *tx, struct position *p)
{
	AUTO(query) q = NULL;
	size_t cap = 0;
	int rc = tx_query(tx, &q,
	    "SELECT id, name, args, idx, incarnation, fault FROM tool_calls WHERE run_id = $1 AND step = $2 AND kind ="
	    " 'tool' AND state = 'pending' ORDER BY idx",
	    "si", r->info->id, p->step - 1);

	while (rc == OK && (rc = query_next(q)) == OK) {
		const char *args = query_str(q, 2);
		struct call c = {.kind = CALL_TOOL, .step = p->step - 1, .idx = query_int(q, 3)};

		c.id = str_dup(query_str(q, 0));
		c.name = str_dup(query_str(q, 1));
		c.incarnation = strtoull(query_str(q, 4), NULL, 16);
		c.fault = str_dup(query_text(q, 5));
		IGNORE(json_parse(args, strlen(args), &c.args, NULL));
		if (c.args == NULL) /* we wrote it, but a store may come from anywhere */
			c.args = json_object();
		p->open = mem_grow(p->open, &cap, p->n_open + 1, sizeof *p->open);
		p->open[p->n_open++] = c;
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int find_position(struct run *r, struct position *p)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int64_t n_calls = 0;
	int rc = tx_begin(r->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q, "SELECT step, text, calls, stop FROM steps WHERE run_id = $1 ORDER BY step", "s",
		    r->info->id);
	while (rc == OK && (rc = query_next(q)) == OK) {
		p->step = query_int(q, 0) + 1;
		n_calls = query_int(q, 2);
		answer_take(&p->answer, query_str(q, 1), (size_t)n_calls, query_str(q, 3));
	}
	if (rc == ERR_EMPTY)
		rc = n_calls > 0 ? load_open_calls(r, tx, p) : OK;
	return rc;
}

/* After the open calls were settled: what the model is told, and what it said already of the next step. */
static int load_context(struct run *r, struct position *p)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->runs->cfg.store, TX_READ, &tx);

	p->speech = SPEECH(r, p->step);
	if (rc == OK)
		rc = speech_load_said(&p->speech, tx);
	tx_free(&tx);
	return rc != OK ? rc : context_load(r, &p->context);
}

static void remember_step(struct position *p)
{
	const struct speech *s = &p->speech;
	const struct model_usage *u = &s->usage;
	json_t *messages = p->context.messages;
	json_t *step = conversation_begin_step(s->text, s->native);

	for (size_t i = 0; i < s->n_calls; i++)
		conversation_add_call(step, s->calls[i].id, s->calls[i].name, s->calls[i].args);
	conversation_end_step(messages, step, stop_text(s->stop));
	context_counted(&p->context, u->input_tokens + u->cache_read_tokens + u->cache_write_tokens + u->output_tokens);
	for (size_t i = 0; i < s->n_calls; i++) {
		const struct call *c = &s->calls[i];

		conversation_add_result(messages, c->id, c->name, c->outcome, c->model_text, c->detail);
	}
}

/* Asks until the conversation fits. */
static int ask(struct run *r, struct position *p)
{
	unsigned level = 0;
	int rc = context_fit(r, &p->context, p->step);

	if (rc != OK)
		return rc;
	p->speech.last = p->answer.pieces == 0 && !session_publishes(r);
	while ((rc = speech_turn(&p->speech, p->context.messages)) == ERR_TOO_LARGE) {
		rc = context_refused(r, &p->context, p->step, &level);
		if (rc != OK)
			return rc;
	}
	return rc;
}

static int take_step(struct run *r, struct position *p)
{
	struct speech *s = &p->speech;
	int rc;

	if (p->step >= r->runs->cfg.max_steps)
		return run_fail(r, "step_limit", "the run took more than %lld steps (max_steps)",
		    (long long)r->runs->cfg.max_steps);
	rc = ask(r, p);
	if (rc == OK)
		rc = perform_in_order(r, s->calls, s->n_calls);
	if (rc != OK)
		return rc;
	answer_take(&p->answer, s->text, s->n_calls, stop_text(s->stop));
	if (!p->answer.final)
		remember_step(p);
	speech_fini(s);
	p->step++;
	p->speech = SPEECH(r, p->step);
	return OK;
}

/* The model of the run and what it is asked with each time: the same bytes, so that providers may cache them. */
static int prepare_model(struct run *r)
{
	AUTO_JSON chosen = NULL;
	struct why why = {0};

	IGNORE(json_parse(r->info->model, strlen(r->info->model), &chosen, NULL));
	r->model = model_find(json_string_value(json_object_get(chosen, "id")));
	if (r->model == NULL)
		return run_fail(r, "model_error",
		    "the model of this run is not configured any more: name another one in a follow-up, or restore it "
		    "in "
		    "[models]");
	if (model_params(r->model, json_object_get(chosen, "params"), &r->model_params, &why) != OK)
		return run_fail(r, "model_error", "%s", why.text);
	r->system = context_system_text(r->session_info, r->info->mode);
	if (r->model->context_window > 0) {
		AUTO_STR tools = json_text(r->tools);

		r->fixed_bytes = strlen(r->system) + strlen(tools);
	}
	return OK;
}

/* An answer that is none: the run ends as ERROR, with the text as its result. */
static int judge(struct run *r, const struct answer *a)
{
	if (strcmp(a->stop, "refusal") == 0)
		return run_fail(r, "model_error",
		    "model %s declined to answer%s%.200s: change the prompt or choose another model", r->model->id,
		    a->text.len > 0 ? ": " : "", strbuf_str(&a->text));
	if (strcmp(a->stop, "length") == 0)
		return run_fail(r, "model_error",
		    "the answer of model %s was cut off %d times by the limit of its output: raise max_output_tokens "
		    "or "
		    "ask for less at once",
		    r->model->id, a->pieces);
	return OK;
}

int steps_run(struct run *r, char **ret_text)
{
	__attribute__((cleanup(position_fini))) struct position p = {.answer.text = STRBUF(ANSWER_MAX)};
	int rc = find_position(r, &p);

	r->step_began_ms = clock_mono_ms();
	if (rc == OK)
		rc = prepare_model(r);
	if (rc == OK)
		rc = perform_in_order(r, p.open, p.n_open);
	if (rc == OK && !p.answer.final)
		rc = load_context(r, &p);
	while (rc == OK && !p.answer.final)
		rc = take_step(r, &p);
	if (rc == OK)
		rc = judge(r, &p.answer);
	if (p.answer.final)
		*ret_text = strbuf_take(&p.answer.text);
	return rc;
}
