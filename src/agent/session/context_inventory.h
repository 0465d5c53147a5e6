/* agent/session/context_inventory.h: what the workspace tells an agent before it starts: AGENTS.md, rules, skills,
 * commands and subagents. Thread: any; reads files. Nothing in the workspace is trusted: links that leave it are not
 * followed. */
#pragma once
#include "base/json.h"

struct rules;

#define CONTEXT_NAMED_MAX 200 /* bytes of a name */

/* Where it is looked for, in this order; borrowed. */
struct context_places {
	const char *const *roots; /* the primary one first */
	size_t n_roots;
	const char *home; /* of the user of the machine; NULL: it is not looked at. No rules are there. */
};

/* Sets these members of info; what is cut, and what is wrong with a file, adds to `warnings`:
 * - agentsMd [{path, text}];
 * - rules [{path, description, globs[], alwaysApply, text?}]: text only for rules that always apply. 64 KiB a text, 256
 *   KiB in all, 500 items;
 * - skills [{name, description, path, paths[], disableModelInvocation}], commands [{name, description, path}], agents
 *   [{name, description, path, model, readonly, prompt}]: 500 in all, 256 KiB of prompts. Of several with one name the
 *   first is there alone. The path of one of the home folder begins with "~/". */
void context_inventory(const struct context_places *places, json_t *info, json_t *warnings);

/* context_named.c: the texts of what a prompt names: "/NAME" is a skill or, where there is none, a command; "@NAME" is
 * a rule. New reference: [{name (as it was given), kind ("skill", "command", "rule"), path, text}], without those that
 * are nothing; 64 KiB a text, 256 KiB in all. Rules count as given (rules.h) with `rules`. */
json_t *context_named(const struct context_places *places, struct rules *rules, const json_t *names, json_t *warnings);

/* The path as it is shown to agents and people. malloc'ed. */
char *context_shown_path(const struct context_places *places, const char *root, const char *rel);
