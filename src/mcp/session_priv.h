/* mcp/session_priv.h: the inside of a session, for session.c and receive.c. */
#pragma once
#include "mcp/session.h"
#include <pthread.h>

#define LOG_LINE_MAX 1024
#define INSTRUCTIONS_MAX 4096

/* A request that waits. On the stack of its caller; in the list while it waits, under the lock. */
struct waiting {
	struct waiting *next;
	int64_t id;
	pthread_cond_t cond;
	bool done;
	int rc; /* if done without an answer */
	char sentence[256];
	json_t *result;
	json_t *error;
	int64_t idle_ms; /* begins anew with each progress; 0: does not */
	int64_t deadline, cap; /* monotonic; deadline <= cap */
	bool progressed; /* something new for the caller */
	double at, total;
	char *message;
	const struct mcp_call *call; /* NULL: no progress wanted */
	const atomic_bool *stop;
};

struct mcp_session {
	uint64_t magic;
	struct mcp_transport t;
	struct mcp_times times;
	pthread_mutex_t lock; /* a leaf */
	int64_t last_id;
	struct waiting *waiting;
	bool closed;
	char closed_why[256];
	enum mcp_protocol wish;
	bool was_modern;
	atomic_bool modern;
	int64_t subscription; /* the id of that request; 0: none */
	/* Set once, by initialize. */
	char version[16];
	char *instructions;
	bool tools, changes, logging;
	int64_t list_ttl_ms;
};

/* open.c: whether an error is one that a modern server gives to what it does not know. */
bool mcp_is_modern_refusal(const json_t *error);
void mcp_notify(struct mcp_session *s, const char *method, json_t *params);
/* Asks for something that must succeed: an error is ERR_PROTOCOL with its message, *ret the error. Takes params. */
int mcp_ask(struct mcp_session *s, const char *method, json_t *params, int64_t ms, const atomic_bool *stop,
    json_t **ret, int64_t *ret_code, struct why *why) MUST_USE;
/* Whether the server needs more before it gives a result; what is neither is ERR_PROTOCOL. */
int mcp_needs_input(const struct mcp_session *s, const json_t *result, bool *ret, struct why *why) MUST_USE;
/* {"inputResponses", "requestState"?} that decline what was asked; ERR_PROTOCOL: that is not enough. */
int mcp_decline(const json_t *result, json_t **ret, struct why *why) MUST_USE;
/* The `_meta` of a modern request, into its params. */
void mcp_put_meta(const struct mcp_session *s, json_t *params);

/* With the lock held. */
struct waiting *mcp_waiting_find(struct mcp_session *s, int64_t id);
void mcp_waiting_end(struct waiting *w, int rc, const char *sentence);
/* Sends a message; takes `j`. */
int mcp_send(struct mcp_session *s, json_t *j, const struct mcp_out *about, struct why *why);
void mcp_log(struct mcp_session *s, const char *level, const char *fmt, ...) PRINTF_LIKE(3, 4);
