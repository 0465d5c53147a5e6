/* agent/worker/turns.h: which agents are at work here, as far as a worker can see it, and how their turns end: for the
 * metrics. A turn begins with the call that opens a session. It ends when the branch was published, when the session is
 * closed or opened again, or with the worker; a turn that publishes nothing ends late therefore, but once.
 * Thread: the loop's. */
#pragma once
#include "base/macros.h"
#include "worker.pb-c.h"

enum session_end {
	SESSION_END_STREAM_END,
	SESSION_END_STREAM_ERROR,
	SESSION_END_SESSION_CLOSED,
	SESSION_END_SESSION_ERROR,
	SESSION_END_CONNECTION_TIMEOUT,
	SESSION_END_SESSION_ABORTED,
	SESSION_ENDS
};

struct turns;

/* `ended` is called once for each turn. `several`: turns of different agents at once; else the next one ends the one
 * before. */
struct turns *turns_new(bool several, void (*ended)(void *ctx, enum session_end how), void *ctx);
void turns_free(struct turns **t);
/* A call came, perhaps again. */
void turns_call(struct turns *t, const Bullpen__Worker__V1__Call *m);
void turns_cancel(struct turns *t, const char *call_id);
/* The result of a call is sent, perhaps again. */
void turns_result(struct turns *t, const char *call_id);
void turns_end_all(struct turns *t, enum session_end how);
size_t turns_open(const struct turns *t);
