/* mcp/tools.h: the tools of a server, as it describes them, brought into a form that can be kept and shown.
 * Thread: the owner's.
 *
 * A tool that was taken: {"name", "title"?, "description"?, "inputSchema", "outputSchema"?, "annotations"?}, with the
 * name of 1 to 128 bytes, the description of at most 2 KiB, and schemas of at most 32 KiB that need nothing from
 * elsewhere.
 *
 * A server as both sides list it: {"name", "state": "ready|starting|failed|off|auth_required", "reason"?,
 * "instructions"?, "warnings"?: [sentence], "tools": [tool]}. */
#pragma once
#include "base/json.h"

#define MCP_TOOLS_MAX 1000 /* of one server */
#define MCP_TOOLS_BYTES ((size_t)1024 * 1024) /* of one server, as text */
#define MCP_SCHEMA_MAX ((size_t)32 * 1024)
#define MCP_DESCRIPTION_MAX ((size_t)2048)

/* The collector of a listing. */
struct mcp_tools {
	json_t *tools;
	json_t *warnings;
	size_t bytes;
	bool full;
	bool by_http; /* of a modern server: arguments may have to be sent as headers (headers.h) */
};
struct mcp_tools mcp_tools_begin(void);
/* Takes what can be taken of a page; what cannot is a warning. */
void mcp_tools_add(struct mcp_tools *t, const json_t *page);
void mcp_tools_warn(struct mcp_tools *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* New arrays; the tools ordered by name. */
void mcp_tools_end(struct mcp_tools *t, json_t **ret_tools, json_t **ret_warnings);
void mcp_tools_fini(struct mcp_tools *t);

/* A new server. `tools` and `warnings` are borrowed and may be NULL, like `reason` and `instructions`. */
json_t *mcp_entry_new(
    const char *name, const char *state, const char *reason, const char *instructions, json_t *tools, json_t *warnings);

/* Arguments against the schema of a tool: type, required, enum, additionalProperties: false, properties and items. What
 * else a schema says passes; the server checks it. ERR_INVALID names the field. */
int mcp_arguments_check(const json_t *schema, const json_t *arguments, struct why *why) MUST_USE;
