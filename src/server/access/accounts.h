/* access/accounts.h: the service accounts of a team. What is changed is in the audit log, in the same
 * transaction. Thread: any. */
#pragma once
#include "server/access/access.h"

/* [{id, name, createdAt, archivedAt?, keys: how many are valid}], oldest first. */
int accounts_list(struct tx *tx, int64_t team_id, json_t **ret) MUST_USE;
/* *ret_id: malloc'ed. ERR_INVALID with `why`; ERR_CONFLICT: there is one of that name. */
int account_create(
    struct store *st, const struct audit_by *by, const char *name, char **ret_id, struct why *why) MUST_USE;
/* All its keys are revoked; the record stays. ERR_NOT_FOUND. Twice is fine. */
int account_archive(struct store *st, const struct audit_by *by, const char *id) MUST_USE;
/* ERR_NOT_FOUND. */
int account_find(struct tx *tx, int64_t team_id, const char *id) MUST_USE;
