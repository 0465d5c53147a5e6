/* fleet/queue.h: the queue and the claims, as rows. Everything here happens inside the caller's transaction.
 *
 * A request is one turn of an agent that needs a worker. It exists while its run is not terminal. A claim binds an
 * agent to a worker and outlives the turn; while idle_since is set it holds a worker for nobody, and a waiting request
 * of another agent may take the worker over (docs/adr/0004). Unique keys, not locks, keep an agent from having two
 * claims and a worker from serving two agents; every change names the state it expects, so that of two writers one
 * changes nothing.
 *
 *   event          requests.state    claims.idle_since  claims.lost_at  workers.busy  worker_slots.state
 *   queued         queued            (no claim)                         -             -
 *   bound          claimed           null (new)         null            1             BUSY
 *   serving        serving           -                  -               -             -
 *   turn ends      (deleted)         now                -               1             HELD
 *   follow-up      claimed (new)     null               -               1             BUSY
 *   worker lost    -                 -                  now             (deleted)     (deleted)
 *   worker leaves  -                 -                  -               -             (deleted)
 *   worker back    -                 -                  null            as claimed    BUSY, HELD or FREE
 *   claim ends     -                 (deleted)          (deleted)       0             FREE
 *   taken over     -                 (deleted)          (deleted)       0, then bound FREE, then bound
 *   requeued       queued            (deleted)          (deleted)       0             FREE
 *   worker unfit   -                 -                  -               -             UNFIT
 *   worker fit     -                 -                  -               as claimed    BUSY, HELD or FREE
 *
 * While a worker is unfit (workers.unfit_code is not '') its slots stay UNFIT, whatever else happens. */
#pragma once
#include "base/json.h"
#include "base/labels.h"
#include "store/store.h"

struct request {
	const char *agent_id, *run_id;
	int64_t team_id;
	const char *pool, *repo, *repo_host; /* repo "": any */
	int64_t user_id; /* who asks; 0: a service account */
	const char *machine; /* a personal machine of that user, by its name ("": any); NULL: a worker of the pool */
	const struct labels *labels; /* that the worker must have; NULL: none */
	const char *label; /* of those the one that finds the worker; set when it is queued */
};

/* worker_slots.state */
enum slot_state {
	SLOT_BUSY, /* with a turn */
	SLOT_FREE,
	SLOT_HELD, /* by an idle claim */
	SLOT_UNFIT, /* its worker says that it cannot work; it gets nothing, and its claim stays */
	SLOT_KEPT /* by an idle claim that does not yield: its worker was started with an idle release of its own */
};

/* A claim that ended in passing: its worker is to close the session once it is committed. Texts are NULL if there was
 * none. */
struct claim_left {
	int64_t team_id;
	char *worker_id, *claim_id, *agent_id;
};
void claim_left_fini(struct claim_left *c);

/* A new turn. If the agent still holds a claim on a connected and fit worker it is bound at once; otherwise the claim
 * ends and the turn is queued. *ret_worker_id (malloc'ed) is the worker, or NULL while it waits. */
int queue_add(
    struct tx *tx, const struct request *r, int64_t now_ms, char **ret_worker_id, struct claim_left *ret_left) MUST_USE;
/* Tries to bind a queued request to a free matching worker, or to one that is held by an idle claim. A worker that
 * could not open the session of this run gets it again only if no other fit one matches. OK: *ret_worker_id is set.
 * ERR_EMPTY: it goes on waiting (also if it is not queued any more). */
int queue_match(
    struct tx *tx, const char *agent_id, int64_t now_ms, char **ret_worker_id, struct claim_left *ret_left) MUST_USE;
/* The other way: the oldest queued request that this worker may take is bound to it, if it is free or held.
 * *ret_run_id (malloc'ed). ERR_EMPTY: there is none. In both, `ret_left` is the idle claim of a personal machine that
 * made room. */
int queue_match_worker(struct tx *tx, int64_t team_id, const char *worker_id, int64_t now_ms, char **ret_run_id,
    struct claim_left *ret_left) MUST_USE;
/* For the metric of how long it took: a worker was bound to a request. Any thread. */
void scheduler_count_match(int64_t queued_at_ms, int64_t now_ms);
/* A place in the queue; all zero is its head. */
struct queue_place {
	int64_t queued_at_ms;
	char *agent_id;
};
/* Moves `place` to the oldest queued request behind it that some free or held worker matches. ERR_EMPTY if there is
 * none. */
int queue_next(struct tx *tx, struct queue_place *place, char **ret_run_id) MUST_USE;
/* The run is RUNNING. */
int queue_set_serving(struct tx *tx, const char *agent_id) MUST_USE;
/* Its worker begins to open the session; and what it says that it is doing. No change if the run has begun. */
int queue_set_opening(struct tx *tx, const char *agent_id, int64_t now_ms) MUST_USE;
int queue_say_opening(struct tx *tx, const char *agent_id, const char *what, int64_t now_ms) MUST_USE;
/* The turn is over: the request goes, the claim (if any) becomes idle. */
int queue_end(struct tx *tx, const char *agent_id, int64_t now_ms) MUST_USE;
/* Ends the claim of the agent and frees the worker; no claim is fine. */
int claim_end(struct tx *tx, const char *agent_id, int64_t now_ms) MUST_USE;

/* For whoever acts on rows that were found earlier. ERR_EMPTY: they changed since; roll back.
 *
 * Back to the queue, in its old place and with one more attempt counted, if the run has not begun, is bound to this
 * worker and that is lost since before. */
int queue_requeue_lost(struct tx *tx, const char *agent_id, const char *run_id, const char *worker_id,
    int64_t lost_before_ms, int64_t now_ms, int64_t *ret_attempts) MUST_USE;
/* The worker could not open the session: the claim ends, and the request goes back to its old place in the queue. The
 * caller has written the attempt. ERR_EMPTY: it is not bound to that worker, or has begun; nothing was changed. */
int queue_requeue_unopened(
    struct tx *tx, const char *agent_id, const char *run_id, const char *worker_id, int64_t now_ms) MUST_USE;
/* The worker that came for the agent's claim is not the right one: the claim ends, and that is counted. */
int queue_requeue_mismatch(struct tx *tx, const char *agent_id, int64_t now_ms) MUST_USE;
/* The claim's worker is connected: a follow-up that was held for it is bound. */
int queue_worker_came(struct tx *tx, const char *agent_id, int64_t now_ms) MUST_USE;
/* The worker that the request was reserved for did not connect in time: the claim ends, and that is counted. ERR_EMPTY:
 * it did, or the claim is another. */
int queue_start_failed(struct tx *tx, const char *agent_id, int64_t connect_before_ms, int64_t now_ms) MUST_USE;
/* The worker that the follow-up was held for did not come back: any may have it. ERR_EMPTY as above. */
int queue_lapse(struct tx *tx, const char *agent_id, int64_t offline_before_ms, int64_t now_ms) MUST_USE;
/* A worker that the request could have and that never leaves by itself keeps an idle claim: the one that is idle
 * longest, since before, ends. ERR_EMPTY: there is none. */
int queue_reclaim(
    struct tx *tx, const char *agent_id, int64_t idle_before_ms, int64_t now_ms, struct claim_left *ret) MUST_USE;
/* The worker cannot work, by the result of a call: as if it had said so itself. No change if it is unfit already, or if
 * it has said something of itself since: `link_epoch` and `fitness_n` are those of the moment when the result came. */
int queue_mark_unfit(struct tx *tx, int64_t team_id, const char *worker_id, int64_t link_epoch, int64_t fitness_n,
    const char *code, const char *reason) MUST_USE;
/* workers.unfit_code changed: the slots follow. */
int queue_follow_fitness(struct tx *tx, int64_t team_id, const char *worker_id) MUST_USE;
/* OK: still bound to that worker, which is lost since before. */
int queue_check_lost(
    struct tx *tx, const char *agent_id, const char *run_id, const char *worker_id, int64_t lost_before_ms) MUST_USE;
/* OK: still queued. */
int queue_check_queued(struct tx *tx, const char *agent_id, const char *run_id) MUST_USE;
/* Ends the claim if it is still this worker's and idle since before. *ret_claim_id (malloc'ed): which one it was, for
 * the worker to close the session of just that. */
int claim_end_idle(struct tx *tx, const char *agent_id, const char *worker_id, int64_t idle_before_ms, int64_t now_ms,
    char **ret_claim_id) MUST_USE;
/* Ends the claim if it has no request, is still this worker's, and that is lost since before. */
int claim_end_lost(
    struct tx *tx, const char *agent_id, const char *worker_id, int64_t lost_before_ms, int64_t now_ms) MUST_USE;

/* The agent's claim: team, worker and its id ("claim-" and a UUID, one for each time that a worker is bound). Texts are
 * malloc'ed; ret_claim_id may be NULL. ERR_EMPTY: it has none. */
int claim_find(
    struct tx *tx, const char *agent_id, int64_t *ret_team, char **ret_worker_id, char **ret_claim_id) MUST_USE;

/* What of a request decides why it waits. */
struct queue_group {
	char *agent_id, *state, *worker_id, *pool, *repo, *repo_host; /* worker_id "" while it is queued */
	char *machine; /* NULL: a request of a pool */
	struct labels labels;
	int64_t user_id, offline_until, connect_by; /* times: 0 if none */
	char *worker_label; /* for people; "" while it is queued */
	bool alone; /* queue_view knows nothing of it: it has labels, or a machine, or its user a cap */
	int64_t team_id, queued_at, open_attempts;
	int64_t opening_at, opening_said_at; /* 0: it is not being opened; nothing was said */
	char *opening; /* "": nothing was said */
};
/* How long an opening takes until it counts as a reason to wait. */
#define OPENING_SHOWN_MS 10000
/* ERR_EMPTY: the agent has no request. */
int queue_group_load(struct tx *tx, const char *agent_id, struct queue_group **ret) MUST_USE;
void queue_group_free(struct queue_group **g); /* NULL is fine */

/* Why a request waits: {code, text, since, position?} as docs/api.md has it; ERR_EMPTY if it does not wait. */
int queue_wait_reason(struct tx *tx, const char *agent_id, int64_t now_ms, int64_t grace_ms, json_t **ret) MUST_USE;

/* The same for many requests at once: what of workers and claims decides it, read in one transaction with five
 * statements, however many requests there are. Loading costs time in proportion to the workers, a look-up is a few
 * steps. Constant once it is loaded: any number of threads may read it. The look-ups agree with queue_wait_reason about
 * a request of the same snapshot, but have no position. */
struct queue_view;
int queue_view_load(struct store *st, struct queue_view **ret) MUST_USE;
int queue_view_read(struct tx *tx, struct queue_view **ret) MUST_USE; /* as that transaction sees it */
void queue_view_free(struct queue_view **v); /* NULL is fine */
/* Not for a request that is `alone`. no_workers, no_repo, starting, all_busy, all_unfit; waking for a bound request
 * whose worker is away, opening for one whose session takes long to open; a literal. NULL: it does not wait. */
const char *queue_view_reason(const struct queue_view *v, const struct queue_group *r, int64_t now_ms);
/* The code of queue_wait_reason alone, for one that is; "" if it does not wait any more. A literal. */
int queue_wait_code(struct store *st, const char *agent_id, int64_t now_ms, const char **ret) MUST_USE;
/* opening, or NULL: what the clock alone decides about a bound request, as far as its worker is there. */
const char *queue_opening_reason(const struct queue_group *r, int64_t now_ms);
/* {code, text, since, position?}; a new reference, NULL: it does not wait. position: in the queue, 0: it is left out.
 */
json_t *queue_view_wait(
    const struct queue_view *v, const struct queue_group *r, int64_t position, int64_t now_ms, int64_t grace_ms);
