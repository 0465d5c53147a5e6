#include "agent/worker/context_inventory.h"
#include "agent/worker/frontmatter.h"
#include "agent/worker/session_priv.h"
#include "agent/worker/workspace.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TEXT_BYTES (64 * 1024)
#define MAX_ALL_BYTES (256 * 1024)
#define MAX_FILE_BYTES (1024 * 1024)
#define MAX_ITEMS 500
#define MAX_DEPTH 8
#define MAX_NAMES 5000

struct gathering {
	const char *root;
	bool primary;
	json_t *agents, *rules, *warnings;
	size_t text_bytes;
};

/* NULL if there is no such regular file. Valid UTF-8. */
static char *read_text(struct gathering *g, const char *rel)
{
	int fd = open_beneath(g->root, rel, O_RDONLY);
	struct strbuf b = STRBUF(MAX_FILE_BYTES);
	struct stat st;
	char chunk[8192], *text = NULL;
	ssize_t n = -1;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		while ((n = read(fd, chunk, sizeof chunk)) > 0 && strbuf_add(&b, chunk, (size_t)n) == OK)
			;
	close(fd);
	if (n >= 0)
		text = text_to_utf8(strbuf_str(&b), b.len);
	strbuf_fini(&b);
	return text;
}

static char *shown_path(const struct gathering *g, const char *rel)
{
	return g->primary ? str_dup(rel) : str_printf("%s/%s", g->root, rel);
}

/* The text as far as the limits let it. */
static json_t *limited(struct gathering *g, const char *rel, const char *text)
{
	size_t len = strlen(text);
	size_t keep = text_utf8_cut(text, len, MIN(MAX_TEXT_BYTES, MAX_ALL_BYTES - g->text_bytes));

	if (keep < len)
		session_warn(g->warnings, "%s is too long for the context: %zu of %zu bytes are used.", rel, keep, len);
	g->text_bytes += keep;
	return json_stringn(text, keep);
}

static bool gather_agents_md(struct gathering *g, const char *name)
{
	AUTO_STR text = read_text(g, name);
	AUTO_STR path = shown_path(g, name);
	json_t *item;

	if (text == NULL)
		return false;
	item = json_object();
	json_put(item, "path", path);
	json_put_new(item, "text", limited(g, name, text));
	json_array_append_new(g->agents, item);
	return true;
}

static json_t *globs_of(json_t *meta)
{
	json_t *v = json_object_get(meta, "globs"), *list = json_array();
	const char *s;

	if (json_is_array(v)) {
		json_decref(list);
		return json_incref(v);
	}
	for (s = json_is_string(v) ? json_string_value(v) : ""; *s != '\0';) {
		size_t n = 0, depth = 0;

		for (; s[n] != '\0' && (depth > 0 || s[n] != ','); n++)
			depth += (s[n] == '{') - (size_t)(s[n] == '}' && depth > 0);
		AUTO_STR raw = str_ndup(s, n);
		AUTO_STR glob = text_trim(raw);

		if (glob[0] != '\0')
			json_array_append_new(list, json_string(glob));
		s += n + (s[n] == ',');
	}
	return list;
}

static void add_rule(struct gathering *g, const char *rel, json_t *meta, const char *body, bool always)
{
	json_t *rule = json_object(), *description = json_object_get(meta, "description");
	AUTO_STR path = shown_path(g, rel);

	if (json_array_size(g->rules) >= MAX_ITEMS) {
		json_decref(rule);
		return;
	}
	json_put(rule, "path", path);
	json_put(rule, "description", json_is_string(description) ? json_string_value(description) : "");
	json_put_new(rule, "globs", globs_of(meta));
	json_put_bool(rule, "alwaysApply", always);
	if (always)
		json_put_new(rule, "text", limited(g, rel, body));
	json_array_append_new(g->rules, rule);
	if (json_array_size(g->rules) == MAX_ITEMS)
		session_warn(g->warnings, "Only the first %d rules are used.", MAX_ITEMS);
}

static void gather_rule(struct gathering *g, const char *rel)
{
	AUTO_STR text = read_text(g, rel);
	AUTO_JSON meta = NULL;
	const char *body = text;
	struct why why;

	if (text == NULL)
		return;
	if (frontmatter_parse(text, &meta, &body, &why) != OK) {
		session_warn(g->warnings, "Rule %s: %s; it applies only when named.", rel, why.text);
		meta = json_object();
	}
	add_rule(g, rel, meta, body, json_is_true(json_object_get(meta, "alwaysApply")));
}

static void gather_rules(struct gathering *g, const char *rel, int depth)
{
	int fd = open_beneath(g->root, rel, O_RDONLY | O_DIRECTORY);
	char **names = NULL;
	ssize_t n;

	if (fd < 0)
		return;
	n = names_read(fd, MAX_NAMES, &names);
	for (ssize_t i = 0; i < n && json_array_size(g->rules) < MAX_ITEMS; i++) {
		AUTO_STR path = str_printf("%s/%s", rel, names[i]);
		struct stat st;

		if (fstatat(fd, names[i], &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
			gather_rules(g, path, depth + 1);
		else if (!S_ISDIR(st.st_mode) && text_has_suffix(path, ".mdc"))
			gather_rule(g, path);
	}
	names_free(names, n > 0 ? (size_t)n : 0);
	close(fd);
}

static void gather_legacy(struct gathering *g)
{
	AUTO_STR text = read_text(g, ".cursorrules");
	AUTO_JSON none = json_object();

	if (text != NULL)
		add_rule(g, ".cursorrules", none, text, true);
}

void context_inventory(const char *const *roots, size_t n_roots, json_t *info, json_t *warnings)
{
	struct gathering g = {.agents = json_array(), .rules = json_array(), .warnings = warnings};

	for (size_t i = 0; i < n_roots; i++) {
		g.root = roots[i];
		g.primary = i == 0;
		if (!gather_agents_md(&g, "AGENTS.md"))
			gather_agents_md(&g, "CLAUDE.md");
		gather_rules(&g, ".cursor/rules", 0);
		gather_legacy(&g);
	}
	json_put_new(info, "agentsMd", g.agents);
	json_put_new(info, "rules", g.rules);
}
