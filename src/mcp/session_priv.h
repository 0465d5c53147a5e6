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
	/* Set once, by initialize. */
	char version[16];
	char *instructions;
	bool tools, changes, logging;
};

/* With the lock held. */
struct waiting *mcp_waiting_find(struct mcp_session *s, int64_t id);
void mcp_waiting_end(struct waiting *w, int rc, const char *sentence);
/* Sends a message; takes `j`. */
int mcp_send(struct mcp_session *s, json_t *j, const struct mcp_out *about, struct why *why);
void mcp_log(struct mcp_session *s, const char *level, const char *fmt, ...) PRINTF_LIKE(3, 4);
