/* agent/mcp/server.h: one stdio server of a session, from its start to its end, with what is between: its list of
 * tools, and new starts when it dies. For this folder only. Thread: each has a keeper, which starts it, lists its tools
 * and watches it; calls come from any. */
#pragma once
#include "agent/mcp/process.h"

struct mcp_server;

struct mcp_server_config {
	struct session *session; /* borrowed for its life */
	void (*changed)(void *ctx); /* its entry is another one; on the keeper's thread */
	void *ctx;
	int64_t ping_after_ms; /* of silence; 0: 60 s */
	const struct mcp_times *times; /* NULL: MCP_TIMES_STDIO; borrowed for its life */
};

/* Takes the definition. One with a fault is `failed` and stays so. */
struct mcp_server *mcp_server_new(struct mcp_definition *d, const struct mcp_server_config *cfg);
/* Asks it to end; mcp_server_free waits for that. */
void mcp_server_stop(struct mcp_server *s);
void mcp_server_free(struct mcp_server **s);
const char *mcp_server_name(const struct mcp_server *s);
const char *mcp_server_command_line(const struct mcp_server *s);
const json_t *mcp_server_written(const struct mcp_server *s); /* definition.h; borrowed */
const char *mcp_server_identity(const struct mcp_server *s);
/* It never worked, and is not tried any more. */
bool mcp_server_has_failed(struct mcp_server *s);
bool mcp_server_is_starting(struct mcp_server *s);
/* As mcp/tools.h lists it; a new reference. */
json_t *mcp_server_entry(struct mcp_server *s);
/* mcp_session_call, or ERR_CLOSED with the reason why it cannot be called now. */
int mcp_server_call(
    struct mcp_server *s, const struct mcp_call *call, struct mcp_answer *ret, struct why *why) MUST_USE;
