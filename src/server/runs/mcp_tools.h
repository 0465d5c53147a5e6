/* runs/mcp_tools.h: tools of MCP servers as a run's models see them. For this folder only. Thread: any; values are the
 * caller's.
 *
 * A list of servers is as in mcp/tools.h. It comes from outside, so nothing of it is taken for granted. Its tools are
 * described like a worker's (docs/worker-protocol.md), under a name that no other tool of the run has, with a member
 * `mcp` {"server", "tool", "side": "worker"|"control"}.
 *
 * A call of one is kept and shown as a call of `mcp` with the arguments {"name", "args", "providerIdentifier",
 * "toolName"}. */
#pragma once
#include "base/json.h"

#define MCP_NOT_ALLOWED "the team's policy does not allow it (bullpen admin policy --mcp-allow)"
#define MCP_TOOL "mcp"
#define GET_MCP_TOOLS_TOOL "get_mcp_tools"
#define MCP_ON_DEMAND 60 /* with more of them models are told their names only */

/* `tools`, and behind them those of the servers of both sides (each may be NULL), the worker's first. New reference. */
json_t *mcp_tools_for_run(json_t *tools, const json_t *worker_servers, const json_t *control_servers);
/* Whether this is one of them, and whose. */
bool tool_is_mcp(const json_t *tool);
bool tool_is_mcp_of_control(const json_t *tool);
/* How many there are. */
size_t mcp_tools_count(const json_t *tools);
/* The tool as a model is told of it where there are many: without its schema. New reference. */
json_t *mcp_tool_in_brief(const json_t *tool);

/* The arguments of the call as it is kept. New reference. */
json_t *mcp_call_args(const json_t *tool, const json_t *args);
/* The tool of `tools` that a kept call means; NULL: none, or another one has its name by now. Borrowed. */
const json_t *mcp_call_tool(const json_t *tools, const json_t *kept);
/* A kept call as the model made it; other calls stay as they are. Both borrowed. */
const char *mcp_shown_name(const char *name, const json_t *args);
const json_t *mcp_shown_args(const char *name, const json_t *args);

/* What the servers say of themselves, for the system text; malloc'ed, NULL: nothing. */
char *mcp_instructions(const json_t *worker_servers, const json_t *control_servers);
