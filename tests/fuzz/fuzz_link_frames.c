/* A link whose peer speaks the protocol well enough to be understood, and lies: numbers made up, handshakes at the
 * wrong time, messages beyond every bound, connections cut and resumed. Bit 0 of the first byte is our role.
 * Sequenced events must come out once and in order, and no error may be forgotten. */
#include "base/mem.h"
#include "base/text.h"
#include "bytes.h"
#include "link/link_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct play {
	struct bytes in;
	struct link_config cfg;
	struct link *l;
	struct link *kept; /* server: the link before, detached */
	struct strbuf to_link; /* not fed yet */
	uint64_t next; /* the number an honest peer would send next */
	uint64_t last_event; /* of the sequenced event that came out last */
	int64_t now;
	bool broken;
};

static char long_text[FRAME_MAX_STRING + 2];

static char *text(struct play *p, char buf[64])
{
	uint8_t what = take_u8(&p->in);
	size_t n;
	const uint8_t *bytes = take_bytes(&p->in, what & 31, &n);

	if (what == 0xff)
		return long_text;
	memcpy(buf, bytes, n);
	buf[n] = '\0';
	return buf;
}

static void put(struct play *p, ProtobufCMessage *m)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	uint8_t *packed = mem_alloc(len + 1);

	protobuf_c_message_pack(m, packed);
	IGNORE(grpc_frame(&p->to_link, packed, len));
	free(packed);
}

static void put_worker_frame(struct play *p, Bullpen__Worker__V1__WorkerFrame *f, uint8_t kind, const char *id)
{
	Bullpen__Worker__V1__CallOutput out = BULLPEN__WORKER__V1__CALL_OUTPUT__INIT;
	Bullpen__Worker__V1__CallResult result = BULLPEN__WORKER__V1__CALL_RESULT__INIT;
	Bullpen__Worker__V1__GoingAway away = BULLPEN__WORKER__V1__GOING_AWAY__INIT;
	Bullpen__Worker__V1__Fitness fitness = BULLPEN__WORKER__V1__FITNESS__INIT;
	char buf[3][64];

	switch (kind % 5) {
	case 0:
		out.call_id = (char *)(uintptr_t)id;
		out.stream = take_u8(&p->in);
		f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_OUTPUT;
		f->output = &out;
		break;
	case 1:
		result.call_id = (char *)(uintptr_t)id;
		result.result_json = text(p, buf[0]);
		result.model_text = text(p, buf[1]);
		result.sdk_json = text(p, buf[2]);
		result.outcome = (int)take_number(&p->in);
		f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_RESULT;
		f->result = &result;
		break;
	case 2:
		away.reason = text(p, buf[0]);
		f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_GOING_AWAY;
		f->going_away = &away;
		break;
	case 3:
		fitness.code = text(p, buf[0]);
		fitness.reason = text(p, buf[1]);
		f->body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_FITNESS;
		f->fitness = &fitness;
		break;
	default:
		break; /* no body */
	}
	put(p, &f->base);
}

static void put_server_frame(struct play *p, Bullpen__Worker__V1__ServerFrame *f, uint8_t kind, const char *id)
{
	Bullpen__Worker__V1__Call call = BULLPEN__WORKER__V1__CALL__INIT;
	Bullpen__Worker__V1__CancelCall cancel = BULLPEN__WORKER__V1__CANCEL_CALL__INIT;
	Bullpen__Worker__V1__ResultAck ack = BULLPEN__WORKER__V1__RESULT_ACK__INIT;
	Bullpen__Worker__V1__Release release = BULLPEN__WORKER__V1__RELEASE__INIT;
	char buf[3][64];

	switch (kind % 5) {
	case 0:
		call.call_id = (char *)(uintptr_t)id;
		call.agent_id = text(p, buf[0]);
		call.name = text(p, buf[1]);
		call.arguments_json = text(p, buf[2]);
		call.kind = kind & 64 ? BULLPEN__WORKER__V1__CALL_KIND__TOOL : kind;
		f->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_CALL;
		f->call = &call;
		break;
	case 1:
		cancel.call_id = (char *)(uintptr_t)id;
		f->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_CANCEL;
		f->cancel = &cancel;
		break;
	case 2:
		ack.call_id = (char *)(uintptr_t)id;
		f->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_RESULT_ACK;
		f->result_ack = &ack;
		break;
	case 3:
		release.reason = text(p, buf[0]);
		f->body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_RELEASE;
		f->release = &release;
		break;
	default:
		break;
	}
	put(p, &f->base);
}

/* The id of a call is the number of its frame, so that the order of events can be told. */
static void sequenced(struct play *p)
{
	Bullpen__Worker__V1__WorkerFrame w = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	Bullpen__Worker__V1__ServerFrame s = BULLPEN__WORKER__V1__SERVER_FRAME__INIT;
	uint8_t kind = take_u8(&p->in);
	uint64_t seq = kind & 128 ? take_number(&p->in) : p->next++;
	uint64_t ack = kind & 32 ? take_number(&p->in) : p->l->unacked.highest;
	char id[32];

	snprintf(id, sizeof id, "%llu", (unsigned long long)seq);
	w.seq = s.seq = seq;
	w.ack = s.ack = ack;
	if (p->cfg.role == LINK_SERVER)
		put_worker_frame(p, &w, kind, id);
	else
		put_server_frame(p, &s, kind, id);
}

static void put_hello(struct play *p)
{
	Bullpen__Worker__V1__WorkerFrame f = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	Bullpen__Worker__V1__Root root = BULLPEN__WORKER__V1__ROOT__INIT, *roots[64];
	Bullpen__Worker__V1__Fitness fitness = BULLPEN__WORKER__V1__FITNESS__INIT;
	uint8_t what = take_u8(&p->in);
	char buf[3][64];

	for (size_t i = 0; i < ARRAY_LEN(roots); i++)
		roots[i] = &root;
	root.path = text(p, buf[0]);
	h.roots = roots;
	h.n_roots = what & 31;
	h.name = text(p, buf[1]);
	h.tools_json = text(p, buf[2]);
	fitness.reason = h.host = h.name;
	h.fitness = what & 16 ? &fitness : NULL;
	h.incarnation = what & 64 ? take_number(&p->in) : 7;
	h.server_incarnation = what & 128 ? take_number(&p->in) : p->cfg.incarnation;
	h.received_seq = what & 32 ? take_number(&p->in) : p->kept != NULL ? p->kept->unacked.highest : 0;
	f.body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HELLO;
	f.hello = &h;
	put(p, &f.base);
}

static void put_welcome(struct play *p)
{
	Bullpen__Worker__V1__ServerFrame f = BULLPEN__WORKER__V1__SERVER_FRAME__INIT;
	Bullpen__Worker__V1__Welcome w = BULLPEN__WORKER__V1__WELCOME__INIT;
	Bullpen__Worker__V1__Refuse refuse = BULLPEN__WORKER__V1__REFUSE__INIT;
	uint8_t what = take_u8(&p->in);
	char buf[64];

	w.server_incarnation = what & 1 ? take_number(&p->in) : 9;
	w.received_seq = what & 2 ? take_number(&p->in) : p->l->unacked.highest;
	w.resumed = what & 4;
	f.body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_WELCOME;
	f.welcome = &w;
	if (what & 128) {
		refuse.code = text(p, buf);
		f.body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_REFUSE;
		f.refuse = &refuse;
	} else if (!w.resumed) {
		p->next = 1;
	}
	put(p, &f.base);
}

static void put_heartbeat(struct play *p)
{
	Bullpen__Worker__V1__WorkerFrame w = BULLPEN__WORKER__V1__WORKER_FRAME__INIT;
	Bullpen__Worker__V1__ServerFrame s = BULLPEN__WORKER__V1__SERVER_FRAME__INIT;
	Bullpen__Worker__V1__Heartbeat h = BULLPEN__WORKER__V1__HEARTBEAT__INIT;

	h.nonce = take_number(&p->in);
	w.ack = s.ack = p->l->unacked.highest;
	w.body_case = BULLPEN__WORKER__V1__WORKER_FRAME__BODY_HEARTBEAT;
	s.body_case = BULLPEN__WORKER__V1__SERVER_FRAME__BODY_HEARTBEAT;
	w.heartbeat = s.heartbeat = &h;
	put(p, p->cfg.role == LINK_SERVER ? &w.base : &s.base);
}

static void put_raw(struct play *p)
{
	uint8_t what = take_u8(&p->in);
	size_t n;
	const uint8_t *bytes = take_bytes(&p->in, what & 63, &n);

	if (what & 64)
		strbuf_add(&p->to_link, bytes, n);
	else
		IGNORE(grpc_frame(&p->to_link, bytes, n));
}

static const char *id_of(const struct link_event *e)
{
	switch (e->kind) {
	case LINK_CALL:
		return e->call->call_id;
	case LINK_CANCEL:
		return e->cancel->call_id;
	case LINK_RESULT_ACK:
		return e->result_ack->call_id;
	case LINK_OUTPUT:
		return e->output->call_id;
	case LINK_RESULT:
		return e->result->call_id;
	default:
		return NULL;
	}
}

static void fresh_start(struct play *p)
{
	p->next = 1;
	p->last_event = 0;
}

static void on_hello(struct play *p)
{
	if (p->kept != NULL && link_resume(p->kept, &p->l, p->now)) {
		ENSURE(p->l == NULL);
		p->l = TAKE(p->kept);
		p->next = p->l->received + 1;
		p->last_event = p->l->taken;
		return;
	}
	link_free(&p->kept);
	if (p->l->hello_received == 31) {
		link_refuse(p->l, "unauthorized", "no", true, 0);
		return;
	}
	link_welcome(p->l, p->now);
	fresh_start(p);
}

static void take_events(struct play *p, size_t max)
{
	struct link_event e;

	/* A fresh start whose welcome was lost with its connection. */
	if (p->l->taken == 0)
		p->last_event = 0;
	while (max-- > 0 && link_next(p->l, &e) == OK) {
		if (e.kind == LINK_HELLO)
			on_hello(p);
		else if (e.kind == LINK_WELCOME && !e.welcome->resumed)
			p->last_event = 0;
		ENSURE(p->l->taken <= p->l->received);
		if (id_of(&e) == NULL)
			continue;
		ENSURE(id_of(&e)[0] != '\0' && strlen(id_of(&e)) <= FRAME_MAX_ID);
		/* Once, and in order; those between that have no id count as well. */
		ENSURE(p->l->taken > p->last_event);
		p->last_event = p->l->taken;
	}
}

static void check(const struct play *p)
{
	const struct link *l = p->l;

	ENSURE(l->unacked.acked <= l->unacked.highest && l->unacked.highest <= l->unacked.last);
	ENSURE(l->n_events <= LINK_MAX_EVENTS && (l->events == NULL) == (l->n_events == 0));
	ENSURE((l->unacked.head == NULL) == (l->unacked.bytes == 0));
}

static void feed(struct play *p)
{
	size_t n = take_u8(&p->in) * 8u + 1, len = MIN(n, p->to_link.len);
	struct why why = {""};
	int rc;

	if (!link_attached(p->l))
		return;
	rc = link_feed(p->l, strbuf_str(&p->to_link), len, p->now, &why);
	strbuf_consume(&p->to_link, len);
	ENSURE(rc == OK || (rc == ERR_PROTOCOL && why.text[0] != '\0' && text_is_utf8(why.text, strlen(why.text))));
	/* Who refuses hears no more, not even that it was broken. */
	ENSURE(!p->broken || rc != OK || p->l->phase == PHASE_REFUSED);
	p->broken = rc != OK;
	check(p);
}

static void reconnect(struct play *p)
{
	Bullpen__Worker__V1__Hello hello = BULLPEN__WORKER__V1__HELLO__INIT;

	link_detach(p->l);
	check(p);
	strbuf_clear(&p->to_link);
	p->broken = false;
	if (p->cfg.role == LINK_SERVER) {
		link_free(&p->kept);
		p->kept = p->l;
		p->l = link_new(&p->cfg);
	}
	link_attach(p->l, p->cfg.role == LINK_WORKER ? &hello : NULL, p->now);
	if (p->cfg.role == LINK_WORKER)
		p->next = p->l->received + 1;
}

static void say_something(struct play *p)
{
	Bullpen__Worker__V1__Call call = BULLPEN__WORKER__V1__CALL__INIT;
	Bullpen__Worker__V1__CallResult result = BULLPEN__WORKER__V1__CALL_RESULT__INIT;
	char buf[64];

	call.call_id = result.call_id = result.result_json = text(p, buf);
	if (p->cfg.role == LINK_SERVER)
		IGNORE(link_send_call(p->l, &call));
	else if (take_u8(&p->in) & 1)
		IGNORE(link_send_result(p->l, &result));
	else
		IGNORE(link_send_output(p->l, "c", 1, buf, sizeof buf));
	check(p);
}

static void send_out(struct play *p)
{
	const void *bytes;
	size_t n = link_out(p->l, &bytes), max = take_u8(&p->in) * 16u;

	link_sent(p->l, MIN(n, max));
	check(p);
}

static void act(struct play *p)
{
	struct why why = {""};
	uint8_t op = take_u8(&p->in);

	switch (op % 12) {
	case 0:
		p->cfg.role == LINK_SERVER ? put_hello(p) : put_welcome(p);
		break;
	case 1:
	case 2:
	case 3:
		for (int n = op >= 240 ? 300 : 1; n > 0; n--)
			sequenced(p);
		break;
	case 4:
		put_heartbeat(p);
		break;
	case 5:
		put_raw(p);
		break;
	case 6:
		reconnect(p);
		break;
	case 7:
		say_something(p);
		break;
	case 8:
		p->now += 100 * take_u8(&p->in);
		IGNORE(link_tick(p->l, p->now, &why));
		ENSURE(link_next_tick(p->l) > 0);
		break;
	case 9:
		send_out(p);
		break;
	case 10:
		take_events(p, op >= 128 ? SIZE_MAX : 1);
		break;
	default:
		feed(p);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Bullpen__Worker__V1__Hello hello = BULLPEN__WORKER__V1__HELLO__INIT;
	struct play p = {.in = {data, size}, .now = 1, .next = 1, .to_link = STRBUF((size_t)4 * 1024 * 1024)};

	if (long_text[0] == '\0')
		memset(long_text, 'x', sizeof long_text - 1);
	p.cfg = (struct link_config){.role = take_u8(&p.in) & 1 ? LINK_SERVER : LINK_WORKER,
	    .incarnation = 9,
	    .max_message = (size_t)256 * 1024,
	    .unacked_bytes = 1024};
	p.l = link_new(&p.cfg);
	link_attach(p.l, p.cfg.role == LINK_WORKER ? &hello : NULL, p.now);
	while (p.in.len > 0)
		act(&p);
	feed(&p);
	take_events(&p, SIZE_MAX);
	link_detach(p.l);
	take_events(&p, SIZE_MAX);
	strbuf_fini(&p.to_link);
	link_free(&p.kept);
	link_free(&p.l);
	return 0;
}
