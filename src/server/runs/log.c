/* The event log: rows of one run in one total order. Ids are "<unix ms>-<n>", strictly increasing in a run whatever the
 * clock does. A row with a twin is sent as two frames with the same id, the simplified one first. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/runs/runs_priv.h"
#include <string.h>

const char *const event_names[] = {"assistant", "thinking", "tool_call", "interaction_update", "result"};

int log_append(struct tx *tx, const char *run_id, enum event_kind kind, json_t *data, json_t *twin)
{
	AUTO_JSON owned_data = data;
	AUTO_JSON owned_twin = twin;
	AUTO_STR data_text = json_text(data);
	AUTO_STR twin_text = twin != NULL ? json_text(twin) : NULL;
	AUTO(query) q = NULL;
	int64_t seq, ms, n;
	int rc = tx_query(tx, &q,
	    "UPDATE runs SET last_seq = last_seq + 1,"
	    " last_n = CASE WHEN last_ms >= $2 THEN last_n + 1 ELSE 0 END,"
	    " last_ms = CASE WHEN last_ms >= $2 THEN last_ms ELSE $2 END"
	    " WHERE id = $1 RETURNING last_seq, last_ms, last_n",
	    "si", run_id, clock_wall_ms());

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	seq = query_int(q, 0);
	ms = query_int(q, 1);
	n = query_int(q, 2);
	query_free(&q);
	return tx_exec(tx,
	    "INSERT INTO events(run_id, seq, id_ms, id_n, kind, data, twin) VALUES($1, $2, $3, $4, $5, $6, $7)",
	    "siiisss", run_id, seq, ms, n, event_names[kind], data_text, twin_text);
}

int log_update(struct tx *tx, const char *run_id, json_t *data)
{
	return log_append(tx, run_id, EV_UPDATE, data, NULL);
}

/* Puts v under key unless its text is too long for the stream; then flags it. */
static void put_limited(json_t *data, const char *key, const json_t *v)
{
	AUTO_STR text = json_text(v);
	json_t *flags;

	if (strlen(text) <= STREAM_JSON_MAX) {
		json_object_set(data, key, (json_t *)v);
		return;
	}
	flags = json_object_get(data, "truncated");
	if (flags == NULL) {
		flags = json_object();
		json_put_new(data, "truncated", flags);
	}
	json_put_bool(flags, key, true);
}

static bool is_good(const char *outcome)
{
	return strcmp(outcome, "success") == 0 || strcmp(outcome, "failure") == 0;
}

/* The client library validates what it gets and drops what is not complete, so args are always there. */
static json_t *twin_call(
    const json_t *tool, const json_t *args, const char *outcome, const json_t *result, const json_t *sdk_result)
{
	json_t *call = json_object();

	json_put(call, "type", tool_word(tool, "sdkType"));
	json_put_new(call, "args", tool_sdk_args(tool, args, STREAM_JSON_MAX));
	if (outcome == NULL)
		return call;
	if (is_good(outcome)) {
		AUTO_STR text = json_text(sdk_result != NULL ? sdk_result : result);

		if (strlen(text) <= STREAM_JSON_MAX)
			json_put_new(call, "result",
			    json_pack(
				"{s:s, s:O}", "status", "success", "value", sdk_result != NULL ? sdk_result : result));
	} else {
		const char *message = json_string_value(json_object_get(result, "message"));

		json_put_new(call, "result",
		    json_pack(
			"{s:s, s:{s:s}}", "status", "error", "error", "message", message != NULL ? message : outcome));
	}
	return call;
}

int log_tool_call(struct tx *tx, const char *run_id, const char *call_id, const char *name, const json_t *tools,
    const json_t *args, const char *outcome, const json_t *result, const json_t *sdk_result)
{
	const json_t *tool = tool_described(tools, name);
	json_t *data = json_object(), *twin = NULL;

	json_put(data, "callId", call_id);
	json_put(data, "name", name);
	json_put(data, "status", outcome == NULL ? "running" : "completed");
	put_limited(data, "args", args);
	if (outcome != NULL) {
		AUTO_JSON envelope = json_object();

		json_object_set(envelope, is_good(outcome) ? "success" : "error", (json_t *)result);
		put_limited(data, "result", envelope);
	}
	if (tool_word(tool, "sdkType")[0] != '\0') {
		twin = json_object();
		json_put(twin, "type", outcome == NULL ? "tool-call-started" : "tool-call-completed");
		json_put(twin, "callId", call_id);
		json_put(twin, "modelCallId", "");
		json_put_new(twin, "toolCall", twin_call(tool, args, outcome, result, sdk_result));
	}
	return log_append(tx, run_id, EV_TOOL_CALL, data, twin);
}
