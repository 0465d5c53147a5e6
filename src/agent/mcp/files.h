/* agent/mcp/files.h: what files say about a session's servers: .cursor/mcp.json, and the narrowing in
 * .cursor/environment.json. For this folder only. Thread: the opening call's. The files are the agent's workspace's:
 * nothing in them is trusted. */
#pragma once
#include "base/json.h"

struct session;

#define MCP_FILES 2 /* of the first root, of the home folder: the stronger first */

/* The object of servers by name, a new reference; NULL: there is none. What is wrong adds to `warnings`. */
json_t *mcp_file_read(struct session *s, int place, json_t *warnings);

/* disableAllMcpServers and mcpServerAllowlist, as mcp/allow.h has it, a new reference. */
json_t *mcp_narrowing_read(struct session *s, json_t *warnings);
