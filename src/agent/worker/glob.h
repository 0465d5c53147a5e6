/* agent/worker/glob.h: file patterns: `*` and `?` within one path segment, `**` across, `[..]`, `{a,b}`.
 * Thread: any. */
#pragma once
#include "base/macros.h"

/* Backtracking over several `*` is exponential in the worst case; a budget of steps ends it. */
#define GLOB_STEPS 200000

/* Whether the whole path (relative, no leading "./") matches. A pattern too wild for the budget matches nothing. */
bool glob_matches(const char *pattern, const char *path);
/* The same with a budget that several patterns share; *budget goes down to 0 or a little below. */
bool glob_matches_within(const char *pattern, const char *path, int *budget);
