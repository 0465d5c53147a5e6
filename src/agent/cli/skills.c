/* agent skills: what an agent would know of a folder before it starts: rules, skills, commands, subagents; and what is
 * wrong with them. */
#include "agent/cli/verbs.h"
#include "agent/exit_status.h"
#include "agent/session/beneath.h"
#include "agent/session/context_file.h"
#include "agent/session/context_inventory.h"
#include "agent/session/frontmatter.h"
#include "agent/session/rule_file.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/terminal.h"
#include "base/text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 8
#define MAX_FOLDERS 20000
#define MAX_NAMES 5000
#define ABOUT_WIDTH 70

struct finds {
	const struct context_places *places;
	const char *root;
	const char *base; /* whose folder is looked at; "" is the root */
	struct map *names; /* "BASE KIND NAME" to the path of the first; owned */
	json_t *items; /* [{kind, name, path, about, hidden?}] */
	json_t *faults; /* [{path, line, text}] */
	size_t n_folders;
};

static json_t *add_item(struct finds *f, const char *kind, const char *name, const char *path, const char *about)
{
	json_t *o = json_object();

	json_put(o, "kind", kind);
	json_put_new(o, "name", json_lossy(name, strlen(name)));
	json_put_new(o, "path", json_lossy(path, strlen(path)));
	json_put_new(o, "about", json_lossy(about, strlen(about)));
	json_array_append_new(f->items, o);
	return o;
}

static void add_fault_at(struct finds *f, const char *path, int64_t line, const char *text)
{
	json_t *o = json_object();

	json_put_new(o, "path", json_lossy(path, strlen(path)));
	json_put_int(o, "line", line);
	json_put_new(o, "text", json_lossy(text, strlen(text)));
	json_array_append_new(f->faults, o);
}

static char *about_file(const struct context_file *c)
{
	if (c->unusable)
		return str_dup("(not used, because of its faults)");
	if (c->kind == CONTEXT_SKILL && (c->named_only || c->description[0] == '\0'))
		return str_printf("(only by name, /%s) %s", c->name, c->description);
	if (c->kind == CONTEXT_SKILL && (json_array_size(c->paths) > 0 || c->base[0] != '\0'))
		return str_printf("(for some files) %s", c->description);
	return str_dup(c->description);
}

static bool take_context_file(void *ctx, const struct context_file *c)
{
	struct finds *f = ctx;
	AUTO_STR path = context_shown_path(f->places, f->root, c->path);
	AUTO_STR key = str_printf("%s %d %s", f->base, c->kind, c->name);
	AUTO_STR about = about_file(c);
	json_t *item = add_item(f, context_kind_name(c->kind), c->name, path, about), *fault;
	size_t i;

	json_array_foreach(c->faults, i, fault) add_fault_at(f, path,
	    json_integer_value(json_object_get(fault, "line")), json_string_value(json_object_get(fault, "text")));
	if (c->unusable)
		return true;
	if (map_get(f->names, key) != NULL)
		json_put(item, "hiddenBy", map_get(f->names, key));
	else
		map_put(f->names, key, str_dup(path));
	return true;
}

static bool take_rule_file(void *ctx, const struct rule *r)
{
	struct finds *f = ctx;
	AUTO_STR path = context_shown_path(f->places, f->root, r->path);
	const char *slash = strrchr(r->path, '/');
	AUTO_STR name = str_ndup(slash + 1, strlen(slash + 1) - strlen(".mdc"));
	AUTO_STR about = NULL;

	if (r->always)
		about = str_dup(r->base[0] == '\0' ? "(always)" : "(with the files of its folder)");
	else if (json_array_size(r->globs) > 0)
		about = str_printf("(for some files) %s", r->description);
	else if (r->description[0] != '\0')
		about = str_printf("(on request) %s", r->description);
	else
		about = str_printf("(only by name, @%s)", name);
	add_item(f, "rule", name, path, about);
	if (r->broken.text[0] != '\0')
		add_fault_at(f, path, (int64_t)frontmatter_fault_line(&r->broken), r->broken.text);
	return true;
}

static void look_for_agents_md(struct finds *f)
{
	static const char *const names[] = {"AGENTS.md", "CLAUDE.md"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		AUTO_STR rel = str_printf("%s%s%s", f->base, f->base[0] != '\0' ? "/" : "", names[i]);
		AUTO_STR raw = read_beneath(f->root, rel, 1, NULL);

		if (raw == NULL)
			continue;
		add_item(f, "rule", names[i], rel, f->base[0] == '\0' ? "(always)" : "(with the files of its folder)");
		return;
	}
}

static void look_in_folder(struct finds *f, const char *base)
{
	const struct context_visit files = {.each = take_context_file, .ctx = f};
	bool top = base[0] == '\0';

	f->base = base;
	look_for_agents_md(f);
	rules_visit(f->root, base, &(struct rule_visit){.each = take_rule_file, .ctx = f});
	context_files_visit(f->root, base, CONTEXT_SKILL, &files);
	for (int kind = CONTEXT_COMMAND; top && kind < CONTEXT_KINDS; kind++)
		context_files_visit(f->root, base, kind, &files);
}

static void look_below(struct finds *f, const char *rel, int depth)
{
	int fd = f->n_folders++ < MAX_FOLDERS
		     ? open_beneath(f->root, rel[0] != '\0' ? rel : ".", O_RDONLY | O_DIRECTORY)
		     : -1;
	char **names = NULL;
	ssize_t n;

	if (fd < 0)
		return;
	look_in_folder(f, rel);
	n = names_read(fd, MAX_NAMES, &names);
	for (ssize_t i = 0; i < n; i++) {
		AUTO_STR path = str_printf("%s%s%s", rel, rel[0] != '\0' ? "/" : "", names[i]);
		struct stat st;

		if (names[i][0] != '.' && strcmp(names[i], "node_modules") != 0 && depth < MAX_DEPTH &&
		    fstatat(fd, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
			look_below(f, path, depth + 1);
	}
	names_free(names, n > 0 ? (size_t)n : 0);
	close(fd);
}

static void look_in_home(struct finds *f, const char *home)
{
	const struct context_visit files = {.each = take_context_file, .ctx = f};

	f->root = home;
	f->base = "";
	for (int kind = 0; kind < CONTEXT_KINDS; kind++)
		context_files_visit(home, "", kind, &files);
}

static char *clean_field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return terminal_clean(s != NULL ? s : "", TERMINAL_LINE);
}

static void print_faults(const struct finds *f)
{
	const json_t *o;
	size_t i;

	json_array_foreach(f->faults, i, o)
	{
		AUTO_STR path = clean_field(o, "path");
		AUTO_STR text = clean_field(o, "text");

		printf("%s:%lld: %s\n", path, json_integer_value(json_object_get(o, "line")), text);
	}
}

static void print_items(const struct finds *f)
{
	const json_t *o;
	size_t i;

	json_array_foreach(f->items, i, o)
	{
		AUTO_STR kind = clean_field(o, "kind");
		AUTO_STR name = clean_field(o, "name");
		AUTO_STR path = clean_field(o, "path");
		AUTO_STR about = clean_field(o, "about");
		AUTO_STR hidden = clean_field(o, "hiddenBy");

		terminal_fit(&about, ABOUT_WIDTH);
		if (i == 0)
			printf("%-8s  %-20s  %-44s  %s\n", "KIND", "NAME", "FILE", "ABOUT");
		if (hidden[0] != '\0')
			printf("%-8s  %-20s  %-44s  (hidden by %s)\n", kind, name, path, hidden);
		else
			printf("%-8s  %-20s  %-44s  %s\n", kind, name, path, about);
	}
	if (i == 0)
		puts("no rules, skills, commands or subagents here");
}

static int print_finds(const struct finds *f, bool check, bool json)
{
	size_t n = json_array_size(f->faults);

	if (json) {
		AUTO_JSON all = json_pack("{s:O, s:O}", "items", f->items, "faults", f->faults);
		AUTO_STR text = json_text(all);

		puts(text);
	} else if (check) {
		print_faults(f);
		if (n == 0)
			printf("%zu looked at, nothing is wrong\n", json_array_size(f->items));
	} else {
		print_items(f);
		if (n > 0)
			puts("\nWhat is wrong:");
		print_faults(f);
	}
	return check && n > 0 ? EXIT_FAILED : EXIT_DONE;
}

static void finds_fini(struct finds *f)
{
	const char *key;
	void *path;
	size_t at = 0;

	while (map_next(f->names, &at, &key, &path))
		free(path);
	map_free(&f->names);
	json_decref(f->items);
	json_decref(f->faults);
}

static int complain_of_skills(const struct why *why)
{
	AUTO_STR clean = terminal_clean(why->text, TERMINAL_LINE);

	fprintf(stderr, "error: %s\n", clean);
	return EXIT_USAGE;
}

int verb_skills(int argc, char **argv)
{
	const char *dir = ".", *home = getenv("HOME");
	bool json = false, no_home = false, check;
	const struct option_row rows[] = {
	    {.name = "worker-dir", .value = "PATH", .text = &dir, .help = "the workspace; default: this folder"},
	    {.name = "no-home", .given = &no_home, .help = "leave the home folder out, as a pool worker does"},
	    {.name = "json", .given = &json, .help = "as JSON"}, {0}};
	const struct options o = {.usage = "agent skills [ls|check] [--worker-dir PATH] [--no-home] [--json]",
	    .about =
		"Shows the rules, skills, commands and subagents that an agent would know of in a folder, and what is\n"
		"wrong with them, by file and line; check shows only that.",
	    .rows = rows,
	    .footer = "Exit status: 0 done, 1 check found something wrong, 2 usage."};
	struct option_words words;
	struct why why = {""};
	int rc = options_parse(&o, argc, argv, 1, &words, &why), status;

	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		return EXIT_DONE;
	}
	check = rc == OK && words.n == 1 && strcmp(words.v[0], "check") == 0;
	if (rc == OK && words.n == 1 && !check && strcmp(words.v[0], "ls") != 0)
		rc = why_set(&why, ERR_INVALID, "unknown command '%.80s': ls or check", words.v[0]);
	AUTO_STR real = rc == OK ? realpath(dir, NULL) : NULL;

	if (rc == OK && real == NULL)
		rc = why_set(&why, ERR_INVALID, "--worker-dir %.200s is not a folder", dir);
	if (rc != OK)
		return complain_of_skills(&why);
	const char *root = real;
	const struct context_places places = {
	    .roots = &root, .n_roots = 1, .home = no_home || home == NULL || home[0] != '/' ? NULL : home};
	struct finds f = {
	    .places = &places, .root = real, .names = map_new(), .items = json_array(), .faults = json_array()};

	look_below(&f, "", 0);
	if (places.home != NULL && strcmp(places.home, real) != 0)
		look_in_home(&f, places.home);
	status = print_finds(&f, check, json);
	finds_fini(&f);
	return status;
}
