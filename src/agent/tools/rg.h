/* agent/tools/rg.h: ripgrep as a program, its output taken apart while it comes.
 * Thread: that of the call. */
#pragma once
#include "agent/tools/tool_io.h"
#include "agent/session/ignore.h"

struct rg {
	struct tool_call *call;
	const struct place *target; /* a folder, or a file */
	const char *const *args; /* NULL-terminated, between the fixed options and the path */
	char separator; /* of records: '\n' or '\0' */
	/* One record without its separator; false: enough. ripgrep knows nothing of .cursorignore (its own options for
	 * ignore files hold for the working directory and give way to .gitignore), so paths in records of a folder are
	 * to be asked of `hidden`. */
	bool (*on_record)(void *ctx, struct ignore *hidden, const char *record, size_t len);
	void *ctx;
	int64_t deadline_mono_ms;
};

/* OK also when nothing was found, when on_record had enough and at the deadline (*ret_cut). Else the call has its
 * error. */
int rg_run(const struct rg *rg, bool *ret_cut) MUST_USE;
