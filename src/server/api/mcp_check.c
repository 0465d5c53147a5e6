/* Definitions of MCP servers, as requests and those who keep servers send them: what no schema says. */
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include <string.h>
#include <strings.h>

#define NAME_MAX_CHARS 128
#define TEXTS_MAX 64
#define HEADERS_MAX 32
#define VALUE_MAX 8192

/* An address of an MCP server: http(s), and no name or password in it, for it is told in errors. */
static bool is_server_url(const char *url)
{
	const char *host = text_has_prefix(url, "https://") ? url + 8 : text_has_prefix(url, "http://") ? url + 7 : "";

	for (const char *c = url; *c != '\0'; c++)
		if ((unsigned char)*c < 0x21 || *c == 0x7f)
			return false;
	return host[0] != '\0' && host[0] != '/' && strlen(url) <= 2048 &&
	       memchr(host, '@', strcspn(host, "/?#")) == NULL;
}

static const char *odd_member(const json_t *server, bool stdio)
{
	static const char *const remote[] = {"url", "headers", "auth"}, *const local[] = {"command", "args", "env"};
	const char *const *odd = stdio ? remote : local;

	for (size_t i = 0; i < ARRAY_LEN(remote); i++)
		if (json_object_get(server, odd[i]) != NULL)
			return odd[i];
	return NULL;
}

static bool has_control(const char *s)
{
	for (const unsigned char *c = (const unsigned char *)s; *c != '\0'; c++)
		if (*c < 0x20 || *c == 0x7f)
			return true;
	return false;
}

/* A text that a C string can hold, not too long. */
static bool is_value(const json_t *v, bool one_line)
{
	const char *s = json_string_value(v);

	return s != NULL && strlen(s) == json_string_length(v) && strlen(s) <= VALUE_MAX &&
	       (!one_line || strpbrk(s, "\r\n") == NULL);
}

/* Headers that say what the message is: they are ours. */
static bool is_own_header(const char *name)
{
	static const char *const own[] = {"host", "content-length", "content-type", "accept", "transfer-encoding",
	    "connection", "last-event-id", "expect", "user-agent", "upgrade", "te", "trailer", "proxy-authorization"};

	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (strcasecmp(name, own[i]) == 0)
			return true;
	return strncasecmp(name, "mcp-", 4) == 0;
}

static int check_headers(const json_t *server, const char *where, struct problem *p)
{
	const json_t *headers = json_object_get(server, "headers");
	const char *name;
	json_t *v;

	if (json_object_size(headers) > HEADERS_MAX)
		return problem_set(p, API_validation_error, "'%s.headers' must be at most %d", where, HEADERS_MAX);
	json_object_foreach((json_t *)headers, name, v)
	{
		if (!text_is_token(name, "!#$%&'*+-.^_`|~", 256))
			return problem_set(p, API_validation_error, "'%s.headers': a name is a token of HTTP", where);
		if (is_own_header(name))
			return problem_set(
			    p, API_validation_error, "'%s.headers.%s' is set by the control plane itself", where, name);
		if (!is_value(v, true))
			return problem_set(p, API_validation_error,
			    "'%s.headers.%s' must be one line of at most %d bytes", where, name, VALUE_MAX);
	}
	return OK;
}

static int check_process(const json_t *server, const char *where, struct problem *p)
{
	const json_t *env = json_object_get(server, "env");
	const char *name;
	json_t *v;
	size_t i;

	if (!is_value(json_object_get(server, "command"), true))
		return problem_set(
		    p, API_validation_error, "'%s.command' must be one line of at most %d bytes", where, VALUE_MAX);
	json_array_foreach(json_object_get(server, "args"), i, v) if (!is_value(v, false)) return problem_set(
	    p, API_validation_error, "'%s.args[%zu]' must be at most %d bytes, without NUL", where, i, VALUE_MAX);
	if (json_object_size(env) > TEXTS_MAX)
		return problem_set(p, API_validation_error, "'%s.env' must be at most %d variables", where, TEXTS_MAX);
	json_object_foreach((json_t *)env, name, v)
	{
		if (!text_is_token(name, "_", 255) || (name[0] >= '0' && name[0] <= '9') ||
		    text_has_prefix(name, "LD_") || text_has_prefix(name, "DYLD_"))
			return problem_set(p, API_validation_error,
			    "'%s.env': a name is 1 to 255 letters, digits and _, not starting with a digit, LD_ or "
			    "DYLD_",
			    where);
		if (!is_value(v, false))
			return problem_set(p, API_validation_error,
			    "'%s.env.%.60s' must be at most %d bytes, without NUL", where, name, VALUE_MAX);
	}
	return OK;
}

static int check_auth(const json_t *server, const char *where, struct problem *p)
{
	const json_t *auth = json_object_get(server, "auth"), *secret = json_object_get(auth, "CLIENT_SECRET");
	json_t *v;
	size_t i;

	if (auth == NULL)
		return OK;
	if (!is_value(json_object_get(auth, "CLIENT_ID"), true))
		return problem_set(p, API_validation_error, "'%s.auth.CLIENT_ID' must be one line", where);
	if (secret != NULL && (!is_value(secret, true) || json_string_length(secret) == 0))
		return problem_set(
		    p, API_validation_error, "'%s.auth.CLIENT_SECRET' must be one line, not empty", where);
	json_array_foreach(json_object_get(auth, "scopes"), i, v)
	{
		const char *s = json_string_value(v);

		if (!is_value(v, true) || s[0] == '\0' || strpbrk(s, " \"\\") != NULL)
			return problem_set(p, API_validation_error, "'%s.auth.scopes[%zu]' must be one word", where, i);
	}
	return OK;
}

int check_mcp_server(const json_t *server, const char *where, struct problem *p)
{
	const char *type = json_string_value(json_object_get(server, "type"));
	const char *url = json_string_value(json_object_get(server, "url"));
	const char *name = json_string_value(json_object_get(server, "name"));
	bool stdio = json_object_get(server, "command") != NULL;
	const char *protocol = json_string_value(json_object_get(server, "protocol"));
	const char *odd = odd_member(server, stdio);
	int rc;

	if (text_is_blank(name))
		return problem_set(p, API_validation_error, "'%s.name' must not be blank", where);
	if (strlen(name) != json_string_length(json_object_get(server, "name")) || has_control(name) ||
	    text_code_points(name) > NAME_MAX_CHARS)
		return problem_set(p, API_validation_error,
		    "'%s.name' must be at most %d characters, without control characters", where, NAME_MAX_CHARS);
	if (stdio == (url != NULL))
		return problem_set(p, API_validation_error, "'%s' must have either 'command' or 'url'", where);
	if (type != NULL && stdio != (strcmp(type, "stdio") == 0))
		return problem_set(
		    p, API_validation_error, "'%s.type' %s goes with '%s'", where, type, stdio ? "url" : "command");
	if (protocol != NULL && strcmp(protocol, "modern") == 0 && type != NULL && strcmp(type, "sse") == 0)
		return problem_set(p, API_validation_error,
		    "'%s.protocol' modern does not go with 'type' sse: that transport has only older revisions", where);
	if (odd != NULL)
		return problem_set(
		    p, API_validation_error, "'%s.%s' does not go with '%s'", where, odd, stdio ? "command" : "url");
	if (url != NULL && !is_server_url(url))
		return problem_set(
		    p, API_validation_error, "'%s.url' must be an http(s) URL without user name and password", where);
	if (stdio)
		return check_process(server, where, p);
	rc = check_headers(server, where, p);
	return rc != OK ? rc : check_auth(server, where, p);
}

int check_mcp_servers(const json_t *body, struct problem *p)
{
	AUTO_JSON names = json_object();
	json_t *server;
	size_t i;

	json_array_foreach(json_object_get(body, "mcpServers"), i, server)
	{
		const char *name = json_string_value(json_object_get(server, "name"));
		AUTO_STR where = str_printf("mcpServers[%zu]", i);
		int rc = check_mcp_server(server, where, p);

		if (rc != OK)
			return rc;
		if (json_object_get(names, name) != NULL)
			return problem_set(
			    p, API_validation_error, "'%s.name': there are two servers of that name", where);
		json_put_bool(names, name, true);
	}
	return OK;
}
