/* access/members.h: the people of a team and what they are. Thread: any. */
#pragma once
#include "server/access/access.h"

/* [{id, name, email?, role, createdAt, signsInWith?}], oldest first. */
int members_list(struct tx *tx, int64_t team_id, json_t **ret) MUST_USE;
/* `by`: who asks. ERR_NOT_FOUND: no such person; ERR_DENIED with `why`: an owner's role is the owner's, only an owner
 * makes owners, and one owner stays. */
int member_set_role(
    struct tx *tx, const struct principal *by, int64_t user_id, enum role role, struct why *why) MUST_USE;

/* For `bullpen admin`, whose word stands above everybody's. The first admin of a team becomes its owner. ERR_NOT_FOUND:
 * nobody has this e-mail address. */
int user_set_role(struct store *st, const char *email, enum role role) MUST_USE;
