#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/session_priv.h"
#include <math.h>
#include <string.h>

#define BATCH_MAX 100

/* The answer to a request of the server. Takes `value`; `key` is result or error. */
static void answer(struct mcp_session *s, const json_t *id, const char *key, json_t *value)
{
	json_t *msg = json_object();

	json_object_set(msg, "id", (json_t *)id);
	json_put_new(msg, key, value);
	if (mcp_send(s, msg, &(struct mcp_out){.deadline_mono_ms = clock_mono_ms()}, NULL) != OK)
		mcp_log(s, "warning", "an answer to the server was dropped: it does not read");
}

static void take_request(struct mcp_session *s, const char *method, const json_t *id)
{
	json_t *list;

	if (mcp_session_is_modern(s)) {
		AUTO_STR line = text_line(method, 100);
		mcp_log(s, "warning", "the server asks for %s: its protocol version has no such requests", line);
	} else if (strcmp(method, "ping") == 0) {
		answer(s, id, "result", json_object());
	} else if (strcmp(method, "roots/list") == 0 && s->t.roots != NULL && (list = s->t.roots(s->t.ctx)) != NULL) {
		answer(s, id, "result", json_pack("{s:o}", "roots", list));
	} else {
		json_t *e = json_object();
		json_put_int(e, "code", -32601);
		json_put(e, "message", "Method not found: this client does not offer it");
		answer(s, id, "error", e);
	}
}

/* Values must rise; others say nothing. */
static void take_progress(struct mcp_session *s, const json_t *params)
{
	const json_t *token = json_object_get(params, "progressToken"), *total = json_object_get(params, "total");
	const json_t *at = json_object_get(params, "progress");
	const char *message = json_string_value(json_object_get(params, "message"));
	struct waiting *w;

	if (!json_is_integer(token) || !json_is_number(at) || !isfinite(json_number_value(at)))
		return;
	pthread_mutex_lock(&s->lock);
	w = mcp_waiting_find(s, json_integer_value(token));
	if (w != NULL && !w->done && w->call != NULL && json_number_value(at) > w->at) {
		w->at = json_number_value(at);
		w->total = json_is_number(total) ? json_number_value(total) : -1;
		free(w->message);
		w->message = message != NULL ? text_line(message, 500) : NULL;
		w->progressed = true;
		w->deadline = MIN(w->cap, clock_mono_ms() + w->idle_ms);
		pthread_cond_signal(&w->cond);
	}
	pthread_mutex_unlock(&s->lock);
}

static void take_log(struct mcp_session *s, const json_t *params)
{
	static const char *const levels[] = {
	    "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"};
	const char *said = json_string_value(json_object_get(params, "level")), *level = "info";
	const json_t *data = json_object_get(params, "data");
	AUTO_STR text = NULL;

	for (size_t i = 0; said != NULL && i < ARRAY_LEN(levels); i++) {
		if (strcmp(levels[i], said) == 0)
			level = levels[i];
	}
	text = json_is_string(data) ? str_dup(json_string_value(data)) : json_text(data != NULL ? data : json_null());
	mcp_log(s, level, "%s", text);
}

/* A modern server says which subscription it is for. */
static bool is_for_us(struct mcp_session *s, const json_t *params)
{
	const json_t *id = json_object_get(json_object_get(params, "_meta"), "io.modelcontextprotocol/subscriptionId");
	bool yes;

	if (!mcp_session_is_modern(s) || id == NULL)
		return true;
	pthread_mutex_lock(&s->lock);
	yes = json_is_integer(id) && json_integer_value(id) == s->subscription;
	pthread_mutex_unlock(&s->lock);
	return yes;
}

static void take_notification(struct mcp_session *s, const char *method, const json_t *params)
{
	if (strcmp(method, "notifications/progress") == 0)
		take_progress(s, params);
	else if (strcmp(method, "notifications/message") == 0)
		take_log(s, params);
	else if (strcmp(method, "notifications/tools/list_changed") == 0 && s->changes && is_for_us(s, params) &&
		 s->t.tools_changed != NULL)
		s->t.tools_changed(s->t.ctx);
}

/* Its member, which is no part of the message any more: who waits has another thread, and alone counts its references.
 */
static json_t *take_member(json_t *m, const char *key)
{
	json_t *v = json_incref(json_object_get(m, key));

	json_object_del(m, key);
	return v;
}

/* An answer goes to the request with the same id, by type and value; ours are whole numbers. */
static int take_answer(struct mcp_session *s, const json_t *id, json_t *m, struct why *why)
{
	const json_t *result = json_object_get(m, "result"), *error = json_object_get(m, "error");
	struct waiting *w = NULL;
	bool taken = false;

	pthread_mutex_lock(&s->lock);
	if (json_is_integer(id))
		w = mcp_waiting_find(s, json_integer_value(id));
	if (w != NULL && !w->done) {
		taken = true;
		if ((result == NULL) == (error == NULL) || (error != NULL && !json_is_object(error)) ||
		    (result != NULL && !json_is_object(result))) {
			mcp_waiting_end(w, ERR_PROTOCOL,
			    "the MCP server's answer is broken: it has to have either an "
			    "object 'result' or an object 'error'");
		} else {
			w->result = take_member(m, "result");
			w->error = take_member(m, "error");
			mcp_waiting_end(w, OK, "");
		}
	}
	pthread_mutex_unlock(&s->lock);
	if (!taken) {
		AUTO_STR text = id != NULL ? json_text(id) : str_dup("none");
		mcp_log(s, "debug", "an answer that nobody waits for, id %s", text);
	}
	return OK;
}

bool mcp_session_refuse(struct mcp_session *s, int64_t id, const char *text, size_t len)
{
	AUTO_JSON m = NULL;
	AUTO_JSON ours = NULL;
	json_t *error, *said;

	if (json_parse(text, len, &m, NULL) != OK)
		return false;
	error = json_object_get(m, "error");
	said = json_object_get(m, "id");
	if (!json_is_integer(json_object_get(error, "code")) ||
	    (!mcp_session_is_modern(s) && !mcp_is_modern_refusal(error)))
		return false;
	/* It may not have read as far as the id. */
	if (said != NULL && !json_is_null(said) && !(json_is_integer(said) && json_integer_value(said) == id))
		return false;
	ours = json_integer(id);
	json_object_del(m, "result");
	return take_answer(s, ours, m, NULL) == OK;
}

static int take_message(struct mcp_session *s, json_t *m, struct why *why)
{
	const char *method = json_string_value(json_object_get(m, "method"));
	const json_t *id = json_object_get(m, "id");
	const char *version = json_string_value(json_object_get(m, "jsonrpc"));

	if (!json_is_object(m) || version == NULL || strcmp(version, "2.0") != 0)
		return why_set(why, ERR_PROTOCOL, "a message of the MCP server is no JSON-RPC 2.0 object");
	if (method == NULL)
		return take_answer(s, id, m, why);
	if (json_is_string(id) || json_is_integer(id))
		take_request(s, method, id);
	else if (id == NULL)
		take_notification(s, method, json_object_get(m, "params"));
	else
		return why_set(
		    why, ERR_PROTOCOL, "a request of the MCP server has an id that is neither a string nor an integer");
	return OK;
}

/* Batches came with 2025-03-26 and went with the next. Before a version is agreed on there is nothing to batch. */
static bool has_batches(struct mcp_session *s)
{
	bool yes;

	pthread_mutex_lock(&s->lock);
	yes = strcmp(s->version, "2025-03-26") == 0 || strcmp(s->version, "2024-11-05") == 0;
	pthread_mutex_unlock(&s->lock);
	return yes;
}

/* JSON may have NUL characters in texts, nothing of ours may: as U+FFFD they do no harm, and the message is not lost.
 * NULL: there are none. malloc'ed. */
static char *without_nul(const char *text, size_t len)
{
	static const char nul[] = "\\u0000", mark[] = "\\ufffd";
	char *copy = NULL;

	for (size_t i = 0; i + sizeof nul - 1 <= len; i++) {
		if (text[i] != '\\')
			continue;
		if (memcmp(text + i, nul, sizeof nul - 1) == 0) {
			if (copy == NULL)
				copy = str_ndup(text, len);
			memcpy(copy + i, mark, sizeof mark - 1);
		}
		i++; /* what is escaped */
	}
	return copy;
}

int mcp_session_receive(struct mcp_session *s, const char *text, size_t len, struct why *why)
{
	AUTO_JSON m = NULL;
	AUTO_STR clean = memmem(text, len, "\\u0000", 6) != NULL ? without_nul(text, len) : NULL;
	json_t *item;
	size_t i;
	int rc = json_parse(clean != NULL ? clean : text, len, &m, why);

	if (rc != OK)
		return rc;
	if (!json_is_array(m))
		return take_message(s, m, why);
	if (!has_batches(s))
		return why_set(
		    why, ERR_PROTOCOL, "the MCP server sent a batch, which its protocol version does not have");
	if (json_array_size(m) > BATCH_MAX)
		return why_set(why, ERR_PROTOCOL, "the MCP server sent a batch of more than %d messages", BATCH_MAX);
	json_array_foreach(m, i, item)
	{
		int one = take_message(s, item, why);

		if (rc == OK)
			rc = one;
	}
	return rc;
}
