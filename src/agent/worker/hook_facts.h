/* agent/worker/hook_facts.h: of a call what hooks are told and given.
 * Thread: the call's. */
#pragma once
#include "agent/hooks/hooks.h"

struct job;

struct hook_facts {
	json_t *facts;
	char **env; /* secret */
	struct hook_run run; /* of the two, and of the job's cancel_fd */
};
void hook_facts_read(const struct job *j, struct hook_facts *ret);
void hook_facts_fini(struct hook_facts *f);
