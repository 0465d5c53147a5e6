/* agent/hooks/config.h: one file of hooks, read: what it attaches to which event, and what is wrong with it.
 * Thread: a source belongs to whoever read it; once read only its counters of follow-ups change (hook_take_followup).
 */
#pragma once
#include "agent/hooks/event.h"
#include "base/json.h"

#define HOOK_FILE_MAX ((size_t)1024 * 1024)
#define HOOK_ENTRIES_MAX 200

/* From the highest rank: whose answer counts where answers contradict each other. */
enum hook_rank { HOOKS_ENTERPRISE, HOOKS_TEAM, HOOKS_FLAGS, HOOKS_PROJECT, HOOKS_USER, HOOKS_THIRD_PARTY };
/* "enterprise", "team", … */
const char *hook_rank_name(enum hook_rank rank);

struct hook_matcher; /* match.h */

struct hook_entry {
	enum hook_event event;
	char *command;
	char *pattern; /* as written; NULL: matches always */
	struct hook_matcher *matcher; /* NULL: matches always, or `broken` */
	bool broken; /* its pattern is no regular expression */
	bool fail_closed;
	int64_t timeout_ms;
	int64_t loop_limit; /* of follow-ups; -1: none */
	unsigned followups; /* so far in this turn */
};

struct hook_source {
	enum hook_rank rank;
	char *file; /* where it was read; for people */
	char *dir; /* where its commands run, as the session sees it */
	char *root; /* of a project: the root it is for, as the session sees it; else NULL */
	bool third_party; /* of the other format */
	struct hook_entry *entries;
	size_t n, cap;
	bool invalid; /* it could not be read as a whole: no entries; the first warning says why */
	json_t *warnings; /* an array of texts: file, place, what would be right */
};

/* Reads a text. What is wrong becomes a warning; an entry that is wrong is left out, a text that is no configuration
 * gives no entries. Strings are copied; root may be NULL. */
struct hook_source *hook_source_parse(
    enum hook_rank rank, const char *file, const char *dir, const char *root, const char *text, size_t len);
/* One that is nothing but a command for one event. */
struct hook_source *hook_source_command(
    enum hook_rank rank, const char *file, const char *dir, enum hook_event event, const char *command);
void hook_source_free(struct hook_source **s);
/* One bit an event that has an entry. */
uint32_t hook_source_events(const struct hook_source *s);

/* report.c: {"source", "file", "valid", "hooks": […], "warnings"}; new reference. */
json_t *hook_source_json(const struct hook_source *s);

/* third_party.c: fills a source from the nested format: event -> [{matcher, hooks: [{type, command, timeout}]}]. */
void hook_third_party_parse(struct hook_source *s, const json_t *root);
/* An answer in the other format's words, in ours. In place. */
void hook_third_party_answer(enum hook_event e, json_t *answer);

/* config.c, for third_party.c. */
void hook_warn(struct hook_source *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* {command, type, timeout, failClosed, loop_limit} and a matcher (may be NULL) becomes an entry. `where` names it. */
void hook_add_entry(
    struct hook_source *s, enum hook_event e, const json_t *given, const json_t *matcher, const char *where);
