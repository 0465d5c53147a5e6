/* link/frame.h: one frame on the wire, as protobuf: bounded decoding, and encoding in two parts. For this folder only.
 * Thread: the owner's of the link. */
#pragma once
#include "base/strbuf.h"
#include "link/link.h"

enum frame_body {
	BODY_NONE, /* a bare acknowledgement */
	BODY_HELLO,
	BODY_WELCOME,
	BODY_REFUSE,
	BODY_HEARTBEAT,
	BODY_CALL,
	BODY_CANCEL,
	BODY_RESULT_ACK,
	BODY_RELEASE,
	BODY_OUTPUT,
	BODY_RESULT,
	BODY_GOING_AWAY,
	BODY_FITNESS,
	BODY_SESSION_NEWS,
	BODY_GOING_AWAY_REPLY
};

#define FRAME_MAX_ROOTS 20
#define FRAME_MAX_CALLS 1000
#define FRAME_MAX_LABELS 64
#define FRAME_MAX_SESSIONS 64
#define FRAME_MAX_CAPABILITIES 32
#define FRAME_MAX_STRING (64 * 1024)
#define FRAME_MAX_ID 128 /* of calls, agents and runs */
#define FRAME_MAX_FITNESS_CODE 64
#define FRAME_MAX_FITNESS_REASON 1024
#define FRAME_MAX_NEWS (3 * 1024 * 1024)
/* The largest Hello; it comes from a peer that is not known yet. */
#define FRAME_MAX_HELLO (512 * 1024)

/* A decoded frame; also one entry of the queue of events. */
struct frame {
	struct frame *next;
	size_t size; /* on the wire, without prefix */
	uint64_t seq, ack;
	enum frame_body body;
	uint64_t nonce; /* BODY_HEARTBEAT */
	struct link_event event; /* for bodies that are events */
	ProtobufCMessage *root;
};

bool frame_is_sequenced(enum frame_body body);
/* A frame that `from` sent. Memory is at most len + 1 MiB, whatever the bytes say. ERR_PROTOCOL with `why`. */
int frame_decode(enum link_role from, const void *bytes, size_t len, struct frame **ret, struct why *why) MUST_USE;
void frame_free(struct frame **f);

/* ERR_INVALID or ERR_TOO_LARGE with `why` unless the peer would take it. `m` is the body's own message. */
int frame_check(enum frame_body body, const ProtobufCMessage *m, struct why *why) MUST_USE;
/* The frame without its acknowledgement; malloc'ed. */
uint8_t *frame_encode(
    enum link_role from, uint64_t seq, enum frame_body body, const ProtobufCMessage *m, size_t *ret_len);
/* Frames `encoded` (or a bare acknowledgement if len is 0) for gRPC, with `ack` added: fields of a protobuf message
 * may come in any order, so a stored frame gets the acknowledgement of the moment it is sent. */
void frame_put(struct strbuf *out, const uint8_t *encoded, size_t len, uint64_t ack);
