/* agent/worker/labels.h: the custom labels of a worker: pairs of key and value, where a key may come several times.
 * `repo` and `pool` are derived and never among them.
 * Thread: the one that starts the worker. */
#pragma once
#include "base/errors.h"

#define LABELS_MAX 64
#define LABEL_KEY_MAX 63
#define LABEL_VALUE_MAX 256

struct label_pair {
	char *key, *value;
};

struct labels {
	struct label_pair v[LABELS_MAX]; /* in the order they were given; no pair twice */
	size_t n;
};

/* Adds what --label says, "key=value": split at the first '=', white space around both is dropped. ERR_INVALID with a
 * sentence that names what is wrong. */
int labels_add_text(struct labels *l, const char *text, struct why *why) MUST_USE;
/* Adds what a file says: a JSON object or a TOML document whose values are strings or arrays of strings, or a JSON list
 * of {"key","value"}. The name's ending tells which; without one JSON is tried first. ERR_INVALID with a sentence that
 * names the file. */
int labels_add_file(struct labels *l, const char *path, struct why *why) MUST_USE;
/* ERR_INVALID if one of them is derived and cannot be given; `source` says who did. */
int labels_check_reserved(const struct labels *l, const char *source, struct why *why) MUST_USE;
void labels_fini(struct labels *l);
