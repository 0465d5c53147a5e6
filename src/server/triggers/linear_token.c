/* Linear's access tokens: the one of the settings, or one that lives for a day and is fetched anew with a refresh
 * token, which then is another. linear.app/developers/oauth-2-0-authentication.
 *
 * Crash argument. What was fetched is in the store before it is used. A crash between Linear's answer and that leaves
 * the old refresh token in the store, which is tried again; the one before the last is kept as well. Several threads,
 * or nodes, may find that the token is too old: one fetches, under a lease in the row. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/http_client.h"
#include "server/triggers/linear_priv.h"
#include "server/triggers/service_tokens.h"
#include <string.h>
#include <time.h>

#define EARLY_MS (5 * 60 * 1000)
#define LOCK_MS (25 * 1000) /* longer than two fetches may take */
#define FETCH_MS (10 * 1000)
#define POLL_MS 50
#define ANSWER_MAX ((size_t)64 * 1024)
#define NOT_CONNECTED "Linear is not connected any more: bullpen admin connect linear"

/* It travels in a header or a form. */
static bool is_visible(const char *s)
{
	for (const char *c = s; *c != '\0'; c++)
		if (*c <= ' ' || *c >= 0x7f)
			return false;
	return s[0] != '\0';
}

static int read_grant(const struct http_client_response *resp, struct service_token *ret, struct why *why)
{
	AUTO_JSON json = NULL;
	int64_t seconds;

	IGNORE(json_parse(strbuf_str(&resp->body), resp->body.len, &json, NULL));
	const char *access = json_word(json, "access_token"), *refresh = json_word(json, "refresh_token");

	if (resp->status == 429 || resp->status / 100 == 5)
		return why_set(why, ERR_NET, "Linear's token address answered %d", resp->status);
	if (resp->status != 200) {
		AUTO_STR said =
		    text_line(json_word(json, "error")[0] != '\0' ? json_word(json, "error") : "nothing", 100);

		return why_set(why, ERR_UNAUTHORIZED, "Linear's token address answered %d, %s", resp->status, said);
	}
	if (!is_visible(access) || (refresh[0] != '\0' && !is_visible(refresh)))
		return why_set(why, ERR_PROTOCOL, "Linear's token address answered without a token");
	seconds = json_integer_value(json_object_get(json, "expires_in"));
	ret->access = str_dup(access);
	ret->refresh = refresh[0] != '\0' ? str_dup(refresh) : NULL;
	ret->expires_at_ms = seconds > 0 && seconds < INT32_MAX ? clock_wall_ms() + seconds * 1000 : 0;
	return OK;
}

/* Takes `form`, and wipes it. */
static int ask_tokens(const struct linear_client *c, struct strbuf *form, struct service_token *ret, struct why *why)
{
	const struct http_header headers[] = {{"content-type", "application/x-www-form-urlencoded"},
	    {"accept", "application/json"}, {"user-agent", "bullpen"}};
	struct http_client_request req = {.method = "POST",
	    .url = c->token_url,
	    .ca_file = c->ca_file,
	    .ca_setting = "linear.ca_file",
	    .headers = headers,
	    .n_headers = ARRAY_LEN(headers),
	    .timeout_ms = FETCH_MS,
	    .max_body = ANSWER_MAX};
	struct http_client_response resp = {0};
	int rc;

	service_form_add(form, "client_id", c->id);
	service_form_add(form, "client_secret", c->secret);
	req.body = strbuf_str(form);
	req.body_len = form->len;
	rc = http_client_do(&req, &resp, why);
	if (rc == OK)
		rc = read_grant(&resp, ret, why);
	if (resp.body.len > 0)
		explicit_bzero(resp.body.data, resp.body.len);
	http_client_response_fini(&resp);
	explicit_bzero(form->data, form->len);
	strbuf_fini(form);
	return rc;
}

int linear_grant_of_code(const struct linear_client *c, const char *code, const char *redirect_uri,
    struct service_token *ret, struct why *why)
{
	struct strbuf form = STRBUF(8192);

	service_form_add(&form, "grant_type", "authorization_code");
	service_form_add(&form, "code", code);
	service_form_add(&form, "redirect_uri", redirect_uri);
	return ask_tokens(c, &form, ret, why);
}

static int grant_of_refresh(
    const struct linear_client *c, const char *refresh, struct service_token *ret, struct why *why)
{
	struct strbuf form = STRBUF(8192);

	service_form_add(&form, "grant_type", "refresh_token");
	service_form_add(&form, "refresh_token", refresh);
	return ask_tokens(c, &form, ret, why);
}

char *linear_seed_of(const struct linear_client *c)
{
	char hex[SHA256_HEX_LEN];

	if (c->refresh_token == NULL)
		return NULL;
	sha256_hex(c->refresh_token, strlen(c->refresh_token), hex);
	return str_dup(hex);
}

struct renewal {
	struct linear *linear;
	struct service_token token;
	int64_t now_ms;
	bool locked;
};

static int keep_in(struct tx *tx, void *arg)
{
	struct renewal *r = arg;

	return service_token_keep(tx, r->linear->seal, SERVICE_LINEAR, "", "Linear", &r->token, clock_wall_ms());
}

static int lock_in(struct tx *tx, void *arg)
{
	struct renewal *r = arg;
	int64_t now = clock_wall_ms();

	return service_token_lock(tx, SERVICE_LINEAR, "", r->token.version, now, now + LOCK_MS, &r->locked);
}

static int unlock_in(struct tx *tx, void *arg UNUSED)
{
	return service_token_unlock(tx, SERVICE_LINEAR, "");
}

/* The settings' refresh token begins, and begins anew when it is another one than before. */
static int load(struct renewal *r, struct why *why)
{
	AUTO(tx) tx = NULL;
	AUTO_STR seed = linear_seed_of(&r->linear->client);
	int64_t version;
	int rc = tx_begin(r->linear->store, TX_READ, &tx);

	if (rc == OK)
		rc = service_token_load(tx, r->linear->seal, SERVICE_LINEAR, "", &r->token);
	tx_free(&tx);
	if (rc == OK && (seed == NULL || (r->token.seed != NULL && strcmp(seed, r->token.seed) == 0)))
		return OK;
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	if (seed == NULL)
		return why_set(why, ERR_UNAUTHORIZED, "Linear is not connected yet: bullpen admin connect linear");
	version = r->token.version;
	service_token_fini(&r->token);
	r->token = (struct service_token){.refresh = str_dup(r->linear->client.refresh_token), .seed = TAKE(seed)};
	r->token.version = version;
	rc = store_write(r->linear->store, keep_in, r);
	return rc == OK || rc == ERR_CONFLICT ? ERR_AGAIN : rc;
}

/* We have the lease. */
static int renew(struct renewal *r, struct why *why)
{
	struct service_token *t = &r->token, fresh = {0};
	int rc = grant_of_refresh(&r->linear->client, t->refresh, &fresh, why);

	if (rc == ERR_UNAUTHORIZED && t->before != NULL)
		rc = grant_of_refresh(&r->linear->client, t->before, &fresh, why);
	if (rc == ERR_UNAUTHORIZED)
		log_error("linear.broken", "reason=%s hint=\"bullpen admin connect linear\"", log_quote(why->text));
	if (rc != OK) {
		IGNORE(store_write(r->linear->store, unlock_in, r)); /* the lease ends by itself */
		return rc;
	}
	str_wipe(&t->access);
	t->access = TAKE(fresh.access);
	t->expires_at_ms = fresh.expires_at_ms;
	if (fresh.refresh != NULL && strcmp(fresh.refresh, t->refresh) != 0) {
		str_wipe(&t->before);
		t->before = TAKE(t->refresh);
		t->refresh = TAKE(fresh.refresh);
	}
	service_token_fini(&fresh);
	rc = store_write(r->linear->store, keep_in, r);
	t->version++;
	if (rc == ERR_CONFLICT) /* somebody has connected it anew */
		return ERR_AGAIN;
	return rc == OK ? OK : why_set(why, rc, "a token of Linear cannot be kept: %s", err_text(rc));
}

static bool is_good(const struct service_token *t, int64_t rejected)
{
	return t->access != NULL && t->version != rejected &&
	       (t->expires_at_ms == 0 || t->expires_at_ms - EARLY_MS > clock_wall_ms());
}

static int take(struct renewal *r, int64_t rejected, struct why *why)
{
	int rc = load(r, why);

	if (rc != OK || is_good(&r->token, rejected))
		return rc;
	if (r->token.refresh == NULL)
		return why_set(why, ERR_UNAUTHORIZED, NOT_CONNECTED);
	rc = store_write(r->linear->store, lock_in, r);
	if (rc != OK)
		return rc;
	return r->locked ? renew(r, why) : ERR_AGAIN;
}

int linear_token(
    struct linear *l, int64_t rejected, int64_t deadline_mono_ms, char **ret, int64_t *ret_version, struct why *why)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};

	if (l->token != NULL) {
		*ret = str_dup(l->token);
		*ret_version = 0;
		return rejected == LINEAR_NONE_REJECTED ? OK : ERR_UNAUTHORIZED;
	}
	for (;;) {
		struct renewal r = {.linear = l};
		int rc = take(&r, rejected, why);

		if (rc == OK) {
			*ret = TAKE(r.token.access);
			*ret_version = r.token.version;
		}
		service_token_fini(&r.token);
		if (rc != ERR_AGAIN)
			return rc;
		if (clock_mono_ms() >= deadline_mono_ms)
			return why_set(why, ERR_TIMEOUT, "a token of Linear is being fetched for too long");
		nanosleep(&pause, NULL); /* interval of polling */
	}
}
