/* runs/background.h: subagents that work behind the run's own loop. The call that starts one is answered at once; the
 * loop is a row from then on (background_loops), and each thread that takes the run over goes on with it. Its report is
 * collected by the tool `await`, or heard before the run ends. For this folder only.
 *
 * Thread: that of the run's own loop, where nothing else is said. Functions do nothing for a nested one. Each
 * subagent has a thread, which nothing of the run outlives: background_stop waits for them. */
#pragma once
#include "server/runs/call.h"
#include "server/runs/control_tool.h"

#define BACKGROUND_MAX 8 /* nested loops of the run's own that work at once, those that it waits for included */

/* Inside the write of `child` that makes the loop a row. Thread: the call's. */
int background_write_down(
    struct loop *child, const char *loop_id, const char *conversation_id, const json_t *args) MUST_USE;
/* Goes on with those that an earlier thread had. */
int background_resume(struct loop *l) MUST_USE;
/* The answer of a call that starts one is on disk. */
void background_begin(struct loop *l);
/* Lets go of those that have ended, and begins with those that wait for a place. */
void background_reap(struct loop *l);
/* Before *n calls are performed: waits until one of them has a place, and cuts *n to those that have. */
int background_make_place(struct loop *l, const struct call *calls, size_t *n) MUST_USE;
/* The loop has its answer: waits for all. What was not collected is then a message before step `step`, and *ret_told.
 */
int background_settle(struct loop *l, int64_t step, bool *ret_told) MUST_USE;
/* The loop ends, or is left: so do they. */
void background_stop(struct loop *l);

/* executor_loop.c: what such a call asks for. Thread: any of the run. */
int nested_spec(const struct run *r, const char *name, const json_t *args, bool read_only, struct loop_spec *spec,
    struct why *why) MUST_USE;
