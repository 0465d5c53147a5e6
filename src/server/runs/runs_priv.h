/* runs/runs_priv.h: the room as a whole, for the files of this folder. */
#pragma once
#include "server/node/node.h"
#include "server/node/notify.h"
#include "server/runs/runs.h"
#include <stdatomic.h>

#define RUNS_MAGIC 0x52554e53u
#define MODEL_TEXT_MAX (32 * 1024)

struct pump;
struct supervisor;
struct sweeper;

/* Constant between runs_start and runs_free, except `stopping`. */
struct runs {
	unsigned magic;
	struct runs_config cfg;
	struct fleet *fleet;
	struct pump *pump;
	struct supervisor *supervisor;
	struct sweeper *sweeper;
	_Atomic bool stopping; /* run threads end at their next safe point */
};

/* After the commit: readers of the run look again. */
void run_changed(struct runs *r, const char *run_id);
/* After the commit of an end that its own thread did not write: thread and worker stop, readers look, the worker may be
 * free. worker_id NULL: it had none. */
void run_ended(struct runs *r, int64_t team_id, const char *worker_id, const char *run_id);

/* rows.c: run_create without looking for follow-ups that wait. */
int run_create_next(struct runs *r, struct tx *tx, struct agent *a, const struct prompt *prompt, const char *mode,
    const char *model, struct created *ret) MUST_USE;

/* branch.c: "cursor/<slug>-<4 hex>" from the agent's name; one that no other agent of its repository has. malloc'ed. */
int branch_for(struct tx *tx, const char *prefix, const struct agent *a, char **ret) MUST_USE;
/* ERR_DENIED: another agent has a->branch in this repository. */
int branch_is_free(struct tx *tx, const struct agent *a) MUST_USE;
