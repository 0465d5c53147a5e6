#include "server/login/oidc.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/access/browser.h"
#include "server/login/id_token.h"
#include "server/login/provider.h"
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#define SEALED_FOR "login/oidc"
#define COOKIE_MAX 4000
#define PATH_MAX_LEN 1024
#define RANDOM_BYTES 32

struct oidc {
	struct oidc_config cfg;
	struct provider *provider;
	_Atomic(char *) base;
};

int oidc_new(const struct oidc_config *cfg, struct oidc **ret, struct why *why)
{
	struct oidc *o = NEW(struct oidc);
	int rc;

	o->cfg = *cfg;
	rc = provider_new(cfg->issuer, &o->provider, why);
	if (rc != OK)
		oidc_free(&o);
	else
		*ret = o;
	return rc;
}

void oidc_free(struct oidc **op)
{
	struct oidc *o = TAKE(*op);

	if (o == NULL)
		return;
	provider_free(&o->provider);
	free(atomic_load(&o->base));
	free(o);
}

void oidc_set_base(struct oidc *o, const char *url)
{
	size_t n = strlen(url);

	atomic_store(&o->base, str_ndup(url, n - (n > 0 && url[n - 1] == '/')));
}

bool oidc_is_path(const char *path)
{
	/* "//host" and "/\host" mean another host to browsers; they skip line ends and tabs. */
	if (path == NULL || path[0] != '/' || path[1] == '/' || strlen(path) > PATH_MAX_LEN)
		return false;
	for (const unsigned char *c = (const unsigned char *)path; *c != '\0'; c++)
		if (*c <= ' ' || *c >= 0x7f || *c == '\\')
			return false;
	return true;
}

static int refuse_login(struct oidc_refusal *no, const char *code, int rc, const char *sentence)
{
	no->code = code;
	return why_set(&no->why, rc, "%s", sentence);
}

/* What a store or the network makes impossible is not the person's doing. */
static int refuse_provider(struct oidc_refusal *no, int rc)
{
	no->code = "provider_unreachable";
	return rc;
}

static char *redirect_uri(const struct oidc *o)
{
	const char *base = atomic_load(&((struct oidc *)o)->base);

	return str_printf("%s" OIDC_PATH "/callback", base != NULL ? base : "");
}

static struct oauth_client client_of(const struct oidc *o)
{
	return (struct oauth_client){.id = (char *)o->cfg.client_id, .secret = (char *)o->cfg.client_secret};
}

/* What one sign-in needs until the browser is back. */
struct ticket {
	char *state, *nonce, *verifier, *path;
};

static void ticket_fini(struct ticket *t)
{
	str_free(&t->state);
	str_free(&t->nonce);
	str_wipe(&t->verifier);
	str_free(&t->path);
}

static char *random_text(void)
{
	AUTO_STR s = mem_alloc(2 * RANDOM_BYTES + 1);

	id_hex(s, RANDOM_BYTES);
	return TAKE(s);
}

static char *seal_ticket(const struct oidc *o, const struct ticket *t)
{
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I}", "state", t->state, "nonce", t->nonce, "verifier",
	    t->verifier, "path", t->path, "until", (json_int_t)(clock_wall_ms() + OIDC_MS));
	char *plain = json_text(j), *sealed = seal_text(o->cfg.seal, SEALED_FOR, plain);

	json_decref(j);
	str_wipe(&plain);
	return sealed;
}

int oidc_begin(struct oidc *o, const char *return_to, char **ret_url, char **ret_cookie, struct oidc_refusal *no)
{
	__attribute__((cleanup(ticket_fini))) struct ticket t = {.state = random_text(), .nonce = random_text()};
	struct oauth_client client = client_of(o);
	AUTO_FINI(oauth_server) s = {0};
	AUTO_STR back = redirect_uri(o);
	AUTO_STR url = NULL;
	AUTO_JSON doc = NULL;
	int rc = provider_load(o->provider, &doc, &no->why);

	if (rc == OK)
		rc = oauth_provider_read(provider_rules(o->provider), doc, &s, &no->why);
	if (rc != OK)
		return refuse_provider(no, rc);
	t.path = str_dup(oidc_is_path(return_to) ? return_to : "/agents");
	t.verifier = mem_alloc(OAUTH_VERIFIER_LEN + 1);
	oauth_verifier(t.verifier);
	s.scope = str_dup(o->cfg.scopes);
	url = oauth_authorize_url(&s, &client, back, t.verifier, t.state);
	*ret_url = str_printf("%s&nonce=%s", url, t.nonce);
	*ret_cookie = seal_ticket(o, &t);
	return OK;
}

/* Its value in a Cookie header, malloc'ed; NULL: it is not there. */
static char *login_cookie_of(const char *cookies)
{
	static const char name[] = OIDC_COOKIE "=";

	while (cookies != NULL && *cookies != '\0') {
		size_t n;

		cookies += strspn(cookies, " \t;");
		n = strcspn(cookies, ";");
		if (text_has_prefix(cookies, name) && n < COOKIE_MAX)
			return str_ndup(cookies + sizeof name - 1, n - (sizeof name - 1));
		cookies += n;
	}
	return NULL;
}

static int read_ticket(const struct oidc *o, const char *plain, struct ticket *t)
{
	AUTO_JSON j = NULL;

	if (json_parse(plain, strlen(plain), &j, NULL) != OK ||
	    json_integer_value(json_object_get(j, "until")) <= clock_wall_ms())
		return ERR_EMPTY;
	*t = (struct ticket){.state = str_dup(json_word(j, "state")),
	    .nonce = str_dup(json_word(j, "nonce")),
	    .verifier = str_dup(json_word(j, "verifier")),
	    .path = str_dup(json_word(j, "path"))};
	return OK;
}

/* The browser must be the one that began: it has the cookie whose state the provider gave back. */
static int open_ticket(struct oidc *o, const struct oidc_answer *a, struct ticket *t, struct oidc_refusal *no)
{
	AUTO_STR sealed = login_cookie_of(a->cookies);
	char *plain = NULL;
	int rc = sealed != NULL ? seal_try(o->cfg.seal, SEALED_FOR, sealed, &plain) : ERR_EMPTY;

	if (rc == OK)
		rc = read_ticket(o, plain, t);
	str_wipe(&plain);
	if (rc == OK && (a->state == NULL || strlen(a->state) != strlen(t->state) ||
			    !secret_equal(a->state, t->state, strlen(t->state))))
		rc = ERR_EMPTY;
	return rc == OK ? OK
			: refuse_login(no, "begin_again", ERR_DENIED,
			      "this browser has not begun this sign-in, or more than ten minutes ago");
}

static int check_provider_answer(
    const struct oidc *o, const struct oidc_answer *a, const struct oauth_server *s, struct oidc_refusal *no)
{
	/* RFC 9207: an answer of another server must not be taken for this one's. */
	if (a->issuer != NULL ? strcmp(a->issuer, o->cfg.issuer) != 0 : s->tells_issuer)
		return refuse_login(no, "not_trusted", ERR_DENIED, "the answer is of another issuer (iss)");
	if (a->error != NULL) {
		no->code = "provider_refused";
		return why_set(&no->why, ERR_DENIED, "the provider says %s",
		    text_is_token(a->error, "_-.", 60) ? a->error : "an error");
	}
	if (a->code == NULL || a->code[0] == '\0')
		return refuse_login(no, "not_trusted", ERR_DENIED, "the answer has no code");
	return OK;
}

static int exchange_code(struct oidc *o, const struct oidc_answer *a, const struct oauth_server *s,
    const struct ticket *t, struct oauth_tokens *ret, struct oidc_refusal *no)
{
	struct oauth_client client = client_of(o);
	AUTO_STR back = redirect_uri(o);
	int rc = oauth_exchange(provider_rules(o->provider), s, &client, back, t->verifier, a->code, ret, &no->why);

	if (rc == ERR_UNAUTHORIZED) {
		no->code = "begin_again";
		return rc;
	}
	if (rc != OK)
		return refuse_provider(no, rc);
	return ret->id_token != NULL ? OK
				     : refuse_login(no, "not_trusted", ERR_DENIED, "the provider gave no ID token");
}

/* Keys are changed at any time: if none of those that are kept has signed it, the present ones are asked for. */
static int read_claims(
    struct oidc *o, const json_t *doc, const char *token, const struct ticket *t, json_t **ret, struct oidc_refusal *no)
{
	const struct id_token_wants w = {
	    .issuer = o->cfg.issuer, .client_id = o->cfg.client_id, .nonce = t->nonce, .now_ms = clock_wall_ms()};
	bool kept = true;
	int rc = ERR_NOT_FOUND;

	for (int i = 0; i < 2 && rc == ERR_NOT_FOUND && kept; i++) {
		AUTO_JSON keys = NULL;

		rc = provider_keys(o->provider, doc, i > 0, &keys, &kept, &no->why);
		if (rc != OK)
			return refuse_provider(no, rc);
		rc = id_token_check(keys, token, &w, ret, &no->why);
	}
	if (rc != OK)
		no->code = "not_trusted";
	return rc;
}

/* Many providers tell the address only at the userinfo endpoint. */
static int add_userinfo(struct oidc *o, const json_t *doc, const char *access, json_t *claims, struct oidc_refusal *no)
{
	const char *url = json_word(doc, "userinfo_endpoint");
	AUTO_JSON more = NULL;
	int rc;

	if (json_object_get(claims, "email") != NULL || url[0] == '\0')
		return OK;
	rc = web_check_url(provider_rules(o->provider), url, &no->why);
	if (rc == OK)
		rc = oauth_get_document(provider_rules(o->provider), url, access, &more, &no->why);
	if (rc == ERR_NOT_FOUND)
		why_set(&no->why, rc, "the provider's userinfo_endpoint gave no JSON");
	if (rc != OK)
		return refuse_provider(no, rc);
	if (strcmp(json_word(more, "sub"), json_word(claims, "sub")) != 0)
		return refuse_login(no, "not_trusted", ERR_DENIED, "the userinfo is about another person (sub)");
	json_object_update_missing(claims, more); /* what is signed stays */
	return OK;
}

/* Whether `word` is one of a list separated by commas. */
static bool list_has(const char *list, const char *word)
{
	while (list != NULL && *list != '\0') {
		size_t n = strcspn(list, ",");
		AUTO_STR part = str_ndup(list, n);
		AUTO_STR one = text_trim(part);

		if (one[0] != '\0' && strcasecmp(one, word) == 0)
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

static bool is_in_admin_group(const struct oidc *o, const json_t *claims)
{
	const json_t *groups = json_object_get(claims, o->cfg.groups_claim), *v;
	bool found = json_is_string(groups) && list_has(o->cfg.admin_groups, json_string_value(groups));
	size_t i;

	json_array_foreach(groups, i, v) found |=
	    json_is_string(v) && list_has(o->cfg.admin_groups, json_string_value(v));
	return found;
}

static bool is_verified(const struct oidc *o, const json_t *claims)
{
	const json_t *v = json_object_get(claims, "email_verified");

	if (v == NULL)
		return o->cfg.trust_email;
	/* Some say it as a text. */
	return json_is_true(v) || (json_is_string(v) && strcmp(json_string_value(v), "true") == 0);
}

static int check_email(const struct oidc *o, const json_t *claims, struct oidc_refusal *no)
{
	const char *email = json_word(claims, "email"), *at = strrchr(email, '@');
	AUTO_STR line = text_line(email, 254);
	const char *domains = o->cfg.allowed_domains;

	if (at == NULL || at == email || at[1] == '\0' || strcmp(line, email) != 0 || strchr(email, ' ') != NULL)
		return refuse_login(no, "email_missing", ERR_DENIED, "the provider gives no e-mail address");
	if (!is_verified(o, claims))
		return refuse_login(
		    no, "email_not_verified", ERR_DENIED, "the provider has not verified the e-mail address");
	if (domains != NULL && domains[0] != '\0' && !list_has(domains, "*") && !list_has(domains, at + 1))
		return refuse_login(no, "domain_not_allowed", ERR_DENIED,
		    "the e-mail address is of no domain in login.oidc.allowed_domains");
	return OK;
}

static int sign_in_as(struct oidc *o, const json_t *claims, const char *ip, char **ret_session, struct oidc_refusal *no)
{
	bool decides = o->cfg.admin_groups != NULL && o->cfg.admin_groups[0] != '\0';
	AUTO_STR name = text_line(json_word(claims, "name"), 100);
	const struct identity id = {.issuer = o->cfg.issuer,
	    .subject = json_word(claims, "sub"),
	    .email = json_word(claims, "email"),
	    .name = text_is_blank(name) ? json_word(claims, "email") : name,
	    .create = o->cfg.auto_create,
	    .decides_role = decides,
	    .is_admin = decides && is_in_admin_group(o, claims),
	    .ip = ip};
	int rc = check_email(o, claims, no);

	if (rc != OK)
		return rc;
	rc = browser_sign_in_by_identity(o->cfg.store, &id, ret_session);
	if (rc == ERR_NOT_FOUND)
		return refuse_login(
		    no, "no_account", rc, "nobody here has this e-mail address (login.oidc.auto_create)");
	if (rc == ERR_CONFLICT)
		return refuse_login(
		    no, "other_account", rc, "the account of this address is another person's at the provider");
	if (rc != OK)
		return refuse_login(no, "store", rc, err_text(rc));
	log_info("login.oidc", "email=%s subject=%s", log_quote(id.email), log_quote(id.subject));
	return OK;
}

int oidc_finish(
    struct oidc *o, const struct oidc_answer *a, char **ret_session, char **ret_path, struct oidc_refusal *no)
{
	__attribute__((cleanup(ticket_fini))) struct ticket t = {0};
	AUTO_FINI(oauth_server) s = {0};
	AUTO_FINI(oauth_tokens) tokens = {0};
	AUTO_JSON doc = NULL;
	AUTO_JSON claims = NULL;
	int rc = open_ticket(o, a, &t, no);

	if (rc != OK)
		return rc;
	rc = provider_load(o->provider, &doc, &no->why);
	if (rc == OK)
		rc = oauth_provider_read(provider_rules(o->provider), doc, &s, &no->why);
	if (rc != OK)
		return refuse_provider(no, rc);
	rc = check_provider_answer(o, a, &s, no);
	if (rc == OK)
		rc = exchange_code(o, a, &s, &t, &tokens, no);
	if (rc == OK)
		rc = read_claims(o, doc, tokens.id_token, &t, &claims, no);
	if (rc == OK)
		rc = add_userinfo(o, doc, tokens.access, claims, no);
	if (rc == OK)
		rc = sign_in_as(o, claims, a->ip, ret_session, no);
	if (rc == OK)
		*ret_path = str_dup(t.path);
	return rc;
}

char *oidc_end_url(struct oidc *o)
{
	AUTO_JSON doc = provider_kept(o->provider);
	const char *url = json_word(doc, "end_session_endpoint"), *base = atomic_load(&o->base);
	AUTO_STR id = oauth_encode(o->cfg.client_id);
	AUTO_STR back = NULL;
	struct why why = {0};

	if (url[0] == '\0' || base == NULL || web_check_url(provider_rules(o->provider), url, &why) != OK)
		return NULL;
	back = str_printf("%s/login", base);
	AUTO_STR back_encoded = oauth_encode(back);

	return str_printf("%.*s%sclient_id=%s&post_logout_redirect_uri=%s", (int)strcspn(url, "#"), url,
	    strchr(url, '?') != NULL ? "&" : "?", id, back_encoded);
}
