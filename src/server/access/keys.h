/* access/keys.h: API keys and whose they are: making, listing, revoking. What is changed is in the audit log, in the
 * same transaction. Thread: any. */
#pragma once
#include "server/access/access.h"

enum key_type { KEY_USER, KEY_SERVICE_ACCOUNT };

struct key_request {
	enum key_type type;
	const char *name;
	const char *email; /* NULL: none; only of a user */
	const char *scopes; /* "agents:read,agents:write"; NULL: what the type has by default */
	int64_t user_id; /* a key for this user; 0: for the one of this e-mail address or name */
	const char *account_id; /* a key for this service account; NULL: for the one of this name */
	int64_t expires_at; /* 0: never */
	bool for_browser; /* nobody will know it: it only carries a session */
};
/* ERR_INVALID with `why` for what is asked; needs no store. */
int access_key_check(const struct key_request *req, struct why *why) MUST_USE;

struct key_made {
	char *id;
	char *key; /* shown once and never stored */
};
void key_made_fini(struct key_made *m);
/* Creates a key, and its owner unless there is one: a user is found by e-mail (without e-mail: by name), a service
 * account by name. ERR_INVALID with `why` for what is asked; ERR_NOT_FOUND: there is no such account (any more); or a
 * store error. */
int access_key_create(struct store *st, const struct audit_by *by, const struct key_request *req, struct key_made *ret,
    struct why *why) MUST_USE;

/* Whose keys are meant. */
struct key_scope {
	int64_t user_id; /* of this user only; 0: of everybody in the team */
	const char *account_id; /* of this service account only; NULL: of all */
};
/* [{id, name, type, owner, userId?, serviceAccountId?, suffix, scopes: [], createdAt, lastUsedAt?, expiresAt?,
 * revokedAt?}], oldest first, without those that only carry a session unless `all`. */
int access_key_list(struct tx *tx, int64_t team_id, const struct key_scope *whose, bool all, json_t **ret) MUST_USE;
/* `which` is a key id or the key itself. ERR_NOT_FOUND. Revoking twice is fine. */
int access_key_revoke(
    struct store *st, const struct audit_by *by, const struct key_scope *whose, const char *which) MUST_USE;
/* A new key in the place of this one, which is not valid from then on. `limit` (NULL: none): who may not get more than
 * she has. ERR_NOT_FOUND: no such key is valid; ERR_DENIED: it may do what `limit` may not. */
int access_key_rotate(struct store *st, const struct audit_by *by, const struct key_scope *whose, const char *id,
    const struct principal *limit, struct key_made *ret) MUST_USE;

/* The scopes that such a key may have: [{name, default}]. What only administrators may give is among them if `admin`.
 * New reference. */
json_t *access_scopes_offered(enum key_type type, bool admin);
/* Whether a user's key with these scopes ("a,b"; NULL: the default) may do nothing that `p` may not, and has none that
 * only administrators may give. */
bool access_scopes_are_within(const struct principal *p, const char *scopes);
