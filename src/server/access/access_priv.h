/* access/access_priv.h: scopes as sets; for this folder only. Any thread. */
#pragma once
#include "server/access/access.h"

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
int access_user_of(struct tx *tx, const char *name, const char *email, int64_t now, int64_t *ret_id) MUST_USE;
/* A session of a browser for a key. `secret` becomes the cookie's value; `via`: "" or "oidc". */
int browser_insert_session(
    struct tx *tx, const char *key_id, const char *secret, const char *via, int64_t now) MUST_USE;
/* 256 random bits as text, malloc'ed. */
char *browser_secret_new(void);
