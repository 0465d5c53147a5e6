/* agent/worker/calls_priv.h: for calls.c and calls_table.c only. */
#pragma once
#include "agent/worker/calls.h"
#include "agent/worker/outflow.h"
#include "base/mailbox.h"
#include <pthread.h>
#include <stdatomic.h>

#define CALLS_MAGIC 0x63616c6cu
/* Ids of acknowledged calls, so that a confused peer cannot have them done again. */
#define CALLS_PAST 1024

enum call_state { CALL_QUEUED, CALL_RUNNING, CALL_FINISHED };

/* Where a session is: see calls.h. */
struct seat {
	unsigned n; /* from 1 */
	char *agent; /* of several: whose it is; "": nobody's */
	char *open_agent, *open_claim; /* of the session that is open here; "" if none */
	char *news; /* the last of that session; NULL: none */
	char *early_news; /* of a session whose opening has not told its result yet */
	bool news_sent;
	struct session *session; /* NULL: none was made yet */
	struct clone_set *clones; /* that it is made of; NULL: of the worker's folders */
	size_t n_running;
	bool held_up; /* while calls are started: one that runs alone is under way, or waits for its turn */
};

struct call_entry {
	struct call_entry *next; /* in the order of arrival */
	struct calls *owner;
	struct seat *seat; /* NULL: an opening that waits for one, or nothing that needs any */
	int64_t seat_until_ms; /* of an opening: when it waits no more */
	enum call_state state;
	bool internal; /* ours: no answer */
	bool cancelled;
	int64_t cancelled_ms;
	struct job job;
	struct outflow *out;
	int64_t started_ms;
	int64_t give_up_ms; /* when a call that overran its limit is cancelled from here */
	uint64_t duration_ms;
	size_t kept_bytes;
};

struct calls {
	unsigned magic;
	pthread_t owner; /* the loop's thread */
	struct calls_config cfg;
	struct call_entry *head, *tail;
	size_t n, n_running;
	size_t kept_bytes;
	struct seat *seats;
	size_t n_seats;
	struct mailbox *done;
	struct mailbox *news; /* struct session_news */
	atomic_uint threads; /* that still touch this struct */
	const char *refuse_code, *refuse_message;
	char *past[CALLS_PAST];
	size_t past_next;
	/* Storage behind calls_fill_hello. */
	Bullpen__Worker__V1__CallState states[CALLS_MAX], *state_list[CALLS_MAX];
	Bullpen__Worker__V1__Session sessions[CALLS_MAX_PLACES], *session_list[CALLS_MAX_PLACES];
};

/* Of the public functions: the table is the loop thread's alone; call threads have their job and the mailbox `done`. */
static inline void calls_check(const struct calls *c)
{
	OBJ_CHECK(c, CALLS_MAGIC);
	ENSURE(pthread_equal(c->owner, pthread_self()));
}

/* On its way from a thread of the session. */
struct session_news {
	char *agent_id, *claim_id, *json;
};
void session_news_free(struct session_news **n);

/* calls_table.c */
/* QUEUED to RUNNING or FINISHED, RUNNING to FINISHED: a call never goes back. */
void call_set_state(struct call_entry *call, enum call_state state);
struct call_entry *call_add(struct calls *c, const char *call_id);
struct call_entry *call_find(const struct calls *c, const char *call_id);
void call_remove(struct calls *c, struct call_entry *call);
bool call_is_past(const struct calls *c, const char *call_id);
void call_remember(struct calls *c, const char *call_id);
/* Fills the job from the message. */
void call_read(struct call_entry *call, const Bullpen__Worker__V1__Call *m, int64_t now_mono_ms);
/* Makes the outcome one that can be sent, and sends it. */
void call_send_result(struct calls *c, struct call_entry *call);

/* seats.c */
void seats_init(struct calls *c);
void seats_fini(struct calls *c);
static inline bool seats_are_shared(const struct calls *c)
{
	return c->cfg.max_sessions == 0;
}
/* Gives the call that has just been read its seat: the only one, or its agent's. An opening may get a new one, or has
 * to wait. */
void seat_call(struct calls *c, struct call_entry *call, int64_t now_mono_ms);
/* It is an opening that has none yet. */
bool seat_is_awaited(const struct call_entry *call);
/* What is nobody's any more is given up, and openings that wait get it. The time until which the first of those that
 * still wait does so; INT64_MAX: none. */
int64_t seats_settle(struct calls *c);
/* What the call has changed: it ran alone in its seat and has ended. */
void seat_take_outcome(struct call_entry *call);
/* Its session is being closed of our own accord, as soon as what was cancelled for it has ended. */
bool seat_is_closing(const struct calls *c, const struct seat *seat);
bool seat_has_calls(const struct calls *c, const struct seat *seat);
/* Takes what came, and sends what was not sent yet; not while a call has the seat for itself. */
void seats_tell_news(struct calls *c);
/* On a link that began anew all of it is to be sent again. */
void seats_repeat_news(struct calls *c);
void seats_fill_hello(struct calls *c, Bullpen__Worker__V1__Hello *h);
