/* triggers/service_tokens.h: tokens of services that are not in the settings, because they change: sealed rows.
 * Thread: any, inside the caller's transaction. */
#pragma once
#include "base/json.h"
#include "base/seal.h"
#include "base/strbuf.h"
#include "store/store.h"

struct service_token {
	char *access, *refresh; /* NULL: none */
	char *before; /* the refresh token before that one: what is left if the last one never arrived; NULL: none */
	char *seed; /* the hash of the refresh token of the settings that it began with; NULL: with none */
	int64_t expires_at_ms; /* of access; 0: it does not end */
	json_t *more; /* what else the service said; NULL: nothing */
	int64_t version; /* counts what was kept */
};
void service_token_fini(struct service_token *t); /* wipes it */
/* ERR_EMPTY: there is none. ERR_INTERNAL (logged): it does not open. */
int service_token_load(
    struct tx *tx, const struct seal *seal, const char *service, const char *place, struct service_token *ret) MUST_USE;
/* Keeps it as the version after t->version (0: there was none), and nobody renews it any more. name: for people.
 * ERR_CONFLICT: there is another one meanwhile. */
int service_token_keep(struct tx *tx, const struct seal *seal, const char *service, const char *place, const char *name,
    const struct service_token *t, int64_t now_ms) MUST_USE;
/* *ret: this version is ours to renew until then. */
int service_token_lock(struct tx *tx, const char *service, const char *place, int64_t version, int64_t now_ms,
    int64_t until_ms, bool *ret) MUST_USE;
int service_token_unlock(struct tx *tx, const char *service, const char *place) MUST_USE;
int service_token_drop(struct tx *tx, const char *service, const char *place, int64_t *ret_n) MUST_USE;

/* What a browser brought: the place (a workspace, "" where there is one only) and its name for people. */
#define SERVICE_LINEAR "linear"
#define SERVICE_SLACK "slack"
struct service_grant {
	struct service_token token;
	char *place, *name;
};
void service_grant_fini(struct service_grant *g);
/* The token for a code that the service gave to a browser. `table`: of the settings that has its name.
 * ERR_UNAUTHORIZED: it refuses; ERR_INVALID: the settings are wrong, or it gave none that we can use; ERR_NET …; with
 * why. Blocks. */
int service_grant_of_code(const char *service, const json_t *table, const char *code, const char *redirect_uri,
    struct service_grant *ret, struct why *why) MUST_USE;

/* One more field of a form that asks for a token. Wipe the form afterwards. */
void service_form_add(struct strbuf *form, const char *key, const char *value);
