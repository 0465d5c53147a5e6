/* base/toml.h: TOML 1.0 text as JSON, by toml++ behind a C function.
 * Thread: any. Dates become strings. */
#pragma once
#include "base/json.h"

/* OK: *ret is a new JSON object. ERR_INVALID: `why` says "FILE:line:col: reason". */
int toml_parse(const char *text, size_t len, const char *file_name, json_t **ret, struct why *why) MUST_USE;
/* Whether a value at the root of a valid document, or an item of an array there, is a date or a time; `key` gets its
 * name, cut to `key_len`. For readers to whom "Dates become strings" is not good enough. */
bool toml_finds_date(const char *text, size_t len, char *key, size_t key_len);
