/* server/hooks/team.h: hooks that a team's administrators keep on the control plane. Workers know them by their hash
 * and ask for the content once (docs/worker-protocol.md, Hooks). Thread: any. */
#pragma once
#include "base/json.h"
#include "store/store.h"

#define TEAM_HOOKS_MAX ((size_t)1024 * 1024)

struct team_hooks {
	char *hash, *content, *updated_by;
	int64_t updated_at;
};
void team_hooks_free(struct team_hooks **t);

/* *ret NULL: the team has none. */
int team_hooks_load(struct tx *tx, int64_t team_id, struct team_hooks **ret) MUST_USE;
/* `content` is {"hooks", "files"}: checked here. ERR_INVALID with `why`. Without hooks and files the team has none. */
int team_hooks_store(struct tx *tx, int64_t team_id, const json_t *content, const char *by, struct why *why) MUST_USE;
/* {"hash", "content"?} for Call.hook_json; a new reference. */
json_t *team_hooks_facts(const struct team_hooks *t, bool whole);
