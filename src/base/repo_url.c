#include "base/repo_url.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define MAX_URL_BYTES 2048
#define MAX_SEGMENTS 32

/* The parts of an address; pointers into the text. */
struct parts {
	const char *host, *path;
	size_t host_len, path_len;
	bool local;
};

static size_t scheme_len(const char *s)
{
	size_t n = 0;

	if (!isalpha((unsigned char)s[0]))
		return 0;
	while (isalnum((unsigned char)s[n]) || (s[n] != '\0' && strchr("+-.", s[n]) != NULL))
		n++;
	return strncmp(s + n, "://", 3) == 0 ? n : 0;
}

/* "user:word@host:port" to "host"; brackets of an IPv6 address stay. */
static void set_host(struct parts *p, const char *s, size_t len)
{
	const char *at = memrchr(s, '@', len), *end;

	if (at != NULL) {
		len -= (size_t)(at + 1 - s);
		s = at + 1;
	}
	end = s[0] == '[' ? memchr(s, ']', len) : NULL;
	if (end != NULL)
		len = (size_t)(end + 1 - s);
	else if ((end = memchr(s, ':', len)) != NULL)
		len = (size_t)(end - s);
	p->host = s;
	p->host_len = len;
}

static bool split(const char *url, struct parts *p)
{
	size_t scheme = scheme_len(url), slash;
	const char *rest, *colon;

	*p = (struct parts){.host = ""};
	if (scheme > 0) {
		rest = url + scheme + 3;
		slash = strcspn(rest, "/?#");
		p->local = strncasecmp(url, "file", scheme) == 0 && scheme == 4;
		if (!p->local)
			set_host(p, rest, slash);
		p->path = rest + slash;
		p->path_len = strcspn(p->path, "?#");
		return p->local || p->host_len > 0;
	}
	if (url[0] == '/') {
		p->local = true;
		p->path = url;
		p->path_len = strlen(url);
		return true;
	}
	/* user@host:path; a colon after the first slash belongs to a relative path. */
	rest = url + strcspn(url, "[/");
	colon = rest[0] == '[' ? strstr(rest, "]:") : strchr(url, ':');
	if (colon != NULL && colon[0] == ']')
		colon++;
	if (colon == NULL || memchr(url, '/', (size_t)(colon - url)) != NULL)
		return false;
	set_host(p, url, (size_t)(colon - url));
	p->path = colon + 1;
	p->path_len = strlen(p->path);
	return p->host_len > 0;
}

static bool segment_is_sound(const char *s, size_t len)
{
	if (len == 0 || (len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.'))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return false;
	return true;
}

static char *repo_url_host_name(const struct parts *p)
{
	char *h = p->local ? str_dup(REPO_URL_LOCAL) : str_ndup(p->host, p->host_len);

	for (char *c = h; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	if (strcmp(h, "ssh.dev.azure.com") == 0)
		str_set(&h, "dev.azure.com");
	return h;
}

static bool is_azure_filler(const char *s, size_t len, bool first)
{
	return (len == 4 && memcmp(s, "_git", 4) == 0) || (first && len == 2 && memcmp(s, "v3", 2) == 0);
}

static char *label_of(const struct parts *p, const char *host)
{
	const char *seg[MAX_SEGMENTS], *s = p->path, *end = p->path + p->path_len;
	size_t len[MAX_SEGMENTS], n = 0, first;
	bool azure = strcmp(host, "dev.azure.com") == 0 || text_has_suffix(host, ".visualstudio.com");
	struct strbuf b = STRBUF(MAX_URL_BYTES);

	while (s < end && *s == '/')
		s++;
	while (end > s && end[-1] == '/')
		end--;
	if (end - s > 4 && memcmp(end - 4, ".git", 4) == 0)
		end -= 4;
	while (s <= end) {
		const char *slash = memchr(s, '/', (size_t)(end - s));
		size_t l = (size_t)((slash != NULL ? slash : end) - s);

		if (n == MAX_SEGMENTS || !segment_is_sound(s, l))
			return NULL;
		if (!azure || !is_azure_filler(s, l, n == 0)) {
			seg[n] = s;
			len[n++] = l;
		}
		s += l + 1;
	}
	if (n < 2)
		return NULL;
	first = p->local ? n - 2 : 0;
	for (size_t i = first; i < n; i++) {
		strbuf_adds(&b, i > first ? "/" : "");
		strbuf_add(&b, seg[i], len[i]);
	}
	return strbuf_take(&b);
}

/* What ssh or git would take for an option; a user name that begins so reaches ssh before the host. */
static bool looks_like_option(const char *url, const struct parts *p)
{
	size_t scheme = scheme_len(url);
	const char *authority = scheme > 0 ? url + scheme + 3 : url;

	return url[0] == '-' || authority[0] == '-' || (p->host_len > 0 && p->host[0] == '-') ||
	       (p->path_len > 0 && p->path[0] == '-') ||
	       (p->path_len > 1 && p->path[0] == '/' && p->path[1] == '-' && !p->local);
}

char *repo_url_label(const char *url, char **ret_host)
{
	struct parts p;
	AUTO_STR host = NULL;
	char *label;

	if (strlen(url) > MAX_URL_BYTES || !text_is_utf8(url, strlen(url)) || !split(url, &p) ||
	    looks_like_option(url, &p))
		return NULL;
	host = repo_url_host_name(&p);
	label = label_of(&p, host);
	if (label != NULL && ret_host != NULL)
		*ret_host = TAKE(host);
	return label;
}

bool repo_url_same(const char *a, const char *b)
{
	AUTO_STR host_a = NULL;
	AUTO_STR host_b = NULL;
	AUTO_STR label_a = repo_url_label(a, &host_a);
	AUTO_STR label_b = repo_url_label(b, &host_b);

	if (label_a == NULL || label_b == NULL)
		return strcmp(a, b) == 0;
	if (host_a[0] != '\0' && host_b[0] != '\0' && strcmp(host_a, host_b) != 0)
		return false;
	return strcasecmp(label_a, label_b) == 0;
}

/* Bytes up to the query or the end of a URL, or to another URL in its path (a mirror's: https://m/https://u@h/p). */
static size_t plain_len(const char *text)
{
	size_t n = strcspn(text, "?# \t\r\n'\"<>");
	const char *inner = memmem(text, n, "://", 3);

	return inner != NULL ? (size_t)(inner - text) : n;
}

char *repo_url_redact(const char *text)
{
	struct strbuf b = STRBUF(strlen(text));

	while (*text != '\0') {
		size_t authority, plain, at = 0;

		if (strncmp(text, "://", 3) != 0) {
			strbuf_addc(&b, *text++);
			continue;
		}
		strbuf_adds(&b, "://");
		text += 3;
		authority = strcspn(text, "/?# \t\r\n'\"<>");
		for (size_t i = 0; i < authority; i++)
			if (text[i] == '@')
				at = i + 1;
		text += at;
		plain = plain_len(text);
		strbuf_add(&b, text, plain);
		text += plain;
		if (*text == '?' || *text == '#')
			text += strcspn(text, " \t\r\n'\"<>");
	}
	return strbuf_take(&b);
}
