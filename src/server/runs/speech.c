/* One turn of the model, and how it gets into the log: text in pieces while the model speaks, then the step as a whole
 * (its text, its calls, its events) in one transaction. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/run_thread_priv.h"
#include <string.h>

#define CALLS_PER_STEP_MAX 64
#define FLUSH_BYTES 2048
#define FLUSH_MS 150

static int log_prompt(struct run *r, struct tx *tx)
{
	AUTO_STR prompt = NULL;
	json_t *message, *update;
	int rc = tx_query_text(tx, &prompt, "SELECT prompt FROM run_texts WHERE run_id = $1", "s", r->info->id);

	if (rc != OK)
		return rc;
	message = json_object();
	json_put(message, "type", "user_message");
	json_put(message, "session_id", r->info->id);
	json_put(message, "text", prompt);
	update = json_object();
	json_put(update, "type", "user-message-appended");
	json_put_new(update, "userMessage", message);
	return log_update(r->log, update);
}

static int log_step_start(struct run *r, struct tx *tx, int64_t step)
{
	int rc = step > 0 ? log_step_end(r, step - 1) : OK;

	if (rc == OK)
		rc = log_update(r->log, json_pack("{s:s, s:I}", "type", "step-started", "stepId", (json_int_t)step));
	log_step(r->log, step + 1);
	return rc == OK && step == 0 ? log_prompt(r, tx) : rc;
}

int log_step_end(struct run *r, int64_t step)
{
	int64_t now = clock_mono_ms(), took = now - r->step_began_ms;

	r->step_began_ms = now;
	return log_update(r->log, json_pack("{s:s, s:I, s:I}", "type", "step-completed", "stepId", (json_int_t)step,
				      "stepDurationMs", (json_int_t)MAX(took, 0)));
}

static const char *of_stop[] = {
    [MODEL_STOP_DONE] = "done", [MODEL_STOP_LENGTH] = "length", [MODEL_STOP_REFUSAL] = "refusal"};

const char *stop_text(enum model_stop stop)
{
	return of_stop[stop];
}

static int begin(struct speech *s, struct tx *tx)
{
	return s->begun ? OK : log_step_start(s->r, tx, s->step);
}

/* One event with its twin from what is buffered, as far as it ends with a whole character; the rest waits for its other
 * bytes unless this is the end. */
static int log_piece(struct speech *s, enum event_kind kind, const struct strbuf *b, bool all)
{
	size_t n = all ? b->len : text_utf8_whole(strbuf_str(b), b->len);
	json_t *text;

	if (n == 0)
		return OK;
	text = json_lossy(b->data, n);
	return log_append(s->r->log, kind, json_pack("{s:O}", "text", text),
	    json_pack("{s:s, s:o}", "type", kind == EV_THINKING ? "thinking-delta" : "text-delta", "text", text));
}

/* What was thought comes before what was said, and ends when something is said. */
static int log_thought(struct speech *s, bool ended)
{
	int rc = log_piece(s, EV_THINKING, &s->unthought, ended);

	if (rc != OK || !ended || s->thinking_since_ms == 0)
		return rc;
	return log_update(s->r->log, json_pack("{s:s, s:I}", "type", "thinking-completed", "thinkingDurationMs",
					 (json_int_t)MAX(clock_mono_ms() - s->thinking_since_ms, 0)));
}

static int log_unsaid(struct speech *s, struct tx *tx, bool all)
{
	int rc = begin(s, tx);

	if (rc == OK)
		rc = log_thought(s, all || s->unsaid.len > 0);
	return rc != OK ? rc : log_piece(s, EV_ASSISTANT, &s->unsaid, all);
}

static int write_unsaid(struct run *r, struct tx *tx, void *arg)
{
	return log_unsaid(arg, tx, false);
}

static int flush(struct speech *s)
{
	int64_t now = clock_mono_ms();
	size_t waiting = s->unsaid.len + s->unthought.len;
	int rc;

	if (s->unsaid.overflowed || s->unthought.overflowed)
		return ERR_TOO_LARGE;
	if (waiting == 0 || (waiting < FLUSH_BYTES && now - s->last_flush_ms < FLUSH_MS))
		return OK;
	rc = run_write(s->r, write_unsaid, s);
	if (rc != OK)
		return rc;
	s->begun = true;
	s->last_flush_ms = now;
	if (s->unsaid.len > 0) {
		s->thinking_since_ms = 0;
		strbuf_clear(&s->unthought);
	} else {
		strbuf_consume(&s->unthought, text_utf8_whole(strbuf_str(&s->unthought), s->unthought.len));
	}
	strbuf_consume(&s->unsaid, text_utf8_whole(strbuf_str(&s->unsaid), s->unsaid.len));
	return OK;
}

static size_t known_len(const struct speech *s)
{
	return s->said_before != NULL ? s->said_len : 0;
}

/* After a crash or a broken answer the model speaks again: what the log has already is not said twice. If it now says
 * something else, the new text follows on a line of its own. */
static void add_text(struct speech *s, const char *text, size_t len)
{
	size_t known = known_len(s);

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

	strbuf_add(&s->current, text, len);
	if (s->current.overflowed)
		return ERR_TOO_LARGE;
	add_text(s, text, len);
	return flush(s);
}

static int on_thinking(void *ctx, const char *text, size_t len)
{
	struct speech *s = ctx;

	if (s->thinking_since_ms == 0)
		s->thinking_since_ms = clock_mono_ms();
	strbuf_add(&s->unthought, text, len);
	return flush(s);
}

static int on_restart(void *ctx)
{
	struct speech *s = ctx;

	/* As long as it only repeated what was said before, that is still what readers have. */
	if (s->skip >= known_len(s) && s->current.len > 0) {
		free(s->said_before);
		s->said_len = s->current.len;
		s->said_before = strbuf_take(&s->current);
	}
	strbuf_clear(&s->current);
	s->skip = 0;
	return OK;
}

/* No call is under way while the model speaks, so what comes into the inbox is an end, or too late to matter. */
bool run_is_interrupted(struct run *r)
{
	void *msg = NULL;

	while (r->left == OK && mailbox_receive(r->inbox, 0, &msg) == OK) {
		struct fleet_msg *m = msg;

		if (m->kind == FLEET_CANCELLED)
			r->left = ERR_CANCELLED;
		else if (m->kind == FLEET_LOST)
			r->left = ERR_LOST;
		fleet_msg_free(&m);
	}
	if (r->left == OK && atomic_load(&r->runs->stopping))
		r->left = ERR_CLOSED;
	return r->left != OK;
}

/* Asked about once a second: also what was said last becomes visible while arguments or nothing follow. */
static bool cancelled(void *ctx)
{
	struct speech *s = ctx;

	if (s->failed == OK)
		s->failed = flush(s);
	return s->failed != OK || run_is_interrupted(s->r);
}

static int write_step(struct run *r, struct tx *tx, void *arg)
{
	struct speech *s = arg;
	AUTO_STR native = s->native != NULL ? json_text(s->native) : NULL;
	int rc = log_unsaid(s, tx, true);

	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO steps(run_id, step, text, calls, stop, native, created_at)"
		    " VALUES($1, $2, $3, $4, $5, $6, $7)",
		    "sisissi", r->info->id, s->step, s->text, (int64_t)s->n_calls, stop_text(s->stop), native,
		    clock_wall_ms());
	log_usage(r->log, &s->usage);
	for (size_t i = 0; rc == OK && i < s->n_calls; i++)
		rc = call_write_down(r, tx, &s->calls[i]);
	if (rc == OK && s->last && s->n_calls == 0 && s->stop == MODEL_STOP_DONE)
		rc = run_write_end(r, s->text);
	return rc;
}

/* Models call tools and arguments by names they know from elsewhere: from here on they have ours. */
static void make_calls(struct speech *s, const json_t *calls)
{
	s->n_calls = json_array_size(calls);
	s->calls = mem_zalloc((s->n_calls + 1) * sizeof *s->calls);
	for (size_t i = 0; i < s->n_calls; i++) {
		const json_t *c = json_array_get(calls, i);
		const char *name = json_string_value(json_object_get(c, "name"));
		const json_t *tool = tool_described(s->r->tools, name);

		s->calls[i] = (struct call){.id = id_new("call-"),
		    .name = str_dup(tool != NULL ? tool_word(tool, "name") : name),
		    .kind = CALL_TOOL,
		    .step = s->step,
		    .idx = (int64_t)i,
		    .fault = str_dup(json_string_value(json_object_get(c, "fault"))),
		    .args = tool_own_args(tool, json_object_get(c, "arguments"))};
	}
}

static int ask(struct run *r, struct speech *s, const json_t *conversation, struct model_turn *turn)
{
	const struct model_sink sink = {
	    .on_text = on_text, .on_thinking = on_thinking, .on_restart = on_restart, .cancelled = cancelled, .ctx = s};
	const struct model_request req = {.model = r->model,
	    .params = r->model_params,
	    .system = r->system,
	    .conversation = conversation,
	    .tools = r->tools,
	    .memo = &r->memo};
	int rc;

	s->last_flush_ms = clock_mono_ms();
	rc = r->model->provider->turn(r->model->provider, &req, &sink, turn, &r->why);
	if (r->left != OK || s->failed != OK)
		return r->left != OK ? r->left : s->failed;
	if (s->unsaid.overflowed || s->unthought.overflowed || s->current.overflowed)
		return run_fail(r, "model_error", "model %s said more than %d bytes at once", r->model->id, SPEECH_MAX);
	if (rc != OK && rc != ERR_TOO_LARGE && !run_is_left(rc) && !store_is_unavailable(rc))
		return run_fail(
		    r, "model_error", "model %s: %s", r->model->id, r->why.text[0] ? r->why.text : err_text(rc));
	if (rc == OK && json_array_size(turn->calls) > CALLS_PER_STEP_MAX)
		return run_fail(r, "model_error", "model %s asked for more than %d calls at once", r->model->id,
		    CALLS_PER_STEP_MAX);
	return rc;
}

int speech_turn(struct speech *s, const json_t *conversation)
{
	struct model_turn turn = {0};
	int rc = ask(s->r, s, conversation, &turn);

	/* It may have spoken before it found that out. */
	if (rc == ERR_TOO_LARGE)
		IGNORE(on_restart(s));
	if (rc == OK && turn.stop == MODEL_STOP_REFUSAL)
		json_array_clear(turn.calls);
	if (rc == OK) {
		/* A provider hands on what a model said: it need not be UTF-8. */
		ENSURE(turn.text != NULL);
		s->text = text_to_utf8(turn.text, strlen(turn.text));
		s->native = TAKE(turn.native);
		s->stop = turn.stop;
		s->usage = turn.usage;
		make_calls(s, turn.calls);
		rc = run_write(s->r, write_step, s);
	}
	model_turn_fini(&turn);
	return rc;
}

void speech_fini(struct speech *s)
{
	for (size_t i = 0; i < s->n_calls; i++)
		call_fini(&s->calls[i]);
	free(s->calls);
	free(s->text);
	free(s->said_before);
	json_decref(s->native);
	strbuf_fini(&s->unsaid);
	strbuf_fini(&s->unthought);
	strbuf_fini(&s->current);
}

/* Text of this step that is in the log without its step being in the store. */
int speech_load_said(struct speech *s, struct tx *tx)
{
	AUTO(query) q = NULL;
	AUTO(query) said = NULL;
	struct strbuf text = STRBUF(SPEECH_MAX);
	int rc = tx_query(tx, &q, "SELECT step, step_seq FROM runs WHERE id = $1", "s", s->r->info->id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	s->begun = query_int(q, 0) > s->step;
	if (!s->begun)
		return OK;
	rc = tx_query(tx, &said,
	    "SELECT data FROM events WHERE run_id = $1 AND kind = 'assistant' AND seq > $2 ORDER BY seq", "si",
	    s->r->info->id, query_int(q, 1));
	while (rc == OK && (rc = query_next(said)) == OK) {
		AUTO_JSON data = NULL;
		const char *row = query_str(said, 0);

		if (json_parse(row, strlen(row), &data, NULL) == OK)
			strbuf_adds(&text, json_string_value(json_object_get(data, "text")));
	}
	s->said_len = text.len;
	s->said_before = strbuf_take(&text);
	return rc == ERR_EMPTY ? OK : rc;
}
