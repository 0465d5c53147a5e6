/* link/link_priv.h: the state of one end; for this folder only. */
#pragma once
#include "link/frame.h"
#include "link/link.h"
#include "link/unacked.h"
#include "net/grpc.h"

#define LINK_MAGIC 0x6c696e6bu
#define LINK_MAX_EVENTS 256
#define LINK_ACK_FRAMES 16
#define LINK_ACK_BYTES (64 * 1024)
#define LINK_ACK_DELAY_MS 1000
/* link_out() gathers about this much at a time. */
#define LINK_OUT_BYTES (64 * 1024)

enum link_phase {
	PHASE_DETACHED,
	PHASE_OPENING, /* server: no hello yet; worker: no answer yet */
	PHASE_ASKED, /* server: the application has the hello */
	PHASE_READY,
	PHASE_REFUSED
};

struct link {
	unsigned magic;
	struct link_config cfg;
	enum link_phase phase;
	int64_t now_ms; /* the latest time we were told */
	int64_t attached_ms, heard_ms, said_ms;

	/* In. */
	struct grpc_reader reader;
	struct strbuf backlog; /* bytes that wait while the queue of events is full */
	struct frame *events, *events_tail, *current;
	size_t n_events, events_bytes;
	uint64_t received; /* highest number in order: in the queue or taken */
	uint64_t taken; /* highest number the application took: what we acknowledge */
	int broken; /* OK, or the error that ended this connection */
	struct why broken_why;

	/* Acknowledging. */
	uint64_t ack_sent;
	unsigned ack_frames;
	size_t ack_bytes;
	int64_t ack_at_ms; /* INT64_MAX: nothing to acknowledge */

	/* Out. */
	struct unacked unacked;
	struct strbuf out;

	/* The peer. */
	uint64_t peer_incarnation;
	uint64_t hello_server, hello_received; /* server: from the hello of this connection */
	/* Server: the worker has answered our welcome, so it counts as we do. Without that a welcome may have been lost
	 * and the worker's received_seq be that of an older link. */
	bool confirmed;
	uint64_t nonce;
};

/* Bytes into events, as far as the queue has room. */
int link_parse(struct link *l, struct why *why) MUST_USE;
void link_drop_events(struct link *l, bool sequenced_too);
/* Puts a frame that is not sequenced into the output. */
void link_put_control(struct link *l, enum frame_body body, const ProtobufCMessage *m);
