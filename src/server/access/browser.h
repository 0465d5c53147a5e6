/* access/browser.h: sessions of browsers. A session stands for an API key: the one that was typed in, or one that was
 * made for a person's login link or identity and that nobody knows. The cookie is 256 random bits, of which the store
 * has the hash. A session ends after 12 hours without a request, after 7 days in any case, with its key, and when it is
 * told to. Thread: any. */
#pragma once
#include "server/access/keys.h"

#define BROWSER_COOKIE "bullpen_session"
#define BROWSER_IDLE_MS ((int64_t)12 * 3600 * 1000)
#define BROWSER_LIFE_MS ((int64_t)7 * 24 * 3600 * 1000)
#define LOGIN_LINK_MS ((int64_t)10 * 60 * 1000)

/* `ip`: whence, for the audit log. *ret_cookie (malloc'ed): its value. ERR_UNAUTHORIZED: the key is not valid, or not a
 * person's; the link is used or over. */
int browser_sign_in_by_key(struct store *st, const char *key, const char *ip, char **ret_cookie) MUST_USE;
int browser_sign_in_by_link(struct store *st, const char *secret, const char *ip, char **ret_cookie) MUST_USE;
/* Of a Cookie header (NULL: none). ERR_EMPTY: it has no session's cookie; ERR_UNAUTHORIZED: that session is over. */
int browser_authenticate(struct store *st, const char *cookies, struct principal **ret) MUST_USE;
/* No session is fine. *ret_oidc: the OpenID provider had begun it. */
int browser_sign_out(struct store *st, const char *cookies, const char *ip, bool *ret_oidc) MUST_USE;

/* Whom the OpenID provider says that is. Texts are borrowed and were checked. */
struct identity {
	const char *issuer, *subject;
	const char *email; /* verified by the provider */
	const char *name;
	bool create; /* also for whom has no account yet */
	bool decides_role; /* the provider says who is an admin; owners and auditors stay what they are */
	bool is_admin;
	const char *ip; /* whence, for the audit log */
};
/* Finds the account by issuer and subject, else by the e-mail address, and signs in. ERR_NOT_FOUND: nobody has this
 * address; ERR_CONFLICT: the account of this address is of another subject of this provider. */
int browser_sign_in_by_identity(struct store *st, const struct identity *id, char **ret_cookie) MUST_USE;

/* For `bullpen admin`: a secret (malloc'ed) that signs the person in once within LOGIN_LINK_MS. */
int login_link_create(struct store *st, const struct audit_by *by, const char *name, const char *email,
    char **ret_secret, struct why *why) MUST_USE;
