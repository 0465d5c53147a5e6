#include "agent/session/context_inventory.h"
#include "agent/session/beneath.h"
#include "agent/session/context_file.h"
#include "agent/session/rule_file.h"
#include "agent/session/session_priv.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
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

struct found {
	const struct context_places *places;
	const char *root;
	json_t *list[CONTEXT_KINDS];
	struct map *names; /* "KIND name" in small letters; the values mean nothing */
	json_t *warnings;
	size_t n, prompt_bytes;
};

static json_t *describe_file(struct found *g, const struct context_file *f, const char *path)
{
	json_t *o = json_object();

	json_put(o, "name", f->name);
	json_put(o, "description", f->description);
	json_put_new(o, "path", json_lossy(path, strlen(path)));
	if (f->kind == CONTEXT_SKILL) {
		json_put_new(o, "paths", json_incref(f->paths));
		json_put_bool(o, "disableModelInvocation", f->named_only || f->description[0] == '\0');
	} else if (f->kind == CONTEXT_AGENT) {
		g->prompt_bytes += strlen(f->body);
		json_put(o, "model", f->model);
		json_put_bool(o, "readonly", f->read_only);
		if (f->background)
			json_put_bool(o, "background", true);
		json_put(o, "prompt", f->body);
	}
	return o;
}

static bool add_file(void *ctx, const struct context_file *f)
{
	struct found *g = ctx;
	AUTO_STR path = context_shown_path(g->places, g->root, f->path);
	AUTO_STR key = str_printf("%d %s", f->kind, f->name);
	const json_t *fault;
	size_t i;

	json_array_foreach(f->faults, i, fault)
	    session_warn(g->warnings, "%s %s, line %lld: %s.", context_kind_name(f->kind), path,
		json_integer_value(json_object_get(fault, "line")), json_string_value(json_object_get(fault, "text")));
	for (char *c = key; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	if (f->unusable || map_get(g->names, key) != NULL)
		return true;
	if (g->n == CONTEXT_FILES_MAX) {
		session_warn(
		    g->warnings, "Only the first %d skills, commands and subagents are used.", CONTEXT_FILES_MAX);
		return false;
	}
	if (f->kind == CONTEXT_AGENT && g->prompt_bytes + strlen(f->body) > MAX_ALL_BYTES) {
		session_warn(g->warnings, "subagent %s is left out: the prompts of all are longer than %d KiB.", path,
		    MAX_ALL_BYTES / 1024);
		return true;
	}
	map_put(g->names, key, g);
	g->n++;
	json_array_append_new(g->list[f->kind], describe_file(g, f, path));
	return true;
}

static void gather_files(const struct context_places *p, json_t *info, json_t *warnings)
{
	static const char *const members[] = {
	    [CONTEXT_SKILL] = "skills", [CONTEXT_COMMAND] = "commands", [CONTEXT_AGENT] = "agents"};
	struct found g = {.places = p, .names = map_new(), .warnings = warnings};
	const struct context_visit visit = {.each = add_file, .ctx = &g};

	for (int kind = 0; kind < CONTEXT_KINDS; kind++) {
		g.list[kind] = json_array();
		for (size_t i = 0; i < p->n_roots + (p->home != NULL); i++) {
			g.root = i < p->n_roots ? p->roots[i] : p->home;
			context_files_visit(g.root, "", kind, &visit);
		}
		json_put_new(info, members[kind], g.list[kind]);
	}
	map_free(&g.names);
}

char *context_shown_path(const struct context_places *p, const char *root, const char *rel)
{
	if (p->n_roots > 0 && strcmp(root, p->roots[0]) == 0)
		return str_dup(rel);
	if (p->home != NULL && strcmp(root, p->home) == 0)
		return str_printf("~/%s", rel);
	return str_printf("%s/%s", root, rel);
}

void context_inventory(const struct context_places *places, json_t *info, json_t *warnings)
{
	struct gathering g = {.agents = json_array(), .rules = json_array(), .warnings = warnings};

	for (size_t i = 0; i < places->n_roots; i++) {
		g.root = places->roots[i];
		g.primary = i == 0;
		if (!gather_agents_md(&g, "AGENTS.md"))
			gather_agents_md(&g, "CLAUDE.md");
		if (json_array_size(g.rules) < RULE_FILES_MAX)
			rules_visit(g.root, "", &(struct rule_visit){.each = add_rule, .ctx = &g});
		gather_legacy(&g);
	}
	json_put_new(info, "agentsMd", g.agents);
	json_put_new(info, "rules", g.rules);
	gather_files(places, info, warnings);
}
