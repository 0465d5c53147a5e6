/* agent/mcp/process.h: one started process of a stdio server, and the protocol with it (mcp/session.h): lines of JSON
 * on its stdin and stdout. For this folder only. Thread: mcp_process_new and _free the server's keeper; the process has
 * a thread of its own that waits for it and feeds what it says; calls come from any. */
#pragma once
#include "agent/mcp/definition.h"
#include "mcp/session.h"

struct mcp_process;
struct session;

struct mcp_process_config {
	const struct mcp_definition *definition; /* borrowed for its life, as the session is */
	struct session *session;
	/* On its own thread. NULL is not possible. */
	void (*tools_changed)(void *ctx);
	void (*ended)(void *ctx); /* once; mcp_process_fault says why */
	void *ctx;
	const struct mcp_times *times; /* NULL: MCP_TIMES_STDIO */
};

/* Starts it. ERR_* with `why`: nothing was started. */
int mcp_process_new(const struct mcp_process_config *cfg, struct mcp_process **ret, struct why *why) MUST_USE;
/* Closes its stdin; ends it 3 s later, and what it has left. Nobody may be in a call. Blocks. */
void mcp_process_free(struct mcp_process **p);
/* What calls go through. */
struct mcp_session *mcp_process_session(struct mcp_process *p);
bool mcp_process_has_ended(struct mcp_process *p);
/* How it ended or what it did wrong, with the last it said on stderr, without its secrets; malloc'ed. */
char *mcp_process_fault(struct mcp_process *p);
/* Milliseconds since it was heard last. */
int64_t mcp_process_silence_ms(struct mcp_process *p);
/* What waits for the process to read. */
void mcp_process_flush(struct mcp_process *p);
bool mcp_process_has_unsent(struct mcp_process *p);
