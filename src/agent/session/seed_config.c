#include "agent/session/seed.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>
#include <strings.h>

#define MAX_CONFIG_BYTES (1024 * 1024)

void seed_config_fini(struct seed_config *c)
{
	str_free(&c->text);
	str_free(&c->url);
	str_free(&c->hooks_path);
	str_free(&c->object_format);
}

/* Whole keys, or sections with a dot at the end. What describes one checkout or its housekeeping, what runs programs
 * besides transport, credentials and filters, and what would lead back to the seed. */
static const char *const left_out[] = {"core.repositoryformatversion", "core.bare", "core.worktree", "core.hookspath",
    "core.fsmonitor", "core.fsmonitorhookversion", "core.splitindex", "core.untrackedcache",
    "core.alternaterefscommand", "core.editor", "core.pager", "core.askpass", "core.safecrlf",
    "core.sparsecheckoutcone.", "extensions.", "branch.", "index.", "gc.", "maintenance.", "include.", "includeif.",
    "status.", "alias.", "uploadpack.", "receive.", "pager.", "sequence.", "interactive.", "gpg.", "trace2.", "fetch.",
    "pull.", "push.", "safe.", "remotes.", "instaweb.", "log.", "stash.", "rerere.", "bullpen."};

static bool is_left_out(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(left_out); i++) {
		size_t n = strlen(left_out[i]);

		if (left_out[i][n - 1] == '.' ? strncasecmp(key, left_out[i], n) == 0
					      : strcasecmp(key, left_out[i]) == 0)
			return true;
	}
	/* A mirror pushes and deletes everything; refspecs are our own. */
	if (text_has_prefix(key, "remote.") &&
	    (text_has_suffix(key, ".fetch") || text_has_suffix(key, ".mirror") || text_has_suffix(key, ".push") ||
		text_has_suffix(key, ".uploadpack") || text_has_suffix(key, ".receivepack")))
		return true;
	return false;
}

/* As git reads it back, whatever is in it. */
static void add_quoted(struct strbuf *b, const char *s)
{
	strbuf_addc(b, '"');
	for (; *s != '\0'; s++) {
		if (*s == '\n')
			strbuf_adds(b, "\\n");
		else if (*s == '"' || *s == '\\')
			strbuf_addf(b, "\\%c", *s);
		else
			strbuf_addc(b, *s);
	}
	strbuf_addc(b, '"');
}

/* section.name or section.sub.section.name: the outer dots count. */
static void add_entry(struct strbuf *b, const char *key, const char *value)
{
	const char *first = strchr(key, '.'), *last = strrchr(key, '.');

	if (first == NULL)
		return;
	strbuf_addf(b, "[%.*s", (int)(first - key), key);
	if (last > first) {
		AUTO_STR sub = str_ndup(first + 1, (size_t)(last - first - 1));

		strbuf_addc(b, ' ');
		add_quoted(b, sub);
	}
	strbuf_addf(b, "]\n\t%s", last + 1);
	if (value != NULL) {
		strbuf_adds(b, " = ");
		add_quoted(b, value);
	}
	strbuf_addc(b, '\n');
}

/* What we have to know, also of keys that are left out. */
static void note(struct seed_config *c, const char *key, const char *value)
{
	const char *v = value != NULL ? value : "true";

	/* The first is where git fetches from. */
	if (strcmp(key, "remote.origin.url") == 0 && c->url == NULL)
		str_set(&c->url, v);
	else if (strcmp(key, "core.hookspath") == 0)
		str_set(&c->hooks_path, v);
	else if (strcmp(key, "extensions.objectformat") == 0)
		str_set(&c->object_format, v);
	else if (strcmp(key, "core.sparsecheckout") == 0)
		c->sparse = strcasecmp(v, "true") == 0 || strcmp(v, "1") == 0;
	else if (strcmp(key, "extensions.worktreeconfig") == 0)
		c->worktree_config = strcasecmp(v, "true") == 0 || strcmp(v, "1") == 0;
}

void seed_config_add(struct seed_config *c, const char *list, size_t len)
{
	struct strbuf b = STRBUF(MAX_CONFIG_BYTES);

	if (c->text != NULL)
		strbuf_adds(&b, c->text);
	for (size_t at = 0; at < len;) {
		size_t n = strnlen(list + at, len - at);
		AUTO_STR key = str_ndup(list + at, n);
		char *value = strchr(key, '\n');

		if (value != NULL)
			*value++ = '\0';
		note(c, key, value);
		/* A clone that has objects on demand can only be copied as one. */
		if (strcmp(key, "extensions.partialclone") == 0 || !is_left_out(key))
			add_entry(&b, key, value);
		at += n + 1;
	}
	free(c->text);
	c->text = strbuf_take(&b);
}
