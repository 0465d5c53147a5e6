/* /v1/login: which ways there are to sign in, and the one by the OpenID provider. */
#include "base/log.h"
#include "base/mem.h"
#include "server/access/browser.h"
#include "server/api/bodies.h"
#include "server/api/session.h"
#include <string.h>

static void get_login_ways(struct api_request *rq)
{
	json_t *o = json_pack("{s:b, s:b}", "key", 1, "link", 1);

	if (rq->api->cfg.oidc != NULL)
		json_put_new(o, "oidc", json_pack("{s:s, s:s}", "button", rq->api->cfg.oidc_button, "url", OIDC_PATH));
	api_reply(rq, 200, o);
}

/* Lax: the provider's page sends the browser back to us, and that must bring the cookie. */
static char *login_cookie(const struct api_request *rq, const char *value, int64_t seconds)
{
	return str_printf(OIDC_COOKIE "=%s; Path=" OIDC_PATH "; Max-Age=%lld; HttpOnly; SameSite=Lax%s", value,
	    (long long)seconds, session_is_secure(rq) ? "; Secure" : "");
}

static void redirect(struct api_request *rq, const char *to, const char *cookie, const char *session)
{
	const struct http_header h[] = {{"location", to}, {"cache-control", "no-store"},
	    {"referrer-policy", "no-referrer"}, {"set-cookie", cookie}, {"set-cookie", session}};

	api_reply_bytes(rq, 302, NULL, "", 0, h, session != NULL ? 5 : 4);
}

/* A person reads it on the login page, which has the words for each code: what came from outside stays outside. */
static void send_back(struct api_request *rq, const struct oidc_refusal *no)
{
	AUTO_STR to = str_printf("/login?refused=%s", no->code);
	AUTO_STR cookie = login_cookie(rq, "", 0);

	log_warn("login.refused", "code=%s reason=%s", no->code, log_quote(no->why.text));
	redirect(rq, to, cookie, NULL);
}

static bool has_oidc(struct api_request *rq)
{
	if (rq->api->cfg.oidc != NULL)
		return true;
	api_error(rq, API_not_found, "this server has no OpenID provider (login.oidc.issuer)");
	return false;
}

/* Strangers may begin: while the provider is slow they hold few threads, and none of what those with a key need. */
static bool begin_signing_in(struct api_request *rq)
{
	struct api *a = rq->api;
	struct oidc_refusal no = {.code = "busy"};

	if (!has_oidc(rq))
		return false;
	if (atomic_fetch_add(&a->signing_in, 1) < MAX(a->cfg.max_fetching / 2, 1))
		return true;
	atomic_fetch_sub(&a->signing_in, 1);
	why_set(&no.why, ERR_FULL, "too many wait for the provider now");
	send_back(rq, &no);
	return false;
}

static void end_signing_in(struct api_request *rq)
{
	atomic_fetch_sub(&rq->api->signing_in, 1);
}

static void get_oidc(struct api_request *rq)
{
	struct oidc_refusal no = {.code = "provider_unreachable"};
	AUTO_STR url = NULL;
	AUTO_STR value = NULL;
	AUTO_STR cookie = NULL;
	int rc;

	if (!begin_signing_in(rq))
		return;
	rc = oidc_begin(rq->api->cfg.oidc, query_text_of(rq, "returnTo"), &url, &value, &no);
	end_signing_in(rq);
	if (rc != OK) {
		send_back(rq, &no);
		return;
	}
	cookie = login_cookie(rq, value, OIDC_MS / 1000);
	redirect(rq, url, cookie, NULL);
}

static void get_oidc_callback(struct api_request *rq)
{
	const struct oidc_answer a = {.state = query_text_of(rq, "state"),
	    .code = query_text_of(rq, "code"),
	    .issuer = query_text_of(rq, "iss"),
	    .error = query_text_of(rq, "error"),
	    .cookies = http_header_get(rq->x, "cookie"),
	    .ip = rq->ip};
	struct oidc_refusal no = {.code = "not_trusted"};
	AUTO_STR value = NULL;
	AUTO_STR path = NULL;
	AUTO_STR session = NULL;
	AUTO_STR cookie = NULL;
	int rc;

	if (!begin_signing_in(rq))
		return;
	rc = oidc_finish(rq->api->cfg.oidc, &a, &value, &path, &no);
	end_signing_in(rq);
	if (rc != OK) {
		send_back(rq, &no);
		return;
	}
	session = session_cookie(rq, value, BROWSER_LIFE_MS / 1000);
	cookie = login_cookie(rq, "", 0);
	redirect(rq, path, cookie, session);
}

static const struct route get_login_ways_route = {
    .name = "getLoginWays",
    .method = "GET",
    .path = "/v1/login",
    .summary = "How a person may sign in",
    .tag = "session",
    .open = true,
    .responses = {{200, "{key: true, link: true, oidc?: {button, url}}", .form = "LoginWays"}},
    .handler = get_login_ways,
};
ROUTE(get_login_ways_route);

static const struct route begin_oidc_route = {
    .name = "beginOidc",
    .method = "GET",
    .path = OIDC_PATH,
    .summary = "Sends the browser to the OpenID provider",
    .tag = "session",
    .open = true,
    .query = "{\"type\":\"object\",\"properties\":{\"returnTo\":{\"type\":\"string\",\"description\":\"a path of the "
	     "dashboard, to be shown afterwards\"}}}",
    .responses = {{302, "To the provider; to /login?refused=CODE if it cannot be reached"},
	{404, "No provider is configured"}},
    .handler = get_oidc,
};
ROUTE(begin_oidc_route);

static const struct route end_oidc_route = {
    .name = "oidcCallback",
    .method = "GET",
    .path = OIDC_PATH "/callback",
    .summary = "Where the provider sends the browser back to",
    .tag = "session",
    .open = true,
    .query = "{\"type\":\"object\",\"additionalProperties\":true,\"properties\":{\"state\":" SCHEMA_STRING
	     ",\"code\":" SCHEMA_STRING ",\"iss\":" SCHEMA_STRING ",\"error\":" SCHEMA_STRING
	     ",\"error_description\":" SCHEMA_STRING ",\"error_uri\":" SCHEMA_STRING ",\"session_state\":" SCHEMA_STRING
	     ",\"scope\":" SCHEMA_STRING "}}",
    .responses = {{302, "To the page that was asked for, signed in; or to /login?refused=CODE"},
	{404, "No provider is configured"}},
    .handler = get_oidc_callback,
};
ROUTE(end_oidc_route);
