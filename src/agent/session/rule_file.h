/* agent/session/rule_file.h: one project rule: a .mdc file below a folder's .cursor/rules, frontmatter and Markdown.
 * Thread: any; reads files. Nothing in the workspace is trusted: links that leave it are not followed, sizes are
 * bounded. */
#pragma once
#include "base/json.h"

#define RULE_TEXT_MAX (64 * 1024)
#define RULE_FILES_MAX 500

struct rule {
	char *path; /* relative to the root */
	char *base; /* the folder that holds .cursor, relative to the root; "" is the root */
	char *description; /* "" if none */
	json_t *globs; /* array of strings */
	bool always; /* alwaysApply */
	char *body; /* valid UTF-8 */
	struct why broken; /* empty, or why the frontmatter counts as none */
};

/* OK; ERR_NOT_FOUND if there is no such file. */
int rule_read(const char *root, const char *path, struct rule *ret) MUST_USE;
void rule_fini(struct rule *r);
/* Calls `each` with the rules of one folder in byte order, at most RULE_FILES_MAX, as long as it returns true. `want`
 * (may be NULL) is asked with the path before a file is read. Plain .md files are no rules. */
struct rule_visit {
	bool (*want)(void *ctx, const char *path);
	bool (*each)(void *ctx, const struct rule *rule);
	void *ctx;
};
void rules_visit(const char *root, const char *base, const struct rule_visit *visit);

/* Whether one of the globs matches a file (relative to the root) below the rule's folder. A glob without a slash is for
 * the name at any depth; "{a,b}", "**" and classes are known; case counts. */
bool rule_matches(const struct rule *r, const char *file);

/* The same for globs alone, against a path relative to their folder. */
bool globs_match(const json_t *globs, const char *file);
/* What a frontmatter says in such a place: a list, or one text with commas. New reference; [] for NULL. */
json_t *globs_of_value(const json_t *v);

/* ".cursor/rules/sub/style.mdc" is called "style" and "sub/style", both also with ".mdc". */
bool rule_answers_to(const char *path, const char *name);

/* What the model gets: the body, at most RULE_TEXT_MAX of it, and behind it the workspace files that it names as
 * @path/to/file (from the rule's folder or the root; one level; RULE_TEXT_MAX in all; not what .cursorignore hides).
 * *ret_cut (may be NULL): something was left out. malloc'ed. */
char *rule_text(const char *root, const struct rule *r, bool *ret_cut);
