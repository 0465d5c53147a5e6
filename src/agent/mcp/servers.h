/* agent/mcp/servers.h: the stdio servers of an open session (docs/worker-protocol.md): those that the control plane
 * names, and those of mcp.json files where the worker was told to read them. Thread: begun, set and ended by the calls
 * that have the session for themselves; listed and called from any. */
#pragma once
#include "base/json.h"
#include "mcp/session.h"

struct mcp_servers;
struct session;

struct mcp_servers_wish {
	const json_t *definitions; /* an array as the API takes it; NULL: none */
	const json_t *variables; /* of the session, for ${env:NAME}; NULL: none */
	bool of_files; /* also those of .cursor/mcp.json, of the first root and of the home folder */
};

/* None yet. `news` is called, on any thread, whenever the list is another one than mcp_servers_open has returned: the
 * members of SessionInfo that changed, as JSON text. */
struct mcp_servers *mcp_servers_new(struct session *s,
    void (*news)(void *ctx, const char *agent_id, const char *claim_id, const char *json), void *ctx);
/* Starts what is asked for and not there, ends what is not asked for any more. Then waits until none is starting, at
 * most so long, or until cancel_fd is readable. Puts `mcpServers` into info, if there are any, and adds to its
 * `warnings`. */
void mcp_servers_open(
    struct mcp_servers *m, const struct mcp_servers_wish *wish, int64_t until_mono_ms, int cancel_fd, json_t *info);
/* For a session without any: what of mcpServers' and environment.json's is the control plane's to know. */
void mcp_servers_none(struct session *s, json_t *info);
/* Ends all. For session_attach. */
void mcp_servers_end(void *m);

/* The tool as its server describes it, a new reference; NULL: there is none, `why` says what there is. */
json_t *mcp_servers_tool(struct mcp_servers *m, const char *server, const char *tool, struct why *why);
/* As its definition has it, malloc'ed; NULL: there is no such server. */
char *mcp_servers_command_line(struct mcp_servers *m, const char *server);
/* mcp_session_call of that server. */
int mcp_servers_call(struct mcp_servers *m, const char *server, const struct mcp_call *call, struct mcp_answer *ret,
    struct why *why) MUST_USE;
