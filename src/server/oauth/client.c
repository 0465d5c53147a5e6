/* Registration, authorization and tokens. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/oauth/oauth_priv.h"
#include <string.h>
#include <strings.h>

#define TOKEN_MAX (16 * 1024)

void oauth_client_fini(struct oauth_client *c)
{
	str_free(&c->id);
	str_wipe(&c->secret);
}

void oauth_tokens_fini(struct oauth_tokens *t)
{
	str_wipe(&t->access);
	str_wipe(&t->refresh);
	str_wipe(&t->id_token);
	str_free(&t->scope);
}

static bool is_visible(const char *s, size_t max)
{
	for (const unsigned char *c = (const unsigned char *)s; *c != '\0'; c++)
		if (*c < 0x21 || *c > 0x7e)
			return false;
	return s[0] != '\0' && strlen(s) <= max;
}

static json_t *registration(const struct oauth_server *s, const char *redirect_uri, bool with_scope)
{
	json_t *o = json_pack("{s:s, s:[s], s:[s,s], s:[s], s:s, s:s}", "client_name", "Bullpen", "redirect_uris",
	    redirect_uri, "grant_types", "authorization_code", "refresh_token", "response_types", "code",
	    "token_endpoint_auth_method", "none", "application_type", "web");

	json_put(o, "scope", with_scope ? s->scope : NULL);
	return o;
}

static int post_registration(const struct web_rules *r, const struct oauth_server *s, const char *redirect_uri,
    bool with_scope, int *ret_status, json_t **ret, struct why *why)
{
	static const char *const headers[] = {"Content-Type: application/json", "Accept: application/json", NULL};
	AUTO_JSON asked = registration(s, redirect_uri, with_scope);
	AUTO_STR body = json_text(asked);
	const struct web_request req = {.method = "POST",
	    .url = s->registration_endpoint,
	    .body = body,
	    .headers = headers,
	    .timeout_ms = OAUTH_MS,
	    .max_body = OAUTH_DOCUMENT_MAX};
	AUTO_FINI(web_answer) a = {0};
	int rc = web_ask(r, &req, &a, why);

	*ret_status = a.status;
	if (rc == OK && json_parse(strbuf_str(&a.body), a.body.len, ret, NULL) != OK)
		*ret = NULL;
	return rc;
}

int oauth_register(const struct web_rules *r, const struct oauth_server *s, const char *redirect_uri,
    struct oauth_client *ret, struct why *why)
{
	AUTO_JSON o = NULL;
	const char *id;
	int status = 0, rc;

	if (s->registration_endpoint == NULL)
		return why_set(
		    why, ERR_DENIED, "its authorization server registers no clients: give the server auth.CLIENT_ID");
	rc = post_registration(r, s, redirect_uri, s->scope != NULL, &status, &o, why);
	/* Some know only the scopes of their own there, and not those of the resource. */
	if (rc == OK && status == 400 && s->scope != NULL) {
		json_drop(&o);
		rc = post_registration(r, s, redirect_uri, false, &status, &o, why);
	}
	if (rc != OK)
		return rc;
	id = json_string_value(json_object_get(o, "client_id"));
	if ((status != 201 && status != 200) || id == NULL || !is_visible(id, 2048))
		return why_set(why, ERR_DENIED,
		    "its authorization server did not register us (status %d): give the server auth.CLIENT_ID", status);
	return oauth_client_read(o, ret);
}

void oauth_verifier(char ret[OAUTH_VERIFIER_LEN + 1])
{
	uint64_t random[6];
	char *text;

	for (size_t i = 0; i < ARRAY_LEN(random); i++)
		random[i] = id_random64();
	text = base64url_encode(random, sizeof random);
	ENSURE(strlen(text) == OAUTH_VERIFIER_LEN);
	memcpy(ret, text, OAUTH_VERIFIER_LEN + 1);
	str_wipe(&text);
}

static int digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

char *oauth_challenge_of(const char *verifier)
{
	char hex[SHA256_HEX_LEN];
	unsigned char bytes[32];

	sha256_hex(verifier, strlen(verifier), hex);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
	return base64url_encode(bytes, sizeof bytes);
}

static void add_encoded(struct strbuf *b, const char *value)
{
	static const char hex[] = "0123456789ABCDEF";

	for (const unsigned char *c = (const unsigned char *)value; *c != '\0'; c++) {
		if ((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
		    strchr("-._~", *c) != NULL) {
			strbuf_addc(b, (char)*c);
		} else {
			strbuf_addc(b, '%');
			strbuf_addc(b, hex[*c >> 4]);
			strbuf_addc(b, hex[*c & 15]);
		}
	}
}

char *oauth_encode(const char *value)
{
	struct strbuf b = STRBUF((size_t)64 * 1024);

	add_encoded(&b, value);
	return strbuf_take(&b);
}

/* One member of a form, or of a query. */
static void form_add(struct strbuf *b, const char *name, const char *value)
{
	if (value == NULL)
		return;
	strbuf_addf(b, "%s%s=", b->len > 0 ? "&" : "", name);
	add_encoded(b, value);
}

char *oauth_authorize_url(const struct oauth_server *s, const struct oauth_client *c, const char *redirect_uri,
    const char *verifier, const char *state)
{
	struct strbuf b = STRBUF((size_t)64 * 1024);
	AUTO_STR challenge = oauth_challenge_of(verifier);
	AUTO_STR query = NULL;
	bool more = strchr(s->authorization_endpoint, '?') != NULL;

	form_add(&b, "response_type", "code");
	form_add(&b, "client_id", c->id);
	form_add(&b, "redirect_uri", redirect_uri);
	form_add(&b, "code_challenge", challenge);
	form_add(&b, "code_challenge_method", "S256");
	form_add(&b, "state", state);
	form_add(&b, "resource", s->resource);
	form_add(&b, "scope", s->scope);
	query = strbuf_take(&b);
	return str_printf("%.*s%s%s", (int)strcspn(s->authorization_endpoint, "#"), s->authorization_endpoint,
	    more ? "&" : "?", query);
}

/* "Authorization: Basic …": id and secret are form-encoded first (RFC 6749, 2.3.1). */
static char *basic_header(const struct oauth_client *c)
{
	struct strbuf b = STRBUF((size_t)64 * 1024);
	char *pair, *coded, *out;

	add_encoded(&b, c->id);
	strbuf_addc(&b, ':');
	add_encoded(&b, c->secret);
	pair = strbuf_take(&b);
	coded = base64_encode(pair, strlen(pair));
	out = str_printf("Authorization: Basic %s", coded);
	str_wipe(&pair);
	str_wipe(&coded);
	return out;
}

/* POSTs the form, which is wiped, to an endpoint of the server. *ret: the object it answers, NULL if it is none. */
static int post_form(const struct web_rules *r, const struct oauth_server *s, const struct oauth_client *c,
    const char *url, struct strbuf *form, int *ret_status, json_t **ret, struct why *why)
{
	bool basic = c->secret != NULL && s->wants_basic;
	char *authorization = basic ? basic_header(c) : NULL, *body;
	const char *const headers[] = {
	    "Content-Type: application/x-www-form-urlencoded", "Accept: application/json", authorization, NULL};
	AUTO_FINI(web_answer) a = {0};
	int rc;

	form_add(form, "client_id", c->id);
	if (c->secret != NULL && !basic)
		form_add(form, "client_secret", c->secret);
	body = strbuf_take(form);
	const struct web_request req = {.method = "POST",
	    .url = url,
	    .body = body,
	    .headers = headers,
	    .timeout_ms = OAUTH_MS,
	    .max_body = OAUTH_DOCUMENT_MAX};

	rc = web_ask(r, &req, &a, why);
	*ret_status = a.status;
	if (rc == OK && json_parse(strbuf_str(&a.body), a.body.len, ret, NULL) != OK)
		*ret = NULL;
	str_wipe(&body);
	str_wipe(&authorization);
	return rc;
}

/* What the endpoint calls its error, if that is a plain word. */
static const char *error_of(const json_t *o)
{
	const char *s = json_string_value(json_object_get(o, "error"));

	return s != NULL && text_is_token(s, "_-.", 60) ? s : NULL;
}

static int64_t seconds_of(const json_t *v)
{
	int64_t s = 0;

	/* Some say it as a string. */
	if (json_is_string(v) && text_parse_int(json_string_value(v), 0, INT32_MAX, &s) == OK)
		return s;
	return json_is_number(v) ? (int64_t)MIN(MAX(json_number_value(v), 0.0), (double)INT32_MAX) : 0;
}

static int take_tokens(const json_t *o, struct oauth_tokens *ret, struct why *why)
{
	const char *access = json_string_value(json_object_get(o, "access_token"));
	const char *type = json_string_value(json_object_get(o, "token_type"));
	const char *refresh = json_string_value(json_object_get(o, "refresh_token"));
	const char *id_token = json_string_value(json_object_get(o, "id_token"));
	int64_t seconds = seconds_of(json_object_get(o, "expires_in"));

	if (access == NULL || !is_visible(access, TOKEN_MAX) || type == NULL || strcasecmp(type, "bearer") != 0)
		return why_set(why, ERR_INVALID, "its authorization server gave no bearer token");
	*ret = (struct oauth_tokens){.access = str_dup(access),
	    .refresh = refresh != NULL && is_visible(refresh, TOKEN_MAX) ? str_dup(refresh) : NULL,
	    .scope = str_dup(json_string_value(json_object_get(o, "scope"))),
	    .id_token = id_token != NULL && is_visible(id_token, TOKEN_MAX) ? str_dup(id_token) : NULL,
	    .expires_at_ms = seconds > 0 ? clock_wall_ms() + seconds * 1000 : 0};
	return OK;
}

static int ask_token(const struct web_rules *r, const struct oauth_server *s, const struct oauth_client *c,
    struct strbuf *form, struct oauth_tokens *ret, struct why *why)
{
	AUTO_JSON o = NULL;
	const char *error;
	int status = 0, rc;

	form_add(form, "resource", s->resource);
	rc = post_form(r, s, c, s->token_endpoint, form, &status, &o, why);
	if (rc != OK)
		return rc;
	if (status == 200)
		return take_tokens(o, ret, why);
	error = error_of(o);
	return why_set(why, error != NULL && strcmp(error, "invalid_grant") == 0 ? ERR_UNAUTHORIZED : ERR_NET,
	    "its authorization server gave no token (status %d%s%s)", status, error != NULL ? ", " : "",
	    error != NULL ? error : "");
}

int oauth_exchange(const struct web_rules *r, const struct oauth_server *s, const struct oauth_client *c,
    const char *redirect_uri, const char *verifier, const char *code, struct oauth_tokens *ret, struct why *why)
{
	struct strbuf form = STRBUF((size_t)64 * 1024);

	form_add(&form, "grant_type", "authorization_code");
	form_add(&form, "code", code);
	form_add(&form, "redirect_uri", redirect_uri);
	form_add(&form, "code_verifier", verifier);
	return ask_token(r, s, c, &form, ret, why);
}

int oauth_refresh(const struct web_rules *r, const struct oauth_server *s, const struct oauth_client *c,
    const char *refresh_token, struct oauth_tokens *ret, struct why *why)
{
	struct strbuf form = STRBUF((size_t)64 * 1024);

	form_add(&form, "grant_type", "refresh_token");
	form_add(&form, "refresh_token", refresh_token);
	return ask_token(r, s, c, &form, ret, why);
}

void oauth_revoke(
    const struct web_rules *r, const struct oauth_server *s, const struct oauth_client *c, const char *token)
{
	struct strbuf form = STRBUF((size_t)64 * 1024);
	AUTO_JSON o = NULL;
	struct why why = {0};
	int status = 0;

	if (s->revocation_endpoint == NULL)
		return;
	form_add(&form, "token", token);
	if (post_form(r, s, c, s->revocation_endpoint, &form, &status, &o, &why) != OK || status != 200)
		log_info("mcp.revoke.failed", "issuer=%s status=%d", log_quote(s->issuer), status);
}

json_t *oauth_server_json(const struct oauth_server *s)
{
	json_t *o = json_object();

	json_put(o, "resource", s->resource);
	json_put(o, "issuer", s->issuer);
	json_put(o, "authorization_endpoint", s->authorization_endpoint);
	json_put(o, "token_endpoint", s->token_endpoint);
	json_put(o, "revocation_endpoint", s->revocation_endpoint);
	json_put(o, "scope", s->scope);
	json_put_bool(o, "tells_issuer", s->tells_issuer);
	json_put_bool(o, "wants_basic", s->wants_basic);
	return o;
}

static char *kept_text(const json_t *o, const char *name)
{
	return str_dup(json_string_value(json_object_get(o, name)));
}

int oauth_server_read(const json_t *o, struct oauth_server *ret)
{
	*ret = (struct oauth_server){.resource = kept_text(o, "resource"),
	    .issuer = kept_text(o, "issuer"),
	    .authorization_endpoint = kept_text(o, "authorization_endpoint"),
	    .token_endpoint = kept_text(o, "token_endpoint"),
	    .revocation_endpoint = kept_text(o, "revocation_endpoint"),
	    .scope = kept_text(o, "scope"),
	    .tells_issuer = json_is_true(json_object_get(o, "tells_issuer")),
	    .wants_basic = json_is_true(json_object_get(o, "wants_basic"))};
	return ret->resource != NULL && ret->issuer != NULL && ret->token_endpoint != NULL ? OK : ERR_INVALID;
}

json_t *oauth_client_json(const struct oauth_client *c)
{
	json_t *o = json_object();

	json_put(o, "client_id", c->id);
	json_put(o, "client_secret", c->secret);
	json_put_int(o, "client_secret_expires_at", c->expires_at_ms / 1000);
	return o;
}

int oauth_client_read(const json_t *o, struct oauth_client *ret)
{
	*ret = (struct oauth_client){.id = kept_text(o, "client_id"),
	    .secret = kept_text(o, "client_secret"),
	    .expires_at_ms = seconds_of(json_object_get(o, "client_secret_expires_at")) * 1000};
	return ret->id != NULL ? OK : ERR_INVALID;
}

static void add_scopes(struct strbuf *b, const char *list)
{
	while (list != NULL && *list != '\0') {
		size_t n = strcspn(list, " ");
		AUTO_STR word = str_printf(" %.*s ", (int)n, list);
		AUTO_STR have = str_printf(" %s ", strbuf_str(b));

		if (n > 0 && strstr(have, word) == NULL)
			strbuf_addf(b, "%s%.*s", b->len > 0 ? " " : "", (int)n, list);
		list += n + (list[n] == ' ');
	}
}

char *oauth_scopes_join(const char *a, const char *b)
{
	struct strbuf all = STRBUF(8192);

	add_scopes(&all, a);
	add_scopes(&all, b);
	if (all.len > 0)
		return strbuf_take(&all);
	strbuf_fini(&all);
	return NULL;
}
