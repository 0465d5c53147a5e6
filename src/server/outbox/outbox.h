/* outbox/outbox.h: things to be done outside, each because of something in the store.
 *
 * What is promised: a row whose transaction was committed is performed at least once, or ends as failed with the last
 * error kept; a row whose transaction was not committed is never performed. Twice happens: after a crash between the
 * deed and its mark, or when a handler takes longer than its lease. The row's id is the same each time, so hand it on
 * as the idempotency key: a receiver that knows it does nothing the second time. There is no order between rows, but
 * for those of outbox_add_in_order.
 *
 * Several senders (nodes) may work on one store: a row belongs to one of them at a time, under a lease.
 *
 * Threads: outbox_add in the caller's transaction; outbox_wake from any, never inside a write transaction;
 * outbox_handle before outbox_start; handlers run on the sender's thread, one at a time, and may block until their
 * deadline. */
#pragma once
#include "base/errors.h"
#include "store/store.h"

struct note; /* node/notify.h */
struct outbox;

#define OUTBOX_ID_LEN 41 /* "out-", a UUID, NUL */
#define OUTBOX_PAYLOAD_MAX (256 * 1024)

/* Borrowed for the call of the handler. */
struct outbox_item {
	const char *id; /* the idempotency key */
	const char *kind, *subject, *payload;
	int64_t attempt; /* from 1 */
	int64_t deadline_mono_ms; /* the end of the lease: return before it */
	int64_t *hold_ms; /* for outbox_hold */
};

/* For a handler that fails: the other side wants to be left alone for so long. The next attempt comes no sooner, but at
 * most OUTBOX_HOLD_MAX_MS later; it is one of the attempts all the same. */
#define OUTBOX_HOLD_MAX_MS ((int64_t)3600 * 1000)
void outbox_hold(const struct outbox_item *item, int64_t ms);

/* OK: done. ERR_INVALID: it can never be done, do not try again. Anything else: later. `why` is kept with the row, and
 * must not contain secrets. */
typedef int outbox_fn(void *ctx, const struct outbox_item *item, struct why *why);

/* Zero means the default. */
struct outbox_config {
	struct store *store; /* borrowed */
	const char *node_id; /* borrowed; for people who read the table */
	int64_t lease_ms; /* 60 s; longer than any handler takes */
	int64_t backoff_min_ms, backoff_max_ms; /* 5 s, 1 h; doubled each time, and a random half of it is taken off */
	/* Instead of the back-off: the pauses after the first, second … failed attempt, exactly; borrowed. Another one
	 * follows each pause, and no more. */
	const int64_t *pauses_ms;
	size_t n_pauses;
	int64_t full_pause_ms; /* after ERR_FULL (the other side limits us) it is tried again in so long, and that
				* attempt does not count; 0: it is an error like others */
	int64_t attempts_max; /* 12; with pauses: one more than these */
	int64_t age_max_ms; /* 24 h since it was added */
	int64_t keep_ms; /* 7 days: ended rows are forgotten afterwards */
	int64_t tick_ms; /* 5 s: how often it looks without being woken */
};

/* Adds a row in the caller's write transaction. subject: what it is about (an id), for people; payload: text for the
 * handler, at most OUTBOX_PAYLOAD_MAX bytes (ERR_TOO_LARGE); due_ms: wall time, not before. ret_id may be NULL. */
int outbox_add(struct tx *tx, const char *kind, const char *subject, const char *payload, int64_t now_ms,
    int64_t due_ms, char ret_id[OUTBOX_ID_LEN]) MUST_USE;

/* The same, due at once, but only after the rows of that kind and subject that were added before in this way have ended
 * (done or failed). */
int outbox_add_in_order(
    struct tx *tx, const char *kind, const char *subject, const char *payload, int64_t now_ms) MUST_USE;
/* Forgets all rows of the subject, ended or not; one that is performed at the moment has no effect on the store. */
int outbox_drop(struct tx *tx, const char *kind, const char *subject) MUST_USE;

/* A row that has ended is due now, with all its attempts and the same id. ERR_NOT_FOUND; ERR_CONFLICT: it has not
 * ended.
 */
int outbox_again(struct tx *tx, const char *kind, const char *id, int64_t now_ms) MUST_USE;
/* Rows of the subject that nobody has taken yet are due at that time, if that is sooner. */
int outbox_bring_forward(struct tx *tx, const char *kind, const char *subject, int64_t due_ms) MUST_USE;

/* At the start of the server, before any sender: rows that this node was performing when it died are due at once
 * instead of at the end of their lease. */
int outbox_recover(struct store *st, const char *node_id, int64_t now_ms) MUST_USE;
/* The same in the write transaction that takes another node over: later it may have started anew, and be performing. */
int outbox_recover_in(struct tx *tx, const char *node_id, int64_t now_ms) MUST_USE;

struct outbox *outbox_new(const struct outbox_config *cfg);
/* One handler a kind. Rows of a kind without one wait. `kind` is a literal. */
void outbox_handle(struct outbox *o, const char *kind, outbox_fn *fn, void *ctx);
/* Starts the thread, if there is a handler. */
int outbox_start(struct outbox *o, struct why *why) MUST_USE;
/* Something was added and committed. outbox_on_note is the same for notify_listen (ctx: the outbox). */
void outbox_wake(struct outbox *o);
void outbox_on_note(void *ctx, const struct note *note);
/* Waits for the handler that runs, frees. NULL is fine. */
void outbox_free(struct outbox **o);

/* What the thread does, for tests with a clock of their own: takes one row that is due, performs and marks it.
 * ERR_EMPTY: none is due, and *ret_next_ms is when one will be (INT64_MAX: none waits). Other codes: of the store. */
int outbox_send_one(struct outbox *o, int64_t now_ms, int64_t *ret_next_ms) MUST_USE;
/* Forgets at most `limit` rows that ended before that time. *ret_n: how many. */
int outbox_forget(struct store *st, int64_t before_ms, int64_t limit, int64_t *ret_n) MUST_USE;
