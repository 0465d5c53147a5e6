/* agent/hooks/tool_types.h: what a tool is called where hooks match it, and its arguments as hooks see them.
 * Thread: any. */
#pragma once
#include "agent/tools/tool.h"

/* "Shell", "Read", …, "MCP:<tool>"; the tool's own name for one that has no other. malloc'ed. */
char *hook_tool_type(const char *tool, const json_t *args);
/* The arguments as `tool_input`; new reference. Paths are absolute where the workspace knows them. */
json_t *hook_tool_input(const struct tool_call *call, const json_t *args);
/* The other way: what a hook put in the place of that input, as arguments; new reference. What the input does not show
 * (a time limit) stays as in `args`. */
json_t *hook_tool_args(const char *tool, const json_t *args, const json_t *input);
/* The absolute path that the call is about, or its working directory; malloc'ed, NULL: none. */
char *hook_tool_path(const struct tool_call *call, const json_t *args);
