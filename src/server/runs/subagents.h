/* runs/subagents.h: the subagents that a call of the tool `task` may name: those that every agent has, and those that a
 * user gave an agent when it was created. Names are compared without regard to case. Thread: any. */
#pragma once
#include "base/json.h"
#include "base/subagent_name.h"
#include "store/store.h"

#define TASK_TOOL "task"
#define SUBAGENTS_MAX 20

/* What comes with Bullpen. */
struct builtin_subagent {
	const char *name;
	const char *what; /* for the model that chooses, one sentence */
	const char *system;
	bool read_only;
	bool (*offers)(const json_t *tool); /* loop_spec's */
};
const struct builtin_subagent *subagent_builtin(const char *name);
/* The names of all of them, "a, b, c". malloc'ed. */
char *subagents_builtin_names(void);

/* `list` is what the API took: [{name, description, prompt, model?}]; NULL or empty: nothing is stored. */
int subagents_store(struct tx *tx, const char *agent_id, const json_t *list) MUST_USE;
/* The agent's list as it was stored, [] if it has none. New reference. */
int subagents_load(struct tx *tx, const char *agent_id, json_t **ret) MUST_USE;
/* Borrowed; NULL if there is none of that name. */
const json_t *subagents_find(const json_t *list, const char *name);
/* Adds those of the worker's files (SessionInfo, unchecked) whose names are not taken: {…, readonly?}. */
void subagents_add_files(json_t *list, const json_t *session_info);
/* What the model is told of such a list; malloc'ed, NULL if the list is empty. */
char *subagents_offer(const json_t *list);
