/* mcp/conn_priv.h: the inside of a connection: conn.c, exchange.c, listen.c. */
#pragma once
#include "net/sse.h"
#include "server/mcp/conn.h"
#include "server/oauth/web_transfer.h"
#include <pthread.h>

#define IDLE_HANDLES 4
#define CALLS_MAX 8 /* at once; the others wait */

struct conn {
	struct remotes *remotes;
	struct kept_owner owner;
	char *name, *url, *canonical;
	char **headers; /* "Name: value" as configured, NULL-terminated; wiped */
	bool authorizes; /* by OAuth, if there is a grant */
	bool legacy; /* the older transport */
	bool was_modern; /* the last time */
	enum mcp_protocol protocol; /* as its definition wants it */
	int refused_status; /* with which it refused initialize in a modern server's words; 0: it did not */
	struct mcp_session *session;
	void (*changed)(void *ctx);
	void *changed_ctx;

	pthread_mutex_t lock; /* for what is below; a leaf */
	pthread_cond_t cond;
	char *session_id; /* NULL: none */
	char *post_url; /* of the legacy transport, once it was told */
	char refused[256]; /* why there is no post_url */
	CURL *idle[IDLE_HANDLES];
	size_t n_idle;
	unsigned calls;
	unsigned listeners; /* threads that run */
	bool unauthorized, no_stream; /* of the legacy transport: why its stream ended */
	atomic_bool over, closing;
};

enum ask_kind { ASK_MESSAGE, ASK_STREAM, ASK_RESUME };

/* One HTTP request of the connection. */
struct exchange {
	struct conn *conn;
	enum ask_kind kind;
	const struct mcp_out *out; /* ASK_STREAM: NULL */
	const char *url;
	struct web_transfer transfer;
	struct web_answer answer;
	struct sse sse;
	char *last_id; /* of an event; NULL: none */
	size_t read; /* of the body, by now */
	bool streams; /* the answer is a stream of events */
	bool answered; /* ours came */
	bool begun; /* an answer came at all */
	bool sent; /* the server may have got the request */
	int64_t token_version; /* 0: without token */
	int64_t deadline_ms; /* monotonic; 0: as long as somebody waits */
	/* ASK_STREAM: for each event that is no message. NULL: they do not matter. */
	int (*on_other)(struct exchange *x, const char *event, const char *data);
};
void exchange_init(struct exchange *x, struct conn *c, enum ask_kind kind, const struct mcp_out *out, const char *url);
void exchange_fini(struct exchange *x);
/* Performs it, with redirects and one fresh token after a 401. OK: there is an answer, whatever its status. */
int exchange_do(struct exchange *x, struct why *why) MUST_USE;

/* conn.c: what a status that is no success means. */
int conn_refusal(struct exchange *x, struct why *why) MUST_USE;
/* Waits; false: nobody waits for the answer any more. */
bool conn_pause(struct conn *c, const struct mcp_out *out, int64_t ms);

/* listen.c */
int listen_general(struct conn *c);
int listen_legacy(struct conn *c, const atomic_bool *stop, struct why *why) MUST_USE;
