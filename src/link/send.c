/* The sequenced frames: into the list of unacknowledged ones, from where link_out() takes them. */
#include "base/mem.h"
#include "base/text.h"
#include "link/link_priv.h"
#include <string.h>

/* Room for the acknowledgement that is added when the frame goes out. */
#define ACK_FIELD_BYTES 16

static int enqueue(struct link *l, enum link_role role, enum frame_body body, const ProtobufCMessage *m)
{
	struct why why;
	uint8_t *bytes;
	size_t len;
	int rc;

	OBJ_CHECK(l, LINK_MAGIC);
	ENSURE(l->cfg.role == role);
	rc = frame_check(body, m, &why);
	if (rc != OK)
		return rc;
	bytes = frame_encode(role, l->unacked.last + 1, body, m, &len);
	if (len > l->cfg.max_message - ACK_FIELD_BYTES) {
		free(bytes);
		return ERR_TOO_LARGE;
	}
	unacked_add(&l->unacked, bytes, len);
	return OK;
}

int link_send_call(struct link *l, const Bullpen__Worker__V1__Call *m)
{
	return enqueue(l, LINK_SERVER, BODY_CALL, &m->base);
}

int link_send_result(struct link *l, const Bullpen__Worker__V1__CallResult *m)
{
	return enqueue(l, LINK_WORKER, BODY_RESULT, &m->base);
}

void link_send_cancel(struct link *l, const char *call_id)
{
	Bullpen__Worker__V1__CancelCall m = BULLPEN__WORKER__V1__CANCEL_CALL__INIT;

	m.call_id = (char *)(uintptr_t)call_id;
	ENSURE(enqueue(l, LINK_SERVER, BODY_CANCEL, &m.base) == OK);
}

void link_send_result_ack(struct link *l, const char *call_id)
{
	Bullpen__Worker__V1__ResultAck m = BULLPEN__WORKER__V1__RESULT_ACK__INIT;

	m.call_id = (char *)(uintptr_t)call_id;
	ENSURE(enqueue(l, LINK_SERVER, BODY_RESULT_ACK, &m.base) == OK);
}

void link_send_release(struct link *l, const char *reason, bool exit)
{
	Bullpen__Worker__V1__Release m = BULLPEN__WORKER__V1__RELEASE__INIT;

	m.reason = (char *)(uintptr_t)reason;
	m.exit = exit;
	ENSURE(enqueue(l, LINK_SERVER, BODY_RELEASE, &m.base) == OK);
}

int link_send_output(struct link *l, const char *call_id, int stream, const void *data, size_t len)
{
	Bullpen__Worker__V1__CallOutput m = BULLPEN__WORKER__V1__CALL_OUTPUT__INIT;

	if (len > l->cfg.unacked_bytes || l->unacked.bytes > l->cfg.unacked_bytes - len)
		return ERR_FULL;
	m.call_id = (char *)(uintptr_t)call_id;
	m.stream = (uint32_t)stream;
	m.data.data = (uint8_t *)(uintptr_t)data;
	m.data.len = len;
	return enqueue(l, LINK_WORKER, BODY_OUTPUT, &m.base);
}

void link_send_going_away_reply(struct link *l, bool stay)
{
	Bullpen__Worker__V1__GoingAwayReply m = BULLPEN__WORKER__V1__GOING_AWAY_REPLY__INIT;

	m.stay = stay;
	ENSURE(enqueue(l, LINK_SERVER, BODY_GOING_AWAY_REPLY, &m.base) == OK);
}

void link_send_going_away(struct link *l, const char *reason, bool idle)
{
	Bullpen__Worker__V1__GoingAway m = BULLPEN__WORKER__V1__GOING_AWAY__INIT;

	m.reason = (char *)(uintptr_t)reason;
	m.idle = idle;
	ENSURE(enqueue(l, LINK_WORKER, BODY_GOING_AWAY, &m.base) == OK);
}

void link_send_fitness(struct link *l, const char *code, const char *reason)
{
	Bullpen__Worker__V1__Fitness m = BULLPEN__WORKER__V1__FITNESS__INIT;
	AUTO_STR short_code = str_ndup(code, text_utf8_cut(code, strlen(code), FRAME_MAX_FITNESS_CODE));
	AUTO_STR short_reason = str_ndup(reason, text_utf8_cut(reason, strlen(reason), FRAME_MAX_FITNESS_REASON));

	m.code = short_code;
	m.reason = short_reason;
	ENSURE(enqueue(l, LINK_WORKER, BODY_FITNESS, &m.base) == OK);
}

int link_send_session_news(struct link *l, const char *agent_id, const char *claim_id, const char *news_json)
{
	Bullpen__Worker__V1__SessionNews m = BULLPEN__WORKER__V1__SESSION_NEWS__INIT;

	m.agent_id = (char *)(uintptr_t)agent_id;
	m.claim_id = (char *)(uintptr_t)claim_id;
	m.news_json = (char *)(uintptr_t)news_json;
	return enqueue(l, LINK_WORKER, BODY_SESSION_NEWS, &m.base);
}

size_t link_unacked_bytes(const struct link *l)
{
	return l->unacked.bytes;
}
