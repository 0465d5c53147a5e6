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
		if (plan_forbids(r, calls[i].name)) {
			rc = call_reject(r, &calls[i], "plan_mode", "not in plan mode: this run may only read");
		} else {
			while (m < PARALLEL_MAX && i + m < n && is_read(r, &calls[i]) && is_read(r, &calls[i + m]))
				m++;
			rc = calls_perform(r, calls + i, m);
		}
		if (rc != OK)
			return rc;
		i += m;
	}
	return OK;
}

/* Where the run stands. */
struct position {
	int64_t step; /* the next to ask for */
	json_t *conversation;
	char *final_text; /* the answer, if it is there */
	struct speech speech;
	struct call *open; /* calls of the last step, if a former thread did not bring them to an end */
	size_t n_open;
};

static void position_fini(struct position *p)
{
	for (size_t i = 0; i < p->n_open; i++)
		call_fini(&p->open[i]);
	free(p->open);
	json_decref(p->conversation);
	free(p->final_text);
	speech_fini(&p->speech);
}

static int load_open_calls(struct run *r, struct tx *tx, struct position *p)
{
	AUTO(query) q = NULL;
	size_t cap = 0;
	int rc = tx_query(tx, &q,
	    "SELECT id, name, args, idx, incarnation FROM tool_calls WHERE run_id = $1 AND step = $2 AND kind = 'tool'"
	    " AND state = 'pending' ORDER BY idx",
	    "si", r->info->id, p->step - 1);

	while (rc == OK && (rc = query_next(q)) == OK) {
		const char *args = query_str(q, 2);
		struct call c = {.kind = CALL_TOOL, .step = p->step - 1, .idx = query_int(q, 3)};

		c.id = str_dup(query_str(q, 0));
		c.name = str_dup(query_str(q, 1));
		c.incarnation = strtoull(query_str(q, 4), NULL, 16);
		IGNORE(json_parse(args, strlen(args), &c.args, NULL));
		p->open = mem_grow(p->open, &cap, p->n_open + 1, sizeof *p->open);
		p->open[p->n_open++] = c;
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int find_position(struct run *r, struct position *p)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(r->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc =
		    tx_query(tx, &q, "SELECT step, text, calls FROM steps WHERE run_id = $1 ORDER BY step DESC LIMIT 1",
			"s", r->info->id);
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK) {
		p->step = query_int(q, 0) + 1;
		if (query_int(q, 2) == 0)
			p->final_text = str_dup(query_str(q, 1));
		else
			rc = load_open_calls(r, tx, p);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* After the open calls were settled: what the model is told, and what it said already of the next step. */
static int load_conversation(struct run *r, struct position *p)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->runs->cfg.store, TX_READ, &tx);

	p->speech = SPEECH(r, p->step);
	if (rc == OK)
		rc = speech_load_said(&p->speech, tx);
	return rc != OK ? rc : conversation_load(tx, r->agent->id, &p->conversation);
}

static void remember_step(struct position *p)
{
	const struct speech *s = &p->speech;
	json_t *step = conversation_begin_step(s->text);

	for (size_t i = 0; i < s->n_calls; i++)
		conversation_add_call(step, s->calls[i].id, s->calls[i].name, s->calls[i].args);
	conversation_end_step(p->conversation, step);
	for (size_t i = 0; i < s->n_calls; i++) {
		const struct call *c = &s->calls[i];

		conversation_add_result(p->conversation, c->id, c->name, c->outcome, c->model_text, c->detail);
	}
}

static int take_step(struct run *r, struct position *p)
{
	struct speech *s = &p->speech;
	int rc;

	if (p->step >= r->runs->cfg.max_steps)
		return run_fail(r, "step_limit", "the run took more than %lld steps (max_steps)",
		    (long long)r->runs->cfg.max_steps);
	rc = speech_turn(s, p->conversation);
	if (rc == OK)
		rc = perform_in_order(r, s->calls, s->n_calls);
	if (rc != OK)
		return rc;
	if (s->n_calls == 0)
		p->final_text = str_dup(s->text);
	else
		remember_step(p);
	speech_fini(s);
	p->step++;
	p->speech = SPEECH(r, p->step);
	return OK;
}

int steps_run(struct run *r, char **ret_text)
{
	__attribute__((cleanup(position_fini))) struct position p = {0};
	int rc = find_position(r, &p);

	r->step_began_ms = clock_mono_ms();
	if (rc == OK)
		rc = perform_in_order(r, p.open, p.n_open);
	if (rc == OK && p.final_text == NULL)
		rc = load_conversation(r, &p);
	while (rc == OK && p.final_text == NULL)
		rc = take_step(r, &p);
	if (rc == OK)
		*ret_text = TAKE(p.final_text);
	return rc;
}
