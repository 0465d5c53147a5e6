/* agent/worker/manage.h: what a worker tells about itself over HTTP to those who look after it: /healthz, /readyz,
 * /metrics. Without credentials and without secrets; only with --management-addr.
 * Threads: figures are written by the worker's loop (atomics) and read by the server's one thread. */
#pragma once
#include "agent/worker/turns.h"
#include "base/errors.h"
#include <stdatomic.h>

enum worker_phase { PHASE_STARTING, PHASE_DISCONNECTED, PHASE_CLAIMED, PHASE_DRAINING, PHASE_READY };

struct worker_figures {
	_Atomic int phase; /* enum worker_phase */
	atomic_bool connected, claimed;
	_Atomic int64_t last_activity_s; /* Unix time of the last bytes from the control plane; 0: none yet */
	_Atomic uint64_t attempts, retries;
	_Atomic uint64_t ends[SESSION_ENDS];
};

struct manage;

/* Binds `host` ("" is every address; a name is looked up once, blocking) and serves. ERR_NET with `why`, which names
 * the address. `figures` is borrowed until manage_free. */
int manage_start(const char *host, uint16_t port, const struct worker_figures *figures, struct manage **ret,
    struct why *why) MUST_USE;
void manage_free(struct manage **m);
/* For tests: the text of /metrics; malloc'ed. */
char *manage_metrics(const struct worker_figures *f);
