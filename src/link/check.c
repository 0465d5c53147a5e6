/* The bounds of every message, for both directions: what we would refuse to receive we refuse to send. */
#include "base/text.h"
#include "link/frame.h"
#include <string.h>

/* `big` members are bounded by the message they are in. */
static int check_field_text(const char *name, const char *s, bool big, struct why *why)
{
	size_t len = s != NULL ? strlen(s) : 0;

	if (!big && len > FRAME_MAX_STRING)
		return why_set(why, ERR_TOO_LARGE, "%s is longer than %d bytes", name, FRAME_MAX_STRING);
	if (!text_is_utf8(s, len))
		return why_set(why, ERR_INVALID, "%s is not UTF-8", name);
	return OK;
}

/* Ids are kept and repeated, so they are short. */
static int check_id(const char *name, const char *s, struct why *why)
{
	if (s != NULL && strlen(s) > FRAME_MAX_ID)
		return why_set(why, ERR_TOO_LARGE, "%s is longer than %d bytes", name, FRAME_MAX_ID);
	return check_field_text(name, s, false, why);
}

static int check_call_id(const char *s, struct why *why)
{
	if (s == NULL || s[0] == '\0')
		return why_set(why, ERR_INVALID, "call_id is empty");
	return check_id("call_id", s, why);
}

struct named {
	const char *name, *text;
};

static int check_texts(const struct named *t, size_t n, struct why *why)
{
	int rc = OK;

	for (size_t i = 0; i < n && rc == OK; i++)
		rc = check_field_text(t[i].name, t[i].text, false, why);
	return rc;
}

static int check_count(const char *name, size_t n, size_t max, struct why *why)
{
	return n <= max ? OK : why_set(why, ERR_TOO_LARGE, "%zu %s, at most %zu are possible", n, name, max);
}

static int check_fitness(const Bullpen__Worker__V1__Fitness *m, struct why *why)
{
	if (m->code[0] != '\0' && !text_is_token(m->code, "._-", FRAME_MAX_FITNESS_CODE))
		return why_set(why, ERR_INVALID, "fitness.code must be at most %d characters of A-Z a-z 0-9 . _ -",
		    FRAME_MAX_FITNESS_CODE);
	if (strlen(m->reason) > FRAME_MAX_FITNESS_REASON)
		return why_set(why, ERR_TOO_LARGE, "fitness.reason is longer than %d bytes", FRAME_MAX_FITNESS_REASON);
	return check_field_text("fitness.reason", m->reason, false, why);
}

static int check_hello_lists(const Bullpen__Worker__V1__Hello *m, struct why *why)
{
	int rc = OK;

	for (size_t i = 0; i < m->n_roots && rc == OK; i++) {
		const struct named t[] = {{"roots.path", m->roots[i]->path},
		    {"roots.remote_url", m->roots[i]->remote_url}, {"roots.host", m->roots[i]->host},
		    {"roots.repo", m->roots[i]->repo}};

		rc = check_texts(t, ARRAY_LEN(t), why);
	}
	for (size_t i = 0; i < m->n_calls && rc == OK; i++)
		rc = check_call_id(m->calls[i]->call_id, why);
	for (size_t i = 0; i < m->n_labels && rc == OK; i++) {
		const struct named t[] = {{"labels.key", m->labels[i]->key}, {"labels.value", m->labels[i]->value}};

		rc = check_texts(t, ARRAY_LEN(t), why);
	}
	for (size_t i = 0; i < m->n_sessions && rc == OK; i++) {
		rc = check_id("sessions.agent_id", m->sessions[i]->agent_id, why);
		if (rc == OK)
			rc = check_id("sessions.claim_id", m->sessions[i]->claim_id, why);
	}
	for (size_t i = 0; i < m->n_capabilities && rc == OK; i++)
		rc = check_id("capabilities", m->capabilities[i], why);
	return rc;
}

static int check_hello_fields(const Bullpen__Worker__V1__Hello *m, struct why *why)
{
	const struct named t[] = {{"worker_id", m->worker_id}, {"name", m->name}, {"pool", m->pool},
	    {"version", m->version}, {"os", m->os}, {"arch", m->arch}, {"tools_hash", m->tools_hash}, {"host", m->host},
	    {"isolation", m->isolation}};

	if (m->incarnation == 0)
		return why_set(why, ERR_INVALID, "incarnation is 0");
	if (protobuf_c_message_get_packed_size(&m->base) > FRAME_MAX_HELLO)
		return why_set(why, ERR_TOO_LARGE, "the hello is larger than %d bytes", FRAME_MAX_HELLO);
	if (check_count("roots", m->n_roots, FRAME_MAX_ROOTS, why) != OK ||
	    check_count("calls", m->n_calls, FRAME_MAX_CALLS, why) != OK ||
	    check_count("labels", m->n_labels, FRAME_MAX_LABELS, why) != OK ||
	    check_count("sessions", m->n_sessions, FRAME_MAX_SESSIONS, why) != OK ||
	    check_count("capabilities", m->n_capabilities, FRAME_MAX_CAPABILITIES, why) != OK)
		return ERR_TOO_LARGE;
	int rc = check_texts(t, ARRAY_LEN(t), why);

	if (rc == OK)
		rc = check_field_text("tools_json", m->tools_json, true, why);
	if (rc == OK)
		rc = check_id("agent_id", m->agent_id, why);
	if (rc == OK)
		rc = check_id("session_claim_id", m->session_claim_id, why);
	if (rc == OK && m->fitness != NULL)
		rc = check_fitness(m->fitness, why);
	return rc == OK ? check_hello_lists(m, why) : rc;
}

static int check_call(const Bullpen__Worker__V1__Call *m, struct why *why)
{
	int rc = check_call_id(m->call_id, why);

	if (rc == OK)
		rc = check_id("agent_id", m->agent_id, why);
	if (rc == OK)
		rc = check_id("run_id", m->run_id, why);
	if (rc == OK)
		rc = check_id("claim_id", m->claim_id, why);
	if (rc == OK)
		rc = check_field_text("name", m->name, false, why);
	/* A kind that is newer than this program passes: the worker answers the call with an error. */
	if (rc == OK)
		rc = check_field_text("arguments_json", m->arguments_json, true, why);
	if (rc == OK)
		rc = check_field_text("env_json", m->env_json, true, why);
	if (rc == OK)
		rc = check_field_text("mcp_json", m->mcp_json, true, why);
	return rc == OK ? check_field_text("hook_json", m->hook_json, true, why) : rc;
}

static int check_session_news(const Bullpen__Worker__V1__SessionNews *m, struct why *why)
{
	int rc = check_id("agent_id", m->agent_id, why);

	if (rc == OK)
		rc = check_id("claim_id", m->claim_id, why);
	if (rc == OK && strlen(m->news_json) > FRAME_MAX_NEWS)
		rc = why_set(why, ERR_TOO_LARGE, "news_json is longer than %d bytes", FRAME_MAX_NEWS);
	return rc == OK ? check_field_text("news_json", m->news_json, true, why) : rc;
}

static int check_result(const Bullpen__Worker__V1__CallResult *m, struct why *why)
{
	int rc = check_call_id(m->call_id, why);

	if (rc == OK)
		rc = check_field_text("result_json", m->result_json, true, why);
	if (rc == OK)
		rc = check_field_text("model_text", m->model_text, true, why);
	return rc == OK ? check_field_text("sdk_json", m->sdk_json, true, why) : rc;
}

static int check_refuse(const Bullpen__Worker__V1__Refuse *m, struct why *why)
{
	const struct named t[] = {{"code", m->code}, {"message", m->message}};

	return check_texts(t, ARRAY_LEN(t), why);
}

int frame_check(enum frame_body body, const ProtobufCMessage *m, struct why *why)
{
	switch (body) {
	case BODY_HELLO:
		return check_hello_fields((const Bullpen__Worker__V1__Hello *)m, why);
	case BODY_REFUSE:
		return check_refuse((const Bullpen__Worker__V1__Refuse *)m, why);
	case BODY_CALL:
		return check_call((const Bullpen__Worker__V1__Call *)m, why);
	case BODY_CANCEL:
		return check_call_id(((const Bullpen__Worker__V1__CancelCall *)m)->call_id, why);
	case BODY_RESULT_ACK:
		return check_call_id(((const Bullpen__Worker__V1__ResultAck *)m)->call_id, why);
	case BODY_RELEASE:
		return check_field_text("reason", ((const Bullpen__Worker__V1__Release *)m)->reason, false, why);
	case BODY_OUTPUT:
		return check_call_id(((const Bullpen__Worker__V1__CallOutput *)m)->call_id, why);
	case BODY_RESULT:
		return check_result((const Bullpen__Worker__V1__CallResult *)m, why);
	case BODY_GOING_AWAY:
		return check_field_text("reason", ((const Bullpen__Worker__V1__GoingAway *)m)->reason, false, why);
	case BODY_FITNESS:
		return check_fitness((const Bullpen__Worker__V1__Fitness *)m, why);
	case BODY_SESSION_NEWS:
		return check_session_news((const Bullpen__Worker__V1__SessionNews *)m, why);
	case BODY_GOING_AWAY_REPLY:
	case BODY_WELCOME:
	case BODY_HEARTBEAT:
	case BODY_NONE:
		return OK;
	}
	return OK;
}
