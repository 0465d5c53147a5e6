/* agent/worker/debug_priv.h: for debug*.c. */
#pragma once
#include "agent/session/health.h"
#include "agent/worker/roots.h"
#include "base/json.h"

/* A line of "checks". */
json_t *debug_check(const char *name, enum health_grade grade, const char *detail);
/* What only the control plane knows: adds auth, connectivity, privacy and visibilityProbe, and their checks. Blocks. */
void debug_remote(const struct worker_options *o, json_t *report);
/* Adds "hooks", those of the files of this machine and these roots, and a check for each thing that is wrong with them.
 * The team's are the control plane's. */
void debug_hooks(const struct worker_options *o, const struct worker_roots *roots, json_t *report);
void debug_print_hooks(const json_t *report);
void debug_print_line(const char *label, const char *text);
