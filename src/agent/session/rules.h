/* agent/session/rules.h: which project rules and nested AGENTS.md files a file brings into the conversation, each once.
 * The files are read when they are needed, so that what the agent itself writes there counts.
 * Thread: any. The only state is the set of what was given already, behind a lock of its own (a leaf, never held while
 * files are read); a rule that two calls touch at once comes with one of them. */
#pragma once
#include "base/json.h"

struct place;
struct rules;
struct session;

struct rules *rules_new(void);
void rules_free(struct rules **r);
/* Rules of the team that are for some files only, [{name, text, glob}], unchecked; NULL: none. By an opening, while no
 * tool runs. */
void rules_set_team(struct rules *r, const json_t *list);
/* Another conversation begins: nothing was given yet. */
void rules_forget(struct rules *r);

/* What comes with a file that was read or written:
 * - rules of the team whose globs match it, as paths "team rule NAME";
 * - rules of the root whose globs match it (those that always apply are in the SessionInfo);
 * - of each folder on the way down to it: rules of its .cursor/rules that match or always apply, then AGENTS.md, or
 *   CLAUDE.md where there is none; so the nearer comes later;
 * - of those folders, rules with nothing but a description: an offer;
 * - an offer of the skills of those folders, and of those of the root that are for some files only.
 * New reference, empty for most files: [{"path", "fullPath", "scope" (folder, "" is the root), and "content" or, for an
 * offer, "description" (of a skill also "skill", its name)}]. At most 256 KiB of text; what is left out comes as an
 * offer. The file itself is left out. */
json_t *rules_for(struct rules *r, const struct session *s, const struct place *file);
/* That as text for the model, at most 16 KiB: what does not fit is named, as far as there is room. NULL if there is
 * nothing to say. malloc'ed. */
char *rules_describe(const json_t *attached);

/* Counts the file of this absolute path as given; false if it was before. */
bool rules_give(struct rules *r, const char *full);
