/* agent/cli/why.h: a reason to wait, as people read it. Thread: the main one. */
#pragma once
#include "base/json.h"

/* The sentence, since when, and the nearest workers with what stands in the way; each line begins with `indent`. */
void why_print(const json_t *wait, const char *indent);
