/* agent/worker/calls.h: the table of calls: each is done at most once, its result kept until the control plane has it.
 * Thread: the loop's, for every function. Each call runs on a thread of its own; calls that change a session wait for
 * the others of that session and run alone.
 *
 * A session has a place. A pool worker has one place, which whoever opens a session next takes over. A personal worker
 * has several, each of which is one agent's from the arrival of its opening until its session is closed and none of its
 * calls is left; what happens in one is nothing to the others. */
#pragma once
#include "agent/worker/job.h"
#include "base/errors.h"
#include "link/link.h"

#define CALLS_MAX 1000 /* known and not acknowledged: what a Hello can name */
#define CALLS_MAX_RUNNING 64
#define CALLS_STUCK_MS 60000
#define CALLS_MAX_PLACES 64
/* How long an opening waits for a place: the end of another session can be on its way. */
#define CALLS_PLACE_WAIT_MS 30000

struct calls;

struct calls_config {
	struct session *session; /* borrowed: of the only place, or of the first of several */
	size_t max_sessions; /* of a personal worker, at most CALLS_MAX_PLACES; 0: there is one place, anybody's */
	/* What the sessions of further places are made of, when there is need; borrowed. NULL with max_sessions 0. */
	const struct session_config *sessions;
	const char
	    *clones_dir; /* where repositories are cloned that a request names; NULL: they are not. Needs `sessions` */
	bool takes_env; /* calls may bring variables for programs */
	bool project_mcp; /* sessions start the MCP servers of files, too */
	const struct hook_settings *hooks; /* agent/hooks/hooks.h; borrowed; NULL: no hooks run */
	const char *endpoint; /* of the control plane: where artifacts go if no other host is named; NULL: nowhere */
	void (*run)(struct job *j); /* job_run; on the call's thread */
	void *ctx;
	void (*wake)(void *ctx); /* any thread: calls_pump() is wanted */
	/* A call showed that this machine cannot do what a session needs. Before its result is sent. */
	void (*unfit)(void *ctx, const char *code, const char *reason);
	int (*send_result)(void *ctx, const Bullpen__Worker__V1__CallResult *m);
	int (*send_output)(void *ctx, const char *call_id, int stream, const void *data, size_t len);
	/* NULL: news are dropped. */
	int (*send_news)(void *ctx, const char *agent_id, const char *claim_id, const char *json);
};

struct calls *calls_new(const struct calls_config *cfg);
/* No call may be running. NULL is fine. */
void calls_free(struct calls **c);

/* A Call came. Never done twice: a call that is known is left alone, or its result sent again. */
void calls_start(struct calls *c, const Bullpen__Worker__V1__Call *m, int64_t now_mono_ms);
void calls_cancel(struct calls *c, const char *call_id);
/* The control plane has the result: the call is forgotten, but for its id. */
void calls_acknowledge(struct calls *c, const char *call_id);
/* After a fresh start of the link: every finished result again, and the present news of each session. */
void calls_resend(struct calls *c);
/* Sends what threads have produced; returns the monotonic time of the next call, INT64_MAX: when woken. */
int64_t calls_pump(struct calls *c, int64_t now_mono_ms);

/* From here on new calls are answered with this error. Borrowed. */
void calls_refuse(struct calls *c, const char *code, const char *message);
void calls_cancel_all(struct calls *c);
/* Cancels everything and closes every session, each on a thread, unanswered. For the hooks of its end: why (a literal),
 * and how long they may take, 0: as usual. */
void calls_close_session(struct calls *c, const char *reason, int64_t limit_ms);
/* Before the process ends by force, in this order: ends at once what tools started, and, when no call is active, closes
 * every session on this thread. */
void calls_kill_programs(const struct calls *c);
void calls_close_here(struct calls *c);

/* Queued or running. */
size_t calls_active(const struct calls *c);
/* A call goes on long after it was cancelled: nothing but the end of the process helps. */
bool calls_stuck(const struct calls *c, int64_t now_mono_ms);
/* Finished, result not acknowledged. */
size_t calls_unacknowledged(const struct calls *c);
/* The agent whose session is open, or ""; of several sessions one of them. */
const char *calls_open_agent(const struct calls *c);
/* How many sessions are open. */
size_t calls_sessions(const struct calls *c);
/* Fills in calls and sessions, and of a worker with one place agent_id and session_claim_id; borrowed until the next
 * function. */
void calls_fill_hello(struct calls *c, Bullpen__Worker__V1__Hello *h);
