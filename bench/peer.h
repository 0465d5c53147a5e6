/* bench/peer.h: a worker that is nothing but its connection: the real HTTP/2 stream and link, and every tool call
 * answered on the loop with its own arguments.
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
	void *ctx;
	void (*on_ready)(void *ctx, struct peer *p); /* welcomed */
};

/* Dials. A refusal or a lost connection ends the program with a sentence. Lives as long as the program. */
struct peer *peer_new(const struct peer_config *cfg);
/* To be called about every second. */
void peer_tick(struct peer *p);
