/* link/unacked.h: sequenced frames until the peer has acknowledged them. For this folder only.
 * Thread: the owner's of the link. */
#pragma once
#include "base/macros.h"

struct unacked_frame {
	struct unacked_frame *next;
	uint64_t seq;
	size_t len;
	uint8_t *bytes; /* without acknowledgement, see frame_put() */
};

/* Frames acked+1 … last in order. Those up to `sent` went out on this connection; `highest` is the highest that ever
 * went out, the most a peer can acknowledge. */
struct unacked {
	struct unacked_frame *head, *tail;
	struct unacked_frame *unsent; /* first that was not sent on this connection; NULL: none */
	uint64_t last, acked, highest;
	size_t bytes;
};

void unacked_fini(struct unacked *b);
/* Empty, and numbers start at 1. */
void unacked_reset(struct unacked *b);
/* Takes `bytes`, which carry the number b->last + 1. */
void unacked_add(struct unacked *b, uint8_t *bytes, size_t len);
/* The next frame for this connection, or NULL; it counts as sent. Borrowed. */
const struct unacked_frame *unacked_next(struct unacked *b);
/* Drops what is acknowledged. False: `ack` was never sent. */
bool unacked_ack(struct unacked *b, uint64_t ack);
/* A new connection: everything that is left goes out again. */
void unacked_rewind(struct unacked *b);
