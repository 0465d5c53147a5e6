/* agent/session/depot_lock.h: sessions at once share the depots of their seeds, one at a time each.
 *
 * A depot has files that a session's step writes and reads again as its own: refs/bullpen/session (the branches that
 * came over to be published), `shallow`, the hooks, the index that is remembered, large files on their way. So whoever
 * opens a depot, fetches into it, takes branches over or keeps holds its lock for the whole of that step. A push names
 * commits and leaves the lock to others, unless `shallow` or large files are there.
 *
 * What is read without the lock is safe without it: objects are added and never taken away (no gc runs there, and a
 * commit is asked for by its name), refs of one agent (refs/bullpen/agents/ID) are written by its own session only, and
 * every ref is a file that git puts in place whole.
 *
 * Locks are never nested but in the order of the roots, so two sessions cannot wait for each other.
 * Thread: any. */
#pragma once
#include "base/errors.h"

struct depot_locks;

struct depot_locks *depot_locks_new(void);
/* Nobody may hold one. NULL is fine. */
void depot_locks_free(struct depot_locks **l);

/* Waits until the lock of that depot (the path of its folder) is the caller's. *ret: to be given to depot_unlock; -1 if
 * `locks` is NULL: there is nobody to share with. ERR_CANCELLED, ERR_TIMEOUT, ERR_IO with `why`. */
int depot_lock(struct depot_locks *locks, const char *dir, int cancel_fd, int64_t deadline_mono_ms, int *ret,
    struct why *why) MUST_USE;
/* *held becomes -1; -1 is fine. */
void depot_unlock(int *held);
