/* The proxy of Socket Mode. libwebsockets looks at the environment in its own way, so it is told: what libcurl takes
 * for everything else counts here, too. */
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/triggers/slack_priv.h"
#include <string.h>
#include <strings.h>

static const char *first_of(const char *(*env)(const char *name), const char *const *names)
{
	for (; *names != NULL; names++) {
		const char *v = env(*names);

		if (v != NULL && v[0] != '\0')
			return v;
	}
	return NULL;
}

/* "*", or names with commas or blanks between them: each is that host and all below it. */
static bool is_exempt(const char *list, const char *host)
{
	size_t host_len = strlen(host);

	while (*list != '\0') {
		size_t n;

		list += strspn(list, ", .");
		n = strcspn(list, ", ");
		if (n == 1 && *list == '*')
			return true;
		if (n > 0 && n <= host_len && strncasecmp(host + host_len - n, list, n) == 0 &&
		    (n == host_len || host[host_len - n - 1] == '.'))
			return true;
		list += n;
	}
	return false;
}

/* "user%40:word@host:port/" to what libwebsockets takes: "user@:word@host:port". */
static char *plain_form(const char *s)
{
	size_t len = strcspn(s, "/");
	const char *at = memrchr(s, '@', len);
	size_t user_len = at != NULL ? (size_t)(at - s) : 0;
	AUTO_STR user = NULL;

	if (at == NULL)
		return str_ndup(s, len);
	if (text_percent_decode(s, user_len, &user) != OK)
		user = str_ndup(s, user_len);
	return str_printf("%s@%.*s", user, (int)(len - user_len - 1), at + 1);
}

int slack_proxy_for(const char *host, bool tls, const char *(*env)(const char *name), char **ret, struct why *why)
{
	static const char *const secure[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL},
				 *const clear[] = {"http_proxy", "all_proxy", "ALL_PROXY", NULL},
				 *const exempt[] = {"no_proxy", "NO_PROXY", NULL};
	const char *proxy = first_of(env, tls ? secure : clear), *none = first_of(env, exempt), *rest;

	*ret = NULL;
	if (proxy == NULL || (none != NULL && is_exempt(none, host)))
		return OK;
	rest = strstr(proxy, "://");
	if (rest != NULL && strncasecmp(proxy, "http://", 7) != 0)
		return why_set(why, ERR_INVALID, "Socket Mode goes through http:// proxies only, not %.*s://",
		    (int)MIN(rest - proxy, (ptrdiff_t)20), proxy);
	*ret = plain_form(rest != NULL ? rest + 3 : proxy);
	if (strchr(*ret, ':') == NULL || text_has_suffix(*ret, "@")) {
		str_wipe(ret);
		return why_set(why, ERR_INVALID, "the proxy of the environment is not http://USER:PASSWORD@HOST:PORT");
	}
	return OK;
}
