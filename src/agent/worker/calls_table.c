/* The entries: from message to job, from job to result. */
#include "agent/worker/calls_priv.h"
#include "agent/worker/result_fit.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Below the link's 4 MiB. */
#define MAX_RESULT ((size_t)3584 * 1024)
/* A tool that overran its limit by so much is cancelled. */
#define LIMIT_SLACK_MS 2000

struct call_entry *call_add(struct calls *c, const char *call_id)
{
	struct call_entry *call = NEW(struct call_entry);

	call->owner = c;
	call->give_up_ms = INT64_MAX;
	call->job = (struct job){.call_id = str_dup(call_id),
	    .agent_id = str_dup(""),
	    .claim_id = str_dup(""),
	    .name = str_dup(""),
	    .arguments_json = str_dup(""),
	    .deadline_mono_ms = INT64_MAX,
	    .cancel_fd = -1,
	    .sessions = c->cfg.sessions,
	    .clones_dir = c->cfg.clones_dir,
	    .takes_env = c->cfg.takes_env,
	    .hooks = c->cfg.hooks,
	    .endpoint = c->cfg.endpoint,
	    .base_session = c->cfg.session};
	if (c->tail != NULL)
		c->tail->next = call;
	else
		c->head = call;
	c->tail = call;
	c->n++;
	return call;
}

void call_set_state(struct call_entry *call, enum call_state state)
{
	ENSURE(state > call->state);
	call->state = state;
}

struct call_entry *call_find(const struct calls *c, const char *call_id)
{
	for (struct call_entry *call = c->head; call != NULL; call = call->next)
		if (!call->internal && strcmp(call->job.call_id, call_id) == 0)
			return call;
	return NULL;
}

void call_remove(struct calls *c, struct call_entry *call)
{
	struct call_entry **at = &c->head, *before = NULL;

	ENSURE(call->state != CALL_RUNNING);
	for (; *at != call; at = &(*at)->next)
		before = *at;
	*at = call->next;
	if (c->tail == call)
		c->tail = before;
	c->n--;
	c->kept_bytes -= call->kept_bytes;
	if (call->job.cancel_fd >= 0)
		close(call->job.cancel_fd);
	outflow_free(&call->out);
	job_fini(&call->job);
	free(call);
}

bool call_is_past(const struct calls *c, const char *call_id)
{
	for (size_t i = 0; i < CALLS_PAST; i++)
		if (c->past[i] != NULL && strcmp(c->past[i], call_id) == 0)
			return true;
	return false;
}

void call_remember(struct calls *c, const char *call_id)
{
	str_set(&c->past[c->past_next], call_id);
	c->past_next = (c->past_next + 1) % CALLS_PAST;
}

void call_read(struct call_entry *call, const Bullpen__Worker__V1__Call *m, int64_t now_mono_ms)
{
	struct job *j = &call->job;

	str_set(&j->agent_id, m->agent_id);
	if (m->limit_ms > 0 && m->limit_ms < (uint64_t)(INT64_MAX - now_mono_ms - LIMIT_SLACK_MS)) {
		j->deadline_mono_ms = now_mono_ms + (int64_t)m->limit_ms;
		call->give_up_ms = j->deadline_mono_ms + LIMIT_SLACK_MS;
	}
	j->handler = call_handler_find(m->kind);
	str_set(&j->claim_id, m->claim_id);
	str_set(&j->name, m->name);
	str_set(&j->arguments_json, m->arguments_json);
	if (j->takes_env)
		str_set(&j->env_json, m->env_json);
	if (m->mcp_json[0] != '\0')
		str_set(&j->mcp_json, m->mcp_json);
	if (m->hook_json[0] != '\0')
		str_set(&j->hook_json, m->hook_json);
	j->forget_rules = m->forget_rules;
}

static size_t outcome_bytes(const struct job *j)
{
	return strlen(j->result_json) + strlen(j->model_text) + (j->sdk_json != NULL ? strlen(j->sdk_json) : 0);
}

static void complete_outcome(struct job *j)
{
	if (j->outcome < TOOL_SUCCESS || j->outcome > TOOL_REJECTED)
		job_error(j, "internal", "the tool gave no result");
	if (j->result_json == NULL)
		j->result_json = str_dup("{}");
	if (j->model_text == NULL)
		j->model_text = str_dup("");
	if (!text_is_utf8(j->model_text, strlen(j->model_text))) {
		char *clean = text_to_utf8(j->model_text, strlen(j->model_text));

		free(j->model_text);
		j->model_text = clean;
	}
	if (outcome_bytes(j) > MAX_RESULT)
		str_free(&j->sdk_json);
	/* What was done was done: the outcome stays, the result is cut. */
	if (outcome_bytes(j) > MAX_RESULT && strlen(j->model_text) <= MAX_RESULT / 2)
		IGNORE(result_fit(&j->result_json, MAX_RESULT - strlen(j->model_text)));
	if (outcome_bytes(j) > MAX_RESULT)
		job_error(j, "result_too_large", "the result is larger than %zu bytes", MAX_RESULT);
}

void call_send_result(struct calls *c, struct call_entry *call)
{
	Bullpen__Worker__V1__CallResult m = BULLPEN__WORKER__V1__CALL_RESULT__INIT;
	struct job *j = &call->job;

	complete_outcome(j);
	for (int attempt = 0; attempt < 2; attempt++) {
		m.call_id = j->call_id;
		m.outcome = (Bullpen__Worker__V1__CallResult__Outcome)j->outcome;
		m.result_json = j->result_json;
		m.model_text = j->model_text;
		m.sdk_json = j->sdk_json != NULL ? j->sdk_json : (char *)(uintptr_t) "";
		m.duration_ms = call->duration_ms;
		if (c->cfg.send_result(c->cfg.ctx, &m) == OK)
			break;
		job_error(j, "bad_result", "the result cannot be sent");
	}
	c->kept_bytes -= call->kept_bytes;
	call->kept_bytes = outcome_bytes(j);
	c->kept_bytes += call->kept_bytes;
}
