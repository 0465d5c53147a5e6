/* agent/exit_status.h: what the `agent` program ends with, every verb of it. docs/cli.md has the table. */
#pragma once

enum exit_status {
	EXIT_DONE = 0, /* as asked; of a run that was followed: FINISHED */
	EXIT_FAILED = 1, /* the run ended ERROR or EXPIRED; of the worker: a failure while it ran */
	EXIT_USAGE = 2, /* what was asked is not possible, whether this program says so or the server */
	EXIT_CREDENTIAL = 3, /* there is no key, or the server does not take it */
	EXIT_REFUSED = 4, /* the server refuses: not found, a conflict, a limit; of the worker: its registration */
	EXIT_UNREACHABLE = 5, /* no answer, or none of a control plane's; not of the worker, which goes on trying */
	EXIT_LOCKED = 5, /* of the worker: its data directory is in use */
	EXIT_INTERRUPTED = 130 /* Ctrl-C, and a run that was cancelled */
};
