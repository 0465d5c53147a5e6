/* agent/tools/diff.h: what an edit changed, as a unified diff.
 * Thread: any. */
#pragma once
#include "base/macros.h"

struct diff {
	char *text; /* hunks with three lines of context, without file headers; "" if nothing changed */
	int64_t added, removed;
};

/* Myers' algorithm; where the texts differ too much for it, the differing middle is one hunk. */
void diff_make(const char *old, size_t old_len, const char *new, size_t new_len, struct diff *ret);
void diff_fini(struct diff *d);
