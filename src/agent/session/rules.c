#include "agent/session/rules.h"
#include "agent/session/beneath.h"
#include "agent/session/context_file.h"
#include "agent/session/rule_file.h"
#include "agent/session/session.h"
#include "agent/session/workspace.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <pthread.h>
#include <string.h>

#define MAX_TEXT_BYTES (256 * 1024)
#define MAX_SHOWN_BYTES (16 * 1024)
/* Of that: kept for the names of what does not fit; and the least of a text that is worth showing. */
#define NAMES_BYTES (2 * 1024)
#define MIN_SHOWN_BYTES 1024
#define MAX_LEVELS 64
#define MAX_GIVEN 5000

struct rules {
	uint32_t magic;
	pthread_mutex_t lock;
	struct map *given; /* absolute paths; the values mean nothing */
	json_t *team; /* constant while tools run; NULL: none */
};
#define RULES_MAGIC 0x3c1e5a02

struct rules *rules_new(void)
{
	struct rules *r = NEW(struct rules);

	r->magic = RULES_MAGIC;
	pthread_mutex_init(&r->lock, NULL);
	r->given = map_new();
	return r;
}

void rules_free(struct rules **rp)
{
	struct rules *r = *rp;

	if (r == NULL)
		return;
	OBJ_CHECK(r, RULES_MAGIC);
	map_free(&r->given);
	json_drop(&r->team);
	pthread_mutex_destroy(&r->lock);
	r->magic = 0;
	free(r);
	*rp = NULL;
}

void rules_set_team(struct rules *r, const json_t *list)
{
	OBJ_CHECK(r, RULES_MAGIC);
	json_drop(&r->team);
	r->team = json_is_array(list) ? json_incref((json_t *)list) : NULL;
}

void rules_forget(struct rules *r)
{
	OBJ_CHECK(r, RULES_MAGIC);
	pthread_mutex_lock(&r->lock);
	map_free(&r->given);
	r->given = map_new();
	pthread_mutex_unlock(&r->lock);
}

static bool was_given(struct rules *r, const char *full)
{
	bool yes;

	pthread_mutex_lock(&r->lock);
	yes = map_get(r->given, full) != NULL;
	pthread_mutex_unlock(&r->lock);
	return yes;
}

bool rules_give(struct rules *r, const char *full)
{
	bool first;

	OBJ_CHECK(r, RULES_MAGIC);
	pthread_mutex_lock(&r->lock);
	first = map_get(r->given, full) == NULL && map_count(r->given) < MAX_GIVEN;
	if (first)
		map_put(r->given, full, r);
	pthread_mutex_unlock(&r->lock);
	return first;
}

/* Looking for what one file brings along. */
struct look {
	struct rules *rules;
	const char *root;
	const char *file; /* relative to the root */
	const char *dir; /* the folder whose rules are looked at; "" is the root */
	bool primary;
	size_t bytes;
	json_t *found;
};

static char *full_path(const char *root, const char *rel)
{
	return str_printf("%s/%s", strcmp(root, "/") == 0 ? "" : root, rel);
}

static json_t *item_new(const struct look *l, const char *rel)
{
	json_t *item = json_object();
	AUTO_STR full = full_path(l->root, rel);
	AUTO_JSON shown_full = json_lossy(full, strlen(full));
	AUTO_JSON shown_rel = json_lossy(rel, strlen(rel));

	json_put_new(item, "path", json_incref(l->primary ? shown_rel : shown_full));
	json_put_new(item, "fullPath", json_incref(shown_full));
	json_put_new(item, "scope", json_lossy(l->dir, strlen(l->dir)));
	json_array_append_new(l->found, item);
	return item;
}

static void add_content(struct look *l, const char *rel, const char *text)
{
	json_t *item = item_new(l, rel);
	size_t len = strlen(text);

	if (len > MAX_TEXT_BYTES - l->bytes) {
		json_put(item, "description", "too long to come by itself");
		return;
	}
	l->bytes += len;
	json_put(item, "content", text);
}

static void add_team_rules(struct look *l)
{
	size_t i;
	json_t *rule, *item;

	json_array_foreach(l->rules->team, i, rule)
	{
		const char *name = json_string_value(json_object_get(rule, "name")),
			   *text = json_string_value(json_object_get(rule, "text"));
		AUTO_JSON globs = globs_of_value(json_object_get(rule, "glob"));
		AUTO_STR key = str_printf("team rule %s", name != NULL ? name : "");

		if (name == NULL || text == NULL || strlen(text) > MAX_TEXT_BYTES - l->bytes ||
		    !globs_match(globs, l->file) || !rules_give(l->rules, key))
			continue;
		l->bytes += strlen(text);
		item = json_object();
		json_put(item, "path", key);
		json_put(item, "fullPath", key);
		json_put(item, "scope", "");
		json_put(item, "content", text);
		json_array_append_new(l->found, item);
	}
}

static bool want_rule(void *ctx, const char *path)
{
	struct look *l = ctx;
	AUTO_STR full = full_path(l->root, path);

	return !was_given(l->rules, full);
}

static bool each_rule(void *ctx, const struct rule *r)
{
	struct look *l = ctx;
	AUTO_STR full = full_path(l->root, r->path);
	bool nested = l->dir[0] != '\0', offer = false;

	if (r->always) {
		if (!nested)
			return true;
	} else if (json_array_size(r->globs) > 0) {
		if (!rule_matches(r, l->file))
			return true;
	} else {
		offer = true;
		if (!nested || r->description[0] == '\0')
			return true;
	}
	if (!rules_give(l->rules, full) || strcmp(r->path, l->file) == 0)
		return true;
	if (offer) {
		json_put(item_new(l, r->path), "description", r->description);
	} else {
		AUTO_STR text = rule_text(l->root, r, NULL);

		add_content(l, r->path, text);
	}
	return true;
}

/* A skill that is for these files only is offered with the first of them. What is offered from the start counts as
 * given, so that it is not read with every file. */
static bool each_skill(void *ctx, const struct context_file *f)
{
	struct look *l = ctx;
	AUTO_STR full = full_path(l->root, f->path);
	AUTO_STR name = str_printf("%s/%s skill %s", l->root, l->dir, f->name); /* no path: of two the first counts */
	bool from_start = l->dir[0] == '\0' && json_array_size(f->paths) == 0;
	json_t *item;

	if (!from_start && !context_file_is_for(f, l->file))
		return true;
	if (!rules_give(l->rules, full) || !rules_give(l->rules, name) || from_start || f->unusable || f->named_only ||
	    f->description[0] == '\0' || strcmp(f->path, l->file) == 0)
		return true;
	item = item_new(l, f->path);
	json_put(item, "description", f->description);
	json_put(item, "skill", f->name);
	return true;
}

static bool look_for_agents_md(struct look *l, const char *name)
{
	AUTO_STR rel = str_printf("%s/%s", l->dir, name);
	AUTO_STR full = full_path(l->root, rel);
	AUTO_STR raw = NULL;
	AUTO_STR text = NULL;
	size_t len;

	if (was_given(l->rules, full))
		return true;
	raw = read_beneath(l->root, rel, RULE_TEXT_MAX, &len);
	if (raw == NULL)
		return false;
	if (!rules_give(l->rules, full) || strcmp(rel, l->file) == 0)
		return true;
	text = text_to_utf8(raw, len);
	add_content(l, rel, text);
	return true;
}

json_t *rules_for(struct rules *r, const struct session *s, const struct place *file)
{
	struct look l = {.rules = r, .root = file->root, .file = file->rel, .found = json_array()};
	struct rule_visit visit = {want_rule, each_rule, &l};
	struct context_visit skills = {want_rule, each_skill, &l};
	int level = 0;

	OBJ_CHECK(r, RULES_MAGIC);
	if (file->root == session_scratch_dir(s))
		return l.found;
	l.primary = strcmp(file->root, session_primary_root(s)) == 0;
	l.dir = "";
	add_team_rules(&l);
	rules_visit(l.root, l.dir, &visit);
	context_files_visit(l.root, l.dir, CONTEXT_SKILL, &skills);
	for (const char *slash = file->rel; (slash = strchr(slash, '/')) != NULL && level < MAX_LEVELS;
	     slash++, level++) {
		AUTO_STR dir = str_ndup(file->rel, (size_t)(slash - file->rel));

		l.dir = dir;
		rules_visit(l.root, dir, &visit);
		if (!look_for_agents_md(&l, "AGENTS.md"))
			look_for_agents_md(&l, "CLAUDE.md");
		context_files_visit(l.root, dir, CONTEXT_SKILL, &skills);
	}
	return l.found;
}

static void show(struct strbuf *b, const json_t *item)
{
	const char *text = json_word(item, "content"), *path = json_word(item, "path"),
		   *scope = json_word(item, "scope");
	const char *by = text_has_suffix(path, ".mdc") ? "fetch_rule" : "read_file";
	bool team = text_has_prefix(path, "team rule ");
	AUTO_STR heading =
	    team ? str_printf("\n## %s (it goes before those of the project)\n", path)
		 : str_printf(scope[0] != '\0' ? "\n## %s (for files in %s)\n" : "\n## %s\n", path, scope);
	size_t len = strlen(text), end = b->len + strlen(heading);

	if (json_object_get(item, "skill") != NULL) {
		strbuf_addf(b, "\nSkill %s: %s (%s; read_file shows it)\n", json_word(item, "skill"),
		    json_word(item, "description"), path);
	} else if (json_object_get(item, "content") == NULL) {
		strbuf_addf(
		    b, "\nOn request: rule %s (%.300s); %s shows it\n", path, json_word(item, "description"), by);
	} else if (end + MIN(len, MIN_SHOWN_BYTES) > MAX_SHOWN_BYTES - NAMES_BYTES) {
		strbuf_addf(b, "\nToo long to show here: rule %s; %s shows it\n", path, by);
	} else {
		size_t keep = text_utf8_cut(text, len, MIN(len, MAX_SHOWN_BYTES - NAMES_BYTES - end));

		strbuf_adds(b, heading);
		strbuf_add(b, text, keep);
		strbuf_adds(b, text_has_suffix(text, "\n") && keep == len ? "" : "\n");
		if (keep < len)
			strbuf_addf(b, "(cut here; %s shows all of %s)\n", by, path);
	}
}

char *rules_describe(const json_t *attached)
{
	struct strbuf b = STRBUF(MAX_SHOWN_BYTES);
	json_t *item;
	size_t i;

	if (json_array_size(attached) == 0)
		return NULL;
	strbuf_adds(&b, "\n# Project rules that come with this file (where two differ, the later wins)\n");
	json_array_foreach((json_t *)attached, i, item) show(&b, item);
	return strbuf_take(&b);
}
