/* node/notify.h: one way to tell the rest of the control plane that something changed in the store.
 *
 * A note is a hint: the store has the truth before the note is sent, and whoever hears it reads the store. In one
 * process the listeners are called at once, on the sender's thread; with several nodes the same notes travel between
 * them. A listener therefore never blocks: it puts what it heard into its own mailbox or set.
 *
 * Threads: notify_send from any, never inside a write transaction (a note must not come before its commit); the
 * listeners are added before the first note. */
#pragma once
#include "base/errors.h"

enum note_kind {
	NOTE_RUN_CHANGED, /* run_id: events, status or the reason to wait; readers look again */
	NOTE_RUN_READY, /* run_id: it has its worker (again); somebody must drive it */
	NOTE_RUN_CANCELLED, /* team_id, worker_id, run_id: its worker and its thread are to stop */
	NOTE_CLAIM_ENDED, /* team_id, worker_id, agent_id, claim_id: the worker closes the session of that claim */
	/* requests or workers: look for pairs. team_id and worker_id: only that worker became free; team_id and
	 * agent_id: only its request waits; a worker_id and no team_id: nothing to be paired, but reasons to wait may
	 * be others. With run_id: that run ended, so that its user may have another at work. */
	NOTE_QUEUE_CHANGED,
	NOTE_KEY_REVOKED, /* key_id: its connections and streams end */
	NOTE_AGENT_PRIVATE, /* agent_id: the streams of its runs end; who may still read them comes again */
	NOTE_WORKER_RELEASED, /* team_id, worker_id, reason: the worker is told to go */
	NOTE_WORKER_MOVED, /* team_id, worker_id, epoch: it has connected with that link epoch; an older link ends */
	NOTE_MISSED, /* notes of other nodes may have been lost: whatever is heard of by notes is looked for */
};
#define NOTE_KINDS 10

/* Reasons of NOTE_WORKER_RELEASED. */
#define NOTE_DRAINED "drained"
#define NOTE_CLAIM_RELEASED "its claim was released"

/* All texts are borrowed for the call; NULL where the kind does not name them. */
struct note {
	enum note_kind kind;
	int64_t team_id;
	const char *worker_id, *run_id, *agent_id, *claim_id, *key_id;
	int64_t epoch;
	const char *reason; /* a literal; NOTE_CLAIM_ENDED: "aborted", "error", "user_close"; NULL: "completed" */
};

struct notify;
typedef void notify_fn(void *ctx, const struct note *note);

struct notify *notify_new(void);
void notify_free(struct notify **n); /* NULL is fine */
/* At most four for a kind. Before the first note. */
void notify_listen(struct notify *n, enum note_kind kind, notify_fn *fn, void *ctx);
void notify_send(struct notify *n, const struct note *note);
/* Only the listeners of this process: a note that came from elsewhere. */
void notify_hear(struct notify *n, const struct note *note);
/* What was sent is told to fn, too, after the listeners; it never blocks. NULL: to nobody. For node/relay.c. */
void notify_set_relay(struct notify *n, notify_fn *fn, void *ctx);
