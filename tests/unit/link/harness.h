/* Two ends of a link joined by byte pipes, with a fake clock. The two applications are as simple as they can be:
 * the server calls c1, c2, …, the worker answers each call once, the server acknowledges each result. */
#pragma once
#include "base/mem.h"
#include "base/strbuf.h"
#include "link/link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>

#define MAX_CALLS 64

struct call_state {
	bool sent; /* the server wants it done; survives everything */
	bool answered; /* the server has the result; survives everything */
	bool interrupted; /* the worker's process ended with it */
	bool known; /* worker process: executed, result not acknowledged */
	unsigned executed;
	unsigned results; /* times a result came out at the server */
};

struct world {
	int64_t now;
	struct link *worker, *server; /* server: the link of the present or last connection */
	struct link *fresh; /* server: a connection whose hello has not come */
	struct strbuf to_server, to_worker;
	bool worker_up, server_up; /* each side's view of the connection */
	uint64_t worker_incarnation, server_incarnation;
	struct call_state calls[MAX_CALLS];
	unsigned n_calls, executed_last, answered_last;
	bool in_order; /* calls and results came out in order and once */
	unsigned resumed, started;
	bool welcomed;
	size_t outputs;
	unsigned fitness_heard;
	char fitness_code[65]; /* heard last */
	struct link_config server_cfg, worker_cfg;
};

void world_init(struct world *w);
void world_fini(struct world *w);
void world_connect(struct world *w);
void world_cut_worker(struct world *w);
void world_cut_server(struct world *w);
void world_restart_worker(struct world *w);
void world_restart_server(struct world *w);
void world_call(struct world *w);
/* Moves what the links have to say into the pipes. */
void world_flush(struct world *w);
/* Delivers up to n bytes of one pipe. */
void world_deliver(struct world *w, bool to_server, size_t n);
/* Until nothing moves. */
void world_settle(struct world *w);
