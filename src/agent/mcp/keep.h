/* agent/mcp/keep.h: bytes of an MCP result that no model takes, as files of the session. For this folder only.
 * Thread: a call's. */
#pragma once

/* As struct mcp_keeper has it; ctx is the session. Puts them below artifacts/mcp/ of its first root, named by what they
 * are, so that the same bytes are one file. NULL: they are no base64, or cannot be written there. */
char *mcp_keep_bytes(void *ctx, const char *data, const char *type, const char *uri);
