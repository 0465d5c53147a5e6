/* mcp/conn.h: one connection to one remote server: a session (mcp/session.h) and what carries it. For this folder only.
 *
 * Streamable HTTP: each message is a POST, made by the thread that asks, which reads the answer, too. Where the server
 * tells changes, a thread of the connection's own listens to its general stream. HTTP+SSE (2024-11-05): all answers
 * come on one stream, which such a thread reads.
 *
 * Thread: any; several calls at once. */
#pragma once
#include "mcp/session.h"
#include "server/mcp/remotes_priv.h"

struct conn;

struct conn_spec {
	struct remotes *remotes;
	const struct kept_owner *owner; /* whose grant is used; user_id 0: nobody's */
	const json_t *definition; /* {name, type?, url, headers?, auth?} */
	/* The server's list of tools has changed. On any thread. */
	void (*changed)(void *ctx);
	void *ctx;
};
/* Connects and initializes. ERR_UNAUTHORIZED: it wants authorization that there is none for. Others with `why`: a
 * sentence that repeats no secret. */
int conn_open(const struct conn_spec *spec, const atomic_bool *stop, struct conn **ret, struct why *why) MUST_USE;
/* Ends the session at the server, too; blocks for some seconds at most. Nobody may be inside. NULL is fine. */
void conn_free(struct conn **c);
struct mcp_session *conn_session(struct conn *c);
/* The session is over, a new connection is needed. */
bool conn_is_over(const struct conn *c);
