/* What a prompt names: a skill, a command, a rule. */
#include "agent/session/context_file.h"
#include "agent/session/context_inventory.h"
#include "agent/session/rule_file.h"
#include "agent/session/rules.h"
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define MAX_NAMES 50
#define MAX_ALL_BYTES ((size_t)256 * 1024)

struct naming {
	const struct context_places *places;
	struct rules *rules;
	json_t *warnings, *list;
	size_t bytes;
	/* The one at hand. */
	const char *given, *root;
	bool found;
};

static void add_text(struct naming *n, const char *kind, const char *rel, const char *text)
{
	AUTO_STR path = context_shown_path(n->places, n->root, rel);
	json_t *o;

	n->found = true;
	if (strlen(text) > MAX_ALL_BYTES - n->bytes) {
		session_warn(n->warnings,
		    "%s %s is named, but left out: the texts of all that is named are longer than %zu KiB.", kind, path,
		    MAX_ALL_BYTES / 1024);
		return;
	}
	n->bytes += strlen(text);
	o = json_object();
	json_put(o, "name", n->given);
	json_put(o, "kind", kind);
	json_put_new(o, "path", json_lossy(path, strlen(path)));
	json_put(o, "text", text);
	json_array_append_new(n->list, o);
}

static bool take_file(void *ctx, const struct context_file *f)
{
	struct naming *n = ctx;

	if (!f->unusable && strcmp(f->name, n->given + 1) == 0)
		add_text(n, context_kind_name(f->kind), f->path, f->body);
	return !n->found;
}

static bool want_rule_named(void *ctx, const char *path)
{
	struct naming *n = ctx;

	return rule_answers_to(path, n->given + 1);
}

static bool take_rule_named(void *ctx, const struct rule *r)
{
	struct naming *n = ctx;
	AUTO_STR full = str_printf("%s/%s", n->root, r->path);
	AUTO_STR text = rule_text(n->root, r, NULL);

	IGNORE(rules_give(n->rules, full));
	add_text(n, "rule", r->path, text);
	return false;
}

static void find_file(struct naming *n, enum context_kind kind)
{
	const struct context_places *p = n->places;

	for (size_t i = 0; i < p->n_roots + (p->home != NULL) && !n->found; i++) {
		n->root = i < p->n_roots ? p->roots[i] : p->home;
		context_files_visit(n->root, "", kind, &(struct context_visit){.each = take_file, .ctx = n});
	}
}

static void find_rule(struct naming *n)
{
	for (size_t i = 0; i < n->places->n_roots && !n->found; i++) {
		n->root = n->places->roots[i];
		rules_visit(n->root, "", &(struct rule_visit){want_rule_named, take_rule_named, n});
	}
}

json_t *context_named(const struct context_places *places, struct rules *rules, const json_t *names, json_t *warnings)
{
	struct naming n = {.places = places, .rules = rules, .warnings = warnings, .list = json_array()};

	for (size_t i = 0; i < MIN(json_array_size(names), (size_t)MAX_NAMES); i++) {
		n.given = json_string_value(json_array_get(names, i));
		n.found = false;
		if (n.given == NULL || n.given[0] == '\0' || n.given[1] == '\0')
			continue;
		if (n.given[0] == '@') {
			find_rule(&n);
		} else if (n.given[0] == '/') {
			find_file(&n, CONTEXT_SKILL);
			if (!n.found)
				find_file(&n, CONTEXT_COMMAND);
		}
	}
	return n.list;
}
