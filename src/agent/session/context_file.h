/* agent/session/context_file.h: one skill, command or subagent that a repository, or a person's home folder, brings
 * along. Thread: any; reads files. Nothing in the workspace is trusted: links that leave the root are not followed,
 * sizes are bounded. */
#pragma once
#include "base/json.h"

#define CONTEXT_FILES_MAX 500
#define CONTEXT_NAME_MAX 64
#define CONTEXT_DESCRIPTION_MAX 1024
#define CONTEXT_BODY_MAX (64 * 1024)

enum context_kind { CONTEXT_SKILL, CONTEXT_COMMAND, CONTEXT_AGENT, CONTEXT_KINDS };
const char *context_kind_name(enum context_kind kind); /* "skill", "command", "subagent" */

struct context_file {
	enum context_kind kind;
	char *path; /* relative to the root */
	char *base; /* the folder that holds .cursor (or .agents, …), relative to the root; "" is the root */
	char *name; /* of a skill its folder's; else the file's, or what the frontmatter of a subagent says */
	char *description; /* "" if none */
	json_t *paths; /* of a skill: globs; empty: it is offered always */
	bool named_only; /* of a skill: offered never, only called by name */
	char *model; /* of a subagent; "" is as whoever calls it */
	bool read_only, background; /* of a subagent */
	char *body; /* valid UTF-8, at most CONTEXT_BODY_MAX */
	bool unusable; /* it has no name by which it could be called; a subagent without a prompt, too */
	json_t *faults; /* [{"line", "text"}]: what is wrong with it, and what would be right */
};

/* OK; ERR_NOT_FOUND if there is no such file that can be read. */
int context_file_read(const char *root, const char *path, enum context_kind kind, struct context_file *ret) MUST_USE;
void context_file_fini(struct context_file *f);

/* Calls `each` with those of one kind in the folder `base` of the root, as long as it returns true: those of .cursor
 * before .agents, .claude and .codex, each in byte order; so of two with one name the first counts. Skills are looked
 * for at any depth, but not below another skill. `want` (may be NULL) is asked with the path before a file is read. */
struct context_visit {
	bool (*want)(void *ctx, const char *path);
	bool (*each)(void *ctx, const struct context_file *f);
	void *ctx;
};
void context_files_visit(const char *root, const char *base, enum context_kind kind, const struct context_visit *visit);

/* Whether a skill is for this file (relative to the root): it lies below the skill's folder, and one of its paths, if
 * it has any, matches. */
bool context_file_is_for(const struct context_file *f, const char *file);
