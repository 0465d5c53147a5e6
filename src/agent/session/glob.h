/* agent/session/glob.h: file patterns: `*` and `?` within one path segment, `**` across, `[..]`, `{a,b}`. Bytes, not
 * characters. Matching is PCRE2's, under limits, because patterns come from repositories and from models.
 * Thread: any; one pattern may be used by several at once. */
#pragma once
#include "base/macros.h"

/* Backtracking over several `*` is exponential in the worst case; a budget of steps ends it. */
#define GLOB_STEPS 200000
/* A longer pattern matches nothing. */
#define GLOB_PATTERN_MAX 8192

struct glob;

/* Compiles a pattern, for many paths. Never NULL: what cannot be compiled (too long, nested too deep) matches nothing.
 */
struct glob *glob_new(const char *pattern);
void glob_free(struct glob **g); /* NULL is fine */
/* Whether the whole path (relative, no leading "./") matches. A pattern too wild for the budget matches nothing.
 * *budget, which several patterns may share, goes down to 0. */
bool glob_test(const struct glob *g, const char *path, int *budget);

/* For a pattern that is used once. */
bool glob_matches(const char *pattern, const char *path);
bool glob_matches_within(const char *pattern, const char *path, int *budget);
