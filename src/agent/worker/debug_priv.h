/* agent/worker/debug_priv.h: for debug*.c. */
#pragma once
#include "agent/session/health.h"
#include "agent/worker/options.h"
#include "base/json.h"

/* A line of "checks". */
json_t *debug_check(const char *name, enum health_grade grade, const char *detail);
/* What only the control plane knows: adds auth, connectivity, privacy and visibilityProbe, and their checks. Blocks. */
void debug_remote(const struct worker_options *o, json_t *report);
