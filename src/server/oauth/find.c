/* Which authorization server protects a resource: RFC 9728, then RFC 8414 or OpenID Connect Discovery. */
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/oauth/oauth_priv.h"
#include <string.h>

void oauth_server_fini(struct oauth_server *s)
{
	str_free(&s->resource);
	str_free(&s->issuer);
	str_free(&s->authorization_endpoint);
	str_free(&s->token_endpoint);
	str_free(&s->registration_endpoint);
	str_free(&s->revocation_endpoint);
	str_free(&s->scope);
}

/* An endpoint is only as good as a URL that web.h asks: https, or a listed host. */
static int oauth_check_url(const struct web_rules *r, const char *what, const char *url, struct why *why)
{
	struct why inner = {0};
	int rc = web_check_url(r, url, &inner);

	return rc == OK ? OK : why_set(why, rc, "%s %s", what, inner.text);
}

int oauth_get_document(const struct web_rules *r, const char *url, const char *token, json_t **ret, struct why *why)
{
	char *authorization = token != NULL ? str_printf("Authorization: Bearer %s", token) : NULL;
	const char *const headers[] = {"Accept: application/json", authorization, NULL};
	const struct web_request req = {
	    .method = "GET", .url = url, .headers = headers, .timeout_ms = OAUTH_MS, .max_body = OAUTH_DOCUMENT_MAX};
	AUTO_FINI(web_answer) a = {0};
	AUTO_JSON doc = NULL;
	int rc = web_ask(r, &req, &a, why);

	str_wipe(&authorization);
	if (rc != OK)
		return rc;
	if (a.status != 200 || json_parse(strbuf_str(&a.body), a.body.len, &doc, NULL) != OK || !json_is_object(doc))
		return ERR_NOT_FOUND;
	*ret = TAKE(doc);
	return OK;
}

/* ERR_NOT_FOUND: there is no such document. */
static int get_document(const struct web_rules *r, const char *url, json_t **ret, struct why *why)
{
	return oauth_get_document(r, url, NULL, ret, why);
}

/* The resource that the document speaks of must be the one that is asked, or contain it: otherwise a token for one
 * server would be got in the name of another. */
static bool covers(const char *resource, const char *url)
{
	AUTO_STR a = web_canonical(resource);
	AUTO_STR b = web_canonical(url);
	AUTO_STR path = web_path(resource);
	AUTO_STR deep = web_path(url);
	size_t n = strlen(path);

	return a != NULL && b != NULL && web_same_origin(a, b) && strncmp(path, deep, n) == 0 &&
	       (deep[n] == '\0' || deep[n] == '/');
}

static char *scopes_of(const json_t *doc)
{
	struct strbuf b = STRBUF(OAUTH_DOCUMENT_MAX);
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(doc, "scopes_supported"), i, v)
	{
		const char *scope = json_string_value(v);

		if (scope != NULL && scope[0] != '\0' && strpbrk(scope, " \"\\") == NULL)
			strbuf_addf(&b, "%s%s", b.len > 0 ? " " : "", scope);
	}
	if (b.len > 0)
		return strbuf_take(&b);
	strbuf_fini(&b);
	return NULL;
}

/* What the resource says of itself. ERR_NOT_FOUND: nothing. */
static int find_resource(
    const struct web_rules *r, const char *url, const struct challenge *c, json_t **ret, struct why *why)
{
	AUTO_STR origin = web_origin(url);
	AUTO_STR path = web_path(url);
	AUTO_STR with_path = str_printf("%s/.well-known/oauth-protected-resource%s", origin, path);
	AUTO_STR root = str_printf("%s/.well-known/oauth-protected-resource", origin);
	const char *places[] = {c->resource_metadata, with_path, path[0] != '\0' ? root : NULL};
	int rc = ERR_NOT_FOUND;

	for (size_t i = 0; i < ARRAY_LEN(places) && rc == ERR_NOT_FOUND; i++)
		if (places[i] != NULL)
			rc = get_document(r, places[i], ret, why);
	return rc;
}

static char *text_of(const json_t *doc, const char *name)
{
	const char *s = json_string_value(json_object_get(doc, name));

	return s != NULL && s[0] != '\0' ? str_dup(s) : NULL;
}

static bool lists(const json_t *doc, const char *name, const char *word)
{
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(doc, name), i,
	    v) if (json_is_string(v) && strcmp(json_string_value(v), word) == 0) return true;
	return false;
}

static int take_server(
    const struct web_rules *r, const json_t *doc, bool tells_pkce, struct oauth_server *s, struct why *why)
{
	const json_t *methods = json_object_get(doc, "token_endpoint_auth_methods_supported");
	int rc;

	s->authorization_endpoint = text_of(doc, "authorization_endpoint");
	s->token_endpoint = text_of(doc, "token_endpoint");
	s->registration_endpoint = text_of(doc, "registration_endpoint");
	s->revocation_endpoint = text_of(doc, "revocation_endpoint");
	s->takes_client_documents = json_is_true(json_object_get(doc, "client_id_metadata_document_supported"));
	s->tells_issuer = json_is_true(json_object_get(doc, "authorization_response_iss_parameter_supported"));
	/* What is not said is client_secret_basic (RFC 8414, 2). */
	s->wants_basic = methods == NULL || lists(doc, "token_endpoint_auth_methods_supported", "client_secret_basic");
	if (s->authorization_endpoint == NULL || s->token_endpoint == NULL)
		return why_set(why, ERR_INVALID,
		    "its authorization server names no authorization_endpoint or no "
		    "token_endpoint");
	if (tells_pkce && !lists(doc, "code_challenge_methods_supported", "S256"))
		return why_set(why, ERR_INVALID,
		    "its authorization server does not say that it checks PKCE (code_challenge_methods_supported with "
		    "S256), so it is not used");
	rc = oauth_check_url(r, "the authorization_endpoint", s->authorization_endpoint, why);
	return rc != OK ? rc : oauth_check_url(r, "the token_endpoint", s->token_endpoint, why);
}

/* The document of an issuer, at one of three places. ERR_NOT_FOUND. */
static int find_issuer(const struct web_rules *r, const char *issuer, json_t **ret, struct why *why)
{
	AUTO_STR origin = web_origin(issuer);
	AUTO_STR path = web_path(issuer);
	AUTO_STR a = str_printf("%s/.well-known/oauth-authorization-server%s", origin, path);
	AUTO_STR b = str_printf("%s/.well-known/openid-configuration%s", origin, path);
	AUTO_STR c = str_printf("%s%s/.well-known/openid-configuration", origin, path);
	const char *places[] = {a, b, path[0] != '\0' ? c : NULL};
	int rc = ERR_NOT_FOUND;

	for (size_t i = 0; i < ARRAY_LEN(places) && rc == ERR_NOT_FOUND; i++)
		if (places[i] != NULL)
			rc = get_document(r, places[i], ret, why);
	return rc;
}

static int ask_issuer(const struct web_rules *r, const char *issuer, struct oauth_server *s, struct why *why)
{
	AUTO_JSON doc = NULL;
	const char *said;
	int rc = oauth_check_url(r, "its authorization server", issuer, why);

	if (rc == OK)
		rc = find_issuer(r, issuer, &doc, why);
	if (rc == ERR_NOT_FOUND)
		return why_set(why, ERR_INVALID, "its authorization server has no metadata document");
	if (rc != OK)
		return rc;
	said = json_string_value(json_object_get(doc, "issuer"));
	if (said == NULL || strcmp(said, issuer) != 0)
		return why_set(why, ERR_INVALID,
		    "the metadata of its authorization server is of another issuer than the one that was named");
	s->issuer = str_dup(issuer);
	return take_server(r, doc, true, s, why);
}

int oauth_find_provider(const struct web_rules *r, const char *issuer, json_t **ret_doc, struct why *why)
{
	AUTO_STR origin = web_origin(issuer);
	AUTO_STR path = web_path(issuer);
	AUTO_STR place = str_printf("%s%s/.well-known/openid-configuration", origin != NULL ? origin : "", path);
	AUTO_JSON doc = NULL;
	const char *said;
	int rc = oauth_check_url(r, "the issuer", issuer, why);

	if (rc == OK)
		rc = get_document(r, place, &doc, why);
	if (rc == ERR_NOT_FOUND)
		return why_set(why, ERR_NET, "the issuer has no document at .well-known/openid-configuration");
	if (rc != OK)
		return rc;
	said = json_string_value(json_object_get(doc, "issuer"));
	if (said == NULL || strcmp(said, issuer) != 0)
		return why_set(
		    why, ERR_INVALID, "the document of the issuer is of another issuer than the one that is set");
	*ret_doc = TAKE(doc);
	return OK;
}

int oauth_provider_read(const struct web_rules *r, const json_t *doc, struct oauth_server *ret, struct why *why)
{
	AUTO_FINI(oauth_server) s = {.issuer = text_of(doc, "issuer")};
	int rc = take_server(r, doc, false, &s, why);

	if (rc != OK)
		return rc;
	*ret = s;
	s = (struct oauth_server){0};
	return OK;
}

/* As it was in 2025-03-26: the server of the resource is its own authorization server. */
static int ask_origin(const struct web_rules *r, const char *url, struct oauth_server *s, struct why *why)
{
	AUTO_STR origin = web_origin(url);
	AUTO_STR place = str_printf("%s/.well-known/oauth-authorization-server", origin);
	AUTO_JSON doc = NULL;
	const char *said;
	int rc = get_document(r, place, &doc, why);

	if (rc == OK) {
		said = json_string_value(json_object_get(doc, "issuer"));
		if (said == NULL || !web_same_origin(said, url))
			return why_set(why, ERR_INVALID,
			    "the metadata of its authorization server is of another issuer than itself");
		s->issuer = str_dup(said);
		return take_server(r, doc, true, s, why);
	}
	if (rc != ERR_NOT_FOUND)
		return rc;
	s->issuer = str_dup(origin);
	s->authorization_endpoint = str_printf("%s/authorize", origin);
	s->token_endpoint = str_printf("%s/token", origin);
	s->registration_endpoint = str_printf("%s/register", origin);
	return OK;
}

int oauth_find(
    const struct web_rules *r, const char *url, const struct challenge *c, struct oauth_server *ret, struct why *why)
{
	AUTO_FINI(oauth_server) s = {.resource = web_canonical(url)};
	AUTO_JSON doc = NULL;
	int rc = web_check_url(r, url, why);

	if (rc != OK)
		return rc;
	rc = find_resource(r, url, c, &doc, why);
	if (rc == OK) {
		const char *resource = json_string_value(json_object_get(doc, "resource"));
		const char *issuer =
		    json_string_value(json_array_get(json_object_get(doc, "authorization_servers"), 0));

		if (resource == NULL || !covers(resource, url))
			return why_set(why, ERR_INVALID,
			    "what it says of its authorization is about another resource, so it is not used");
		if (issuer == NULL)
			return why_set(why, ERR_INVALID, "it names no authorization server");
		str_free(&s.resource);
		s.resource = str_dup(resource);
		rc = ask_issuer(r, issuer, &s, why);
	} else if (rc == ERR_NOT_FOUND) {
		rc = ask_origin(r, url, &s, why);
	}
	if (rc != OK)
		return rc;
	s.scope = c->scope != NULL ? str_dup(c->scope) : scopes_of(doc);
	*ret = s;
	s = (struct oauth_server){0};
	return OK;
}
