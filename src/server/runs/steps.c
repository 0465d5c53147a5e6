/* The agent loop: ask the model, perform its calls, ask again, until it answers without a call. A step is in the store,
 * with its calls, before the first of them is sent. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "server/runs/run_priv.h"
#include <string.h>

#define PARALLEL_MAX 8
#define CALLS_PER_STEP_MAX 64
#define TEXT_MAX (1024 * 1024)
#define FLUSH_BYTES 2048
#define FLUSH_MS 150

/* One turn of the model while it speaks. */
struct speech {
	struct run *r;
	int64_t step;
	bool begun; /* step-started is in the log */
	struct strbuf unsaid; /* not yet in the log */
	char *said_before; /* text of this step that an earlier thread logged */
	size_t skip; /* how much of it the model has repeated so far */
	int64_t last_flush_ms;
	json_t *calls; /* borrowed */
	struct call *written; /* the calls as rows, in order */
	const char *text;
};

static int log_step_start(struct run *r, struct tx *tx, int64_t step)
{
	int64_t now = clock_wall_ms();
	int rc = OK;

	if (step > 0)
		rc = log_update(tx, r->info->id,
		    json_pack("{s:s, s:I, s:I}", "type", "step-completed", "stepId", (json_int_t)(step - 1),
			"stepDurationMs", (json_int_t)MAX(now - r->info->updated_at, 0)));
	if (rc == OK)
		rc = log_update(
		    tx, r->info->id, json_pack("{s:s, s:I}", "type", "step-started", "stepId", (json_int_t)step));
	if (rc == OK && step == 0)
		rc = log_update(tx, r->info->id,
		    json_pack("{s:s, s:{s:s, s:s, s:s}}", "type", "user-message-appended", "userMessage", "type",
			"user_message", "session_id", r->info->id, "text", r->info->prompt));
	return rc != OK ? rc : tx_exec(tx, "UPDATE runs SET step = $2 WHERE id = $1", "si", r->info->id, step + 1);
}

static int log_unsaid(struct speech *s, struct tx *tx)
{
	int rc = s->begun ? OK : log_step_start(s->r, tx, s->step);
	json_t *text;

	if (rc != OK || s->unsaid.len == 0)
		return rc;
	text = json_lossy(s->unsaid.data, s->unsaid.len);
	return log_append(tx, s->r->info->id, EV_ASSISTANT, json_pack("{s:O}", "text", text),
	    json_pack("{s:s, s:o}", "type", "text-delta", "text", text));
}

static int write_unsaid(struct run *r, struct tx *tx, void *arg)
{
	return log_unsaid(arg, tx);
}

/* After a crash the model speaks again: what the log has already is not said twice. If it now says something else, the
 * new text follows on a line of its own. */
static void add_text(struct speech *s, const char *text, size_t len)
{
	size_t known = s->said_before != NULL ? strlen(s->said_before) : 0;

	while (len > 0 && s->skip < known) {
		if (*text != s->said_before[s->skip]) {
			strbuf_addc(&s->unsaid, '\n');
			strbuf_add(&s->unsaid, s->said_before, s->skip);
			s->skip = known;
			break;
		}
		s->skip++;
		text++;
		len--;
	}
	strbuf_add(&s->unsaid, text, len);
}

static int on_text(void *ctx, const char *text, size_t len)
{
	struct speech *s = ctx;
	int64_t now = clock_mono_ms();
	int rc;

	add_text(s, text, len);
	if (s->unsaid.overflowed)
		return ERR_TOO_LARGE;
	if (s->unsaid.len < FLUSH_BYTES || now - s->last_flush_ms < FLUSH_MS)
		return OK;
	rc = run_write(s->r, write_unsaid, s);
	if (rc == OK) {
		s->begun = true;
		s->last_flush_ms = now;
		strbuf_clear(&s->unsaid);
	}
	return rc;
}

static int on_thinking(void *ctx, const char *text, size_t len)
{
	return OK;
}

static bool cancelled(void *ctx)
{
	struct speech *s = ctx;

	return atomic_load(&s->r->runs->stopping);
}

static bool plan_forbids(const struct run *r, const char *name)
{
	return strcmp(r->info->mode, "plan") == 0 && strcmp(tool_field(r, name, "class"), "read") != 0;
}

static int write_call(struct speech *s, struct tx *tx, struct call *c)
{
	struct run *r = s->r;
	int rc = call_write_down(r, tx, c);

	if (rc == OK)
		rc = log_tool_call(tx, r->info->id, c->id, c->name, r->session_info, c->args, NULL, NULL, NULL);
	return rc;
}

/* The step as a whole: its text, its calls, its events. */
static int write_step(struct run *r, struct tx *tx, void *arg)
{
	struct speech *s = arg;
	size_t n = json_array_size(s->calls);
	int rc = log_unsaid(s, tx);

	if (rc == OK)
		rc = tx_exec(tx, "INSERT INTO steps(run_id, step, text, calls, created_at) VALUES($1, $2, $3, $4, $5)",
		    "sisii", r->info->id, s->step, s->text, (int64_t)n, clock_wall_ms());
	for (size_t i = 0; rc == OK && i < n; i++)
		rc = write_call(s, tx, &s->written[i]);
	return rc;
}

/* Models call tools and arguments by names they know from elsewhere: from here on they have ours. */
static struct call *make_calls(const struct run *r, const json_t *calls, int64_t step)
{
	size_t n = json_array_size(calls);
	struct call *out = mem_zalloc((n + 1) * sizeof *out);

	for (size_t i = 0; i < n; i++) {
		const json_t *c = json_array_get(calls, i);
		const char *name = json_string_value(json_object_get(c, "name"));
		const json_t *tool = tool_described(r->session_info, name);

		out[i] = (struct call){.id = id_new("call-"),
		    .name = str_dup(tool != NULL ? tool_word(tool, "name") : name),
		    .kind = CALL_TOOL,
		    .step = step,
		    .idx = (int64_t)i,
		    .args = tool_own_args(tool, json_object_get(c, "arguments"))};
	}
	return out;
}

static void free_calls(struct call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		call_fini(&calls[i]);
	free(calls);
}

/* Text of this step that is in the log without its step being in the store. */
static int load_said_before(struct tx *tx, const char *run_id, struct speech *s)
{
	AUTO(query) q = NULL;
	struct strbuf text = STRBUF(TEXT_MAX);
	int64_t begun = 0;
	int rc = tx_query_int(tx, &begun, "SELECT step FROM runs WHERE id = $1", "s", run_id);

	s->begun = begun > s->step;
	if (rc != OK || !s->begun)
		return rc;
	rc = tx_query(tx, &q,
	    "SELECT data FROM events WHERE run_id = $1 AND kind = 'assistant' AND seq > (SELECT MAX(seq) FROM events"
	    " WHERE run_id = $1 AND kind = 'interaction_update' AND data LIKE '%\"step-started\"%') ORDER BY seq",
	    "s", run_id);
	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_JSON data = NULL;
		const char *row = query_str(q, 0);

		if (json_parse(row, strlen(row), &data, NULL) == OK)
			strbuf_adds(&text, json_string_value(json_object_get(data, "text")));
	}
	s->said_before = strbuf_take(&text);
	return rc == ERR_EMPTY ? OK : rc;
}

static int ask_model(struct run *r, struct speech *s, const json_t *conversation, struct model_turn *turn)
{
	AUTO_JSON chosen = NULL;
	AUTO_STR system = context_system_text(r->session_info, r->info->mode);
	const struct model_sink sink = {
	    .on_text = on_text, .on_thinking = on_thinking, .cancelled = cancelled, .ctx = s};
	const struct model *model;
	int rc;

	IGNORE(json_parse(r->info->model, strlen(r->info->model), &chosen, NULL));
	model = model_find(json_string_value(json_object_get(chosen, "id")));
	if (model == NULL)
		return run_fail(r, "model_error", "the model of this run is not configured any more");
	const struct model_request req = {.model_id = model->id,
	    .params = json_object_get(chosen, "params"),
	    .system = system,
	    .conversation = conversation,
	    .tools = json_object_get(r->session_info, "tools")};

	s->last_flush_ms = clock_mono_ms();
	rc = model->provider->turn(model->provider, &req, &sink, turn, &r->why);
	if (rc != OK && !run_is_left(rc))
		return run_fail(
		    r, "model_error", "model %s: %s", model->id, r->why.text[0] ? r->why.text : err_text(rc));
	if (rc == OK && json_array_size(turn->calls) > CALLS_PER_STEP_MAX) {
		model_turn_fini(turn);
		return run_fail(
		    r, "model_error", "model %s asked for more than %d calls at once", model->id, CALLS_PER_STEP_MAX);
	}
	return rc;
}

static int reject_in_plan(struct run *r, struct tx *tx, void *arg)
{
	struct call *c = arg;
	AUTO_JSON result =
	    json_pack("{s:s, s:s}", "message", "not in plan mode: this run may only read", "code", "plan_mode");
	AUTO_STR text = json_text(result);
	int rc = tx_exec(tx,
	    "UPDATE tool_calls SET state = 'done', outcome = 'rejected', result = $2, model_text = $3, ended_at = $4 "
	    "WHERE id = $1",
	    "sssi", c->id, text, "not in plan mode: this run may only read", clock_wall_ms());

	return rc != OK
		   ? rc
		   : log_tool_call(tx, r->info->id, c->id, c->name, r->session_info, c->args, "rejected", result, NULL);
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
			rc = run_write(r, reject_in_plan, &calls[i]);
			calls[i].done = true;
		} else {
			while (m < PARALLEL_MAX && i + m < n &&
			       strcmp(tool_field(r, calls[i].name, "class"), "read") == 0 &&
			       strcmp(tool_field(r, calls[i + m].name, "class"), "read") == 0)
				m++;
			rc = calls_perform(r, calls + i, m);
		}
		if (rc != OK)
			return rc;
		i += m;
	}
	return OK;
}

/* The step that an earlier thread wrote down and did not bring to its end. */
static int load_calls(struct run *r, struct tx *tx, int64_t step, struct call **ret, size_t *ret_n)
{
	AUTO(query) q = NULL;
	struct call *calls = NULL;
	size_t n = 0, cap = 0;
	int rc = tx_query(tx, &q,
	    "SELECT id, name, args, idx, incarnation, state FROM tool_calls WHERE run_id = $1 AND step = $2 AND kind = "
	    "'tool'"
	    " ORDER BY idx",
	    "si", r->info->id, step);

	while (rc == OK && (rc = query_next(q)) == OK) {
		const char *args = query_str(q, 2);
		struct call c = {.kind = CALL_TOOL, .step = step, .idx = query_int(q, 3)};

		c.id = str_dup(query_str(q, 0));
		c.name = str_dup(query_str(q, 1));
		c.incarnation = strtoull(query_str(q, 4), NULL, 16);
		c.done = strcmp(query_str(q, 5), "done") == 0;
		IGNORE(json_parse(args, strlen(args), &c.args, NULL));
		calls = mem_grow(calls, &cap, n + 1, sizeof *calls);
		calls[n++] = c;
	}
	*ret = calls;
	*ret_n = n;
	return rc == ERR_EMPTY ? OK : rc;
}

/* Where the run stands: the next step to ask for, the calls still open, the conversation, the final text if it is
 * there. */
struct position {
	int64_t step;
	struct call *open;
	size_t n_open;
	json_t *conversation;
	char *final_text;
	struct speech speech;
};

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
			rc = load_calls(r, tx, p->step - 1, &p->open, &p->n_open);
	} else if (rc == ERR_EMPTY) {
		rc = OK;
	}
	p->speech = (struct speech){.r = r, .step = p->step, .unsaid = STRBUF(TEXT_MAX)};
	if (rc == OK)
		rc = load_said_before(tx, r->info->id, &p->speech);
	if (rc == OK)
		rc = conversation_load(tx, r->agent->id, &p->conversation);
	return rc;
}

static void position_fini(struct position *p)
{
	free_calls(p->open, p->n_open);
	json_decref(p->conversation);
	free(p->final_text);
	free(p->speech.said_before);
	strbuf_fini(&p->speech.unsaid);
}

/* One step: the model's turn, written down. */
static int take_step(struct run *r, struct position *p)
{
	struct model_turn turn = {0};
	struct speech *s = &p->speech;
	int rc = ask_model(r, s, p->conversation, &turn);

	if (rc != OK)
		return rc;
	s->text = turn.text;
	s->calls = turn.calls;
	s->written = make_calls(r, turn.calls, s->step);
	rc = run_write(r, write_step, s);
	if (rc == OK)
		rc = perform_in_order(r, s->written, json_array_size(turn.calls));
	free_calls(s->written, json_array_size(turn.calls));
	model_turn_fini(&turn);
	return rc;
}

int steps_run(struct run *r, char **ret_text)
{
	for (;;) {
		__attribute__((cleanup(position_fini))) struct position p = {0};
		int rc = find_position(r, &p);

		if (rc == OK && p.final_text != NULL) {
			*ret_text = TAKE(p.final_text);
			return OK;
		}
		if (rc == OK && p.step > r->runs->cfg.max_steps)
			return run_fail(r, "step_limit", "the run took more than %lld steps (max_steps)",
			    (long long)r->runs->cfg.max_steps);
		if (rc == OK)
			rc = perform_in_order(r, p.open, p.n_open);
		if (rc == OK && p.n_open > 0) {
			/* Their results belong into the conversation first. */
			json_drop(&p.conversation);
			AUTO(tx) tx = NULL;

			rc = tx_begin(r->runs->cfg.store, TX_READ, &tx);
			if (rc == OK)
				rc = conversation_load(tx, r->agent->id, &p.conversation);
		}
		if (rc == OK)
			rc = take_step(r, &p);
		if (rc != OK)
			return rc;
	}
}
