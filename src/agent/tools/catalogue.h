/* agent/tools/catalogue.h: the entries of the catalogue, for dispatch.c. Everybody else uses tool.h.
 * Thread: any. */
#pragma once
#include "agent/tools/tool.h"

struct catalogue_entry {
	const struct tool *tool;
	const void *owner; /* NULL: the program */
	json_t *schema; /* of the arguments; of a tool of the program from the first catalogue_hold on */
	unsigned holders; /* calls that use it */
};
/* By name or alias; NULL if there is none. Stays until catalogue_release. */
struct catalogue_entry *catalogue_hold(const char *name);
void catalogue_release(struct catalogue_entry *e);
/* The names of the tools that `name` (UTF-8) may have meant, *ret_near true; of all if none is near. malloc'ed. */
char *catalogue_near(const char *name, bool *ret_near);
