/* agent/worker/result_fit.h: a result that is larger than a message of the link may be, made to fit.
 * Thread: any. */
#pragma once
#include "base/macros.h"

/* Cuts the longest texts in a JSON object in their middle, with a mark, until all of it has at most `max` bytes, and
 * adds "truncated": true. *json (malloc'ed) is replaced. False: it is no JSON object, or does not get small enough. */
bool result_fit(char **json, size_t max);
