/* oauth/oauth.h: OAuth 2.1 as a client needs it: which authorization server protects a resource, who we are to it,
 * and tokens from it. Every URL here was named by somebody outside and is asked through web.h. Thread: any; blocks for
 * at most some ten seconds a document. No state. */
#pragma once
#include "base/json.h"
#include "server/oauth/web.h"

/* A Bearer challenge. */
struct challenge {
	char *resource_metadata, *scope, *error; /* NULL: not there */
};
/* Reads "WWW-Authenticate": several challenges, in any order, quoted or not. False: there is none for Bearer. */
bool challenge_parse(const char *header, struct challenge *ret);
void challenge_fini(struct challenge *c);

/* Where to get a token for one resource. */
struct oauth_server {
	char *resource; /* canonical URL of what the token is for */
	char *issuer; /* "" if the server has no document and the default endpoints are used */
	char *authorization_endpoint, *token_endpoint;
	char *registration_endpoint, *revocation_endpoint; /* NULL: none */
	char *scope; /* what to ask for: of the challenge, else all that the resource has; NULL: nothing */
	bool takes_client_documents; /* client_id_metadata_document_supported */
	bool tells_issuer; /* authorization_response_iss_parameter_supported */
	bool wants_basic; /* a client with a secret authenticates with client_secret_basic, else _post */
};
void oauth_server_fini(struct oauth_server *s);
/* Asks the MCP server's `url` and what it names. `c`: what the server said with its 401 (fields may be NULL).
 * ERR_INVALID, ERR_DENIED, ERR_NET … with `why`: a sentence for a person. */
int oauth_find(const struct web_rules *r, const char *url, const struct challenge *c, struct oauth_server *ret,
    struct why *why) MUST_USE;

/* The document of an OpenID provider by its issuer (OpenID Connect Discovery 1.0); and what of it is OAuth, without
 * resource and scope. That it checks PKCE need not be said: many do and do not tell. */
int oauth_find_provider(const struct web_rules *r, const char *issuer, json_t **ret_doc, struct why *why) MUST_USE;
int oauth_provider_read(
    const struct web_rules *r, const json_t *doc, struct oauth_server *ret, struct why *why) MUST_USE;
/* The JSON object at a URL, asked with "Authorization: Bearer" if there is a token. ERR_NOT_FOUND: any answer but a 200
 * with an object. */
int oauth_get_document(
    const struct web_rules *r, const char *url, const char *token, json_t **ret, struct why *why) MUST_USE;

/* Who we are to an authorization server. */
struct oauth_client {
	char *id, *secret; /* secret: NULL if it is a public client */
	int64_t expires_at_ms; /* 0: never */
};
void oauth_client_fini(struct oauth_client *c);
/* Dynamic registration. ERR_DENIED: the server takes none. */
int oauth_register(const struct web_rules *r, const struct oauth_server *s, const char *redirect_uri,
    struct oauth_client *ret, struct why *why) MUST_USE;

#define OAUTH_VERIFIER_LEN 64
/* A fresh PKCE verifier; and its S256 challenge (malloc'ed). */
void oauth_verifier(char ret[OAUTH_VERIFIER_LEN + 1]);
char *oauth_challenge_of(const char *verifier);
/* What a person's browser is sent to; malloc'ed. */
char *oauth_authorize_url(const struct oauth_server *s, const struct oauth_client *c, const char *redirect_uri,
    const char *verifier, const char *state);

/* A value of a query or form, malloc'ed. */
char *oauth_encode(const char *value);

struct oauth_tokens {
	char *access, *refresh, *scope; /* refresh, scope: NULL if not given */
	char *id_token; /* NULL if not given; not checked */
	int64_t expires_at_ms; /* 0: not said */
};
void oauth_tokens_fini(struct oauth_tokens *t); /* wipes them */
int oauth_exchange(const struct web_rules *r, const struct oauth_server *s, const struct oauth_client *c,
    const char *redirect_uri, const char *verifier, const char *code, struct oauth_tokens *ret,
    struct why *why) MUST_USE;
/* ERR_UNAUTHORIZED: invalid_grant, it will never work again. */
int oauth_refresh(const struct web_rules *r, const struct oauth_server *s, const struct oauth_client *c,
    const char *refresh_token, struct oauth_tokens *ret, struct why *why) MUST_USE;
/* Tells the server that the token is not needed any more, if it wants to know. Its answer does not matter. */
void oauth_revoke(
    const struct web_rules *r, const struct oauth_server *s, const struct oauth_client *c, const char *token);

/* For keeping: {"issuer", …}, new references; and back. ERR_INVALID: damaged. */
json_t *oauth_server_json(const struct oauth_server *s);
int oauth_server_read(const json_t *o, struct oauth_server *ret) MUST_USE;
json_t *oauth_client_json(const struct oauth_client *c);
int oauth_client_read(const json_t *o, struct oauth_client *ret) MUST_USE;
/* The union of two lists of scopes separated by blanks; NULL is none. malloc'ed, NULL if empty. */
char *oauth_scopes_join(const char *a, const char *b);
