/* fleet/label.h: how a worker is named wherever a person reads of it: its name and its machine beside its id.
 * Thread: any. */
#pragma once
#include "store/store.h"

/* "build-3 (w-1f on host-7)"; what is not known is left out. A line without control characters. malloc'ed; name and
 * host may be NULL. */
char *worker_label(const char *name, const char *id, const char *host);

struct worker_names {
	char *name, *host; /* "" if not known; lines without control characters */
};
void worker_names_fini(struct worker_names *n);
/* As it said last, connected or not. One that nobody has heard of has no name. */
int worker_names_load(struct tx *tx, int64_t team_id, const char *id, struct worker_names *ret) MUST_USE;
/* The label of a worker that may be away; malloc'ed. */
int worker_label_load(struct tx *tx, int64_t team_id, const char *id, char **ret) MUST_USE;
