#include "agent/tools/tool_io.h"
#include "agent/session/context_inventory.h"
#include "agent/session/rule_file.h"
#include "agent/session/rules.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

#define MAX_LISTED_BYTES 2000

/* Looking through the rules of the roots for those that answer to a name. */
struct rule_hunt {
	struct tool_call *call;
	const char *name;
	const char *root;
	const char *found_root;
	struct rule found;
	size_t n_found;
	struct strbuf listed; /* the paths of all, or of those that were found */
};

static char *fetch_rule_shown_path(const struct rule_hunt *h, const char *path)
{
	if (strcmp(h->root, session_primary_root(h->call->session)) == 0)
		return str_dup(path);
	return str_printf("%s/%s", h->root, path);
}

/* ".cursor/rules/sub/style.mdc" is "style", "sub/style", both also with ".mdc", and its path. */
static bool fetch_rule_answers_to(const struct rule_hunt *h, const char *path)
{
	AUTO_STR shown = fetch_rule_shown_path(h, path);

	return strcmp(shown, h->name) == 0 || rule_answers_to(path, h->name);
}

static bool list_path(void *ctx, const char *path)
{
	struct rule_hunt *h = ctx;
	AUTO_STR shown = fetch_rule_shown_path(h, path);

	if (fetch_rule_answers_to(h, path) && h->n_found == 0)
		strbuf_clear(&h->listed);
	if (!fetch_rule_answers_to(h, path) && h->n_found > 0)
		return false;
	strbuf_addf(&h->listed, "%s%s", h->listed.len > 0 ? ", " : "", shown);
	return fetch_rule_answers_to(h, path);
}

static bool take_rule(void *ctx, const struct rule *r)
{
	struct rule_hunt *h = ctx;

	if (h->n_found++ == 0 && rule_read(h->root, r->path, &h->found) == OK)
		h->found_root = h->root;
	return true;
}

static void search_roots(struct rule_hunt *h)
{
	const struct rule_visit visit = {list_path, take_rule, h};
	const char *const *roots;
	size_t n = session_roots(h->call->session, &roots);

	for (size_t i = 0; i < n; i++) {
		h->root = roots[i];
		rules_visit(h->root, "", &visit);
	}
}

/* Rules of folders below a root are found by their path only. */
static void try_path(struct rule_hunt *h)
{
	AUTO_FINI(place) p = {0};
	struct refusal r;

	if (!text_has_suffix(h->name, ".mdc") || place_find(h->call->session, h->name, &p, &r) != OK)
		return;
	if ((text_has_prefix(p.rel, ".cursor/rules/") || strstr(p.rel, "/.cursor/rules/") != NULL) &&
	    rule_read(p.root, p.rel, &h->found) == OK) {
		h->found_root = p.root;
		h->n_found = 1;
	}
}

static void fetch_rule_report(struct rule_hunt *h)
{
	const char *slash = strrchr(h->found.path, '/'), *file = slash != NULL ? slash + 1 : h->found.path;
	AUTO_STR name = str_ndup(file, strlen(file) - strlen(".mdc"));
	AUTO_STR full = str_printf("%s/%s", h->found_root, h->found.path);
	AUTO_STR text = rule_text(h->found_root, &h->found, NULL);
	AUTO_STR path = NULL;
	json_t *j = json_object();

	h->root = h->found_root;
	path = fetch_rule_shown_path(h, h->found.path);
	rules_give(session_rules(h->call->session), full);
	json_put_new(j, "name", json_lossy(name, strlen(name)));
	json_put_new(j, "path", json_lossy(path, strlen(path)));
	json_put(j, "content", text);
	tool_succeed(h->call, j, NULL, text);
}

/* A skill of the home folder, where no path of a tool leads. "~/.cursor/skills/NAME/SKILL.md" is its path. */
static bool report_skill(struct tool_call *call, const char *name)
{
	const struct context_places home = {.home = session_home(call->session)};
	bool by_path = text_has_prefix(name, "~/") && text_has_suffix(name, "/SKILL.md");
	size_t end = strlen(name) - (by_path ? strlen("/SKILL.md") : 0), start = end;
	AUTO_STR wanted = NULL;
	AUTO_JSON names = NULL;
	AUTO_JSON warnings = json_array();
	AUTO_JSON found = NULL;
	const json_t *skill;
	json_t *j;

	while (by_path && start > 0 && name[start - 1] != '/')
		start--;
	wanted = str_printf(
	    "/%.*s", (int)MIN(by_path ? end - start : end, (size_t)CONTEXT_NAMED_MAX), by_path ? name + start : name);
	names = json_array();
	json_array_append_new(names, json_lossy(wanted, strlen(wanted)));
	found = home.home != NULL ? context_named(&home, session_rules(call->session), names, warnings) : NULL;
	skill = json_array_get(found, 0);
	if (skill == NULL)
		return false;
	j = json_object();
	json_put(j, "name", wanted + 1);
	json_put_new(j, "path", json_incref(json_object_get(skill, "path")));
	json_put_new(j, "content", json_incref(json_object_get(skill, "text")));
	tool_succeed(call, j, NULL, json_string_value(json_object_get(skill, "text")));
	return true;
}

static void fetch_rule_run(struct tool_call *call)
{
	struct rule_hunt h = {.call = call, .name = arg_string(call, "name", ""), .listed = STRBUF(MAX_LISTED_BYTES)};

	if (h.name[0] == '@')
		h.name++;
	try_path(&h);
	if (h.n_found == 0)
		search_roots(&h);
	if (h.n_found > 1)
		tool_error(call, "not_unique", "several rules are called '%.200s'; give the path: %s", h.name,
		    strbuf_str(&h.listed));
	else if ((h.n_found == 0 || h.found_root == NULL) && !report_skill(call, h.name))
		tool_error(call, "not_found", "there is no rule '%.200s'; there %s %s", h.name,
		    h.listed.len > 0 ? "are:" : "are none", strbuf_str(&h.listed));
	else if (h.found_root != NULL)
		fetch_rule_report(&h);
	rule_fini(&h.found);
	strbuf_fini(&h.listed);
}

static const char *const aliases[] = {"rule", "name", "rule_name", "name", "path", "name", NULL};

static const struct tool fetch_rule = {
    .name = "fetch_rule",
    .aliases = {"fetch_rules"},
    .description =
	"Gives the text of a project rule that was named as being there on request, by its name or path; and that "
	"of a skill whose path begins with ~.",
    .parameters = "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"name\"],\"properties\":{"
		  "\"name\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Name of the rule, with or without "
		  ".mdc, or its path\"}}}",
    .arg_alias = aliases,
    .class = TOOL_READ,
    .sdk_type = "",
    .run = fetch_rule_run,
};
TOOL(fetch_rule);
