/* runs/team_rules.h: rules that a team's administrators keep. They stand before those of projects; one with a glob
 * comes with the first file that it is for, the rest from the start. Thread: any. */
#pragma once
#include "base/json.h"
#include "store/store.h"

#define TEAM_RULES_MAX 100
#define TEAM_RULES_BYTES ((size_t)256 * 1024)

struct team_rules {
	json_t *list; /* [{name, text, glob?, enforced}] */
	char *updated_by;
	int64_t updated_at;
};
void team_rules_free(struct team_rules **t);

/* *ret NULL: the team has none. */
int team_rules_load(struct tx *tx, int64_t team_id, struct team_rules **ret) MUST_USE;
/* `list` is checked here. ERR_INVALID with `why`. An empty one: the team has none. */
int team_rules_store(struct tx *tx, int64_t team_id, const json_t *list, const char *by, struct why *why) MUST_USE;

/* Those that stand in the system text, under a heading; malloc'ed, NULL: none. */
char *team_rules_text(const struct team_rules *t);
/* Those with a glob, for the worker: [{name, text, glob}]. New reference; empty for `t` NULL. */
json_t *team_rules_for_files(const struct team_rules *t);
