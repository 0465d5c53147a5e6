/* agent/session/frontmatter.h: the block between "---" lines at the head of rules, skills, commands and subagents, in
 * the part of YAML that they use: scalars, quoted strings and block scalars, flow and block lists of them, true and
 * false; and globs as people write them, unquoted. Mappings below the first level are read over. Thread: any. */
#pragma once
#include "base/json.h"

/* OK: *ret_meta is a new object of strings, booleans and arrays of strings (empty if there is no block), *ret_body
 * points into `text` behind the block. ERR_INVALID with `why`: the block is broken; the whole text is the body. A byte
 * order mark is skipped, CRLF accepted. */
int frontmatter_parse(const char *text, json_t **ret_meta, const char **ret_body, struct why *why) MUST_USE;
/* The line that such a `why` is about; 1 if it names none. */
size_t frontmatter_fault_line(const struct why *why);
/* The line of the file (from 1) that sets `key` in the block at the head of `text`; 1 if none does. */
size_t frontmatter_line(const char *text, const char *key);
