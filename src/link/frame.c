#include "link/frame.h"
#include "base/mem.h"
#include "base/text.h"
#include "link/wire.h"
#include "net/grpc.h"
#include <string.h>

#define DECODE_SLACK (1024 * 1024)

bool frame_is_sequenced(enum frame_body body)
{
	return body >= BODY_CALL;
}

/* Many tiny repeated members can ask for thirty times their size on the wire; the budget ends that. */
static void *budget_alloc(void *ctx, size_t size)
{
	size_t *left = ctx;

	if (size > *left)
		return NULL;
	*left -= size;
	return mem_alloc(size);
}

static void budget_release(void *ctx, void *p)
{
	free(p);
}

static ProtobufCAllocator plain_allocator = {.alloc = NULL, .free = budget_release};

static void take_worker_frame(struct frame *f, const Bullpen__Worker__V1__WorkerFrame *w)
{
	f->seq = w->seq;
	f->ack = w->ack;
	switch (w->body_case) {
	case BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HELLO:
		f->body = BODY_HELLO;
		f->event = (struct link_event){.kind = LINK_HELLO, .hello = w->hello};
		break;
	case BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HEARTBEAT:
		f->body = BODY_HEARTBEAT;
		f->nonce = w->heartbeat->nonce;
		break;
	case BULLPEN__WORKER__V1__WORKER_FRAME__BODY_OUTPUT:
		f->body = BODY_OUTPUT;
		f->event = (struct link_event){.kind = LINK_OUTPUT, .output = w->output};
		break;
	case BULLPEN__WORKER__V1__WORKER_FRAME__BODY_RESULT:
		f->body = BODY_RESULT;
		f->event = (struct link_event){.kind = LINK_RESULT, .result = w->result};
		break;
	case BULLPEN__WORKER__V1__WORKER_FRAME__BODY_GOING_AWAY:
		f->body = BODY_GOING_AWAY;
		f->event = (struct link_event){.kind = LINK_GOING_AWAY, .going_away = w->going_away};
		break;
	case BULLPEN__WORKER__V1__WORKER_FRAME__BODY_FITNESS:
		f->body = BODY_FITNESS;
		f->event = (struct link_event){.kind = LINK_FITNESS, .fitness = w->fitness};
		break;
	case BULLPEN__WORKER__V1__WORKER_FRAME__BODY_SESSION_NEWS:
		f->body = BODY_SESSION_NEWS;
		f->event = (struct link_event){.kind = LINK_SESSION_NEWS, .session_news = w->session_news};
		break;
	default:
		f->body = BODY_NONE;
	}
}

static void take_server_frame(struct frame *f, const Bullpen__Worker__V1__ServerFrame *s)
{
	f->seq = s->seq;
	f->ack = s->ack;
	switch (s->body_case) {
	case BULLPEN__WORKER__V1__SERVER_FRAME__BODY_WELCOME:
		f->body = BODY_WELCOME;
		f->event = (struct link_event){.kind = LINK_WELCOME, .welcome = s->welcome};
		break;
	case BULLPEN__WORKER__V1__SERVER_FRAME__BODY_REFUSE:
		f->body = BODY_REFUSE;
		f->event = (struct link_event){.kind = LINK_REFUSED, .refuse = s->refuse};
		break;
	case BULLPEN__WORKER__V1__SERVER_FRAME__BODY_HEARTBEAT:
		f->body = BODY_HEARTBEAT;
		f->nonce = s->heartbeat->nonce;
		break;
	case BULLPEN__WORKER__V1__SERVER_FRAME__BODY_CALL:
		f->body = BODY_CALL;
		f->event = (struct link_event){.kind = LINK_CALL, .call = s->call};
		break;
	case BULLPEN__WORKER__V1__SERVER_FRAME__BODY_CANCEL:
		f->body = BODY_CANCEL;
		f->event = (struct link_event){.kind = LINK_CANCEL, .cancel = s->cancel};
		break;
	case BULLPEN__WORKER__V1__SERVER_FRAME__BODY_RESULT_ACK:
		f->body = BODY_RESULT_ACK;
		f->event = (struct link_event){.kind = LINK_RESULT_ACK, .result_ack = s->result_ack};
		break;
	case BULLPEN__WORKER__V1__SERVER_FRAME__BODY_RELEASE:
		f->body = BODY_RELEASE;
		f->event = (struct link_event){.kind = LINK_RELEASE, .release = s->release};
		break;
	case BULLPEN__WORKER__V1__SERVER_FRAME__BODY_GOING_AWAY_REPLY:
		f->body = BODY_GOING_AWAY_REPLY;
		f->event = (struct link_event){.kind = LINK_GOING_AWAY_REPLY, .going_away_reply = s->going_away_reply};
		break;
	default:
		f->body = BODY_NONE;
	}
}

/* The member of the frame that `body` stands for. */
static const ProtobufCMessage *frame_message(const struct frame *f)
{
	const struct link_event *e = &f->event;

	switch (f->body) {
	case BODY_HELLO:
		return &e->hello->base;
	case BODY_WELCOME:
		return &e->welcome->base;
	case BODY_REFUSE:
		return &e->refuse->base;
	case BODY_CALL:
		return &e->call->base;
	case BODY_CANCEL:
		return &e->cancel->base;
	case BODY_RESULT_ACK:
		return &e->result_ack->base;
	case BODY_RELEASE:
		return &e->release->base;
	case BODY_GOING_AWAY_REPLY:
		return &e->going_away_reply->base;
	case BODY_OUTPUT:
		return &e->output->base;
	case BODY_RESULT:
		return &e->result->base;
	case BODY_GOING_AWAY:
		return &e->going_away->base;
	case BODY_FITNESS:
		return &e->fitness->base;
	case BODY_SESSION_NEWS:
		return &e->session_news->base;
	default:
		return NULL;
	}
}

static int frame_rules(const struct frame *f, struct why *why)
{
	struct why inner;
	const ProtobufCMessage *m = frame_message(f);

	if (f->body == BODY_NONE && f->seq != 0)
		return why_set(why, ERR_PROTOCOL, "the peer sent a frame without a known body");
	if (frame_is_sequenced(f->body) && f->seq == 0)
		return why_set(why, ERR_PROTOCOL, "the peer sent a sequenced frame without a number");
	if (!frame_is_sequenced(f->body) && f->seq != 0)
		return why_set(why, ERR_PROTOCOL, "the peer numbered a frame that has no number");
	if (m != NULL && frame_check(f->body, m, &inner) != OK)
		return why_set(why, ERR_PROTOCOL, "the peer sent an unacceptable frame: %s", inner.text);
	return OK;
}

int frame_decode(enum link_role from, const void *bytes, size_t len, struct frame **ret, struct why *why)
{
	size_t budget = len + DECODE_SLACK;
	ProtobufCAllocator allocator = {budget_alloc, budget_release, &budget};
	AUTO(frame) f = NEW(struct frame);
	const ProtobufCMessageDescriptor *type = from == LINK_WORKER ? &bullpen__worker__v1__worker_frame__descriptor
								     : &bullpen__worker__v1__server_frame__descriptor;
	int rc;

	f->size = len;
	f->root = protobuf_c_message_unpack(type, &allocator, len, bytes);
	/* A text with a NUL in it would be taken for the part before it: another worker's id, for instance. */
	if (f->root != NULL && wire_has_nul(type, bytes, len))
		return why_set(why, ERR_PROTOCOL, "the peer sent a text with a NUL character in it");
	if (f->root == NULL)
		return why_set(why, ERR_PROTOCOL, "the peer sent a message that cannot be decoded");
	if (from == LINK_WORKER)
		take_worker_frame(f, (const Bullpen__Worker__V1__WorkerFrame *)f->root);
	else
		take_server_frame(f, (const Bullpen__Worker__V1__ServerFrame *)f->root);
	rc = frame_rules(f, why);
	if (rc == OK)
		*ret = TAKE(f);
	return rc;
}

void frame_free(struct frame **fp)
{
	struct frame *f = TAKE(*fp);

	if (f == NULL)
		return;
	if (f->root != NULL)
		protobuf_c_message_free_unpacked(f->root, &plain_allocator);
	free(f);
}

static void put_body(
    Bullpen__Worker__V1__WorkerFrame *w, Bullpen__Worker__V1__ServerFrame *s, enum frame_body body, void *m)
{
	switch (body) {
	case BODY_HELLO:
		w->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HELLO;
		w->hello = m;
		break;
	case BODY_OUTPUT:
		w->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_OUTPUT;
		w->output = m;
		break;
	case BODY_RESULT:
		w->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_RESULT;
		w->result = m;
		break;
	case BODY_GOING_AWAY:
		w->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_GOING_AWAY;
		w->going_away = m;
		break;
	case BODY_FITNESS:
		w->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_FITNESS;
		w->fitness = m;
		break;
	case BODY_SESSION_NEWS:
		w->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_SESSION_NEWS;
		w->session_news = m;
		break;
	case BODY_WELCOME:
		s->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_WELCOME;
		s->welcome = m;
		break;
	case BODY_REFUSE:
		s->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_REFUSE;
		s->refuse = m;
		break;
	case BODY_CALL:
		s->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_CALL;
		s->call = m;
		break;
	case BODY_CANCEL:
		s->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_CANCEL;
		s->cancel = m;
		break;
	case BODY_RESULT_ACK:
		s->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_RESULT_ACK;
		s->result_ack = m;
		break;
	case BODY_RELEASE:
		s->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_RELEASE;
		s->release = m;
		break;
	case BODY_GOING_AWAY_REPLY:
		s->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_GOING_AWAY_REPLY;
		s->going_away_reply = m;
		break;
	case BODY_HEARTBEAT:
		w->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HEARTBEAT;
		w->heartbeat = m;
		s->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_HEARTBEAT;
		s->heartbeat = m;
		break;
	case BODY_NONE:
		break;
	}
}

uint8_t *frame_encode(
    enum link_role from, uint64_t seq, enum frame_body body, const ProtobufCMessage *m, size_t *ret_len)
{
	Bullpen__Worker__V1__WorkerFrame w = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	Bullpen__Worker__V1__ServerFrame s = BULLPEN__WORKER__V1__SERVER_FRAME__INIT;
	const ProtobufCMessage *root = from == LINK_WORKER ? &w.base : &s.base;
	uint8_t *bytes;

	w.seq = s.seq = seq;
	/* Packing only reads; the generated members are not const. */
	put_body(&w, &s, body, (void *)(uintptr_t)m);
	*ret_len = protobuf_c_message_get_packed_size(root);
	bytes = mem_alloc(*ret_len);
	ENSURE(protobuf_c_message_pack(root, bytes) == *ret_len);
	return bytes;
}

void frame_put(struct strbuf *out, const uint8_t *encoded, size_t len, uint64_t ack)
{
	uint8_t field[11] = {2 << 3}; /* field 2, varint */
	size_t n = 1;
	struct strbuf whole = STRBUF(len + sizeof field);

	for (; ack >= 0x80; ack >>= 7)
		field[n++] = (uint8_t)(ack | 0x80);
	field[n++] = (uint8_t)ack;
	strbuf_add(&whole, encoded, len);
	strbuf_add(&whole, field, n);
	ENSURE(!whole.overflowed && grpc_frame(out, whole.data, whole.len) == OK);
	strbuf_fini(&whole);
}
