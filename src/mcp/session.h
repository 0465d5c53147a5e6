/* mcp/session.h: one client's end of the Model Context Protocol: requests and their answers, whatever carries them.
 * Thread: any, several at once. A transport feeds what it received (mcp_session_receive) from one thread or many; the
 * functions that ask the server block their own thread until the answer, the deadline, or the stop flag. No I/O, no
 * thread of its own: the transport's functions do that, and are called without a lock held. Everything a server says is
 * bounded and checked here; its texts are never trusted. */
#pragma once
#include "base/errors.h"
#include "base/json.h"
#include <stdatomic.h>

#define MCP_PROTOCOL "2025-11-25" /* what is offered; older ones are accepted, see mcp_version_known */
#define MCP_PROTOCOL_MODERN "2026-07-28" /* without a handshake: each request says all that it needs */
#define MCP_MESSAGE_MAX ((size_t)16 * 1024 * 1024) /* of one message; the transport sees to it */
#define MCP_WAITING_MAX 64 /* requests of one session that wait for their answers */

struct mcp_session;

/* Which revisions are tried. */
enum mcp_protocol {
	MCP_AUTO, /* initialize; if its refusal is one of a modern server's, the stateless revision */
	MCP_LEGACY, /* those with initialize */
	MCP_MODERN, /* the stateless one */
};
/* "auto", "legacy", "modern"; NULL is "auto". False: none of them. */
bool mcp_protocol_read(const char *word, enum mcp_protocol *ret);

/* One message that is to be sent. Borrowed for the time of send(). */
struct mcp_out {
	const char *text; /* one line of JSON without its end */
	size_t len;
	const char *method; /* NULL: the answer to a request of the server */
	const char *tool; /* of tools/call; else NULL */
	const json_t *params_headers; /* of a modern one: headers.h; NULL: none */
	int64_t id; /* of a request; 0: a notification or an answer */
	int64_t deadline_mono_ms; /* when it is of no use any more */
	const atomic_bool *stop; /* gives up early; NULL: never */
};

/* What carries the messages. All but send may be NULL. */
struct mcp_transport {
	/* OK: sent, or on its way. A request's answer may come from another thread or already while send() runs, also
	 * from its own thread. ERR_* with `why`: it was not sent. Answers and notifications are sent by the thread that
	 * feeds: for these it must not wait for the server. */
	int (*send)(void *ctx, const struct mcp_out *m, struct why *why);
	/* The server says that its list of tools is another one: ask for it again. On a feeding thread. */
	void (*tools_changed)(void *ctx);
	/* What the server logs, and what it does wrong; one line of at most 1 KiB. `level` is one of syslog's words. On
	 * a feeding thread. */
	void (*log)(void *ctx, const char *level, const char *text);
	/* A new array of {"uri", "name"}; NULL: roots are not offered. On a feeding thread. */
	json_t *(*roots)(void *ctx);
	/* HTTP. To a modern server what is asked is in headers, too; a request is cancelled by its end; and whoever
	 * wants to hear of changes sends mcp_session_subscribe's message. */
	bool is_http;
	void *ctx;
};

/* How long to wait, in ms. */
struct mcp_times {
	int64_t initialize;
	int64_t list; /* a page */
	int64_t call; /* without progress; each progress begins it anew */
	int64_t call_cap; /* in all */
	int64_t ping;
};
#define MCP_TIMES_STDIO ((struct mcp_times){60000, 30000, 120000, 1800000, 10000})
#define MCP_TIMES_REMOTE ((struct mcp_times){30000, 30000, 120000, 1800000, 10000})

struct mcp_session *mcp_session_new(const struct mcp_transport *t, const struct mcp_times *times);
/* Nobody may be inside. */
void mcp_session_free(struct mcp_session **s);

/* Before that: which revisions are tried, MCP_AUTO if nobody says it. `was_modern`: with MCP_AUTO, the stateless one
 * first. */
void mcp_session_prefer(struct mcp_session *s, enum mcp_protocol wish, bool was_modern);
/* initialize and initialized, or server/discover, with the version negotiated. ERR_PROTOCOL: the server speaks none of
 * ours, or nonsense. Once a session. */
int mcp_session_initialize(struct mcp_session *s, const atomic_bool *stop, struct why *why) MUST_USE;
/* Known after that; borrowed, "" if there is none. */
const char *mcp_session_version(const struct mcp_session *s);
const char *mcp_session_instructions(const struct mcp_session *s); /* at most 4 KiB */
/* It speaks the stateless revision: no session, no ping, nothing is answered. Also while that is tried. */
bool mcp_session_is_modern(const struct mcp_session *s);
bool mcp_session_tells_changes(const struct mcp_session *s); /* of its list of tools */

/* All pages. *ret_tools: a new array, each as mcp_tool_take (tools.h) leaves it, ordered by name; empty if the server
 * offers none. *ret_warnings: a new array of sentences about what was left out. */
int mcp_session_list(struct mcp_session *s, const atomic_bool *stop, json_t **ret_tools, json_t **ret_warnings,
    struct why *why) MUST_USE;

/* How long the last list is good, in ms, as a modern server says it; -1: it says nothing. By the thread that listed. */
int64_t mcp_session_list_ttl_ms(const struct mcp_session *s);

struct mcp_call {
	const char *tool;
	const json_t *arguments; /* an object */
	const json_t *schema; /* the tool's inputSchema, for headers (headers.h); NULL: none */
	const atomic_bool *stop; /* NULL: never */
	int stop_fd; /* readable means the same; 0: none */
	int64_t deadline_mono_ms; /* besides those of mcp_times; 0: none */
	/* On the calling thread; values rise. total < 0: unknown. message may be NULL. NULL: nobody wants it. */
	void (*progress)(void *ctx, double done, double total, const char *message);
	void *ctx;
};
/* One of them is set. */
struct mcp_answer {
	json_t *result; /* of tools/call: see result.h */
	json_t *error; /* {"code", "message", "data"?} of JSON-RPC: the protocol failed, not the tool */
};
/* OK: answered, either way. ERR_PROTOCOL: the tool wants something of a person or a model, which nobody here gives;
 * what it asks a person is declined once. ERR_TIMEOUT, ERR_CANCELLED: the server was told and is not waited for.
 * ERR_CLOSED: the connection ended, the outcome is unknown. Else it was not sent. All with `why`. Never repeated here.
 */
int mcp_session_call(
    struct mcp_session *s, const struct mcp_call *call, struct mcp_answer *ret, struct why *why) MUST_USE;
void mcp_answer_fini(struct mcp_answer *a);

/* A modern server is not pinged: OK. */
int mcp_session_ping(struct mcp_session *s, const atomic_bool *stop, struct why *why) MUST_USE;
/* notifications/roots/list_changed. */
void mcp_session_roots_changed(struct mcp_session *s);

/* One received message, or a batch where the version has them. ERR_INVALID: it is no JSON; ERR_PROTOCOL: no message;
 * either way it is dropped and the session goes on. */
int mcp_session_receive(struct mcp_session *s, const char *text, size_t len, struct why *why) MUST_USE;
/* The body of an HTTP answer that says 400 or 404 to request `id`: whether it was one of JSON-RPC's errors, which that
 * request got. Before a revision is agreed on only those that a modern server gives. */
bool mcp_session_refuse(struct mcp_session *s, int64_t id, const char *text, size_t len);
/* For HTTP: the message that subscribes to changes of the list of tools, malloc'ed. Its answers are those of a stream;
 * the next one takes its place. */
char *mcp_session_subscribe(struct mcp_session *s);
/* For a transport whose send() waits for the answer of request `id` itself: whether anybody still does, and until when
 * (it moves with progress). Tells the caller's progress function, so only from within send(). */
bool mcp_session_waits(struct mcp_session *s, int64_t id, int64_t *ret_deadline_mono_ms);
/* The connection is over: what waits gets ERR_CLOSED with the sentence, and so does what comes later. */
void mcp_session_close(struct mcp_session *s, const char *sentence);

bool mcp_version_known(const char *version);
