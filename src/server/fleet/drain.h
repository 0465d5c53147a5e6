/* fleet/drain.h: a worker that shall go when its runs are over: it gets nothing new (workers.draining 2), and is told
 * to exit as soon as no run is bound to it. Inside the caller's transaction. */
#pragma once
#include "store/store.h"

/* ERR_NOT_FOUND: no such worker is connected. *ret_idle: nothing runs on it, so drain_finish may follow at once. */
int drain_begin(struct tx *tx, int64_t team_id, const char *worker_id, bool *ret_idle) MUST_USE;
/* Its idle claims end, except those that their pool holds for workers that are away. ERR_EMPTY: it is not to go, or a
 * run is bound to it. OK: it is to be told, after the commit. */
int drain_finish(struct tx *tx, int64_t team_id, const char *worker_id) MUST_USE;
