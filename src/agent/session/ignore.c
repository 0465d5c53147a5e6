#include "agent/session/ignore.h"
#include "agent/session/beneath.h"
#include "agent/session/glob.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

#define FILE_NAME ".cursorignore"
#define MAX_FILE_BYTES (256 * 1024)
#define MAX_PATTERNS 2000
#define MAX_PATTERN_BYTES 4096

struct pattern {
	char *text; /* as a glob */
	struct glob *glob; /* compiled when it is first asked; many never are */
	bool negated, only_dirs;
	bool by_name; /* no slash: the name at any depth */
};

/* The ignore file of one folder on the way to the path last asked for. */
struct level {
	char *dir; /* relative to the root, "" is the root */
	struct pattern *v;
	size_t n, cap;
};

struct ignore {
	char *root, *base;
	struct level *levels;
	size_t n, cap;
	char *found;
};

/* Braces mean nothing to git, and "**" only between slashes. */
static char *to_glob(const char *s, size_t len)
{
	struct strbuf b = STRBUF(2 * MAX_PATTERN_BYTES);

	for (size_t i = 0; i < len; i++) {
		size_t stars = 0;

		while (i + stars < len && s[i + stars] == '*')
			stars++;
		if (stars > 0) {
			bool whole = stars == 2 && (i == 0 || s[i - 1] == '/') && (i + 2 == len || s[i + 2] == '/');

			strbuf_adds(&b, whole ? "**" : "*");
			i += stars - 1;
			continue;
		}
		if (s[i] == '{')
			strbuf_addc(&b, '\\');
		strbuf_addc(&b, s[i]);
		if (s[i] == '\\' && i + 1 < len)
			strbuf_addc(&b, s[++i]);
	}
	return strbuf_take(&b);
}

static void add_pattern(struct level *l, const char *s, size_t len)
{
	struct pattern p = {0};

	if (len > 0 && s[len - 1] == '\r')
		len--;
	/* Blanks at the end count only behind a backslash. */
	while (len > 0 && s[len - 1] == ' ' && (len < 2 || s[len - 2] != '\\'))
		len--;
	if (len == 0 || s[0] == '#' || len > MAX_PATTERN_BYTES || l->n == MAX_PATTERNS)
		return;
	p.negated = s[0] == '!';
	s += p.negated;
	len -= p.negated;
	p.only_dirs = len > 0 && s[len - 1] == '/';
	len -= p.only_dirs;
	if (len == 0)
		return;
	p.by_name = memchr(s, '/', len) == NULL;
	if (s[0] == '/') {
		s++;
		len--;
	}
	p.text = to_glob(s, len);
	l->v = mem_grow(l->v, &l->cap, l->n + 1, sizeof *l->v);
	l->v[l->n++] = p;
}

static void read_level(const struct ignore *ig, struct level *l)
{
	AUTO_STR rel = str_printf("%s%s" FILE_NAME, l->dir, l->dir[0] != '\0' ? "/" : "");
	AUTO_STR text = read_beneath(ig->root, rel, MAX_FILE_BYTES, NULL);
	const char *at = text != NULL ? text : "";

	if (text_has_prefix(at, "\xef\xbb\xbf"))
		at += 3;
	while (*at != '\0') {
		size_t n = strcspn(at, "\n");

		add_pattern(l, at, n);
		at += n + (at[n] == '\n');
	}
}

static void level_fini(struct level *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].text);
		glob_free(&l->v[i].glob);
	}
	free(l->v);
	free(l->dir);
}

struct ignore *ignore_new(const char *root, const char *base)
{
	struct ignore *ig = NEW(struct ignore);

	ig->root = str_dup(root);
	ig->base = str_dup(strcmp(base, ".") == 0 ? "" : base);
	return ig;
}

void ignore_free(struct ignore **igp)
{
	struct ignore *ig = *igp;

	if (ig == NULL)
		return;
	for (size_t i = 0; i < ig->n; i++)
		level_fini(&ig->levels[i]);
	free(ig->levels);
	free(ig->root);
	free(ig->base);
	free(ig->found);
	free(ig);
	*igp = NULL;
}

/* Makes level `depth` be that of `dir`, forgetting what is below another folder. */
static void enter(struct ignore *ig, size_t depth, const char *dir)
{
	if (depth < ig->n && strcmp(ig->levels[depth].dir, dir) == 0)
		return;
	while (ig->n > depth)
		level_fini(&ig->levels[--ig->n]);
	ig->levels = mem_grow(ig->levels, &ig->cap, depth + 1, sizeof *ig->levels);
	ig->levels[depth] = (struct level){.dir = str_dup(dir)};
	ig->n++;
	read_level(ig, &ig->levels[depth]);
}

static bool applies(struct pattern *p, const char *rel, bool is_dir, int *budget)
{
	const char *slash = strrchr(rel, '/');

	if (p->only_dirs && !is_dir)
		return false;
	if (p->glob == NULL)
		p->glob = glob_new(p->text);
	return glob_test(p->glob, p->by_name && slash != NULL ? slash + 1 : rel, budget);
}

/* The level whose last matching line decides; NULL if nothing matches or that line lets it through. */
static const struct level *verdict(const struct ignore *ig, size_t depth, const char *rel, bool is_dir, int *budget)
{
	for (size_t i = depth + 1; i-- > 0;) {
		const struct level *l = &ig->levels[i];
		const char *inner = rel + (l->dir[0] != '\0' ? strlen(l->dir) + 1 : 0);

		for (size_t k = l->n; k-- > 0;)
			if (applies(&l->v[k], inner, is_dir, budget))
				return l->v[k].negated ? NULL : l;
	}
	return NULL;
}

const char *ignore_find(struct ignore *ig, const char *path, bool is_dir)
{
	int budget = GLOB_STEPS;
	AUTO_STR rel = NULL;
	AUTO_STR dir = str_dup("");

	if (ig == NULL)
		return NULL;
	if (text_has_prefix(path, "./"))
		path += 2;
	path += strspn(path, "/");
	if (strcmp(path, ".") == 0)
		rel = str_dup(ig->base);
	else
		rel = str_printf("%s%s%s", ig->base, ig->base[0] != '\0' ? "/" : "", path);
	if (rel[0] == '\0')
		return NULL;
	for (size_t depth = 0, len;; depth++) {
		AUTO_STR part = NULL;
		const struct level *by;

		len = dir[0] != '\0' ? strlen(dir) + 1 : 0;
		len += strcspn(rel + len, "/");
		part = str_ndup(rel, len);
		enter(ig, depth, dir);
		by = verdict(ig, depth, part, rel[len] == '/' || is_dir, &budget);
		if (by != NULL) {
			free(ig->found);
			ig->found = str_printf("%s%s" FILE_NAME, by->dir, by->dir[0] != '\0' ? "/" : "");
			return ig->found;
		}
		if (rel[len] == '\0')
			return NULL;
		free(dir);
		dir = TAKE(part);
	}
}
