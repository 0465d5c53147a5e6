/* mcp/headers.h: what requests of the stateless revision say in HTTP headers besides their body.
 * Thread: any; no state. */
#pragma once
#include "base/json.h"

#define MCP_HEADER_VALUE_MAX ((size_t)8 * 1024)

/* A text as the value of a header: as it is, or "=?base64?…?=" where it could not be one or looks like that. malloc'ed.
 */
char *mcp_header_value(const char *text);
/* A schema of a tool may ask, by "x-mcp-header" in a property, for an argument in a header of its own. What it does
 * wrong with that (a literal, to be put behind "its inputSchema"); NULL: nothing. */
const char *mcp_param_headers_fault(const json_t *schema);
/* {"Mcp-Param-NAME": value}, encoded, for arguments that were checked by the schema; NULL: there are none. A new
 * reference in *ret. ERR_TOO_LARGE with `why`. */
int mcp_param_headers(const json_t *schema, const json_t *arguments, json_t **ret, struct why *why) MUST_USE;
