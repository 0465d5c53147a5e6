#include "server/runs/log.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

#define SHORT_MAX ((size_t)4096)
#define WORDS_MAX ((size_t)16 * 1024)
#define EVENT_MAX ((size_t)1024 * 1024)

const char *const event_names[] = {"assistant", "thinking", "tool_call", "interaction_update", "result"};

int log_open(struct log *l, struct tx *tx, const char *run_id, const char *parent_call_id)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT status, owner_epoch, last_seq, last_ms, last_n, input_tokens, output_tokens, cache_read_tokens,"
	    " cache_write_tokens FROM runs WHERE id = $1",
	    "s", run_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	*l = (struct log){.tx = tx,
	    .run_id = run_id,
	    .parent_call_id = parent_call_id,
	    .active = strcmp(query_str(q, 0), "CREATING") == 0 || strcmp(query_str(q, 0), "RUNNING") == 0,
	    .epoch = query_int(q, 1),
	    .seq = query_int(q, 2),
	    .ms = query_int(q, 3),
	    .n = query_int(q, 4),
	    .usage = {.input_tokens = query_int(q, 5),
		.output_tokens = query_int(q, 6),
		.cache_read_tokens = query_int(q, 7),
		.cache_write_tokens = query_int(q, 8)}};
	return OK;
}

int log_close(struct log *l)
{
	const struct model_usage *u = &l->usage;
	int64_t n = 0;
	int rc = tx_change(l->tx, &n,
	    "UPDATE runs SET updated_at = $3, last_seq = $4, last_ms = $5, last_n = $6, input_tokens = $7,"
	    " output_tokens = $8, cache_read_tokens = $9, cache_write_tokens = $10 WHERE id = $1 AND owner_epoch = $2",
	    "siiiiiiiii", l->run_id, l->epoch, clock_wall_ms(), l->seq, l->ms, l->n, u->input_tokens, u->output_tokens,
	    u->cache_read_tokens, u->cache_write_tokens);

	return rc == OK && n == 0 ? ERR_FENCED : rc;
}

void log_usage(struct log *l, const struct model_usage *u)
{
	l->usage.input_tokens += u->input_tokens;
	l->usage.output_tokens += u->output_tokens;
	l->usage.cache_read_tokens += u->cache_read_tokens;
	l->usage.cache_write_tokens += u->cache_write_tokens;
}

/* The clock may stand still or go back: then the second part of the id counts on. */
static int insert_event(struct log *l, enum event_kind kind, const char *data, const char *twin)
{
	int64_t now = clock_wall_ms();

	ENSURE(tx_write_is_open());
	l->seq++;
	l->n = l->ms >= now ? l->n + 1 : 0;
	l->ms = MAX(l->ms, now);
	return tx_exec(l->tx,
	    "INSERT INTO events(run_id, seq, id_ms, id_n, kind, data, twin, parent_call_id)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7, $8)",
	    "siiissss", l->run_id, l->seq, l->ms, l->n, event_names[kind], data, twin, l->parent_call_id);
}

/* An update of a nested loop, as the client library knows it. malloc'ed. */
static char *delta_of_parent(const struct log *l, const char *update)
{
	struct strbuf b = STRBUF(strlen(update) + strlen(l->parent_call_id) * 6 + 128);

	strbuf_adds(&b, "{\"type\":\"tool-call-delta\",\"callId\":");
	json_add_string(&b, l->parent_call_id);
	strbuf_addf(&b, ",\"modelCallId\":\"\",\"taskUpdate\":%s}", update);
	ENSURE(!b.overflowed);
	return strbuf_take(&b);
}

int log_append_text(struct log *l, enum event_kind kind, const char *data, const char *twin)
{
	AUTO_STR delta = NULL;

	if (l->parent_call_id == NULL)
		return insert_event(l, kind, data, twin);
	ENSURE(kind != EV_RESULT); /* the run's own loop alone ends the run */
	if (kind == EV_TOOL_CALL) {
		delta = twin != NULL ? delta_of_parent(l, twin) : NULL;
		return insert_event(l, kind, data, delta);
	}
	delta = delta_of_parent(l, twin != NULL ? twin : data);
	return insert_event(l, EV_UPDATE, delta, NULL);
}

int log_append(struct log *l, enum event_kind kind, json_t *data, json_t *twin)
{
	AUTO_JSON owned_data = data;
	AUTO_JSON owned_twin = twin;
	AUTO_STR data_text = json_text(data);
	AUTO_STR twin_text = twin != NULL ? json_text(twin) : NULL;

	return log_append_text(l, kind, data_text, twin_text);
}

int log_update(struct log *l, json_t *data)
{
	return log_append(l, EV_UPDATE, data, NULL);
}

int log_words(struct log *l, const char *text)
{
	int rc = OK;

	for (size_t len = strlen(text); rc == OK && len > 0;) {
		size_t n = text_utf8_cut(text, len, WORDS_MAX);
		json_t *piece = json_lossy(text, n);

		rc = log_append(l, EV_ASSISTANT, json_pack("{s:O}", "text", piece),
		    json_pack("{s:s, s:o}", "type", "text-delta", "text", piece));
		text += n;
		len -= n;
	}
	return rc;
}

int log_command_output(struct log *l, json_t *event)
{
	AUTO_JSON update = json_pack("{s:s, s:o}", "type", "shell-output-delta", "event", event);
	AUTO_STR text = json_text(update);

	return insert_event(l, EV_UPDATE, text, NULL);
}

int log_line(struct log *l, const char *call_id, const char *text)
{
	AUTO_STR line = text_line(text, SHORT_MAX);
	AUTO_STR data = str_printf("%s\n", line);
	json_t *event = json_object();

	json_put(event, "callId", call_id);
	json_put(event, "stream", "stderr");
	json_put(event, "data", data);
	return log_command_output(l, event);
}

static bool is_good(const char *outcome)
{
	return strcmp(outcome, "success") == 0 || strcmp(outcome, "failure") == 0;
}

static bool log_fits(const char *json)
{
	return strlen(json) <= STREAM_JSON_MAX;
}

/* Names and messages may come from a model or a worker. */
static void add_short(struct strbuf *b, const char *text)
{
	size_t len = strlen(text);
	AUTO_STR cut = len > SHORT_MAX ? str_ndup(text, text_utf8_cut(text, len, SHORT_MAX)) : NULL;

	json_add_string(b, cut != NULL ? cut : text);
}

static void write_event(const struct tool_event *e, const char *parent_call_id, struct strbuf *b)
{
	bool no_result = e->outcome != NULL && !log_fits(e->result);

	strbuf_adds(b, "{\"callId\":");
	add_short(b, e->call_id);
	if (parent_call_id != NULL) {
		strbuf_adds(b, ",\"parentCallId\":");
		add_short(b, parent_call_id);
	}
	strbuf_adds(b, ",\"name\":");
	add_short(b, e->name);
	strbuf_adds(b, e->outcome == NULL ? ",\"status\":\"running\"" : ",\"status\":\"completed\"");
	if (log_fits(e->args)) {
		strbuf_adds(b, ",\"args\":");
		strbuf_adds(b, e->args);
	}
	if (e->outcome != NULL && !no_result) {
		strbuf_adds(b, is_good(e->outcome) ? ",\"result\":{\"success\":" : ",\"result\":{\"error\":");
		strbuf_adds(b, e->result);
		strbuf_addc(b, '}');
	}
	if (!log_fits(e->args) || no_result)
		strbuf_addf(b, ",\"truncated\":{%s%s%s", log_fits(e->args) ? "" : "\"args\":true",
		    !log_fits(e->args) && no_result ? "," : "", no_result ? "\"result\":true" : "");
	if (no_result && e->output_bytes > 0)
		strbuf_addf(b, ",\"outputBytes\":%zu", e->output_bytes);
	strbuf_adds(b, !log_fits(e->args) || no_result ? "}}" : "}");
}

/* The client library validates what it gets and drops what is not complete, so args are always there. */
static void write_twin(const struct tool_event *e, struct strbuf *b)
{
	const char *value = e->sdk_result != NULL ? e->sdk_result : e->result;

	strbuf_adds(b, e->outcome == NULL ? "{\"type\":\"tool-call-started\",\"callId\":"
					  : "{\"type\":\"tool-call-completed\",\"callId\":");
	add_short(b, e->call_id);
	strbuf_adds(b, ",\"modelCallId\":\"\",\"toolCall\":{\"type\":");
	add_short(b, e->sdk_type);
	strbuf_adds(b, ",\"args\":");
	strbuf_adds(b, e->sdk_args);
	if (e->outcome != NULL && is_good(e->outcome)) {
		if (log_fits(value)) {
			strbuf_adds(b, ",\"result\":{\"status\":\"success\",\"value\":");
			strbuf_adds(b, value);
			strbuf_addc(b, '}');
		}
	} else if (e->outcome != NULL) {
		strbuf_adds(b, ",\"result\":{\"status\":\"error\",\"error\":{\"message\":");
		add_short(b, e->message != NULL ? e->message : e->outcome);
		strbuf_adds(b, "}}");
	}
	strbuf_adds(b, "}}");
}

int log_tool_call(struct log *l, const struct tool_event *e)
{
	struct strbuf data = STRBUF(EVENT_MAX), twin = STRBUF(EVENT_MAX);
	bool has_twin = e->sdk_type[0] != '\0';
	int rc;

	write_event(e, l->parent_call_id, &data);
	if (has_twin)
		write_twin(e, &twin);
	/* Each part has its own bound far below. */
	ENSURE(!data.overflowed && !twin.overflowed);
	rc = log_append_text(l, EV_TOOL_CALL, data.data, has_twin ? twin.data : NULL);
	strbuf_fini(&data);
	strbuf_fini(&twin);
	return rc;
}
