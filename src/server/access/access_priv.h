/* access/access_priv.h: scopes as sets; for this folder only. Any thread. */
#pragma once
#include "server/access/keys.h"

/* Of a known scope. */
unsigned scope_bit(const char *scope);
/* From api_keys.scopes: NULL means the default of the type. A name that this version does not know gives no right. */
unsigned scopes_stored(const char *text, enum key_type type);
/* "agents:read,agents:write"; "-" for none. malloc'ed. */
char *scopes_text(unsigned scopes);
/* From a person's "a,b" to what is stored (malloc'ed). ERR_INVALID with `why`. */
int scopes_read(const char *text, enum key_type type, char **ret, struct why *why) MUST_USE;
/* Those that change nothing. */
unsigned scopes_that_read(void);
/* From users.role; NULL, and what this version does not know: a member. */
enum role role_stored(const char *text);
/* By e-mail without regard to case; `email` NULL: by name. ERR_EMPTY. */
int access_find_user(struct tx *tx, const char *name, const char *email, int64_t *ret_id) MUST_USE;
/* The same, and makes one if there is none. */
int access_user_of(struct tx *tx, const struct audit_by *by, const char *name, const char *email, int64_t now,
    int64_t *ret_id) MUST_USE;
/* A key for the sessions of this user: nobody ever sees it, and revoking it ends them. *ret_id: malloc'ed. */
int access_insert_browser_key(struct tx *tx, const struct audit_by *by, int64_t user_id, char **ret_id) MUST_USE;
/* Revokes what only an administrator could give this user, or she herself. */
int access_end_keys_of_admins(struct tx *tx, const struct audit_by *by, int64_t user_id) MUST_USE;
/* Writes the role, the record of it, and ends what goes with the one before. The caller has seen to it that `was` is
 * the present one and that this may be. */
int member_write_role(
    struct tx *tx, const struct audit_by *by, int64_t user_id, enum role was, enum role role) MUST_USE;
/* A session of a browser for a key, with the record of it. `secret` becomes the cookie's value; `how`: "key", "link" or
 * "oidc". */
int browser_insert_session(
    struct tx *tx, const char *key_id, const char *secret, int64_t now, const char *how, const char *ip) MUST_USE;
/* 256 random bits as text, malloc'ed. */
char *browser_secret_new(void);
/* Whether only administrators may give some of them. */
bool scopes_need_admin(unsigned scopes);
bool scopes_are_within(const struct principal *p, unsigned scopes);
/* 1 to 100 bytes of text in one line: it stands in lists and logs. */
bool is_name(const char *s);
