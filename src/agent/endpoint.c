#include "agent/endpoint.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/toml.h"
#include <string.h>
#include <strings.h>

#define DEFAULT_ENDPOINT "http://127.0.0.1:8787"
#define MAX_ENDPOINT 2048
#define MAX_CONFIG (256 * 1024)

/* "host" or "host:port" or "[v6]:port"; the host without brackets into *ret_host (malloc'ed). */
static int split_authority(const char *s, size_t len, char **ret_host)
{
	const char *end = s + len, *host = s, *host_end, *rest;
	AUTO_STR port = NULL;
	int64_t number;

	if (len > 0 && s[0] == '[') {
		host = s + 1;
		host_end = memchr(s, ']', len);
		if (host_end == NULL)
			return ERR_INVALID;
		rest = host_end + 1;
	} else {
		host_end = memchr(s, ':', len);
		if (host_end == NULL)
			host_end = end;
		rest = host_end;
	}
	if (host_end == host || (rest < end && *rest != ':'))
		return ERR_INVALID;
	if (rest < end) {
		port = str_ndup(rest + 1, (size_t)(end - rest - 1));
		if (text_parse_int(port, 1, 65535, &number) != OK)
			return ERR_INVALID;
	}
	*ret_host = str_ndup(host, (size_t)(host_end - host));
	return OK;
}

static bool is_loopback(const char *host)
{
	return strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
	       (text_has_prefix(host, "127.") && strspn(host, "0123456789.") == strlen(host));
}

static bool is_plain(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
			return false;
	return true;
}

/* Without slashes at the end, and one "/v1" before them. `path`: where the path begins. */
static size_t endpoint_len(const char *url, size_t path)
{
	size_t len = strlen(url), slash = strlen("/v1");

	while (url[len - 1] == '/')
		len--;
	if (len >= path + slash && strncmp(url + len - slash, "/v1", slash) == 0) {
		log_debug("endpoint.shortened", "left_out=/v1");
		len -= slash;
	}
	while (url[len - 1] == '/')
		len--;
	return len;
}

int endpoint_check(const char *given, bool allow_http, char **ret, struct why *why)
{
	AUTO_STR url = text_trim(given);
	bool tls = strncasecmp(url, "https://", 8) == 0;
	const char *authority;
	AUTO_STR host = NULL;
	size_t authority_len;

	if (!tls && strncasecmp(url, "http://", 7) != 0)
		return why_set(why, ERR_INVALID, "the endpoint must be an absolute https:// URL");
	authority = strchr(url, '/') + 2; /* the scheme is known, so the slashes are there */
	authority_len = strcspn(authority, "/?#");
	/* Not shown: there may be a password in it. */
	if (memchr(authority, '@', authority_len) != NULL)
		return why_set(why, ERR_INVALID, "the endpoint must not contain a user name or password");
	if (strlen(url) > MAX_ENDPOINT || !is_plain(url) || split_authority(authority, authority_len, &host) != OK)
		return why_set(why, ERR_INVALID, "the endpoint is not a valid URL");
	if (strpbrk(authority, "?#") != NULL)
		return why_set(why, ERR_INVALID, "the endpoint must not contain a query or fragment");
	if (!tls && !allow_http && !is_loopback(host))
		return why_set(why, ERR_INVALID,
		    "the endpoint must be https:// (http:// would send the key in the clear to %s; "
		    "BULLPEN_ALLOW_HTTP=1 allows it)",
		    host);
	*ret = str_ndup(url, endpoint_len(url, (size_t)(authority - url) + authority_len));
	return OK;
}

static char *config_path(void)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (xdg != NULL && xdg[0] == '/')
		return str_printf("%s/bullpen/agent.toml", xdg);
	return home != NULL && home[0] != '\0' ? str_printf("%s/.config/bullpen/agent.toml", home) : NULL;
}

int agent_config_read(json_t **ret, struct why *why)
{
	AUTO_STR path = config_path();
	AUTO_STR text = NULL;
	size_t len;
	int rc = path != NULL ? text_read_file(path, MAX_CONFIG, &text, &len) : ERR_NOT_FOUND;

	if (rc == ERR_NOT_FOUND) {
		*ret = json_object();
		return OK;
	}
	if (rc != OK)
		return why_set(why, ERR_INVALID, "cannot read %s: %s", path, err_text(rc));
	return toml_parse(text, len, path, ret, why) == OK ? OK : ERR_INVALID;
}

int endpoint_find(char **ret, struct why *why)
{
	static const char *const names[] = {"CURSOR_API_ENDPOINT", "BULLPEN_URL"};
	AUTO_JSON config = NULL;
	const char *url = DEFAULT_ENDPOINT;
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *v = getenv(names[i]);

		if (v != NULL && v[0] != '\0') {
			*ret = str_dup(v);
			return OK;
		}
	}
	rc = agent_config_read(&config, why);
	if (rc == OK && json_get_string(config, "endpoint", &url, NULL) != OK) {
		AUTO_STR path = config_path();

		rc = why_set(why, ERR_INVALID, "%s: endpoint must be a string", path);
	}
	if (rc == OK)
		*ret = str_dup(url);
	return rc;
}

int credential_check(const char *what, const char *text, char **ret, struct why *why)
{
	AUTO_STR key = text_trim(text);

	if (key[0] == '\0')
		return ERR_EMPTY;
	if (strlen(key) > CREDENTIAL_MAX)
		return why_set(why, ERR_UNAUTHORIZED, "%s is too long", what);
	for (const char *p = key; *p != '\0'; p++) {
		if (strchr(" \t\r\n\v\f", *p) != NULL)
			return why_set(why, ERR_UNAUTHORIZED,
			    "%s has white space inside: it must be one word, such as one line of a file", what);
		if (*p < ' ' || *p > '~')
			return why_set(why, ERR_UNAUTHORIZED, "%s has characters that no key has", what);
	}
	*ret = TAKE(key);
	return OK;
}

int credential_find(const char *flag, char **ret, struct why *why)
{
	const char *env = getenv("CURSOR_API_KEY");
	bool by_flag = flag != NULL;

	return credential_check(by_flag ? "the API key of --api-key" : "the API key of CURSOR_API_KEY",
	    by_flag	  ? flag
	    : env != NULL ? env
			  : "",
	    ret, why);
}
