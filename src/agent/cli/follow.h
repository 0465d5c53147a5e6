/* agent/cli/follow.h: shows a run in the terminal, from its stream.
 * Thread: the main one. */
#pragma once
#include "agent/cli/client.h"

enum follow_mode {
	FOLLOW_STORED, /* only what the log holds by now */
	FOLLOW_WATCH, /* until the run ends; Ctrl-C leaves it alone */
	FOLLOW_OWN /* until the run ends; Ctrl-C cancels it, a second one leaves at once */
};

/* From here on Ctrl-C is what the mode says, also while the run is only being started. */
void follow_begin(struct client *c, enum follow_mode mode);
/* Shows the run from its first event on, through reconnects. The result is the exit status. */
int follow_run(struct client *c, const char *agent_id, const char *run_id, enum follow_mode mode);
