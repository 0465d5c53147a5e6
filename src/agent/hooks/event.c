#include "agent/hooks/event.h"
#include <string.h>

static const struct {
	const char *name;
	bool gate, subject;
} events[HOOK_EVENTS] = {
    [HOOK_SESSION_START] = {"sessionStart", false, false},
    [HOOK_SESSION_END] = {"sessionEnd", false, false},
    [HOOK_BEFORE_SUBMIT_PROMPT] = {"beforeSubmitPrompt", true, true},
    [HOOK_PRE_TOOL_USE] = {"preToolUse", true, true},
    [HOOK_POST_TOOL_USE] = {"postToolUse", false, true},
    [HOOK_POST_TOOL_USE_FAILURE] = {"postToolUseFailure", false, true},
    [HOOK_BEFORE_SHELL] = {"beforeShellExecution", true, true},
    [HOOK_AFTER_SHELL] = {"afterShellExecution", false, true},
    [HOOK_BEFORE_MCP] = {"beforeMCPExecution", true, true},
    [HOOK_AFTER_MCP] = {"afterMCPExecution", false, true},
    [HOOK_BEFORE_READ_FILE] = {"beforeReadFile", true, true},
    [HOOK_AFTER_FILE_EDIT] = {"afterFileEdit", false, true},
    [HOOK_SUBAGENT_START] = {"subagentStart", true, true},
    [HOOK_SUBAGENT_STOP] = {"subagentStop", false, true},
    [HOOK_PRE_COMPACT] = {"preCompact", false, false},
    [HOOK_AFTER_RESPONSE] = {"afterAgentResponse", false, true},
    [HOOK_AFTER_THOUGHT] = {"afterAgentThought", false, true},
    [HOOK_STOP] = {"stop", false, true},
};

static const char *const of_editors[] = {"beforeTabFileRead", "afterTabFileEdit", "workspaceOpen"};

enum hook_event hook_event_find(const char *name)
{
	for (int e = 0; e < HOOK_EVENTS; e++)
		if (strcmp(events[e].name, name) == 0)
			return (enum hook_event)e;
	for (size_t i = 0; i < ARRAY_LEN(of_editors); i++)
		if (strcmp(of_editors[i], name) == 0)
			return HOOK_NEVER;
	return HOOK_UNKNOWN;
}

const char *hook_event_name(enum hook_event e)
{
	ENSURE(e < HOOK_EVENTS);
	return events[e].name;
}

bool hook_event_is_gate(enum hook_event e)
{
	return e < HOOK_EVENTS && events[e].gate;
}

bool hook_event_has_subject(enum hook_event e)
{
	return e < HOOK_EVENTS && events[e].subject;
}

bool hook_event_follows_up(enum hook_event e)
{
	return e == HOOK_STOP || e == HOOK_SUBAGENT_STOP;
}
