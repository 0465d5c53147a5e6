/* runs/remote_side.h: the MCP servers that the control plane asks for one run (mcp/remotes.h). For this folder only.
 * Thread: the run's makes and frees it; any loop of the run, and its side jobs, use it. */
#pragma once
#include "server/mcp/remotes.h"

struct run;
struct remote_side;
struct mcp_outcome;

/* What holds for the run: the servers of its request, its user's, its team's. Those that a worker starts take the place
 * of
 * `*servers` (of the request; may be NULL). Also begins to connect. Blocks on the store. Kept servers that cannot be
 * read are left out. The store is unavailable; OK with NULL: there are none. */
int remote_side_new(struct run *r, json_t **servers, struct remote_side **ret) MUST_USE;
void remote_side_free(struct remote_side **s);
/* The servers as listed now, each with its `url` (remote_side_url), and those of either side that the team does not
 * allow, as being off; a new array; NULL: there are none, or they are the same as last time. The first time it
 * waits for those that are being connected, up to 15 s, or until is_over(ctx), which is asked now and then. By one
 * thread. */
json_t *remote_side_list(struct remote_side *s, bool (*is_over)(void *ctx), void *ctx);
/* Where a server is, without user and query, which may be secret; malloc'ed, NULL: there is no such server. */
char *remote_side_url(const struct remote_side *s, const char *server);
/* A call of one. As remote_perform. */
int remote_side_perform(struct remote_side *s, const struct remote_call *call, struct mcp_outcome *ret,
    const char **ret_code, struct why *why) MUST_USE;
