/* base/labels.h: custom labels of workers, and what requests want of them: a set of pairs "key=value". A key may have
 * several values. Thread: the owner's. */
#pragma once
#include "base/errors.h"
#include <stdbool.h>
#include <stddef.h>

#define LABELS_MAX 64 /* of a worker */
#define LABELS_WANTED_MAX 20 /* of a request */
#define LABEL_KEY_MAX 63
#define LABEL_VALUE_MAX 256

struct labels {
	char **v; /* sorted by byte, each once */
	size_t n, cap;
};

void labels_fini(struct labels *l);
/* White space around key and value is not part of them. A pair that is there already is fine. ERR_INVALID with `why`:
 * key [A-Za-z0-9][A-Za-z0-9._/-]{0,62}, value 1 to 256 bytes of UTF-8 without control characters. ERR_FULL with `why`:
 * more than `max` pairs. */
int labels_add(struct labels *l, const char *key, const char *value, size_t max, struct why *why) MUST_USE;
/* The first pair of `want` that `have` lacks; NULL: it has all. Borrowed from `want`. */
const char *labels_lacking(const struct labels *have, const struct labels *want);
bool labels_have(const struct labels *l, const char *pair);
/* A JSON array of the pairs, and back. The text comes from our own store: what is damaged in it is left out. */
char *labels_text(const struct labels *l);
void labels_parse(const char *text, struct labels *ret);
