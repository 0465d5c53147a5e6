/* agent/worker/locks.h: one worker for each seed folder and for each worker id on this machine, by locks that die with
 * the process. Nothing is written into the seed: its folder itself is locked; who holds it is noted in the user's
 * runtime folder. Thread: the one that starts the worker. */
#pragma once
#include "base/errors.h"

/* *ret_fd: close it to give the lock back; -1 where the file system has no locks. ERR_CONFLICT with `why`, which names
 * the holder's pid and data folder. */
int lock_seed(const char *top, const char *data_dir, int *ret_fd, struct why *why) MUST_USE;
int lock_worker_id(
    const char *endpoint, const char *worker_id, const char *data_dir, int *ret_fd, struct why *why) MUST_USE;
