#include "agent/session/context_inventory.h"
#include "agent/session/beneath.h"
#include "agent/session/rule_file.h"
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define MAX_FILE_BYTES (1024 * 1024)
#define MAX_ALL_BYTES (256 * 1024)

struct gathering {
	const char *root;
	bool primary;
	json_t *agents, *rules, *warnings;
	size_t text_bytes;
};

static char *shown_path(const struct gathering *g, const char *rel)
{
	return g->primary ? str_dup(rel) : str_printf("%s/%s", g->root, rel);
}

/* The text as far as the limits let it; `cut`: it was cut before. */
static json_t *limited(struct gathering *g, const char *rel, const char *text, bool cut)
{
	size_t len = strlen(text), keep = text_utf8_cut(text, len, MIN(len, MAX_ALL_BYTES - g->text_bytes));

	if (cut || keep < len)
		session_warn(g->warnings, "%s is too long for the context: only %zu bytes are used.", rel, keep);
	g->text_bytes += keep;
	return json_stringn(text, keep);
}

static bool gather_agents_md(struct gathering *g, const char *name)
{
	size_t len;
	AUTO_STR raw = read_beneath(g->root, name, MAX_FILE_BYTES, &len);
	AUTO_STR text = NULL;
	AUTO_STR path = shown_path(g, name);
	json_t *item;
	size_t keep;

	if (raw == NULL)
		return false;
	text = text_to_utf8(raw, len);
	len = strlen(text);
	keep = text_utf8_cut(text, len, RULE_TEXT_MAX);
	text[keep] = '\0';
	item = json_object();
	json_put(item, "path", path);
	json_put_new(item, "text", limited(g, name, text, keep < len));
	json_array_append_new(g->agents, item);
	return true;
}

static bool add_rule(void *ctx, const struct rule *r)
{
	struct gathering *g = ctx;
	json_t *rule = json_object();
	AUTO_STR path = shown_path(g, r->path);

	if (r->broken.text[0] != '\0')
		session_warn(g->warnings, "Rule %s: %s; it applies only when named.", r->path, r->broken.text);
	json_put(rule, "path", path);
	json_put(rule, "description", r->description);
	json_put_new(rule, "globs", json_incref(r->globs));
	json_put_bool(rule, "alwaysApply", r->always);
	if (r->always) {
		bool cut;
		AUTO_STR text = rule_text(g->root, r, &cut);

		json_put_new(rule, "text", limited(g, r->path, text, cut));
	}
	json_array_append_new(g->rules, rule);
	if (json_array_size(g->rules) < RULE_FILES_MAX)
		return true;
	session_warn(g->warnings, "Only the first %d rules are used.", RULE_FILES_MAX);
	return false;
}

/* The one file of old: all of it, always; it has no frontmatter. */
static void gather_legacy(struct gathering *g)
{
	size_t len;
	AUTO_STR raw = read_beneath(g->root, ".cursorrules", MAX_FILE_BYTES, &len);
	AUTO_FINI(rule) r = {.always = true};

	if (raw == NULL || json_array_size(g->rules) >= RULE_FILES_MAX)
		return;
	r.path = str_dup(".cursorrules");
	r.base = str_dup("");
	r.description = str_dup("");
	r.globs = json_array();
	r.body = text_to_utf8(raw, len);
	add_rule(g, &r);
}

void context_inventory(const char *const *roots, size_t n_roots, json_t *info, json_t *warnings)
{
	struct gathering g = {.agents = json_array(), .rules = json_array(), .warnings = warnings};

	for (size_t i = 0; i < n_roots; i++) {
		g.root = roots[i];
		g.primary = i == 0;
		if (!gather_agents_md(&g, "AGENTS.md"))
			gather_agents_md(&g, "CLAUDE.md");
		if (json_array_size(g.rules) < RULE_FILES_MAX)
			rules_visit(g.root, "", &(struct rule_visit){.each = add_rule, .ctx = &g});
		gather_legacy(&g);
	}
	json_put_new(info, "agentsMd", g.agents);
	json_put_new(info, "rules", g.rules);
}
