/* login/oidc.h: signing in with the OpenID provider that the settings name: authorization code with PKCE, a state and a
 * nonce that are the browser's (a sealed cookie has them), and an ID token that is checked whole.
 * Thread: any; both steps ask the provider and block for some ten seconds a document at most. */
#pragma once
#include "base/seal.h"
#include "server/access/access.h"
#include "store/store.h"

#define OIDC_COOKIE "bullpen_login"
#define OIDC_PATH "/v1/login/oidc"
#define OIDC_MS ((int64_t)10 * 60 * 1000) /* that a sign-in may take */

/* All borrowed; lists are separated by commas. */
struct oidc_config {
	struct store *store;
	const struct seal *seal;
	const char *issuer, *client_id;
	const char *client_secret; /* NULL: a public client */
	const char *scopes; /* "openid email profile" */
	const char *allowed_domains; /* of e-mail addresses; NULL or "": only people who have an account; "*": any */
	const char *groups_claim,
	    *admin_groups; /* admin_groups NULL or "": the provider does not say who is an admin */
	bool auto_create;
	bool trust_email; /* an address of which the provider does not say whether it is verified counts as verified */
};

struct oidc;

int oidc_new(const struct oidc_config *cfg, struct oidc **ret, struct why *why) MUST_USE;
void oidc_free(struct oidc **o);
/* Where browsers reach the server, once: <base>/v1/login/oidc/callback is the redirect URI. */
void oidc_set_base(struct oidc *o, const char *url);

/* Why nobody was signed in: a word for the page, a sentence for the log. */
struct oidc_refusal {
	const char *code; /* a literal, docs/api.md lists them */
	struct why why;
};
/* Where the browser is sent, and the value of its cookie. `return_to`: the page that was asked for; one that is not a
 * path of ours counts as "/agents". */
int oidc_begin(
    struct oidc *o, const char *return_to, char **ret_url, char **ret_cookie, struct oidc_refusal *no) MUST_USE;

/* What the browser came back with; each may be NULL. */
struct oidc_answer {
	const char *state, *code, *issuer, *error;
	const char *cookies; /* the Cookie header */
	const char *ip; /* whence, for the audit log */
};
/* *ret_session: the value of the session's cookie; *ret_path: where to go. Any code but OK with `no`. */
int oidc_finish(
    struct oidc *o, const struct oidc_answer *a, char **ret_session, char **ret_path, struct oidc_refusal *no) MUST_USE;
/* Where the browser may end its session at the provider, too; malloc'ed, NULL if the provider has no such place. */
char *oidc_end_url(struct oidc *o);
/* Whether an address is a path of ours: no other host can be meant. */
bool oidc_is_path(const char *path);
