/* fleet/worker.h: a worker as the hub knows it, its calls, and what the hub does with it for runs (worker_calls.c).
 * Thread: the hub (hub_priv.h). */
#pragma once
#include "link/link.h"
#include "server/fleet/fleet.h"

struct hub_msg;
struct worker_conn;

/* A call as the hub knows it. */
struct hub_call {
	char *call_id, *run_id;
	/* What it does to the session; CALL_KIND_UNSPECIFIED: heard of from the worker, no run has asked for it yet. */
	call_kind kind;
	char *agent_id, *claim_id; /* "" until a run has asked for it */
	char *closes; /* CLOSE_SESSION that nobody waits for: the agent whose session it is; else NULL */
	bool in_hello; /* the last Hello named it as finished, so what that said of the session is newer than its result
			*/
	bool abandoned;
	size_t output_bytes;
	struct fleet_msg *result; /* NULL while it runs */
};

/* A run that works on a worker. */
struct attached {
	char *run_id, *claim_id;
	struct mailbox *inbox;
};

/* A session that is open on a worker. */
struct open_session {
	char *agent_id, *claim_id;
	char *news; /* what was said of it last, since it was opened; NULL: nothing */
};

/* Of runs that were cancelled the last ones are remembered: an attach or a call of theirs may be on its way. */
#define WORKER_CANCELLED_MAX 32

/* A worker id, connected or lost a short time ago. */
struct worker {
	int64_t team_id;
	char *id, *key; /* key: of the map */
	char *label; /* its name and machine beside the id, for people (label.h) */
	struct link *link;
	struct worker_conn *conn; /* NULL while lost */
	uint64_t incarnation;
	int64_t link_epoch;
	uint64_t heard; /* counts connections and pieces of input: more than before means that it is alive */
	int64_t lost_at_ms;
	int64_t leave_by_ms; /* told to go; ended then. 0: it may stay */
	bool start_afresh; /* the link is not to be resumed after this connection */
	bool gone_stored; /* the store knows that it is lost */
	bool gone_submitted; /* a job tells it */
	int64_t gone_tried_ms;
	/* What it said last of itself: unfit_code "" is fit. Counted on this connection from its Hello, which is 0. */
	char *unfit_code, *unfit_reason;
	int64_t fitness_n, fitness_stored; /* the newest, and the newest that the store has */
	bool fitness_submitted; /* a job tells the store */
	int64_t fitness_tried_ms;
	struct tool_set *tools;
	/* A personal machine: several runs are attached and several sessions open at once. Else at most one of each. */
	bool personal;
	bool takes_env; /* variables of agents */
	struct attached *runs;
	size_t n_runs, runs_cap;
	struct open_session *sessions; /* from the Hello, then from results */
	size_t n_sessions, sessions_cap;
	int64_t news_since_ms; /* the second in which */
	unsigned news_told; /* so many news came */
	char *cancelled[WORKER_CANCELLED_MAX];
	size_t cancelled_next;
	struct hub_call *calls;
	size_t n_calls, calls_cap;
};

void worker_attach(struct fleet *f, struct hub_msg *m);
void worker_detach(struct worker *w, const char *run_id);
void worker_call(struct fleet *f, int64_t team_id, const char *worker_id, uint64_t incarnation,
    const Bullpen__Worker__V1__Call *call);
void worker_result_stored(struct worker *w, const char *call_id);
void worker_abandon(struct worker *w, const char *call_id);
void worker_cancel_run(struct worker *w, const char *run_id);
void worker_take_result(struct worker *w, const Bullpen__Worker__V1__CallResult *r);
void worker_take_output(struct worker *w, const Bullpen__Worker__V1__CallOutput *o);
/* Kept for those that attach later, and told to the run that works there. False: too many of them in a second. */
bool worker_take_news(struct worker *w, const Bullpen__Worker__V1__SessionNews *n, int64_t now_ms);
/* A call that the worker says it has; run_id NULL: nobody waits for it. */
void worker_take_up_call(struct worker *w, const char *call_id, const char *run_id);
/* What a Hello says of what worker it is, of the open sessions and of finished calls, also when the link is resumed. */
void worker_take_session(struct worker *w, const Bullpen__Worker__V1__Hello *hello);
void worker_close_session(
    struct worker *w, const char *agent_id, const char *claim_id, const char *reason, const char *status);
void worker_forget_running(struct worker *w);
void worker_tell_lost(struct worker *w);
/* The answer to an attach that has no worker to go to. */
void inbox_tell_lost(struct mailbox *inbox);
void worker_free(struct worker **w);

/* fitness.c: what the worker says of itself. */
void fitness_take_hello(struct worker *w, const Bullpen__Worker__V1__Hello *hello);
void fitness_take(struct fleet *f, struct worker *w, const Bullpen__Worker__V1__Fitness *m, int64_t now_ms);
/* A job tells the store what it does not know yet; called again and again while it does not. */
void fitness_store(struct fleet *f, struct worker *w, int64_t now_ms);
/* The job is done; n 0: it failed. */
void fitness_stored(struct fleet *f, struct worker *w, int64_t epoch, int64_t n, int64_t now_ms);

/* presence.c: a job tells the store that the worker is lost (its claim starts to age), or only that it takes nothing
 * new. */
void store_worker_gone(struct fleet *f, struct worker *w, int64_t now_ms);
void store_worker_draining(struct fleet *f, struct worker *w, bool idle);
/* The store has it: the worker that said on this connection that it goes is told whether it may. */
void worker_may_leave(struct worker *w, int64_t epoch, bool stays);
