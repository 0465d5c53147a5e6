/* Calls to the worker. A call is a row before it is sent; the row names the worker process it is meant for, so that
 * after any crash it is known whether it may still be sent, is running, or was cut off with an unknown outcome. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/run_thread_priv.h"
#include <string.h>

#define READ_LIMIT_MS (120 * 1000)
#define OTHER_LIMIT_MS (65 * 60 * 1000)
#define ANSWER_GRACE_MS (30 * 1000)
#define RESULT_MAX (4 * 1024 * 1024)

void call_fini(struct call *c)
{
	free(c->id);
	free(c->name);
	free(c->model_text);
	free(c->fault);
	free(c->args_text);
	free(c->sdk_args);
	free(c->result_text);
	free(c->sdk_result);
	json_decref(c->args);
	json_decref(c->result);
	json_decref(c->detail);
}

const char *outcome_text(int outcome)
{
	static const char *const names[] = {"error", "success", "failure", "error", "rejected"};

	return outcome >= 0 && outcome < (int)ARRAY_LEN(names) ? names[outcome] : "error";
}

const char *tool_field(const struct run *r, const char *name, const char *field)
{
	return tool_word(tool_described(r->tools, name), field);
}

/* What is told of a call again and again: as text, once. */
static void make_texts(const struct run *r, struct call *c)
{
	const json_t *tool = c->kind == CALL_TOOL ? tool_described(r->tools, c->name) : NULL;

	if (c->args_text != NULL)
		return;
	c->args_text = json_text(c->args);
	c->sdk_type = tool_word(tool, "sdkType");
	if (c->sdk_type[0] != '\0')
		c->sdk_args = tool_sdk_args(tool, c->args, STREAM_JSON_MAX);
}

static struct tool_event event_of(const struct call *c)
{
	return (struct tool_event){.call_id = c->id,
	    .name = c->name,
	    .args = c->args_text,
	    .outcome = c->outcome,
	    .result = c->result_text,
	    .message = json_string_value(json_object_get(c->result, "message")),
	    .sdk_type = c->sdk_type,
	    .sdk_args = c->sdk_args,
	    .sdk_result = c->sdk_result};
}

int call_write_down(struct run *r, struct tx *tx, struct call *c)
{
	char incarnation[24];
	int rc;

	make_texts(r, c);
	snprintf(incarnation, sizeof incarnation, "%llx", (unsigned long long)r->incarnation);
	c->incarnation = r->incarnation;
	rc = tx_exec(tx,
	    "INSERT INTO tool_calls(id, run_id, step, idx, kind, name, args, state, incarnation, fault, created_at)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10)",
	    "ssiisssssi", c->id, r->info->id, c->step, c->idx, call_kind_text(c->kind), c->name, c->args_text,
	    incarnation, c->fault, clock_wall_ms());
	if (rc != OK || c->kind != CALL_TOOL)
		return rc;
	const struct tool_event e = event_of(c);

	return log_tool_call(r->log, &e);
}

static int64_t limit_of(const struct run *r, const struct call *c)
{
	if (c->kind == CALL_TOOL && strcmp(tool_field(r, c->name, "class"), "read") == 0)
		return READ_LIMIT_MS;
	return OTHER_LIMIT_MS;
}

static void send_call(struct run *r, struct call *c)
{
	make_texts(r, c);
	const struct fleet_call call = {
	    .kind = c->kind,
	    .call_id = c->id,
	    .agent_id = r->agent->id,
	    .run_id = r->info->id,
	    .incarnation = c->incarnation,
	    .limit_ms = limit_of(r, c),
	    .claim_id = r->claim.id,
	    .name = c->kind == CALL_TOOL ? c->name : "",
	    .arguments_json = c->args_text,
	    .forget_rules = c->kind == CALL_TOOL && r->forget_rules,
	};

	fleet_call(r->runs->fleet, r->agent->team_id, r->claim.worker_id, &call);
	if (c->kind == CALL_TOOL)
		r->forget_rules = false;
}

static int write_result(struct run *r, struct tx *tx, void *arg)
{
	struct call *c = arg;
	AUTO_STR detail = json_text(c->detail);
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE tool_calls SET state = 'done', outcome = $2, result = $3, model_text = $4, detail = $5, ended_at = "
	    "$6"
	    " WHERE id = $1 AND state = 'pending'",
	    "sssssi", c->id, c->outcome, c->result_text, c->model_text, detail, clock_wall_ms());

	if (rc == OK && n > 0 && c->kind == CALL_TOOL) {
		const struct tool_event e = event_of(c);

		rc = log_tool_call(r->log, &e);
	}
	return rc == OK && c->also != NULL ? c->also(r, tx, c) : rc;
}

/* result and sdk are taken. */
static int settle(
    struct run *r, struct call *c, const char *outcome, json_t *result, json_t *sdk, const char *model_text)
{
	/* A worker's text fields need not be UTF-8; everything behind this point takes it for granted. */
	AUTO_STR text = text_to_utf8(model_text, strlen(model_text));
	AUTO_JSON owned_sdk = sdk;
	int rc;

	make_texts(r, c);
	c->outcome = outcome;
	c->result = result;
	c->result_text = json_text(result);
	c->sdk_result = sdk != NULL ? json_text(sdk) : NULL;
	c->detail = conversation_detail(result);
	c->model_text = text_cut_middle(text, strlen(text), MODEL_TEXT_MAX, NULL);
	rc = run_write(r, write_result, c);
	c->done = rc == OK;
	return rc;
}

int call_reject(struct run *r, struct call *c, const char *code, const char *message)
{
	return settle(r, c, "rejected", json_pack("{s:s, s:s}", "message", message, "code", code), NULL, message);
}

static json_t *parse_result(const char *text)
{
	json_t *j = NULL;

	if (text == NULL || text[0] == '\0' || strlen(text) > RESULT_MAX)
		return NULL;
	if (json_parse(text, strlen(text), &j, NULL) != OK)
		return NULL;
	if (!json_is_object(j))
		json_drop(&j);
	return j;
}

/* A worker is outside: what it sends as a result is checked like any other input. */
static int take_result(struct run *r, struct call *c, const struct fleet_msg *m)
{
	json_t *result = parse_result(m->result_json);
	const char *outcome = outcome_text(m->outcome);
	int rc;

	if (result == NULL) {
		outcome = "error";
		result = json_pack(
		    "{s:s, s:s}", "message", "the worker's result was not a JSON object", "code", "bad_result");
	}
	rc = settle(r, c, outcome, result, parse_result(m->sdk_json), m->model_text != NULL ? m->model_text : "");
	if (rc == OK)
		fleet_result_stored(r->runs->fleet, r->agent->team_id, r->claim.worker_id, c->id);
	return rc;
}

static int settle_error(struct run *r, struct call *c, const char *code, const char *message)
{
	return settle(r, c, "error", json_pack("{s:s, s:s}", "message", message, "code", code), NULL, message);
}

static int write_output(struct run *r, struct tx *tx, void *arg)
{
	const struct fleet_msg *m = arg;
	json_t *event = json_object();

	json_put(event, "callId", m->call_id);
	json_put(event, "stream", m->stream == 2 ? "stderr" : "stdout");
	json_put_new(event, "data", json_lossy(m->data, m->len));
	return log_update(r->log, json_pack("{s:s, s:o}", "type", "shell-output-delta", "event", event));
}

static struct call *find(struct call *calls, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (id != NULL && strcmp(calls[i].id, id) == 0 && !calls[i].done)
			return &calls[i];
	return NULL;
}

static int take_msg(struct run *r, struct call *calls, size_t n, const struct fleet_msg *m)
{
	struct call *c = find(calls, n, m->call_id);

	switch (m->kind) {
	case FLEET_LOST:
		return ERR_LOST;
	case FLEET_CANCELLED:
		return ERR_CANCELLED;
	case FLEET_OUTPUT:
		return c == NULL ? OK : run_write(r, write_output, (void *)m);
	case FLEET_RESULT:
		return c == NULL ? OK : take_result(r, c, m);
	case FLEET_INTERRUPTED:
		return c == NULL
			   ? OK
			   : settle_error(r, c, "interrupted",
				 "interrupted: the worker process that performed this call is gone; whether it took "
				 "effect is unknown, so check the state first");
	case FLEET_ATTACHED:
		break;
	}
	return OK;
}

static size_t count_open(const struct call *calls, size_t n)
{
	size_t open = 0;

	for (size_t i = 0; i < n; i++)
		open += !calls[i].done;
	return open;
}

static int give_up(struct run *r, struct call *calls, size_t n)
{
	int rc = OK;

	for (size_t i = 0; i < n && rc == OK; i++) {
		if (calls[i].done)
			continue;
		fleet_abandon_call(r->runs->fleet, r->agent->team_id, r->claim.worker_id, calls[i].id);
		rc = settle_error(r, &calls[i], "timeout", "the worker gave no answer in time");
	}
	return rc;
}

int calls_perform(struct run *r, struct call *calls, size_t n)
{
	int64_t limit = 0;
	int rc = OK;

	for (size_t i = 0; i < n; i++) {
		if (calls[i].done)
			continue;
		limit = MAX(limit, limit_of(r, &calls[i]));
		send_call(r, &calls[i]);
	}
	limit += clock_mono_ms() + ANSWER_GRACE_MS;
	while (rc == OK && count_open(calls, n) > 0) {
		void *msg = NULL;
		int got = mailbox_receive(r->inbox, limit, &msg);
		struct fleet_msg *m = msg;

		if (got == ERR_TIMEOUT)
			return give_up(r, calls, n);
		if (got != OK)
			return ERR_LOST;
		rc = take_msg(r, calls, n, m);
		fleet_msg_free(&m);
	}
	return rc;
}
