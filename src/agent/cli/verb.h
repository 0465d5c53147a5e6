/* agent/cli/verb.h: one verb of the `agent` program. The table is in agent/main.c.
 * Thread: the main one. */
#pragma once

struct verb {
	const char *name;
	const char *usage; /* one line, for `agent --help` */
	/* argv[0] is the verb's name; the result is the exit status. */
	int (*main)(int argc, char **argv);
};
