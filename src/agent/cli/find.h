/* agent/cli/find.h: which run a person means. Thread: the main one. */
#pragma once
#include "agent/cli/client.h"

struct target {
	char *agent_id, *run_id;
};
void target_fini(struct target *t);
/* `id` is an agent (its latest run is meant) or a run. OK; otherwise the error was printed and *ret_status set. */
int find_target(struct client *c, const char *id, struct target *ret, int *ret_status) MUST_USE;
/* Calls fn for each of the caller's agents (archived: those that were put away, too), newest first, until it returns
 * other than OK or `max` were seen. */
int each_agent(struct client *c, bool archived, size_t max, int (*fn)(void *ctx, const json_t *agent), void *ctx,
    int *ret_status) MUST_USE;
