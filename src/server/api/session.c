/* /v1/session: a browser signs in and out. */
#include "base/mem.h"
#include "server/access/browser.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/api/session.h"
#include <string.h>

bool session_is_secure(const struct api_request *rq)
{
	const char *base = atomic_load(&rq->api->web_base);

	return base != NULL && strncmp(base, "https://", 8) == 0;
}

char *session_cookie(const struct api_request *rq, const char *value, int64_t seconds)
{
	return str_printf(BROWSER_COOKIE "=%s; Path=/; Max-Age=%lld; HttpOnly; SameSite=Strict%s", value,
	    (long long)seconds, session_is_secure(rq) ? "; Secure" : "");
}

static void reply_with_cookie(struct api_request *rq, const char *cookie, json_t *body)
{
	AUTO_STR text = json_text(body);
	const struct http_header h = {"set-cookie", cookie};

	json_decref(body);
	api_reply_bytes(rq, 200, "application/json", text, strlen(text), &h, 1);
}

static void post_session(struct api_request *rq)
{
	const char *key = json_string_value(json_object_get(rq->body, "apiKey"));
	const char *link = json_string_value(json_object_get(rq->body, "loginToken"));
	AUTO_STR value = NULL;
	AUTO_STR cookie = NULL;
	int rc;

	if ((key != NULL) == (link != NULL)) {
		api_error(rq, API_validation_error, "exactly one of 'apiKey' and 'loginToken' is needed");
		return;
	}
	rc = key != NULL ? browser_sign_in_by_key(rq->api->cfg.store, key, rq->ip, &value)
			 : browser_sign_in_by_link(rq->api->cfg.store, link, rq->ip, &value);
	if (rc == ERR_UNAUTHORIZED) {
		api_error(rq, API_unauthorized,
		    key != NULL ? "this is not the API key of a user (or it was revoked)"
				: "the link was used or is over: ask for another one (bullpen admin login-link)");
		return;
	}
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	cookie = session_cookie(rq, value, BROWSER_LIFE_MS / 1000);
	reply_with_cookie(rq, cookie, json_pack("{s:b}", "signedIn", 1));
}

static void delete_session(struct api_request *rq)
{
	AUTO_STR cookie = session_cookie(rq, "", 0);
	AUTO_STR end = NULL;
	bool oidc = false;
	int rc = browser_sign_out(rq->api->cfg.store, http_header_get(rq->x, "cookie"), rq->ip, &oidc);
	json_t *body;

	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	end = oidc && rq->api->cfg.oidc != NULL ? oidc_end_url(rq->api->cfg.oidc) : NULL;
	body = json_pack("{s:b}", "signedIn", 0);
	json_put(body, "endSessionUrl", end);
	reply_with_cookie(rq, cookie, body);
}

static void get_session(struct api_request *rq)
{
	json_t *o = json_object();

	json_put_bool(o, "signedIn", true);
	json_put_int(o, "userId", rq->who->user_id);
	json_put(o, "name", rq->who->user_name != NULL ? rq->who->user_name : rq->who->key_name);
	json_put(o, "email", rq->who->user_email);
	json_put(o, "role", role_name(rq->who->role));
	api_reply(rq, 200, o);
}

static const struct route post_session_route = {
    .name = "signIn",
    .method = "POST",
    .path = "/v1/session",
    .summary = "A browser signs in, with a user's API key or with what a login link has: sets a cookie",
    .tag = "session",
    .open = true,
    .body = BODY_JSON,
    .body_schema = "{" SCHEMA_STRICT ",\"properties\":{\"apiKey\":{\"type\":\"string\",\"minLength\":1},"
		   "\"loginToken\":{\"type\":\"string\",\"minLength\":1}}}",
    .responses = {{200, "{signedIn: true}", .form = "SignedIn"}, {401, "Neither is valid"}},
    .handler = post_session,
};
ROUTE(post_session_route);

static const struct route delete_session_route = {
    .name = "signOut",
    .method = "DELETE",
    .path = "/v1/session",
    .summary = "A browser signs out: its session is over",
    .tag = "session",
    .open = true,
    .responses = {{200, "{signedIn: false, endSessionUrl?}: where the provider's session is ended, too",
	.form = "SignedIn"}},
    .handler = delete_session,
};
ROUTE(delete_session_route);

static const struct route get_session_route = {
    .name = "getSession",
    .method = "GET",
    .path = "/v1/session",
    .summary = "Who is signed in, and as what",
    .tag = "session",
    .rate = RATE_READ,
    .responses = {{200, "{signedIn, userId, name, email?, role}", .form = "Session"}},
    .handler = get_session,
};
ROUTE(get_session_route);
