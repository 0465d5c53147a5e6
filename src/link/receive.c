/* The receiving side: from bytes to frames to state changes and events. */
#include "link/link_priv.h"
#include "base/mem.h"

#define FEED_SLICE ((size_t)64 * 1024)

static void push_event(struct link *l, struct frame *f)
{
	if (l->events_tail != NULL)
		l->events_tail->next = f;
	else
		l->events = f;
	l->events_tail = f;
	l->n_events++;
	l->events_bytes += f->size;
}

void link_drop_events(struct link *l, bool sequenced_too)
{
	struct frame *f = l->events, *next;

	l->events = l->events_tail = NULL;
	l->n_events = l->events_bytes = 0;
	for (; f != NULL; f = next) {
		next = f->next;
		f->next = NULL;
		if (sequenced_too || !frame_is_sequenced(f->body))
			frame_free(&f);
		else
			push_event(l, f);
	}
}

static int welcomed(struct link *l, const Bullpen__Worker__V1__Welcome *w, struct why *why)
{
	if (w->server_incarnation == 0)
		return why_set(why, ERR_PROTOCOL, "the server's welcome has no incarnation");
	if (w->resumed) {
		if (w->server_incarnation != l->peer_incarnation)
			return why_set(why, ERR_PROTOCOL, "the server resumes a connection that it never had");
		if (w->received_seq < l->unacked.acked || !unacked_ack(&l->unacked, w->received_seq))
			return why_set(why, ERR_PROTOCOL, "the server resumes at a frame that it cannot have");
	} else {
		unacked_reset(&l->unacked);
		link_drop_events(l, true);
		l->received = l->taken = 0;
		l->peer_incarnation = w->server_incarnation;
	}
	l->phase = PHASE_READY;
	/* Lets the server know that its numbers and ours agree, see `confirmed`. */
	link_put_control(l, BODY_NONE, NULL);
	return OK;
}

/* Frames that are possible before and after the welcome only in one place each. *ret_done: nothing is left to do. */
static int handshake(struct link *l, const struct frame *f, bool *ret_done, struct why *why)
{
	*ret_done = true;
	if (l->cfg.role == LINK_WORKER && f->body == BODY_REFUSE) {
		l->phase = PHASE_REFUSED;
		return OK;
	}
	if (l->phase == PHASE_READY) {
		*ret_done = false;
		if (f->body == BODY_HELLO || f->body == BODY_WELCOME)
			return why_set(why, ERR_PROTOCOL, "the peer repeated the handshake");
		return OK;
	}
	if (l->phase == PHASE_OPENING && f->body == BODY_WELCOME)
		return welcomed(l, f->event.welcome, why);
	if (l->phase == PHASE_OPENING && f->body == BODY_HELLO) {
		l->peer_incarnation = f->event.hello->incarnation;
		l->hello_server = f->event.hello->server_incarnation;
		l->hello_received = f->event.hello->received_seq;
		l->phase = PHASE_ASKED;
		return OK;
	}
	return why_set(why, ERR_PROTOCOL, "the peer sent a frame before the handshake was over");
}

static int heartbeat(struct link *l, uint64_t nonce, struct why *why)
{
	Bullpen__Worker__V1__Heartbeat m = BULLPEN__WORKER__V1__HEARTBEAT__INIT;

	if (l->cfg.role == LINK_SERVER) {
		if (nonce > l->nonce)
			return why_set(why, ERR_PROTOCOL, "the worker answered a heartbeat that was not sent");
		return OK;
	}
	m.nonce = nonce;
	/* Beyond that the server hears enough of us, and does not read. */
	if (l->out.len < LINK_OUT_BYTES)
		link_put_control(l, BODY_HEARTBEAT, &m.base);
	return OK;
}

/* Takes the frame in any case. */
static int handle(struct link *l, struct frame *taken_frame, struct why *why)
{
	AUTO(frame) f = taken_frame;
	bool done;
	int rc = handshake(l, f, &done, why);

	if (rc != OK)
		return rc;
	if (done) {
		push_event(l, TAKE(f));
		return OK;
	}
	l->confirmed = true;
	if (!unacked_ack(&l->unacked, f->ack))
		return why_set(why, ERR_PROTOCOL, "the peer acknowledged a frame that was not sent");
	if (f->body == BODY_HEARTBEAT)
		return heartbeat(l, f->nonce, why);
	if (!frame_is_sequenced(f->body) || f->seq <= l->received)
		return OK;
	if (f->seq != l->received + 1)
		return why_set(why, ERR_PROTOCOL, "the peer left out frames between %llu and %llu",
		    (unsigned long long)l->received, (unsigned long long)f->seq);
	l->received = f->seq;
	push_event(l, TAKE(f));
	return OK;
}

static bool has_room(const struct link *l)
{
	return l->n_events < LINK_MAX_EVENTS && l->events_bytes < l->cfg.max_message;
}

/* One frame, or more bytes for the reader. ERR_EMPTY: no more bytes. */
static int parse_step(struct link *l, struct why *why)
{
	enum link_role from = l->cfg.role == LINK_SERVER ? LINK_WORKER : LINK_SERVER;
	struct frame *f = NULL;
	const void *msg;
	size_t len;
	int rc = grpc_reader_next(&l->reader, &msg, &len);

	if (rc == ERR_EMPTY && l->backlog.len > 0) {
		size_t n = MIN(l->backlog.len, FEED_SLICE);

		rc = grpc_reader_feed(&l->reader, l->backlog.data, n);
		strbuf_consume(&l->backlog, n);
		if (l->backlog.len == 0)
			strbuf_fini(&l->backlog);
		return rc;
	}
	if (rc != OK)
		return rc;
	rc = frame_decode(from, msg, len, &f, why);
	if (rc != OK)
		return rc;
	rc = handle(l, f, why);
	if (rc == OK && l->phase == PHASE_READY)
		l->reader.max_msg = l->cfg.max_message;
	return rc;
}

int link_parse(struct link *l, struct why *why)
{
	int rc = l->broken;

	*why = l->broken_why;
	while (rc == OK && l->phase != PHASE_REFUSED && l->phase != PHASE_DETACHED && has_room(l)) {
		struct why sentence = {"the peer sent something that is not a gRPC message of acceptable size"};

		rc = parse_step(l, &sentence);
		if (rc == ERR_EMPTY)
			return OK;
		if (rc != OK) {
			l->broken = rc = ERR_PROTOCOL;
			l->broken_why = *why = sentence;
		}
	}
	return rc;
}

int link_feed(struct link *l, const void *bytes, size_t len, int64_t now_ms, struct why *why)
{
	struct why inner;
	const char *p = bytes;
	int rc = OK;

	OBJ_CHECK(l, LINK_MAGIC);
	ENSURE(l->phase != PHASE_DETACHED);
	l->now_ms = now_ms;
	if (len > 0)
		l->heard_ms = now_ms;
	if (l->phase == PHASE_REFUSED)
		return OK;
	rc = link_parse(l, &inner);
	while (rc == OK && len > 0 && l->backlog.len == 0 && has_room(l)) {
		size_t n = MIN(len, FEED_SLICE);

		rc = grpc_reader_feed(&l->reader, p, n);
		if (rc != OK)
			rc = l->broken = why_set(
			    &l->broken_why, ERR_PROTOCOL, "the peer sent a message that is too large or compressed");
		else
			rc = link_parse(l, &inner);
		p += n;
		len -= n;
	}
	if (rc == OK && len > 0 && l->phase != PHASE_REFUSED && strbuf_add(&l->backlog, p, len) != OK)
		rc = l->broken =
		    why_set(&l->broken_why, ERR_PROTOCOL, "the peer sends faster than its frames are taken");
	if (rc != OK)
		why_set(why, rc, "%s", l->broken_why.text);
	return rc;
}
