/* agent/session/keep.h: the head and the tail of an output of any length, in bounded memory.
 * Thread: the owner's. */
#pragma once
#include "base/macros.h"

struct keep {
	char *head;
	char *ring; /* the last bytes, once the head is full */
	size_t head_len, head_cap, half;
	uint64_t total;
};

/* Keeps at most max_bytes. */
void keep_init(struct keep *k, size_t max_bytes);
void keep_add(struct keep *k, const char *bytes, size_t len);
bool keep_truncated(const struct keep *k);
/* What was kept as valid UTF-8 of about max_bytes, a line in the middle telling how much is missing. malloc'ed. */
char *keep_text(const struct keep *k);
void keep_fini(struct keep *k);
