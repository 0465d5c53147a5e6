/* agent/worker/prepare.h: what a worker has to have before it serves: its locks, and what its sessions are made of.
 * Thread: the one that starts the worker. */
#pragma once
#include "agent/worker/identity.h"
#include "agent/worker/options.h"
#include "agent/worker/roots.h"
#include "agent/session/session.h"

#define PREPARED_SHARED_MAX (2 * WORKER_MAX_DIRS)

struct prepared {
	struct session_config session; /* borrows from here, from the options, the roots and the identity */
	const char *paths[WORKER_MAX_DIRS], *shared[PREPARED_SHARED_MAX + 1];
	char *folders[WORKER_MAX_DIRS];
	size_t n_folders;
	int locks[WORKER_MAX_DIRS + 1];
	size_t n_locks;
};

/* What sessions are made of. */
void prepare_session(const struct worker_options *o, const struct worker_roots *roots, const char *state_dir,
    struct boxes *boxes, struct prepared *ret);
/* The same, and the locks: ERR_CONFLICT with `why` names who has one. ERR_INVALID: the data folder lies inside a worker
 * folder. *ret must be given to prepared_fini in any case. */
int prepare(const struct worker_options *o, const struct worker_roots *roots, const struct identity *id,
    struct boxes *boxes, struct prepared *ret, struct why *why) MUST_USE;
/* Keeps and removes what a worker that was killed left. After prepare: the locks are ours, so whoever started it is
 * gone. */
void prepared_end_leftovers(const struct prepared *p);
void prepared_fini(struct prepared *p);
