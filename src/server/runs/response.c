/* One request to the model, and how its response gets into the log: text in pieces while it comes, then the step as a
 * whole (its text, its calls, its events) in one transaction. Until that transaction the step does not exist: after a
 * crash the model is asked again, and what readers have seen already is not told twice. */
#include "server/runs/response.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/text.h"
#include "server/runs/background.h"
#include "server/runs/call.h"
#include "server/runs/mcp_tools.h"
#include "server/runs/tools.h"
#include <string.h>

METRIC_HISTOGRAM(model_seconds, "bullpen_model_request_seconds", "Time of a model request, by model and outcome.",
    METRIC_SECONDS, "model", "outcome");
METRIC_COUNTER(
    model_tokens, "bullpen_model_tokens_total", "Tokens of model requests, by model and kind.", "model", "kind");

#define CALLS_PER_STEP_MAX 64
#define FLUSH_BYTES 2048
#define FLUSH_MS 150

static int log_prompt(struct loop *l)
{
	AUTO_STR prompt = NULL;
	json_t *message, *update;
	int rc = tx_query_text(l->tx, &prompt, "SELECT prompt FROM loop_texts WHERE loop_id = $1", "s", l->id);

	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	message = json_object();
	json_put(message, "type", "user_message");
	json_put(message, "session_id", l->run->info->id);
	json_put(message, "text", prompt);
	update = json_object();
	json_put(update, "type", "user-message-appended");
	json_put_new(update, "userMessage", message);
	return log_update(&l->log, update);
}

/* The row of the loop remembers the event, so that a later thread finds the text that came after it. */
static int log_step_start(struct loop *l, int64_t step)
{
	int rc = loop_log_step_end(l);

	if (rc == OK)
		rc = log_update(&l->log, json_pack("{s:s, s:I}", "type", "step-started", "stepId", (json_int_t)step));
	if (rc == OK)
		rc = tx_exec(l->tx, "UPDATE loops SET step = $2, step_seq = $3 WHERE id = $1", "sii", l->id, step + 1,
		    l->log.seq);
	l->progress = (struct loop_progress){step + 1, clock_mono_ms()};
	/* The prompt of a nested loop is among the arguments of the call that started it. */
	return rc == OK && step == 0 && l->depth == 0 ? log_prompt(l) : rc;
}

static const char *const of_stop[] = {[MODEL_STOP_DONE] = "done",
    [MODEL_STOP_LENGTH] = "length",
    [MODEL_STOP_REFUSAL] = "refusal",
    [MODEL_STOP_UNPARSED] = "unparsed"};

const char *stop_text(enum model_stop stop)
{
	return of_stop[stop];
}

/* One event with its twin from what is buffered, as far as it ends with a whole character; the rest waits for its other
 * bytes unless this is the end. */
static int log_piece(struct model_response *s, enum event_kind kind, const struct strbuf *b, bool all)
{
	size_t n = all ? b->len : text_utf8_whole(strbuf_str(b), b->len);
	json_t *text;

	if (n == 0)
		return OK;
	text = json_lossy(b->data, n);
	return log_append(&s->loop->log, kind, json_pack("{s:O}", "text", text),
	    json_pack("{s:s, s:o}", "type", kind == EV_THINKING ? "thinking-delta" : "text-delta", "text", text));
}

/* Thinking comes before text, and ends when text comes. */
static int log_thinking(struct model_response *s, bool ended)
{
	int rc = log_piece(s, EV_THINKING, &s->pending_thinking, ended);

	if (rc != OK || !ended || s->thinking_since_ms == 0)
		return rc;
	return log_update(&s->loop->log, json_pack("{s:s, s:I}", "type", "thinking-completed", "thinkingDurationMs",
					     (json_int_t)MAX(clock_mono_ms() - s->thinking_since_ms, 0)));
}

/* Inside a write. */
static int log_pending(struct model_response *s, bool all)
{
	int rc = s->begun ? OK : log_step_start(s->loop, s->step);

	if (rc == OK)
		rc = log_thinking(s, all || s->pending_text.len > 0);
	return rc != OK ? rc : log_piece(s, EV_ASSISTANT, &s->pending_text, all);
}

static void drop_written(struct model_response *s)
{
	if (s->pending_text.len > 0) {
		s->thinking_since_ms = 0;
		strbuf_clear(&s->pending_thinking);
	} else {
		strbuf_consume(
		    &s->pending_thinking, text_utf8_whole(strbuf_str(&s->pending_thinking), s->pending_thinking.len));
	}
	strbuf_consume(&s->pending_text, text_utf8_whole(strbuf_str(&s->pending_text), s->pending_text.len));
}

/* Writes what is pending if it is much or old enough. */
static int flush_pending(struct model_response *s)
{
	int64_t now = clock_mono_ms();
	size_t waiting = s->pending_text.len + s->pending_thinking.len;
	int rc;

	if (s->pending_text.overflowed || s->pending_thinking.overflowed)
		return ERR_TOO_LARGE;
	if (waiting == 0 || (waiting < FLUSH_BYTES && now - s->last_flush_ms < FLUSH_MS))
		return OK;
	do {
		rc = loop_begin_write(s->loop);
		if (rc == OK)
			rc = log_pending(s, false);
	} while (loop_end_write(s->loop, &rc));
	if (rc != OK)
		return rc;
	s->begun = true;
	s->last_flush_ms = now;
	drop_written(s);
	return OK;
}

static size_t logged_len(const struct model_response *s)
{
	return s->logged_text != NULL ? s->logged_len : 0;
}

/* After a crash or a broken response the model answers again: text that the log has already is not logged twice. If the
 * new text differs, it follows on a line of its own. */
static void response_add_text(struct model_response *s, const char *text, size_t len)
{
	size_t known = logged_len(s);

	while (len > 0 && s->matched < known) {
		if (*text != s->logged_text[s->matched]) {
			strbuf_addc(&s->pending_text, '\n');
			strbuf_add(&s->pending_text, s->logged_text, s->matched);
			s->matched = known;
			break;
		}
		s->matched++;
		text++;
		len--;
	}
	strbuf_add(&s->pending_text, text, len);
}

static int on_text(void *ctx, const char *text, size_t len)
{
	struct model_response *s = ctx;

	strbuf_add(&s->attempt_text, text, len);
	if (s->attempt_text.overflowed)
		return ERR_TOO_LARGE;
	response_add_text(s, text, len);
	return flush_pending(s);
}

static int on_thinking(void *ctx, const char *text, size_t len)
{
	struct model_response *s = ctx;

	if (s->thinking_since_ms == 0)
		s->thinking_since_ms = clock_mono_ms();
	strbuf_add(&s->pending_thinking, text, len);
	if (s->keeps_thinking)
		IGNORE(strbuf_add(&s->thinking, text, len));
	return flush_pending(s);
}

static int on_restart(void *ctx)
{
	struct model_response *s = ctx;

	/* As long as the attempt only repeated what was logged before, that is still what readers have. */
	if (s->matched >= logged_len(s) && s->attempt_text.len > 0) {
		free(s->logged_text);
		s->logged_len = s->attempt_text.len;
		s->logged_text = strbuf_take(&s->attempt_text);
	}
	strbuf_clear(&s->attempt_text);
	s->matched = 0;
	return OK;
}

/* No call of the loop is under way while its model is asked, so a message in the inbox is an end, one for a nested loop
 * that works behind it, or too late to matter. */
bool loop_is_interrupted(struct loop *l)
{
	void *msg = NULL;

	while (l->detach_reason == OK && mailbox_receive(l->inbox, 0, &msg) == OK) {
		struct fleet_msg *m = msg;

		if (m->kind == FLEET_CANCELLED)
			l->detach_reason = ERR_CANCELLED;
		else if (m->kind == FLEET_LOST && m->call_id == NULL)
			l->detach_reason = ERR_LOST;
		else if (m->kind == FLEET_NEWS)
			live_take(l->run, m->data, m->len);
		else if (l->depth == 0)
			IGNORE(call_routes_pass(l->run->routes, &m));
		fleet_msg_free(&m);
	}
	background_reap(l);
	if (l->detach_reason == OK && l->stop != NULL && atomic_load(l->stop))
		l->detach_reason = ERR_LOST;
	if (l->detach_reason == OK && atomic_load(&l->run->runs->stopping))
		l->detach_reason = ERR_CLOSED;
	return l->detach_reason != OK;
}

/* Asked about once a second: pending text becomes visible here too while arguments, or nothing, follow. */
static bool response_is_cancelled(void *ctx)
{
	struct model_response *s = ctx;

	if (s->write_rc == OK)
		s->write_rc = flush_pending(s);
	return s->write_rc != OK || loop_is_interrupted(s->loop);
}

/* Inside a write. */
static int log_step(struct model_response *s)
{
	struct loop *l = s->loop;
	AUTO_STR native = s->native != NULL ? json_text(s->native) : NULL;
	int rc = log_pending(s, true);

	if (rc == OK)
		rc = tx_exec(l->tx,
		    "INSERT INTO steps(loop_id, step, text, calls, stop, native, created_at)"
		    " VALUES($1, $2, $3, $4, $5, $6, $7)",
		    "sisissi", l->id, s->step, s->text, (int64_t)s->n_calls, stop_text(s->stop), native,
		    clock_wall_ms());
	if (rc == OK)
		log_usage(&l->log, &s->usage);
	for (size_t i = 0; rc == OK && i < s->n_calls; i++)
		rc = call_write_down(l, &s->calls[i]);
	if (rc == OK && s->may_end_run && s->n_calls == 0 && s->stop == MODEL_STOP_DONE)
		rc = loop_write_run_end(l, s->text);
	return rc;
}

static int write_step(struct model_response *s)
{
	int rc;

	do {
		rc = loop_begin_write(s->loop);
		if (rc == OK)
			rc = log_step(s);
	} while (loop_end_write(s->loop, &rc));
	s->begun |= rc == OK;
	return rc;
}

/* Models call tools and arguments by names they know from elsewhere: from here on they have ours. */
static void make_calls(struct model_response *s, const json_t *calls)
{
	s->n_calls = json_array_size(calls);
	s->calls = mem_zalloc((s->n_calls + 1) * sizeof *s->calls);
	for (size_t i = 0; i < s->n_calls; i++) {
		const json_t *c = json_array_get(calls, i);
		const char *name = json_string_value(json_object_get(c, "name"));
		const json_t *tool = tool_meant(s->loop->all, name);
		bool mcp = tool_is_mcp(tool);

		name = mcp ? MCP_TOOL : tool != NULL ? json_word(tool, "name") : name;
		s->calls[i] = (struct call){.id = id_new("call-"),
		    .name = str_dup(name),
		    .kind = CALL_TOOL,
		    .executor = tool_executor(tool, name),
		    .step = s->step,
		    .idx = (int64_t)i,
		    .fault = str_dup(json_string_value(json_object_get(c, "fault"))),
		    .args = mcp ? mcp_call_args(tool, json_object_get(c, "arguments"))
				: tool_own_args(tool, json_object_get(c, "arguments"))};
	}
}

/* A provider's own error, unless the loop had a reason of its own to end the request. */
static int judge_request(struct model_response *s, int rc, const struct model_result *result)
{
	struct loop *l = s->loop;

	if (l->detach_reason != OK || s->write_rc != OK)
		return l->detach_reason != OK ? l->detach_reason : s->write_rc;
	if (s->pending_text.overflowed || s->pending_thinking.overflowed || s->attempt_text.overflowed)
		return loop_fail(
		    l, "model_error", "model %s said more than %d bytes at once", l->model->id, RESPONSE_MAX);
	if (rc != OK && rc != ERR_TOO_LARGE && !run_is_left(rc) && !store_is_unavailable(rc))
		return loop_fail(
		    l, "model_error", "model %s: %s", l->model->id, l->why.text[0] ? l->why.text : err_text(rc));
	if (rc == OK && json_array_size(result->calls) > CALLS_PER_STEP_MAX)
		return loop_fail(l, "model_error", "model %s asked for more than %d calls at once", l->model->id,
		    CALLS_PER_STEP_MAX);
	return rc;
}

static void count_request(const struct loop *l, int rc, int64_t took_ms, const struct model_usage *u)
{
	const char *id = l->model->id;

	metric_observe(&model_seconds, (double)took_ms / 1000, id, rc == OK ? "ok" : err_name(rc));
	metric_add(&model_tokens, (double)u->input_tokens, id, "input");
	metric_add(&model_tokens, (double)u->output_tokens, id, "output");
	metric_add(&model_tokens, (double)u->cache_read_tokens, id, "cache_read");
	metric_add(&model_tokens, (double)u->cache_write_tokens, id, "cache_write");
}

static int ask_model(struct model_response *s, const json_t *conversation, struct model_result *result)
{
	struct loop *l = s->loop;
	const struct model_sink sink = {.on_text = on_text,
	    .on_thinking = on_thinking,
	    .on_restart = on_restart,
	    .cancelled = response_is_cancelled,
	    .ctx = s};
	const struct model_request req = {.model = l->model,
	    .params = l->model_params,
	    .system = l->system,
	    .conversation = conversation,
	    .tools = l->tools,
	    .memo = &l->memo};
	int64_t began_ms = clock_mono_ms();
	int rc;

	s->last_flush_ms = began_ms;
	rc = l->model->provider->request(l->model->provider, &req, &sink, result, &l->why);
	count_request(l, rc, clock_mono_ms() - began_ms, &result->usage);
	return judge_request(s, rc, result);
}

int response_request(struct model_response *s, const json_t *conversation)
{
	struct model_result result = {0};
	int rc = ask_model(s, conversation, &result);

	/* It may have said something before it found out that the conversation is too large. */
	if (rc == ERR_TOO_LARGE)
		IGNORE(on_restart(s));
	if (rc == OK && result.stop == MODEL_STOP_REFUSAL)
		json_array_clear(result.calls);
	if (rc == OK) {
		/* A provider hands on what a model said: it need not be UTF-8. */
		ENSURE(result.text != NULL);
		s->text = text_to_utf8(result.text, strlen(result.text));
		s->native = TAKE(result.native);
		s->stop = result.stop;
		s->usage = result.usage;
		make_calls(s, result.calls);
		/* The playbook repeats what it was given. */
		if (s->n_calls == 0 && s->stop == MODEL_STOP_DONE && s->loop->model->provider != &provider_playbook &&
		    tools_called_in_text(s->loop->tools, s->text))
			s->stop = MODEL_STOP_UNPARSED;
		rc = write_step(s);
	}
	model_result_fini(&result);
	return rc;
}

void response_fini(struct model_response *s)
{
	for (size_t i = 0; i < s->n_calls; i++)
		call_fini(&s->calls[i]);
	free(s->calls);
	free(s->text);
	free(s->logged_text);
	json_decref(s->native);
	strbuf_fini(&s->pending_text);
	strbuf_fini(&s->pending_thinking);
	strbuf_fini(&s->attempt_text);
	strbuf_fini(&s->thinking);
}

/* The text of a logged event: of the run's own loop as it is, of a nested one inside its delta. */
static const char *text_of_event(const json_t *data, bool nested)
{
	const json_t *update = json_object_get(data, "taskUpdate");
	const char *type = json_string_value(json_object_get(update, "type"));

	if (!nested)
		return json_string_value(json_object_get(data, "text"));
	return type != NULL && strcmp(type, "text-delta") == 0 ? json_string_value(json_object_get(update, "text"))
							       : NULL;
}

static int query_logged(struct model_response *s, struct tx *tx, int64_t after_seq, struct query **ret)
{
	const struct loop *l = s->loop;

	if (l->parent_call_id == NULL)
		return tx_query(tx, ret,
		    "SELECT data FROM events WHERE run_id = $1 AND kind = 'assistant' AND seq > $2 ORDER BY seq", "si",
		    l->run->info->id, after_seq);
	return tx_query(tx, ret,
	    "SELECT data FROM events WHERE run_id = $1 AND parent_call_id = $3 AND seq > $2 ORDER BY seq", "sis",
	    l->run->info->id, after_seq, l->parent_call_id);
}

int response_load_logged(struct model_response *s, struct tx *tx)
{
	AUTO(query) q = NULL;
	AUTO(query) logged = NULL;
	struct strbuf text = STRBUF(RESPONSE_MAX);
	int rc = tx_query(tx, &q, "SELECT step, step_seq FROM loops WHERE id = $1", "s", s->loop->id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	s->begun = query_int(q, 0) > s->step;
	if (!s->begun)
		return OK;
	rc = query_logged(s, tx, query_int(q, 1), &logged);
	while (rc == OK && (rc = query_next(logged)) == OK) {
		AUTO_JSON data = NULL;
		const char *row = query_str(logged, 0), *piece;

		if (json_parse(row, strlen(row), &data, NULL) != OK)
			continue;
		piece = text_of_event(data, s->loop->parent_call_id != NULL);
		strbuf_adds(&text, piece != NULL ? piece : "");
	}
	s->logged_len = text.len;
	s->logged_text = strbuf_take(&text);
	return rc == ERR_EMPTY ? OK : rc;
}
