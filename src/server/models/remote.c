/* The life of a provider that is asked over HTTP, and keeping its secrets out of texts. */
#include "base/mem.h"
#include "base/text.h"
#include "server/models/wire_priv.h"
#include <string.h>

#define SECRET_MIN 6 /* shorter ones occur in ordinary words */

void upstream_free(struct upstream **u)
{
	if (*u == NULL)
		return;
	free((*u)->name);
	json_decref((*u)->parameters);
	json_decref((*u)->options);
	free(*u);
	*u = NULL;
}

void remote_free(struct remote **p)
{
	struct remote *r = *p;

	if (r == NULL)
		return;
	http_client_pool_free(&r->pool);
	free(r->name);
	free(r->base_url);
	free(r->url);
	if (r->key != NULL)
		explicit_bzero(r->key, strlen(r->key));
	free(r->key);
	free(r->key_source);
	free(r->ca_file);
	free(r->max_tokens_field);
	json_decref(r->headers);
	free(r);
	*p = NULL;
}

static void remote_blot(char *text, const char *secret)
{
	size_t len = secret != NULL ? strlen(secret) : 0;

	if (len < SECRET_MIN)
		return;
	for (char *at = text; (at = strstr(at, secret)) != NULL; at += len)
		memset(at, '*', len);
	/* The text may be the beginning of a longer one, cut off within the secret. */
	for (size_t n = MIN(len - 1, strlen(text)); n >= SECRET_MIN; n--) {
		char *end = text + strlen(text) - n;

		if (strncmp(end, secret, n) == 0)
			memset(end, '*', n);
	}
}

/* "Bearer KEY" holds a secret of its own. */
static void blot_header(char *text, const char *value)
{
	const char *space = strrchr(value, ' ');

	remote_blot(text, value);
	remote_blot(text, space != NULL ? space + 1 : NULL);
}

/* One line: runs of white space and control characters become one space. */
static void squeeze(char *s)
{
	char *to = s;
	bool gap = false;

	for (const char *from = s; *from != '\0'; from++) {
		unsigned char c = (unsigned char)*from;

		if (c <= ' ' || c == 0x7f) {
			gap = to > s;
			continue;
		}
		if (gap)
			*to++ = ' ';
		gap = false;
		*to++ = (char)c;
	}
	*to = '\0';
}

char *remote_clean(const struct remote *p, const char *text, size_t len, size_t max)
{
	AUTO_STR clean = text_to_utf8(text, MIN(len, 64 * 1024));
	const char *name;
	json_t *v;

	remote_blot(clean, p->key);
	json_object_foreach(p->headers, name, v)
	{
		blot_header(clean, json_string_value(v));
	}
	squeeze(clean);
	clean[text_utf8_cut(clean, strlen(clean), max)] = '\0';
	return TAKE(clean);
}
