/* access/access.h: who is asking. API keys, their owners, and the check of an Authorization header.
 * Thread: any; the state is in the store. Keys are stored as SHA-256 only (random 256 bit keys need no slow hash). */
#pragma once
#include "base/json.h"
#include "store/store.h"

/* What a key may do is a set of scopes. A route names the one it needs (api/route.h); docs/operating.md says who has
 * which. */
#define SCOPE_AGENTS_READ "agents:read"
#define SCOPE_AGENTS_WRITE "agents:write"
/* The agents of others in the team, by their id: with agents:read to read them, with agents:write to cancel their runs.
 */
#define SCOPE_AGENTS_TEAM "agents:team"
#define SCOPE_MODELS_READ "models:read"
#define SCOPE_METRICS_READ "metrics:read"
#define SCOPE_WORKERS_CONNECT "workers:connect"
bool access_scope_is_known(const char *scope);
/* "agents:read, agents:write, …": every scope there is. malloc'ed. */
char *access_scopes_known(void);

struct principal {
	int64_t team_id;
	int64_t user_id; /* 0: a service account */
	char *service_account_id; /* "" for a user */
	char *owner; /* "user:7" or "sa:sa_…": owns agents */
	char *key_id;
	char *key_name;
	int64_t key_created_at;
	unsigned scopes; /* for principal_has_scope */
	char *user_name; /* NULL if not set */
	char *user_email; /* NULL if not set */
};

void principal_free(struct principal **p);
bool principal_is_service_account(const struct principal *p);
/* `scope` is a known one. */
bool principal_has_scope(const struct principal *p, const char *scope);

/* Checks "Basic base64(KEY:)" or "Bearer KEY". ERR_UNAUTHORIZED for missing, malformed, unknown and revoked keys alike;
 * ERR_INTERNAL: its row is damaged (logged); store errors as they are. */
int access_authenticate(struct store *st, const char *authorization, struct principal **ret) MUST_USE;

enum key_type { KEY_USER, KEY_SERVICE_ACCOUNT };

struct key_request {
	enum key_type type;
	const char *name;
	const char *email; /* NULL: none; only of a user */
	const char *scopes; /* "agents:read,agents:write"; NULL: what the type has by default */
};
/* ERR_INVALID with `why` for what is asked; needs no store. */
int access_key_check(const struct key_request *req, struct why *why) MUST_USE;
/* Creates a key, and its owner unless there is one: a user is found by e-mail (without e-mail: by name), a service
 * account by name. *ret_key is the key itself (malloc'ed): it is shown once and never stored. ERR_INVALID with `why`
 * for what is asked, or a store error. */
int access_key_create(struct store *st, const struct key_request *req, char **ret_key, struct why *why) MUST_USE;
/* [{id, name, type, owner, scopes, suffix, createdAt, revokedAt?}], oldest first; scopes: names separated by commas. */
int access_key_list(struct store *st, json_t **ret) MUST_USE;
/* `which` is a key id or the key itself. ERR_NOT_FOUND. Revoking twice is fine. */
int access_key_revoke(struct store *st, const char *which) MUST_USE;
