/* agent/hooks/event.h: the points of the agent loop that hooks can be attached to.
 * Thread: any; constant. */
#pragma once
#include "base/macros.h"

enum hook_event {
	HOOK_SESSION_START,
	HOOK_SESSION_END,
	HOOK_BEFORE_SUBMIT_PROMPT,
	HOOK_PRE_TOOL_USE,
	HOOK_POST_TOOL_USE,
	HOOK_POST_TOOL_USE_FAILURE,
	HOOK_BEFORE_SHELL,
	HOOK_AFTER_SHELL,
	HOOK_BEFORE_MCP,
	HOOK_AFTER_MCP,
	HOOK_BEFORE_READ_FILE,
	HOOK_AFTER_FILE_EDIT,
	HOOK_SUBAGENT_START,
	HOOK_SUBAGENT_STOP,
	HOOK_PRE_COMPACT,
	HOOK_AFTER_RESPONSE,
	HOOK_AFTER_THOUGHT,
	HOOK_STOP,
	HOOK_EVENTS, /* how many run here */
	HOOK_NEVER, /* known, but of an editor: it never happens on a worker */
	HOOK_UNKNOWN
};

/* By its name, case-sensitive. */
enum hook_event hook_event_find(const char *name);
/* Of one that runs here. */
const char *hook_event_name(enum hook_event e);
/* Its hooks can refuse; those of others only observe or add. */
bool hook_event_is_gate(enum hook_event e);
/* There is a text that a matcher looks at. */
bool hook_event_has_subject(enum hook_event e);
/* It may answer with a message that the agent goes on with. */
bool hook_event_follows_up(enum hook_event e);
