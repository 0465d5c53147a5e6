/* The dispatcher: a call is a row before it is started. The row names its executor and the worker process that it is
 * meant for, so that after any crash it is known whether the call may still be started, is running, or was cut off with
 * an unknown outcome. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/repo_url.h"
#include "base/text.h"
#include "server/runs/background.h"
#include "server/runs/call.h"
#include "server/runs/conversation.h"
#include "server/runs/result_images.h"
#include "server/runs/mcp_tools.h"
#include "server/runs/tools.h"
#include <string.h>

METRIC_HISTOGRAM(call_seconds, "bullpen_call_seconds", "Time from the start of a call to its stored result.",
    METRIC_SECONDS, "executor", "kind", "outcome");

#define ANSWER_GRACE_MS (30 * 1000)
#define RESULT_MAX (4 * 1024 * 1024)
#define PROGRESS_MAX 200
#define PROGRESS_EVERY_MS 1000
/* An opening may be over that another thread began and that took its time: its result comes at once. */
#define TAKEN_OVER_LEAST_MS 1000

void call_fini(struct call *c)
{
	ENSURE(c->job == NULL);
	free(c->id);
	free(c->name);
	free(c->model_text);
	free(c->fault);
	free(c->args_text);
	free(c->sdk_args);
	free(c->result_text);
	free(c->sdk_result);
	free(c->progress);
	free(c->progress_stored);
	for (size_t i = 0; i < ARRAY_LEN(c->held); i++)
		redact_stream_fini(&c->held[i]);
	json_decref(c->args);
	json_decref(c->result);
	json_decref(c->detail);
}

const char *outcome_text(int outcome)
{
	static const char *const names[] = {"error", "success", "failure", "error", "rejected"};

	return outcome >= 0 && outcome < (int)ARRAY_LEN(names) ? names[outcome] : "error";
}

const struct executor *executor_by_name(const char *name)
{
	static const struct executor *const all[] = {&executor_worker, &executor_control, &executor_loop};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	return &executor_worker;
}

/* Of one of an MCP server that of the server. */
const json_t *tool_of_call(const struct loop *l, const struct call *c)
{
	return strcmp(c->name, MCP_TOOL) == 0 ? mcp_call_tool(l->all, c->args) : tool_described(l->all, c->name);
}

/* The texts of a call that are told again and again are made once. */
static void make_call_texts(const struct loop *l, struct call *c)
{
	const json_t *tool = c->kind == CALL_TOOL ? tool_of_call(l, c) : NULL;

	if (c->args_text != NULL)
		return;
	c->args_text = json_text(c->args);
	c->sdk_type = c->kind == CALL_TOOL && strcmp(c->name, MCP_TOOL) == 0 ? MCP_TOOL : json_word(tool, "sdkType");
	if (c->sdk_type[0] != '\0')
		c->sdk_args = tool_sdk_args(tool_is_mcp(tool) ? NULL : tool, c->args, STREAM_JSON_MAX);
}

static struct tool_event event_of_call(const struct call *c)
{
	return (struct tool_event){.call_id = c->id,
	    .name = c->name,
	    .args = c->args_text,
	    .outcome = c->outcome,
	    .result = c->result_text,
	    .message = json_string_value(json_object_get(c->result, "message")),
	    .output_bytes = json_string_length(json_object_get(c->result, "stdout")) +
			    json_string_length(json_object_get(c->result, "stderr")),
	    .sdk_type = c->sdk_type,
	    .sdk_args = c->sdk_args,
	    .sdk_result = c->sdk_result};
}

int call_write_down(struct loop *l, struct call *c)
{
	char incarnation[24];
	int rc;

	ENSURE(l->tx != NULL && c->executor != NULL);
	make_call_texts(l, c);
	snprintf(incarnation, sizeof incarnation, "%llx", (unsigned long long)l->run->incarnation);
	c->incarnation = l->run->incarnation;
	rc = tx_exec(l->tx,
	    "INSERT INTO tool_calls(id, loop_id, step, idx, kind, name, args, state, incarnation, fault, executor,"
	    " created_at) VALUES($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10, $11)",
	    "ssiissssssi", c->id, l->id, c->step, c->idx, call_kind_name(c->kind), c->name, c->args_text, incarnation,
	    c->fault, c->executor->name, clock_wall_ms());
	if (rc != OK || c->kind != CALL_TOOL)
		return rc;
	const struct tool_event e = event_of_call(c);

	return log_tool_call(&l->log, &e);
}

/* A result that is there already stays: the UPDATE names the pending state, and the event goes with it. */
static int write_result(struct loop *l, struct call *c)
{
	AUTO_STR detail = json_text(c->detail);
	int64_t n = 0;
	int rc = tx_change(l->tx, &n,
	    "UPDATE tool_calls SET state = 'done', outcome = $2, result = $3, model_text = $4, detail = $5, ended_at = "
	    "$6"
	    " WHERE id = $1 AND state = 'pending'",
	    "sssssi", c->id, c->outcome, c->result_text, c->model_text, detail, clock_wall_ms());

	if (rc == OK && n > 0 && c->kind == CALL_TOOL) {
		const struct tool_event e = event_of_call(c);

		rc = log_tool_call(&l->log, &e);
	}
	return rc == OK && c->also != NULL ? c->also(l, c) : rc;
}

/* How much longer a piece may get: a mark is longer than the shortest secret. */
#define TOLD_MAX ((size_t)1024 * 1024)

static int log_output(struct loop *l, const char *call_id, int stream, const struct strbuf *text)
{
	json_t *event;

	if (text->len == 0)
		return OK;
	event = json_object();
	json_put(event, "callId", call_id);
	json_put(event, "stream", stream == 2 ? "stderr" : "stdout");
	json_put_new(event, "data", json_lossy(text->data, text->len));
	return log_command_output(&l->log, event);
}

/* result and sdk are taken. */
static int calls_settle(
    struct loop *l, struct call *c, const char *outcome, json_t *result, json_t *sdk, const char *model_text)
{
	/* The text fields of a worker need not be UTF-8; everything behind this point takes it for granted. */
	AUTO_STR raw = text_to_utf8(model_text, strlen(model_text));
	AUTO_STR clean = redact_text(l->run->redactor, raw);
	const char *text = clean != NULL ? clean : raw;
	struct strbuf rest[2] = {STRBUF(TOLD_MAX), STRBUF(TOLD_MAX)};
	AUTO_JSON owned_sdk = sdk;
	AUTO_JSON images = NULL;
	int rc;

	ENSURE(!c->done);
	images = result_images_take(result);
	redact_json(l->run->redactor, &result);
	redact_json(l->run->redactor, &owned_sdk);
	for (size_t i = 0; i < ARRAY_LEN(rest); i++)
		redact_end(l->run->redactor, &c->held[i], &rest[i]);
	make_call_texts(l, c);
	c->outcome = outcome;
	c->result = result;
	c->result_text = json_text(result);
	c->sdk_result = owned_sdk != NULL ? json_text(owned_sdk) : NULL;
	c->detail = conversation_detail(result);
	if (images != NULL)
		json_object_set(c->detail, "images", images);
	c->model_text = text_cut_middle(text, strlen(text), MODEL_TEXT_MAX, NULL);
	do {
		rc = loop_begin_write(l);
		for (size_t i = 0; rc == OK && i < ARRAY_LEN(rest); i++)
			rc = log_output(l, c->id, i == 1 ? 2 : 1, &rest[i]);
		if (rc == OK)
			rc = write_result(l, c);
	} while (loop_end_write(l, &rc));
	c->done = rc == OK;
	for (size_t i = 0; i < ARRAY_LEN(rest); i++)
		strbuf_fini(&rest[i]);
	if (c->done && c->started_ms != 0)
		metric_observe(&call_seconds, (double)(clock_mono_ms() - c->started_ms) / 1000, c->executor->name,
		    call_kind_name(c->kind), outcome);
	return rc;
}

int call_reject(struct loop *l, struct call *c, const char *code, const char *message)
{
	return calls_settle(l, c, "rejected", json_pack("{s:s, s:s}", "message", message, "code", code), NULL, message);
}

static int settle_as_error(struct loop *l, struct call *c, const char *code, const char *message)
{
	return calls_settle(l, c, "error", json_pack("{s:s, s:s}", "message", message, "code", code), NULL, message);
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

/* Git names addresses as they were given to it, and a person may have put a token into one. */
static void redact_urls(json_t *result)
{
	static const char *const keys[] = {"message", "output", "repoUrl"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const char *text = json_string_value(json_object_get(result, keys[i]));
		AUTO_STR clean = text != NULL ? repo_url_redact(text) : NULL;

		if (clean != NULL)
			json_put_new(result, keys[i], json_lossy(clean, strlen(clean)));
	}
}

/* A worker is outside: a result of it is checked like any other input, and so are those of the others. */
static int take_result(struct loop *l, struct call *c, const struct fleet_msg *m)
{
	json_t *result = parse_result(m->result_json);
	const char *outcome = outcome_text(m->outcome);
	int rc;

	c->link_epoch = m->link_epoch;
	c->fitness_n = m->fitness_n;
	if (result == NULL) {
		outcome = "error";
		result = json_pack(
		    "{s:s, s:s}", "message", "the result of the call was not a JSON object", "code", "bad_result");
	}
	if (c->kind != CALL_TOOL)
		redact_urls(result);
	rc = calls_settle(l, c, outcome, result, parse_result(m->sdk_json), m->model_text != NULL ? m->model_text : "");
	if (rc == OK && c->executor->stored != NULL)
		c->executor->stored(l, c);
	return rc;
}

static int take_interruption(struct loop *l, struct call *c)
{
	int rc = settle_as_error(l, c, "interrupted",
	    "interrupted: the process that performed this call is gone; whether it took effect is unknown, so check "
	    "the "
	    "state first");

	if (rc == OK && c->executor->stored != NULL)
		c->executor->stored(l, c);
	return rc;
}

static int write_output(struct loop *l, struct call *c, const struct fleet_msg *m)
{
	struct strbuf text = STRBUF(TOLD_MAX);
	int rc;

	redact_piece(l->run->redactor, &c->held[m->stream == 2], m->data, m->len, &text);
	if (text.len == 0) {
		strbuf_fini(&text);
		return OK;
	}
	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = log_output(l, c->id, m->stream, &text);
	} while (loop_end_write(l, &rc));
	strbuf_fini(&text);
	return rc;
}

/* Told again and again: the newest is stored, at most once a second. */
static void take_progress(struct call *c, const struct fleet_msg *m)
{
	AUTO_STR text = str_ndup(m->data, m->len);

	if (c->kind != CALL_OPEN_SESSION)
		return;
	free(c->progress);
	c->progress = text_line(text, PROGRESS_MAX);
	if (c->progress_stored != NULL && strcmp(c->progress, c->progress_stored) == 0)
		str_free(&c->progress);
}

static int store_progress(struct loop *l, struct call *c)
{
	int rc;

	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = queue_say_opening(l->tx, l->run->agent->id, c->progress, clock_wall_ms());
	} while (loop_end_write(l, &rc));
	c->progress_due_ms = clock_mono_ms() + PROGRESS_EVERY_MS;
	free(c->progress_stored);
	c->progress_stored = TAKE(c->progress);
	return rc;
}

static int store_due_progress(struct loop *l, struct call *calls, size_t n)
{
	int64_t now = clock_mono_ms();
	int rc = OK;

	for (size_t i = 0; i < n && rc == OK; i++)
		if (!calls[i].done && calls[i].progress != NULL && calls[i].progress_due_ms <= now)
			rc = store_progress(l, &calls[i]);
	return rc;
}

static struct call *find_open_call(struct call *calls, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (id != NULL && strcmp(calls[i].id, id) == 0 && !calls[i].done)
			return &calls[i];
	return NULL;
}

/* Messages about calls that are none of these, or are done, mean nothing any more. */
static int calls_take_message(struct loop *l, struct call *calls, size_t n, struct fleet_msg **mp)
{
	struct fleet_msg *m = *mp;
	struct call *c = find_open_call(calls, n, m->call_id);

	/* One that names a call says that the loop behind it gave up; of a call that is done it is old news. */
	if (m->kind == FLEET_LOST && (m->call_id == NULL || c != NULL))
		return ERR_LOST;
	if (m->kind == FLEET_CANCELLED)
		return ERR_CANCELLED;
	if (m->kind == FLEET_NEWS) {
		live_take(l->run, m->data, m->len);
		return OK;
	}
	if (c == NULL) {
		IGNORE(call_routes_pass(l->run->routes, mp));
		return OK;
	}
	switch (m->kind) {
	case FLEET_OUTPUT:
		if (m->stream != 3)
			return write_output(l, c, m);
		take_progress(c, m);
		return OK;
	case FLEET_RESULT:
		return take_result(l, c, m);
	case FLEET_INTERRUPTED:
		return take_interruption(l, c);
	default:
		return OK;
	}
}

int calls_take_others(struct loop *l, struct fleet_msg **m)
{
	return calls_take_message(l, NULL, 0, m);
}

/* The earliest deadline of those that are open; false if none is. */
static bool next_deadline(const struct call *calls, size_t n, int64_t *ret)
{
	bool any = false;

	*ret = INT64_MAX;
	for (size_t i = 0; i < n; i++) {
		if (calls[i].done)
			continue;
		any = true;
		*ret = MIN(*ret, calls[i].deadline_ms);
		if (calls[i].progress != NULL)
			*ret = MIN(*ret, calls[i].progress_due_ms);
	}
	return any;
}

static int settle_late_opening(struct loop *l, struct call *c)
{
	const char *doing = c->progress != NULL ? c->progress : c->progress_stored;
	AUTO_STR text = str_printf("the session was not open within %lld s%s%s (runs.open_timeout)",
	    (long long)(l->run->runs->cfg.open_timeout_ms / 1000), doing != NULL ? ": " : "",
	    doing != NULL ? doing : "");

	return settle_as_error(l, c, "open_timeout", text);
}

/* `talking`: a message came instead of the deadline. The result may be behind it, after a stop of this process for
 * instance, so calls are left their time then; but an opening tells all the while what it is doing. */
static int abandon_overdue(struct loop *l, struct call *calls, size_t n, bool talking)
{
	int64_t now = clock_mono_ms();
	int rc = OK;

	for (size_t i = 0; i < n && rc == OK; i++) {
		if (calls[i].done || calls[i].deadline_ms > now || (talking && calls[i].kind != CALL_OPEN_SESSION))
			continue;
		calls[i].executor->abandon(l, &calls[i]);
		if (calls[i].kind == CALL_OPEN_SESSION) {
			rc = settle_late_opening(l, &calls[i]);
			continue;
		}
		rc = settle_as_error(l, &calls[i], "timeout",
		    calls[i].executor == &executor_worker ? "the worker gave no answer in time"
							  : "the call took too long");
	}
	return rc;
}

/* How long an opening that another thread began has been under way. */
static int64_t under_way_ms(const struct call *c)
{
	return c->written_at != 0 ? MAX(clock_wall_ms() - c->written_at, 0) : 0;
}

static void start_call(struct loop *l, struct call *c)
{
	int64_t limit = c->executor->limit_ms(l, c);

	make_call_texts(l, c);
	c->started_ms = clock_mono_ms();
	c->deadline_ms = c->started_ms + limit + ANSWER_GRACE_MS;
	if (c->kind == CALL_OPEN_SESSION)
		c->deadline_ms = c->started_ms + MAX(limit - under_way_ms(c), TAKEN_OVER_LEAST_MS);
	c->executor->start(l, c);
}

/* Whatever ends the wait early, no executor may be left with a thread that still uses the loop. */
static void leave_open_calls(struct loop *l, struct call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!calls[i].done && calls[i].executor->leave != NULL)
			calls[i].executor->leave(l, &calls[i]);
}

int calls_perform(struct loop *l, struct call *calls, size_t n)
{
	int64_t deadline;
	int rc = OK;

	/* A call waits for others: nobody else may wait for this thread meanwhile. */
	ENSURE(!tx_write_is_open());
	ENSURE_THREAD(l->thread);
	for (size_t i = 0; i < n; i++)
		if (!calls[i].done)
			start_call(l, &calls[i]);
	while (rc == OK && next_deadline(calls, n, &deadline)) {
		void *msg = NULL;
		int got = mailbox_receive(l->inbox, deadline, &msg);
		struct fleet_msg *m = msg;

		if (got == OK)
			rc = calls_take_message(l, calls, n, &m);
		else if (got != ERR_TIMEOUT)
			rc = ERR_LOST;
		fleet_msg_free(&m);
		background_reap(l);
		if (rc == OK)
			rc = store_due_progress(l, calls, n);
		if (rc == OK)
			rc = abandon_overdue(l, calls, n, got == OK);
	}
	if (rc != OK)
		leave_open_calls(l, calls, n);
	return rc;
}
