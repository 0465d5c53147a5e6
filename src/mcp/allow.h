/* mcp/allow.h: which servers and tools may be used, as environment.json of a repository and the policy of a team say
 * it.
 *
 * A narrowing is {"none": true}, or {"allow": [rule]}; NULL: nothing is narrowed. A rule is {"serverUrl" or "command",
 * "name"?, "toolAllowlist"?}: the URL of a remote server (ended by "/" and a star: all below it), or the program of one
 * that is started, alone or with its arguments, a blank between each. Rules come from outside; one that is none means
 * nothing. Thread: the owner's. */
#pragma once
#include "base/json.h"

#define MCP_RULES_MAX 500

/* Whether the server of that definition ({"url"} or {"command", "args"}) is not to be used. Else *ret_tools (borrowed):
 * the tools that it may offer, NULL: all. */
bool mcp_is_narrowed_away(
    const json_t *narrowing, const char *name, const json_t *definition, const json_t **ret_tools);
/* An entry of mcp/tools.h with those tools only; a new reference. */
json_t *mcp_narrow(json_t *entry, const json_t *tools);
/* Whether these are rules, for whoever takes them from a person. ERR_INVALID with `why`. */
int mcp_allow_check(const json_t *rules, struct why *why) MUST_USE;
