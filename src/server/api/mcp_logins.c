/* /v1/mcp-servers/{id}/login, /v1/mcp-logins: a person allows Bullpen to use an MCP server in her name */
#include "base/clock.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/api/mcp_servers.h"
#include <string.h>

/* What runs by a service account uses nobody's grants. */
static bool mcp_is_person(struct api_request *rq)
{
	if (rq->who->user_id != 0)
		return true;
	api_error(rq, API_user_required, "only a person can log in: use a user's key");
	return false;
}

static void post_login(struct api_request *rq)
{
	const struct kept_owner o = mcp_owner(rq);
	AUTO_JSON definition = NULL;
	AUTO_FINI(login_begun) l = {0};
	char when[CLOCK_ISO_LEN];
	struct why why = {0};
	int rc;

	if (!mcp_is_person(rq) || mcp_find_server(rq, &definition) != OK)
		return;
	if (json_object_get(definition, "url") == NULL) {
		api_error(
		    rq, API_mcp_server_refused, "this server is started by a worker: there is nothing to log in to");
		return;
	}
	if (!mcp_begin_asking(rq))
		return;
	rc = login_begin(rq->api->cfg.remotes, &o, definition, &l, &why);
	mcp_end_asking(rq);
	if (rc == ERR_EMPTY) {
		api_error(
		    rq, API_mcp_server_refused, "the server asks for no authorization: there is nothing to log in to");
	} else if (rc != OK && why.text[0] != '\0') {
		api_error(rq, API_mcp_server_refused, "cannot log in: %s", why.text);
	} else if (rc != OK) {
		api_refuse(rq, rc, NULL);
	} else {
		clock_iso8601(l.expires_at_ms, when);
		api_reply(rq, 201,
		    json_pack("{s:s, s:s, s:s}", "id", l.id, "authorizeUrl", l.authorize_url, "expiresAt", when));
	}
}

static void delete_login(struct api_request *rq)
{
	const struct audit_by by = request_by(rq);
	const struct kept_owner o = mcp_owner(rq);
	const char *url;
	AUTO_JSON definition = NULL;
	int rc;

	if (!mcp_is_person(rq) || mcp_find_server(rq, &definition) != OK)
		return;
	url = json_string_value(json_object_get(definition, "url"));
	if (!mcp_begin_asking(rq))
		return;
	rc = url != NULL ? login_end(rq->api->cfg.remotes, &o, url, &by) : ERR_NOT_FOUND;
	mcp_end_asking(rq);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_mcp_login_not_found, "you are not logged in there");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s}", "id", route_param(rq, "id")));
}

static void get_login(struct api_request *rq)
{
	const struct kept_owner o = mcp_owner(rq);
	json_t *state = NULL;
	int rc;

	if (!mcp_is_person(rq))
		return;
	rc = login_state(rq->api->cfg.remotes, &o, route_param(rq, "id"), &state);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_mcp_login_not_found, "there is no such login");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, state);
}

static void post_confirm(struct api_request *rq)
{
	const struct audit_by by = request_by(rq);
	const struct kept_owner o = mcp_owner(rq);
	struct why why = {0};
	int rc;

	if (!mcp_is_person(rq))
		return;
	rc = login_confirm(rq->api->cfg.remotes, &o, route_param(rq, "id"),
	    json_string_value(json_object_get(rq->body, "code")), &by, &why);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_mcp_login_not_found, "there is no such login");
	else if (rc == ERR_CONFLICT)
		api_error(rq, API_mcp_login_not_waiting, "this login does not wait for a code (any more)");
	else if (rc == ERR_DENIED)
		api_error(rq, API_wrong_code, "%s", why.text);
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s}", "state", "done"));
}

/* A page that holds nothing of what it was asked with but what we made or checked. */
static void reply_page(struct api_request *rq, int status, const char *title, const char *text)
{
	static const struct http_header headers[] = {
	    {"content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"},
	    {"referrer-policy", "no-referrer"}, {"cache-control", "no-store"}, {"x-content-type-options", "nosniff"}};
	struct strbuf escaped = STRBUF(8192);
	AUTO_STR page = NULL;

	for (const char *c = text; *c != '\0'; c++) {
		if (*c == '<')
			strbuf_adds(&escaped, "&lt;");
		else if (*c == '&')
			strbuf_adds(&escaped, "&amp;");
		else if (*c == '"')
			strbuf_adds(&escaped, "&quot;");
		else
			strbuf_addc(&escaped, *c);
	}
	page = str_printf("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Bullpen</title>"
			  "<style>body{font:16px/1.5 sans-serif;max-width:34em;margin:4em auto;padding:0 1em}"
			  "b{font:bold 28px monospace}</style><h1>%s</h1><p>%s</p></html>\n",
	    title, strbuf_str(&escaped));
	strbuf_fini(&escaped);
	api_reply_bytes(rq, status, "text/html; charset=utf-8", page, strlen(page), headers, ARRAY_LEN(headers));
}

static void get_callback(struct api_request *rq)
{
	const struct login_answer a = {.state = query_text_of(rq, "state"),
	    .code = query_text_of(rq, "code"),
	    .issuer = query_text_of(rq, "iss"),
	    .error = query_text_of(rq, "error")};
	AUTO_STR code = NULL;
	AUTO_STR text = NULL;
	struct why why = {0};
	int rc;

	if (!mcp_begin_asking(rq))
		return;
	rc = login_callback(rq->api->cfg.remotes, &a, &code, &why);
	mcp_end_asking(rq);
	if (rc == OK) {
		text = str_printf(
		    "Type this code where you began the login: %s. If you did not begin one, close this page "
		    "and tell the code to nobody.",
		    code);
		reply_page(rq, 200, "Almost done", text);
	} else if (rc == ERR_NOT_FOUND) {
		reply_page(rq, 400, "This link is of no use",
		    "No login waits for it: it was used already, or took longer than ten minutes. Begin again.");
	} else if (rc == ERR_INVALID) {
		reply_page(rq, 400, "The login failed", why.text);
	} else {
		api_refuse(rq, rc, NULL);
	}
}

static void get_client_document(struct api_request *rq)
{
	json_t *doc = remotes_client_document(rq->api->cfg.remotes);

	if (doc != NULL)
		api_reply(rq, 200, doc);
	else
		api_error(rq, API_not_found, "this server has no such document: mcp.client_document is not set");
}

static const struct route begin_mcp_login = {
    .name = "beginMcpLogin",
    .method = "POST",
    .path = "/v1/mcp-servers/{id}/login",
    .summary = "Begins a login: the person opens authorizeUrl in a browser",
    .tag = "mcp",
    .scope = SCOPE_MCP_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{201, "{id, authorizeUrl, expiresAt}", .form = "McpLogin"}, {404, "There is no such server"}},
    .handler = post_login,
};
ROUTE(begin_mcp_login);

static const struct route end_mcp_login = {
    .name = "endMcpLogin",
    .method = "DELETE",
    .path = "/v1/mcp-servers/{id}/login",
    .summary = "Logs out: what was allowed is forgotten, and revoked at the authorization server",
    .tag = "mcp",
    .scope = SCOPE_MCP_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such server, or no login"}},
    .handler = delete_login,
};
ROUTE(end_mcp_login);

static const struct route get_mcp_login = {
    .name = "getMcpLogin",
    .method = "GET",
    .path = "/v1/mcp-logins/{id}",
    .summary = "How far a login is",
    .tag = "mcp",
    .scope = SCOPE_MCP_WRITE,
    .rate = RATE_READ,
    .responses = {{200, "{id, state: waiting, confirm, done, failed or expired, message?}", .form = "McpLoginState"},
	{404, "There is no such login"}},
    .handler = get_login,
};
ROUTE(get_mcp_login);

static const struct route confirm_mcp_login = {
    .name = "confirmMcpLogin",
    .method = "POST",
    .path = "/v1/mcp-logins/{id}/confirm",
    .summary = "Ends a login with the code that the browser shows",
    .tag = "mcp",
    .scope = SCOPE_MCP_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{" SCHEMA_STRICT ",\"required\":[\"code\"],\"properties\":{\"code\":{\"type\":\"string\",\"minLength\":1}}}",
    .responses = {{200, "{state: done}", .form = "McpLoginDone"}, {404, "There is no such login"},
	{409, "It does not wait for a code"}},
    .handler = post_confirm,
};
ROUTE(confirm_mcp_login);

static const struct route mcp_callback = {
    .name = "mcpOauthCallback",
    .method = "GET",
    .path = "/agents/mcp/oauth/callback",
    .summary = "Where authorization servers send the browser back to",
    .tag = "mcp",
    .open = true,
    .query = "{\"type\":\"object\",\"additionalProperties\":true,\"properties\":{\"state\":" SCHEMA_STRING
	     ",\"code\":" SCHEMA_STRING ",\"iss\":" SCHEMA_STRING ",\"error\":" SCHEMA_STRING
	     ",\"error_description\":" SCHEMA_STRING ",\"error_uri\":" SCHEMA_STRING ",\"session_state\":" SCHEMA_STRING
	     ",\"scope\":" SCHEMA_STRING "}}",
    .responses = {{200, "A page with the code to type", "text/html"}, {400, "A page that says why", "text/html"}},
    .handler = get_callback,
};
ROUTE(mcp_callback);

static const struct route mcp_client_document = {
    .name = "getMcpClientDocument",
    .method = "GET",
    .path = "/.well-known/mcp-client.json",
    .summary = "Who Bullpen is, for authorization servers (OAuth Client ID Metadata Document)",
    .tag = "mcp",
    .open = true,
    .responses = {{200, "{client_id, client_name, redirect_uris, …}", .form = "McpClient"},
	{404, "It is not published"}},
    .handler = get_client_document,
};
ROUTE(mcp_client_document);
