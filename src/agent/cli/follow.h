/* agent/cli/follow.h: shows a run in the terminal, from its stream, until it ends.
 * Thread: the main one. */
#pragma once
#include "agent/cli/client.h"

/* Exit statuses of a run's end. */
enum { EXIT_FINISHED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANCELLED = 130 };

/* Follows from the first event. `live`: until the run ends, through reconnects, and Ctrl-C cancels the run; otherwise
 * only what the log holds by now. The result is the exit status. */
int follow_run(struct client *c, const char *agent_id, const char *run_id, bool live);
