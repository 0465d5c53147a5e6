/* link/link.h: one end of the link between a worker and the control plane, as a state machine: bytes and a clock in,
 * bytes and events out. No sockets, no threads, no clock of its own, so that reconnection is a unit test.
 * docs/worker-protocol.md tells the story; proto/worker.proto is the form on the wire; messages are gRPC-framed.
 * Thread: one at a time, the owner's.
 *
 * A link outlives connections. link_attach starts a connection, link_detach ends it; sequenced frames that the peer
 * has not acknowledged are kept and sent again when the same two processes meet again (Welcome.resumed). When either
 * process is new, both sides start at sequence 1 with nothing unacknowledged, and the application compares notes:
 * Hello.calls names what the worker knows.
 *
 * Deadlines: from attach to welcome `handshake_ms`; afterwards the server sends a heartbeat when it has sent nothing
 * for `heartbeat_ms`, the worker answers each; either side gives up after `dead_after_ms` without any byte. */
#pragma once
#include "base/errors.h"
#include "worker.pb-c.h"

struct link;

enum link_role { LINK_WORKER, LINK_SERVER };

struct link_config {
	enum link_role role;
	uint64_t incarnation; /* of this process; not 0 */
	int64_t heartbeat_ms; /* server: default 15,000 */
	int64_t loss_grace_ms; /* server: what Welcome says of it */
	int64_t dead_after_ms; /* default 45,000 */
	int64_t handshake_ms; /* default 30,000 */
	size_t max_message; /* default 4 MiB */
	size_t unacked_bytes; /* output frames are refused (ERR_FULL) above this; default 256 KiB */
};

struct link *link_new(const struct link_config *cfg);
void link_free(struct link **l);

/* A connection begins. Worker: `hello` (borrowed for the call) is queued with incarnation, server_incarnation,
 * received_seq and protocol_version filled in by the link. Server: hello is NULL. */
void link_attach(struct link *l, const Bullpen__Worker__V1__Hello *hello, int64_t now_ms);
/* The connection is gone: half-read input and unsent bytes are dropped, unacknowledged frames kept. */
void link_detach(struct link *l);
bool link_attached(const struct link *l);
/* True between the welcome and the end of that connection. */
bool link_ready(const struct link *l);

/* Bytes from the peer. ERR_PROTOCOL with `why` (the caller closes the connection): undecodable message, frame too
 * large, gap in the sequence, frame before the handshake, acknowledgement of what was never sent. Take the events
 * soon: 256 of them (or max_message bytes) are decoded ahead, behind them max_message + 256 KiB of bytes are kept, and
 * more is ERR_PROTOCOL. */
int link_feed(struct link *l, const void *bytes, size_t len, int64_t now_ms, struct why *why) MUST_USE;
/* To be called at or after link_next_tick(). ERR_TIMEOUT with `why`: the peer is dead, close the connection.
 * ERR_PROTOCOL: as link_feed(), for bytes that were decoded late. Flush link_out() afterwards. */
int link_tick(struct link *l, int64_t now_ms, struct why *why) MUST_USE;
int64_t link_next_tick(const struct link *l); /* INT64_MAX: nothing to wait for */
/* Server: a heartbeat now, whose answer shows that the peer is alive. Nothing happens while the link is not ready. */
void link_probe(struct link *l, int64_t now_ms);

enum link_event_kind {
	LINK_HELLO, /* server: answer with link_welcome, link_resume or link_refuse */
	LINK_WELCOME, /* worker */
	LINK_REFUSED, /* worker; the connection is useless from here on */
	LINK_CALL, /* worker */
	LINK_CANCEL, /* worker */
	LINK_RESULT_ACK, /* worker */
	LINK_RELEASE, /* worker */
	LINK_GOING_AWAY_REPLY, /* worker */
	LINK_OUTPUT, /* server */
	LINK_RESULT, /* server */
	LINK_GOING_AWAY, /* server */
	LINK_FITNESS, /* server */
	LINK_SESSION_NEWS /* server */
};

/* Pointers are valid until the next link_next() or link_free(). */
struct link_event {
	enum link_event_kind kind;
	const Bullpen__Worker__V1__Hello *hello;
	const Bullpen__Worker__V1__Welcome *welcome;
	const Bullpen__Worker__V1__Refuse *refuse;
	const Bullpen__Worker__V1__Call *call;
	const Bullpen__Worker__V1__CancelCall *cancel;
	const Bullpen__Worker__V1__ResultAck *result_ack;
	const Bullpen__Worker__V1__Release *release;
	const Bullpen__Worker__V1__GoingAwayReply *going_away_reply;
	const Bullpen__Worker__V1__CallOutput *output;
	const Bullpen__Worker__V1__CallResult *result;
	const Bullpen__Worker__V1__GoingAway *going_away;
	const Bullpen__Worker__V1__Fitness *fitness;
	const Bullpen__Worker__V1__SessionNews *session_news;
};
/* OK, or ERR_EMPTY. Taking a sequenced event acknowledges it to the peer. Duplicates never come out. Sequenced events
 * can still be taken after link_detach(); a fresh start drops those that were not. */
int link_next(struct link *l, struct link_event *ret) MUST_USE;

/* Server, after LINK_HELLO of an unknown incarnation: fresh start on this link. */
void link_welcome(struct link *l, int64_t now_ms);
/* Server, after LINK_HELLO on `fresh`: true if `kept` (an earlier, now detached link of the same worker process) can be
 * resumed. Then the connection moves to `kept`, the welcome is queued there, and *fresh is freed and cleared (the event
 * last taken from it belongs to `kept` now). False: both are as before; use link_welcome(*fresh). */
bool link_resume(struct link *kept, struct link **fresh, int64_t now_ms);
/* Server: queues a Refuse; the caller flushes and closes. */
void link_refuse(struct link *l, const char *code, const char *message, bool fatal, uint32_t retry_after_ms);
/* Incarnation of the peer process; 0 before the handshake. */
uint64_t link_peer_incarnation(const struct link *l);

/* Sequenced sends. Messages are copied. They may be called while detached: the frames wait for the next connection
 * (and are dropped if that is a fresh start). Nobody but the caller bounds their sum, except for output.
 * Calls and results that the peer would not take are not sent: ERR_TOO_LARGE (as a whole above max_message, or one of
 * its short strings), ERR_INVALID (not UTF-8, no call id). */
int link_send_call(struct link *l, const Bullpen__Worker__V1__Call *m);
void link_send_cancel(struct link *l, const char *call_id);
void link_send_result_ack(struct link *l, const char *call_id);
void link_send_release(struct link *l, const char *reason, bool exit);
void link_send_going_away_reply(struct link *l, bool stay);
/* ERR_FULL: too much is unacknowledged, send later or leave it out. */
int link_send_output(struct link *l, const char *call_id, int stream, const void *data, size_t len) MUST_USE;
int link_send_result(struct link *l, const Bullpen__Worker__V1__CallResult *m);
/* idle: its time without a run is over; LINK_GOING_AWAY_REPLY says whether it goes. */
void link_send_going_away(struct link *l, const char *reason, bool idle);
/* code: "" or a token, reason: a line; both cut to what the peer takes. */
void link_send_fitness(struct link *l, const char *code, const char *reason);
/* ERR_TOO_LARGE, ERR_INVALID: it cannot be sent at all. */
int link_send_session_news(struct link *l, const char *agent_id, const char *claim_id, const char *news_json) MUST_USE;
/* Unacknowledged bytes. */
size_t link_unacked_bytes(const struct link *l);

/* Bytes to be sent now: borrowed until link_sent(). */
size_t link_out(struct link *l, const void **ret_bytes);
void link_sent(struct link *l, size_t n);
