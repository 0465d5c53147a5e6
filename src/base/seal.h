/* base/seal.h: texts that the store keeps but must not tell: variables, secrets of webhooks. Sealed with a key that is
 * not in the store (XChaCha20-Poly1305, libsodium), so a copy of the store alone gives nothing away. What a text
 * belongs to is sealed with it: moved to another row it does not open. Thread: any; the key is constant. */
#pragma once
#include "base/errors.h"

#define SEAL_KEY_LEN 32

struct seal;

/* Reads the key from `path`: 64 hexadecimal digits, mode 0600 or less. A file that is not there is made, if `make`
 * says so, with a random key. ERR_INVALID and others with `why`: the path and what is wrong. */
int seal_load(const char *path, bool make, struct seal **ret, struct why *why) MUST_USE;
void seal_free(struct seal **s); /* NULL is fine; the key is wiped */
/* malloc'ed text. `of`: what it belongs to, "env/bc-…/run-…". */
char *seal_text(const struct seal *s, const char *of, const char *plain);
/* *ret: malloc'ed; str_wipe() it. ERR_INTERNAL (logged): another key, another place, or damaged. */
int seal_open(const struct seal *s, const char *of, const char *sealed, char **ret) MUST_USE;
/* The same for what comes from outside: ERR_INVALID, and no line in the log. */
int seal_try(const struct seal *s, const char *of, const char *sealed, char **ret) MUST_USE;
/* Overwrites a text and frees it. */
void str_wipe(char **s);
