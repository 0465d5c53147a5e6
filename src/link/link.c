/* The connection's life, the clock, and what goes out. */
#include "link/link.h"
#include "base/mem.h"
#include "link/link_priv.h"

#define PROTOCOL_VERSION 1
#define BACKLOG_SLACK (256 * 1024)

struct link *link_new(const struct link_config *cfg)
{
	struct link *l = NEW(struct link);

	ENSURE(cfg->incarnation != 0);
	l->magic = LINK_MAGIC;
	l->cfg = *cfg;
	if (l->cfg.heartbeat_ms == 0)
		l->cfg.heartbeat_ms = 15000;
	if (l->cfg.dead_after_ms == 0)
		l->cfg.dead_after_ms = 45000;
	if (l->cfg.handshake_ms == 0)
		l->cfg.handshake_ms = 30000;
	if (l->cfg.max_message == 0)
		l->cfg.max_message = (size_t)4 << 20;
	if (l->cfg.unacked_bytes == 0)
		l->cfg.unacked_bytes = (size_t)256 << 10;
	l->ack_at_ms = INT64_MAX;
	l->backlog = STRBUF(l->cfg.max_message + BACKLOG_SLACK);
	l->out = STRBUF(SIZE_MAX / 2);
	grpc_reader_init(&l->reader, l->cfg.max_message);
	return l;
}

void link_free(struct link **lp)
{
	struct link *l = TAKE(*lp);

	if (l == NULL)
		return;
	OBJ_CHECK(l, LINK_MAGIC);
	link_drop_events(l, true);
	frame_free(&l->current);
	unacked_fini(&l->unacked);
	grpc_reader_fini(&l->reader);
	strbuf_fini(&l->backlog);
	strbuf_fini(&l->out);
	l->magic = 0;
	free(l);
}

void link_put_control(struct link *l, enum frame_body body, const ProtobufCMessage *m)
{
	uint8_t *bytes = NULL;
	size_t len = 0;

	if (body != BODY_NONE)
		bytes = frame_encode(l->cfg.role, 0, body, m, &len);
	frame_put(&l->out, bytes, len, l->phase == PHASE_READY ? l->taken : 0);
	free(bytes);
	l->said_ms = l->now_ms;
}

static void nothing_to_acknowledge(struct link *l)
{
	l->ack_frames = 0;
	l->ack_bytes = 0;
	l->ack_at_ms = INT64_MAX;
}

void link_attach(struct link *l, const Bullpen__Worker__V1__Hello *hello, int64_t now_ms)
{
	OBJ_CHECK(l, LINK_MAGIC);
	ENSURE(l->phase == PHASE_DETACHED && (hello != NULL) == (l->cfg.role == LINK_WORKER));
	l->phase = PHASE_OPENING;
	l->now_ms = l->attached_ms = l->heard_ms = l->said_ms = now_ms;
	l->broken = OK;
	/* Until we know who it is, little memory. */
	if (l->cfg.role == LINK_SERVER)
		l->reader.max_msg = MIN(l->cfg.max_message, FRAME_MAX_HELLO);
	if (hello != NULL) {
		Bullpen__Worker__V1__Hello h = *hello;

		h.protocol_version = PROTOCOL_VERSION;
		h.incarnation = l->cfg.incarnation;
		h.server_incarnation = l->peer_incarnation;
		h.received_seq = l->received;
		link_put_control(l, BODY_HELLO, &h.base);
	}
}

void link_detach(struct link *l)
{
	OBJ_CHECK(l, LINK_MAGIC);
	l->phase = PHASE_DETACHED;
	l->broken = OK;
	link_drop_events(l, false);
	grpc_reader_fini(&l->reader);
	grpc_reader_init(&l->reader, l->cfg.max_message);
	strbuf_fini(&l->backlog);
	strbuf_fini(&l->out);
	unacked_rewind(&l->unacked);
	nothing_to_acknowledge(l);
}

bool link_attached(const struct link *l)
{
	return l->phase != PHASE_DETACHED;
}

bool link_ready(const struct link *l)
{
	return l->phase == PHASE_READY;
}

uint64_t link_peer_incarnation(const struct link *l)
{
	return l->peer_incarnation;
}

int link_next(struct link *l, struct link_event *ret)
{
	struct frame *f = l->events;
	struct why why;

	OBJ_CHECK(l, LINK_MAGIC);
	frame_free(&l->current);
	if (f == NULL)
		return ERR_EMPTY;
	l->events = f->next;
	if (l->events == NULL)
		l->events_tail = NULL;
	l->n_events--;
	l->events_bytes -= f->size;
	l->current = f;
	if (frame_is_sequenced(f->body)) {
		l->taken = f->seq;
		l->ack_frames++;
		l->ack_bytes += f->size;
		l->ack_at_ms = MIN(l->ack_at_ms, l->now_ms + LINK_ACK_DELAY_MS);
	}
	*ret = f->event;
	/* There is room again; an error comes out of the next link_feed() or link_tick(). */
	IGNORE(link_parse(l, &why));
	return OK;
}

static void send_welcome(struct link *l, bool resumed, int64_t now_ms)
{
	Bullpen__Worker__V1__Welcome w = BULLPEN__WORKER__V1__WELCOME__INIT;

	w.server_incarnation = l->cfg.incarnation;
	w.received_seq = resumed ? l->received : 0;
	w.resumed = resumed;
	w.loss_grace_ms = (uint64_t)MAX(l->cfg.loss_grace_ms, 0);
	w.heartbeat_interval_ms = (uint32_t)MIN(l->cfg.heartbeat_ms, UINT32_MAX);
	l->now_ms = now_ms;
	link_put_control(l, BODY_WELCOME, &w.base);
	l->phase = PHASE_READY;
	l->reader.max_msg = l->cfg.max_message;
	nothing_to_acknowledge(l);
}

void link_welcome(struct link *l, int64_t now_ms)
{
	OBJ_CHECK(l, LINK_MAGIC);
	ENSURE(l->cfg.role == LINK_SERVER && l->phase == PHASE_ASKED);
	unacked_reset(&l->unacked);
	link_drop_events(l, true);
	l->received = l->taken = 0;
	l->confirmed = false;
	send_welcome(l, false, now_ms);
}

bool link_resume(struct link *kept, struct link **fresh, int64_t now_ms)
{
	struct link *f = *fresh;
	struct grpc_reader reader;

	OBJ_CHECK(kept, LINK_MAGIC);
	OBJ_CHECK(f, LINK_MAGIC);
	ENSURE(kept->cfg.role == LINK_SERVER && f->phase == PHASE_ASKED && kept->phase == PHASE_DETACHED);
	if (!kept->confirmed || kept->peer_incarnation != f->peer_incarnation ||
	    f->hello_server != kept->cfg.incarnation || f->hello_received < kept->unacked.acked ||
	    !unacked_ack(&kept->unacked, f->hello_received))
		return false;
	reader = kept->reader;
	kept->reader = f->reader;
	f->reader = reader;
	strbuf_fini(&kept->backlog);
	kept->backlog = f->backlog;
	f->backlog = STRBUF(0);
	frame_free(&kept->current);
	kept->current = TAKE(f->current);
	kept->attached_ms = f->attached_ms;
	kept->heard_ms = f->heard_ms;
	kept->broken = f->broken;
	kept->broken_why = f->broken_why;
	send_welcome(kept, true, now_ms);
	link_free(fresh);
	return true;
}

void link_refuse(struct link *l, const char *code, const char *message, bool fatal, uint32_t retry_after_ms)
{
	Bullpen__Worker__V1__Refuse m = BULLPEN__WORKER__V1__REFUSE__INIT;

	OBJ_CHECK(l, LINK_MAGIC);
	ENSURE(l->cfg.role == LINK_SERVER && l->phase != PHASE_DETACHED);
	m.code = (char *)(uintptr_t)code;
	m.message = (char *)(uintptr_t)message;
	m.fatal = fatal;
	m.retry_after_ms = retry_after_ms;
	link_put_control(l, BODY_REFUSE, &m.base);
	l->phase = PHASE_REFUSED;
}

int link_tick(struct link *l, int64_t now_ms, struct why *why)
{
	OBJ_CHECK(l, LINK_MAGIC);
	l->now_ms = now_ms;
	if (l->phase == PHASE_DETACHED)
		return OK;
	if (l->broken != OK)
		return why_set(why, l->broken, "%s", l->broken_why.text);
	if (l->phase != PHASE_READY) {
		if (now_ms - l->attached_ms < l->cfg.handshake_ms)
			return OK;
		return why_set(why, ERR_TIMEOUT, "no handshake within %lld ms", (long long)l->cfg.handshake_ms);
	}
	if (now_ms - l->heard_ms >= l->cfg.dead_after_ms)
		return why_set(
		    why, ERR_TIMEOUT, "nothing was heard from the peer for %lld ms", (long long)l->cfg.dead_after_ms);
	if (l->cfg.role == LINK_SERVER && now_ms - l->said_ms >= l->cfg.heartbeat_ms)
		link_probe(l, now_ms);
	return OK;
}

void link_probe(struct link *l, int64_t now_ms)
{
	Bullpen__Worker__V1__Heartbeat m = BULLPEN__WORKER__V1__HEARTBEAT__INIT;

	OBJ_CHECK(l, LINK_MAGIC);
	ENSURE(l->cfg.role == LINK_SERVER);
	l->now_ms = now_ms;
	if (l->phase != PHASE_READY)
		return;
	m.nonce = ++l->nonce;
	link_put_control(l, BODY_HEARTBEAT, &m.base);
}

int64_t link_next_tick(const struct link *l)
{
	int64_t when;

	if (l->phase == PHASE_DETACHED)
		return INT64_MAX;
	if (l->broken != OK)
		return l->now_ms;
	if (l->phase != PHASE_READY)
		return l->attached_ms + l->cfg.handshake_ms;
	when = MIN(l->heard_ms + l->cfg.dead_after_ms, l->ack_at_ms);
	return l->cfg.role == LINK_SERVER ? MIN(when, l->said_ms + l->cfg.heartbeat_ms) : when;
}

static bool must_acknowledge(const struct link *l)
{
	return l->ack_frames >= LINK_ACK_FRAMES || l->ack_bytes >= LINK_ACK_BYTES || l->now_ms >= l->ack_at_ms;
}

size_t link_out(struct link *l, const void **ret_bytes)
{
	OBJ_CHECK(l, LINK_MAGIC);
	while (l->phase == PHASE_READY && l->out.len < LINK_OUT_BYTES) {
		const struct unacked_frame *f = unacked_next(&l->unacked);

		if (f == NULL)
			break;
		frame_put(&l->out, f->bytes, f->len, l->taken);
		l->said_ms = l->now_ms;
		nothing_to_acknowledge(l);
	}
	if (l->phase == PHASE_READY && must_acknowledge(l)) {
		link_put_control(l, BODY_NONE, NULL);
		nothing_to_acknowledge(l);
	}
	*ret_bytes = l->out.data;
	return l->out.len;
}

void link_sent(struct link *l, size_t n)
{
	strbuf_consume(&l->out, n);
	/* An idle connection holds no buffer. */
	if (l->out.len == 0)
		strbuf_fini(&l->out);
}
