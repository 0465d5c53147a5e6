/* agent/hooks/match.h: the regular expressions that choose hooks, with bounds: a pattern comes from outside.
 * Thread: a matcher is constant, any. */
#pragma once
#include "base/errors.h"

struct hook_matcher;

/* *ret is NULL for a pattern that matches everything: "" and "*". ERR_INVALID with the place in `why`. */
int hook_matcher_new(const char *pattern, struct hook_matcher **ret, struct why *why) MUST_USE;
void hook_matcher_free(struct hook_matcher **m);
/* Unanchored, case-sensitive. OK: it matches; ERR_EMPTY: it does not; ERR_TOO_LARGE: it took too many steps. */
int hook_matcher_test(const struct hook_matcher *m, const char *subject) MUST_USE;
