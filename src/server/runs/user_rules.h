/* runs/user_rules.h: what a user wants each of her agents to be told. It stands behind the rules of team and project.
 * Thread: any. */
#pragma once
#include "store/store.h"

#define USER_RULES_BYTES ((size_t)64 * 1024)

struct user_rules {
	char *text;
	int64_t updated_at;
};
void user_rules_free(struct user_rules **u);

/* *ret NULL: she has none. */
int user_rules_load(struct tx *tx, int64_t user_id, struct user_rules **ret) MUST_USE;
/* The same of an agent's owner ("user:7"); a service account has none. */
int user_rules_load_owner(struct tx *tx, const char *owner, struct user_rules **ret) MUST_USE;
/* A blank text: she has none. ERR_INVALID with `why`. */
int user_rules_store(struct tx *tx, int64_t user_id, const char *text, struct why *why) MUST_USE;
