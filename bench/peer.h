/* bench/peer.h: a worker that is nothing but its connection: the real HTTP/2 stream and link, and every call answered
 * on the loop, a tool's with its own arguments.
 * Thread: the owner of the uv loop. */
#pragma once
#include "base/macros.h"
#include <uv.h>

struct peer;

struct peer_config {
	uv_loop_t *loop;
	const char *endpoint; /* "http://127.0.0.1:1234" */
	const char *key;
	const char *worker_id, *pool;
	const char *label; /* it has host=LABEL and os=linux; NULL: none */
	size_t number; /* the caller's */
	void *ctx;
	void (*on_ready)(void *ctx, struct peer *p); /* welcomed */
	/* The connection ended, or could not be made. `said`: what the server refused it with, or NULL; `asked_ms`: how
	 * long it asked to wait. From here on peer_dial() may be called. NULL: this ends the program with a sentence,
	 * and so does a refusal. */
	void (*on_lost)(void *ctx, struct peer *p, const char *said, int64_t asked_ms);
};

/* Dials. Lives as long as the program. */
struct peer *peer_new(const struct peer_config *cfg);
void peer_dial(struct peer *p);
size_t peer_number(const struct peer *p);
/* To be called about every second. */
void peer_tick(struct peer *p);
