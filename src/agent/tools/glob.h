/* agent/tools/glob.h: file patterns: `*` and `?` within one path segment, `**` across, `[..]`, `{a,b}`.
 * Thread: any. */
#pragma once
#include "base/macros.h"

/* Whether the whole path (relative, no leading "./") matches. Work is bounded: a pattern too wild for it matches
 * nothing. */
bool glob_matches(const char *pattern, const char *path);
