/* mcp/kept.h: the rows of this room: servers that users and teams keep, clients, logins, grants. Thread: any. */
#pragma once
#include "base/json.h"
#include "base/seal.h"
#include "server/oauth/oauth.h"
#include "store/store.h"

#define KEPT_SERVERS_MAX 50 /* of one user, and of a team */

/* Whose: user_id 0 is the team itself (and what runs by a service account have). */
struct kept_owner {
	int64_t team_id, user_id;
};

/* [{"id", "scope": "user"|"team", "definition", "createdAt", "updatedAt"}] (ms), new reference; the user's first, then
 * by name. Definitions hold secrets. ERR_INTERNAL: damaged. */
int kept_servers(struct tx *tx, const struct seal *seal, const struct kept_owner *o, json_t **ret) MUST_USE;
/* One of those. ERR_NOT_FOUND. */
int kept_server(
    struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *id, json_t **ret) MUST_USE;
/* In a write transaction. ERR_CONFLICT: the owner has one of that name; ERR_FULL. */
int kept_server_add(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *id,
    const json_t *definition, const char *by, int64_t now) MUST_USE;
/* The owner's own. ERR_NOT_FOUND. Grants for its URL go with it. */
int kept_server_remove(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *id) MUST_USE;

/* ERR_EMPTY: we are not registered there, or that has expired. */
int kept_client(struct tx *tx, const struct seal *seal, int64_t team_id, const char *issuer, const char *redirect_uri,
    int64_t now, struct oauth_client *ret) MUST_USE;
int kept_client_set(struct tx *tx, const struct seal *seal, int64_t team_id, const char *issuer,
    const char *redirect_uri, const struct oauth_client *c, int64_t now) MUST_USE;

struct grant {
	struct oauth_server server;
	struct oauth_client client;
	struct oauth_tokens tokens;
	int64_t version;
	char *wanted_scope; /* NULL: nothing is lacking */
};
void grant_fini(struct grant *g);
/* ERR_EMPTY: there is none. */
int kept_grant(
    struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *url, struct grant *ret) MUST_USE;
/* New tokens; whatever was there is replaced. */
int kept_grant_set(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *url,
    const struct grant *g, int64_t now) MUST_USE;
int kept_grant_remove(struct tx *tx, const struct kept_owner *o, const char *url) MUST_USE;
/* Only if it is still of that version: somebody may have allowed us anew. */
int kept_grant_drop(struct tx *tx, const struct kept_owner *o, const char *url, int64_t version) MUST_USE;
/* Only one fetches new tokens. *ret: it is the caller, until `until`. */
int kept_grant_lock(struct tx *tx, const struct kept_owner *o, const char *url, int64_t version, int64_t now,
    int64_t until, bool *ret) MUST_USE;
int kept_grant_unlock(struct tx *tx, const struct kept_owner *o, const char *url) MUST_USE;
int kept_grant_want(struct tx *tx, const struct kept_owner *o, const char *url, const char *scope) MUST_USE;
