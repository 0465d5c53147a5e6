/* agent/worker/worker_priv.h: what worker.c, worker_link.c and worker_stop.c share. */
#pragma once
#include "agent/exit_status.h"
#include "agent/worker/auth.h"
#include "agent/worker/backoff.h"
#include "agent/worker/calls.h"
#include "agent/worker/nap.h"
#include "agent/worker/prober.h"
#include "agent/worker/turns.h"
#include "agent/worker/worker.h"
#include "base/id.h"
#include "link/link.h"
#include "net/h2_stream.h"

#define WORKER_MAGIC 0x776f726bu

enum stop_phase {
	STOP_NOT,
	STOP_DRAIN, /* running calls may end by themselves */
	STOP_ABORT, /* they were cancelled */
	STOP_DELIVER, /* their results are on the way */
	STOP_CLOSE, /* the session is being closed */
	STOP_BYE, /* the connection is being closed */
	STOP_OVER
};

struct refusal_state {
	bool here; /* on this connection */
	bool fatal;
	char code[64];
	char message[512];
	int64_t retry_after_ms;
	int64_t since_ms; /* the first of this code in a row; 0: none */
};

/* For --idle-release-timeout. */
struct idle_state {
	bool worked; /* there was a call */
	bool busy; /* there was one at the last look */
	int64_t since_ms; /* when the last one ended, or the control plane said to stay */
	int64_t asked_ms; /* whether to go; -1: not asked */
	bool over; /* it goes for that */
};

struct worker_process {
	unsigned magic;
	struct worker_config cfg;
	uv_loop_t loop;
	uv_timer_t timer;
	uv_async_t wake;
	uv_signal_t signals[3];

	struct link *link;
	struct calls *calls;
	struct prober *prober; /* NULL: none could be started */
	struct auth *auth;
	char *refused_word; /* why the credential was refused that another is tried for; NULL: it was not */
	struct turns *turns;
	struct nap *nap; /* NULL: this machine does not tell */
	struct idle_state idle;
	struct h2_stream *stream; /* from dialling to on_close */
	bool open, closing;
	bool authenticating; /* the next connection waits for its token */
	bool attempting; /* from the begin of an attempt until it is welcomed or has failed */
	bool failed_before; /* the attempt before this one did */
	enum session_end lost_how; /* how the last connection ended, for sessions that end with it */
	int64_t redial_ms; /* INT64_MAX: not planned */
	int64_t welcomed_ms; /* of this connection; -1: not yet */
	int64_t loss_grace_ms; /* of the last welcome; 0: there was none, or nothing is ever given up */
	int64_t lost_ms; /* since when there is no connection; INT64_MAX: there is one */
	struct backoff backoff;
	struct refusal_state refusal;
	bool announced;
	bool tools_known; /* the control plane has seen what tools there are */
	char tools_hash[SHA256_HEX_LEN]; /* "": not asked for yet */

	char *unfit_code, *unfit_reason; /* NULL: fit */
	bool fitness_said; /* the control plane has it, or the Hello that is on its way */

	bool said_goodbye; /* the control plane knows that this worker goes */
	enum stop_phase stop;
	int64_t stop_deadline_ms;
	int exit_status;
};

/* worker.c */
/* Runs worker_step soon; for callbacks that must not do more. */
void worker_poke(struct worker_process *w);

/* worker_link.c */
/* Gets the token first if there is none; call it again when auth has woken the loop. */
void worker_dial(struct worker_process *w);
void worker_flush(struct worker_process *w);
/* Whether this worker can work from here on: code "" is fit, else a word of at most 64 of A-Z a-z 0-9 . _ -, and
 * `reason` says what does not work, in a line of at most 1 KiB. Told at once if it is another than before, and in every
 * Hello. Both are copied. */
void worker_fitness(struct worker_process *w, const char *code, const char *reason);
/* Ends the connection; a new one is planned when it is closed. */
void worker_hang_up(struct worker_process *w);

/* The machine slept for so long. */
void worker_woke_up(struct worker_process *w, int64_t slept_ms);

/* worker_hello.c */
void worker_send_hello(struct worker_process *w);
/* Once, after the first welcome: what people and scripts wait for. */
void worker_announce(struct worker_process *w);

/* worker_idle.c */
/* Takes the step that is due; the time of the next, INT64_MAX: none. */
int64_t worker_idle_step(struct worker_process *w, int64_t now_ms);
void worker_idle_reply(struct worker_process *w, bool stay);
/* The link started anew. */
void worker_idle_fresh(struct worker_process *w);

/* worker_stop.c */
/* Starts to stop in the given phase, or hurries on if it is stopping already. */
void worker_stop(struct worker_process *w, enum stop_phase phase, int exit_status, const char *reason);
/* As worker_stop at once, with one line for the user. */
void worker_fail(struct worker_process *w, int exit_status, const char *message);
/* Takes the steps that are due; the time of the next, INT64_MAX: none. */
int64_t worker_stop_step(struct worker_process *w, int64_t now_ms);
void worker_signal(struct worker_process *w, int signum);
