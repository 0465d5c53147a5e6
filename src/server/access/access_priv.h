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
/* Whether only administrators may give some of them. */
bool scopes_need_admin(unsigned scopes);
bool scopes_are_within(const struct principal *p, unsigned scopes);
/* 1 to 100 bytes of text in one line: it stands in lists and logs. */
bool is_name(const char *s);
