/* The nested format of another tool, read as our own. */
#include "agent/hooks/config.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <string.h>

static const struct {
	const char *theirs;
	enum hook_event ours;
} events[] = {{"PreToolUse", HOOK_PRE_TOOL_USE}, {"PostToolUse", HOOK_POST_TOOL_USE},
    {"UserPromptSubmit", HOOK_BEFORE_SUBMIT_PROMPT}, {"Stop", HOOK_STOP}, {"SubagentStop", HOOK_SUBAGENT_STOP},
    {"SessionStart", HOOK_SESSION_START}, {"SessionEnd", HOOK_SESSION_END}, {"PreCompact", HOOK_PRE_COMPACT}};

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Their names of tools, where they stand as whole words, become ours. malloc'ed. */
static char *our_matcher(const char *pattern)
{
	static const char *const names[][2] = {{"Bash", "Shell"}, {"Edit", "Write"}};
	struct strbuf b = STRBUF(4 * strlen(pattern) + 16);
	size_t at = 0;

	while (pattern[at] != '\0') {
		bool start = at == 0 || !is_word(pattern[at - 1]), found = false;

		for (size_t i = 0; start && !found && i < ARRAY_LEN(names); i++) {
			size_t len = strlen(names[i][0]);

			found = strncmp(pattern + at, names[i][0], len) == 0 && !is_word(pattern[at + len]);
			if (found) {
				strbuf_adds(&b, names[i][1]);
				at += len;
			}
		}
		if (!found)
			strbuf_addc(&b, pattern[at++]);
	}
	return strbuf_take(&b);
}

static void read_group(struct hook_source *s, enum hook_event e, const char *name, size_t n, const json_t *group)
{
	const json_t *matcher = json_object_get(group, "matcher"), *list = json_object_get(group, "hooks");
	const char *pattern = json_string_value(matcher);
	AUTO_STR ours = pattern != NULL ? our_matcher(pattern) : NULL;
	AUTO_JSON text = ours != NULL ? json_lossy(ours, strlen(ours)) : NULL;
	size_t i;
	json_t *item;

	if (!json_is_array(list)) {
		hook_warn(s, "hooks.%s[%zu].hooks must be an array", name, n);
		return;
	}
	json_array_foreach((json_t *)list, i, item)
	{
		AUTO_STR where = str_printf("hooks.%s[%zu].hooks[%zu]", name, n, i);

		if (s->n < HOOK_ENTRIES_MAX)
			hook_add_entry(s, e, item, text != NULL ? text : matcher, where);
	}
}

static enum hook_event find_theirs(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (strcmp(events[i].theirs, name) == 0)
			return events[i].ours;
	return HOOK_UNKNOWN;
}

void hook_third_party_parse(struct hook_source *s, const json_t *hooks)
{
	const char *name;
	json_t *list, *group;
	size_t i;

	json_object_foreach((json_t *)hooks, name, list)
	{
		enum hook_event e = find_theirs(name);

		if (e == HOOK_UNKNOWN)
			hook_warn(s, "hooks.%.80s is not supported; its hooks are skipped", name);
		else
			json_array_foreach(list, i, group) read_group(s, e, name, i, group);
	}
}

static void move_member(json_t *from, const char *theirs, json_t *to, const char *ours)
{
	json_t *v = json_object_get(from, theirs);

	if (v != NULL && json_object_get(to, ours) == NULL)
		json_object_set(to, ours, v);
}

void hook_third_party_answer(enum hook_event e, json_t *answer)
{
	json_t *specific = json_object_get(answer, "hookSpecificOutput");
	const char *decision = json_string_value(json_object_get(answer, "decision"));

	if (json_is_object(specific)) {
		move_member(specific, "permissionDecision", answer, "permission");
		move_member(specific, "permissionDecisionReason", answer, "agent_message");
		move_member(specific, "updatedInput", answer, "updated_input");
		move_member(specific, "additionalContext", answer, "additional_context");
	}
	if (decision == NULL || strcmp(decision, "block") != 0)
		return;
	if (hook_event_follows_up(e)) {
		move_member(answer, "reason", answer, "followup_message");
	} else if (hook_event_is_gate(e)) {
		json_put(answer, "permission", "deny");
		move_member(answer, "reason", answer, "agent_message");
	}
}
