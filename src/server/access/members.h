/* access/members.h: the people of a team and what they are. What is changed is in the audit log, in the same
 * transaction. Thread: any. */
#pragma once
#include "server/access/access.h"

/* [{id, name, email?, role, createdAt, signsInWith?}], oldest first. */
int members_list(struct tx *tx, int64_t team_id, json_t **ret) MUST_USE;
/* `who` asks, and `by` is that for the audit log. Who leads the team no more loses the keys with scopes that only
 * administrators give. ERR_NOT_FOUND: no such person; ERR_DENIED with `why`: an owner's role is the owner's, only an
 * owner makes owners, and one owner stays; ERR_CONFLICT: the last who leads the team stays an administrator. */
int member_set_role(struct tx *tx, const struct principal *who, const struct audit_by *by, int64_t user_id,
    enum role role, struct why *why) MUST_USE;

/* For `bullpen admin`, whose word stands above everybody's. An admin of a team that has no other owner becomes its
 * owner. ERR_NOT_FOUND: nobody has this e-mail address. */
int user_set_role(struct store *st, const struct audit_by *by, const char *email, enum role role) MUST_USE;
