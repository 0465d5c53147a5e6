/* runs/pull.h: the pull request of a run, between its publication and its end. For this folder only.
 * Thread: the loop's. */
#pragma once
#include "server/runs/run.h"

/* Opens it, or brings its text up to date, if the agent wants one and something was pushed. `answer`: the run's (NULL:
 * none). Never a reason for the run to fail: what cannot be done is said in the run's log, and a sender may still do it
 * later. Other codes than OK: the loop has to be left alone, or the store is unavailable. */
int pull_of_run(struct loop *l, const char *answer) MUST_USE;
