/* fleet/worker_conn.h: one connection of a worker: an HTTP exchange on one side, a link on the other.
 * Thread: the hub (hub_priv.h), but for `pending`, and what worker_conn.c says of its callbacks on loop threads. */
#pragma once
#include "link/link.h"
#include "server/fleet/gate.h"
#include <stdatomic.h>
#include <stdint.h>

#define CONN_MAGIC 0x434f4e4eu

struct fleet;
struct http_exchange;
struct registration;
struct worker;

/* One HTTP exchange of a worker. Born on a loop thread, then the hub's; freed when it was closed and no job works on
 * it. Its states:
 *   opened      no hello yet, or a job checks it (job_running)
 *   probing     waits whether the present holder of its worker id is alive (waiting, probe_until_ms)
 *   entering    a job writes the registration to the store (job_running)
 *   connected   worker is set and has the link; until it is lost or replaced
 *   ending      the response has ended; nothing more is written, the worker is lost with the next tick, and the close
 * of the exchange comes: by the peer's doing or, if it takes too long, by ours */
struct worker_conn {
	unsigned magic;
	struct fleet *fleet;
	struct http_exchange *x;
	char *authorization, *peer; /* constant, also for the jobs */
	struct link *link; /* until it is registered; then the worker has it */
	struct worker *worker; /* NULL before registration and after it was replaced */
	char *key_id; /* once it is authenticated */
	char gate_key[GATE_KEY_LEN]; /* "" once it is authenticated */
	size_t index; /* in the hub's list (conns.h) */
	struct worker_conn *key_next, *key_before; /* others of the same key */
	bool closed, ending, job_running;
	int64_t abort_at_ms; /* ending: then the exchange is cut */
	uint64_t probed_heard; /* `heard` of the present holder when it was asked */
	int64_t probe_until_ms;
	struct registration *waiting; /* what goes on when the probe is decided */
	int64_t second_started_ms;
	unsigned events_this_second;
	_Atomic size_t pending; /* bytes in the hub's mailbox: the loop thread adds, the hub subtracts */
};

void worker_conn_free(struct worker_conn **c);
void worker_conn_flush(struct worker_conn *c, struct link *l);
/* Ends the response with a gRPC status; the worker shows the text. */
void worker_conn_end(struct worker_conn *c, int grpc_status, const char *text);
/* Bytes left the hub's mailbox. */
void worker_conn_took(struct worker_conn *c, size_t len);
void worker_conn_feed(struct worker_conn *c, const char *bytes, size_t len, int64_t now_ms);
/* When the tick has to look at it again, if nothing happens to it. */
int64_t worker_conn_next_look(const struct worker_conn *c);
void worker_conn_dispatch(struct worker_conn *c, struct link *l, int64_t now_ms);
void worker_conn_lost(struct worker_conn *c, int64_t now_ms);
