/* The scheduler: pairs queued requests with workers. It runs when something changed, and every few seconds anyway, so
 * that a matching idle worker and a queued request never stay side by side for long whatever was missed. Each pairing
 * is one conditional transaction; another that comes first simply wins.
 *
 * The same thread does what a node has to do regularly: it renews the lease, and looks for keys that were revoked, for
 * workers whose session token is over and whether the store's files are still there. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/text.h"
#include "server/fleet/drain.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/scheduler.h"
#include "server/fleet/queue.h"
#include <unistd.h>

#define SWEEP_MS 5000
#define RENEW_MS (NODE_LEASE_MS / 3)
#define RENEW_AGAIN_MS 1000 /* after one that failed */
/* Who could not renew its own lease for so long was kept from it by the store, as the others may have been: their
 * leases are over, and they are as well as we are. They get the time of a lease to renew theirs. */
#define RENEWED_MS (RENEW_MS + RENEW_MS / 2)
#define KEYS_MS 2000
#define STORE_MS 1000
/* A key is revoked by another process: its time is not ours to the second, and its commit comes later than the time it
 * names. And a worker that was authenticated just before may enter just after its key was dropped. So each key is named
 * again and again for so long. */
#define KEYS_AGAIN_MS 60000

struct duties {
	int64_t sweep_ms, renew_ms, keys_ms, store_ms; /* monotonic: when each is due */
	int64_t renewed_ms; /* monotonic: the lease, the last time */
	int64_t patient_ms; /* monotonic: until then only nodes are taken over that gave up their lease themselves */
	int64_t keys_known_ms; /* wall time: what was revoked before the last look that succeeded was told then */
};

METRIC_HISTOGRAM(match_seconds, "bullpen_match_seconds",
    "Time from the acceptance of a run until a worker was bound to it.", METRIC_SECONDS);

void scheduler_count_match(int64_t queued_at_ms, int64_t now_ms)
{
	metric_observe(&match_seconds, (double)MAX(now_ms - queued_at_ms, 0) / 1000);
}

static char wake_token;

void scheduler_wake(struct fleet *f)
{
	/* One token is enough for any number of changes that the scheduler has not looked at yet. */
	if (!atomic_exchange(&f->scheduler_woken, true))
		IGNORE(mailbox_post_always(f->scheduler_inbox, &wake_token));
}

#define CAPPED_MAX 20
#define HINTS_MAX 10000 /* waiting; with more of them looking through all is cheaper */

struct hint {
	int64_t team_id;
	char *worker_id, *agent_id, *run_id;
};

void scheduler_drop_hint(void *m)
{
	struct hint *h = m;

	if (m == &wake_token)
		return;
	free(h->worker_id);
	free(h->agent_id);
	free(h->run_id);
	free(h);
}

void scheduler_hint(struct fleet *f, int64_t team_id, const char *worker_id, const char *agent_id, const char *run_id)
{
	struct hint *h;

	if (atomic_load(&f->scheduler_hints) >= HINTS_MAX) {
		scheduler_wake(f);
		return;
	}
	h = NEW(struct hint);
	*h = (struct hint){team_id, str_dup(worker_id), str_dup(agent_id), str_dup(run_id)};
	atomic_fetch_add(&f->scheduler_hints, 1);
	if (mailbox_post_always(f->scheduler_inbox, h) != OK)
		scheduler_drop_hint(h);
}

/* The machine's session whose claim made room for another. */
static void tell_left(struct fleet *f, const struct claim_left *left)
{
	if (left->worker_id != NULL)
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_CLAIM_ENDED,
					       .team_id = left->team_id,
					       .worker_id = left->worker_id,
					       .agent_id = left->agent_id,
					       .claim_id = left->claim_id});
}

/* Whatever this worker or this request can be paired with; a machine may get several. OK: paired, and there may be
 * more. ERR_EMPTY: nothing. */
static int pair_hinted(struct fleet *f, const struct hint *h)
{
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
	AUTO(tx) tx = NULL;
	AUTO_STR run = NULL;
	AUTO_STR worker = NULL;
	int64_t now = clock_wall_ms(), queued_at = now;
	int rc = tx_begin(f->cfg.store, TX_WRITE, &tx);

	if (rc == OK && h->worker_id != NULL)
		rc = queue_match_worker(tx, h->team_id, h->worker_id, now, &run, &left);
	else if (rc == OK)
		rc = queue_match(tx, h->agent_id, now, &worker, &left);
	if (rc == OK && run == NULL)
		rc = tx_query_text(tx, &run, "SELECT run_id FROM requests WHERE agent_id = $1", "s", h->agent_id);
	if (rc == OK)
		rc = tx_query_int(tx, &queued_at,
		    "SELECT q.queued_at FROM runs r JOIN requests q ON q.agent_id = r.agent_id WHERE r.id = $1", "s",
		    run);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	scheduler_count_match(queued_at, clock_wall_ms());
	notify_send(f->cfg.notify, &(struct note){.kind = NOTE_RUN_READY, .run_id = run});
	tell_left(f, &left);
	return h->worker_id != NULL ? OK : ERR_EMPTY;
}

/* Whether there is anything to pair is looked up first: nobody waits for a reader, and mostly there is nothing. */
static bool is_worth_it(struct fleet *f, const struct hint *h)
{
	AUTO(tx) tx = NULL;
	int64_t one;
	int rc;

	if (tx_begin(f->cfg.store, TX_READ, &tx) != OK)
		return false;
	rc = h->worker_id != NULL
		 ? tx_query_int(tx, &one, "SELECT 1 FROM requests WHERE team_id = $1 AND state = 'queued' LIMIT 1", "i",
		       h->team_id)
		 : tx_query_int(
		       tx, &one, "SELECT 1 FROM requests WHERE agent_id = $1 AND state = 'queued'", "s", h->agent_id);
	return rc == OK;
}

/* A worker that is to go and has nothing to do any more is told. */
static void let_drained_go(struct fleet *f, const struct hint *h)
{
	AUTO(tx) tx = NULL;
	int64_t one;
	int rc = tx_begin(f->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_int(tx, &one, "SELECT 1 FROM workers WHERE team_id = $1 AND id = $2 AND draining = 2",
		    "is", h->team_id, h->worker_id);
	if (rc != OK)
		return;
	tx_free(&tx);
	rc = tx_begin(f->cfg.store, TX_WRITE, &tx);
	if (rc == OK)
		rc = drain_finish(tx, h->team_id, h->worker_id);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		fleet_release(f, h->team_id, h->worker_id, NOTE_DRAINED);
}

/* The oldest requests of a user whose run ended, if the team has a cap: whatever workers they match may have been idle
 * all the time. As many as could be bound at once, unless that is very many. */
static int find_capped(struct fleet *f, const struct hint *h, json_t *ret_agents)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	AUTO_STR owner = NULL;
	int64_t max = 0, user = 0;
	int rc = tx_begin(f->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_int(tx, &max, "SELECT max_active_per_user FROM teams WHERE id = $1", "i", h->team_id);
	if (rc == OK && max > 0)
		rc = tx_query_text(tx, &owner,
		    "SELECT a.owner FROM runs r JOIN agents a ON a.id = r.agent_id WHERE r.id = $1", "s", h->run_id);
	if (rc == OK && owner != NULL && text_has_prefix(owner, "user:"))
		user = strtoll(owner + 5, NULL, 10);
	if (rc == OK && user != 0)
		rc = tx_query(tx, &q,
		    "SELECT agent_id FROM requests WHERE team_id = $1 AND user_id = $2 AND state = 'queued'"
		    " ORDER BY queued_at, agent_id LIMIT $3",
		    "iii", h->team_id, user, MIN(max, CAPPED_MAX));
	while (rc == OK && q != NULL && (rc = query_next(q)) == OK)
		json_array_append_new(ret_agents, json_string(query_str(q, 0)));
	return rc == ERR_EMPTY ? OK : rc;
}

static int pair_capped(struct fleet *f, const struct hint *h)
{
	AUTO_JSON agents = json_array();
	size_t i;
	json_t *agent;
	int rc = find_capped(f, h, agents);

	json_array_foreach(agents, i, agent)
	{
		struct hint one = {.team_id = h->team_id, .agent_id = (char *)json_string_value(agent)};

		if (rc == OK || rc == ERR_EMPTY)
			rc = pair_hinted(f, &one);
	}
	return rc;
}

static void follow_hint(struct fleet *f, struct hint *h)
{
	int rc;

	atomic_fetch_sub(&f->scheduler_hints, 1);
	if (h->worker_id != NULL)
		let_drained_go(f, h);
	do
		rc = is_worth_it(f, h) ? pair_hinted(f, h) : ERR_EMPTY;
	while (rc == OK);
	if (rc == ERR_EMPTY && h->run_id != NULL)
		rc = pair_capped(f, h);
	if (store_is_unavailable(rc))
		store_log_unavailable(f->cfg.store, rc);
	else if (rc != OK && rc != ERR_EMPTY)
		log_error("scheduler.pair.failed", "worker=%s agent=%s error=%s",
		    log_quote(h->worker_id != NULL ? h->worker_id : ""),
		    log_quote(h->agent_id != NULL ? h->agent_id : ""), err_name(rc));
	scheduler_drop_hint(h);
}

/* A long queue takes a while to look through, and nobody shall wait for that. */
static int look_for_next(struct fleet *f, struct queue_place *place, char **ret_run)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(f->cfg.store, TX_READ, &tx);

	return rc != OK ? rc : queue_next(tx, place, ret_run);
}

/* The next request behind `place`. ERR_EMPTY: that was the last. */
static int pair_one(struct fleet *f, struct queue_place *place)
{
	AUTO(tx) tx = NULL;
	AUTO_STR run = NULL;
	AUTO_STR worker = NULL;
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
	int rc = look_for_next(f, place, &run);

	if (rc == OK)
		rc = tx_begin(f->cfg.store, TX_WRITE, &tx);
	if (rc != OK)
		return rc;
	rc = queue_match(tx, place->agent_id, clock_wall_ms(), &worker, &left);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK) {
		scheduler_count_match(place->queued_at_ms, clock_wall_ms());
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_RUN_READY, .run_id = run});
		tell_left(f, &left);
	} else if (rc != ERR_EMPTY && !store_is_unavailable(rc)) {
		log_error("scheduler.pair.failed", "run=%s error=%s", run, err_name(rc));
	}
	/* What is the matter with one request is no reason to keep the others waiting. */
	return store_is_unavailable(rc) ? rc : OK;
}

/* Fenced: another process has this node's name and has taken over what it owned. Nothing that this one would still
 * write may be trusted, so it does not even stop in order. */
static void renew_lease(struct fleet *f, struct duties *due)
{
	int rc = node_renew(f->cfg.store, f->cfg.node);
	int64_t now = clock_mono_ms();

	if (rc == ERR_FENCED) {
		log_error("node.fenced", "node=%s epoch=%lld reason=\"another process has started with this name\"",
		    f->cfg.node->id, (long long)f->cfg.node->epoch);
		_exit(1);
	}
	due->renew_ms = now + (rc == OK ? RENEW_MS : RENEW_AGAIN_MS);
	if (rc != OK) {
		store_log_unavailable(f->cfg.store, rc);
		return;
	}
	if (now - due->renewed_ms > RENEWED_MS)
		due->patient_ms = now + NODE_LEASE_MS;
	due->renewed_ms = now;
}

/* Nodes whose lease is over: their workers come to us, or to another, and their runs go on there. */
static void take_over_nodes(struct fleet *f, const struct duties *due)
{
	int64_t now_ms = clock_mono_ms();
	bool only_left = now_ms < due->patient_ms || now_ms - due->renewed_ms > RENEWED_MS;
	int rc = node_is_any_over(f->cfg.store, f->cfg.node, only_left) ? OK : ERR_EMPTY;

	while (rc == OK) {
		AUTO_STR id = NULL;

		rc = fleet_take_over(&f->cfg, only_left, &id);
		if (rc != OK)
			break;
		log_warn("node.taken_over", "node=%s by=%s reason=\"its lease is over\"", id, f->cfg.node->id);
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_QUEUE_CHANGED});
	}
	if (rc != ERR_EMPTY)
		store_log_unavailable(f->cfg.store, rc);
}

/* The query ends before the first note: listeners may use the store. */
static int find_revoked(struct fleet *f, int64_t since_ms, json_t *ret_ids)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(f->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT id FROM api_keys WHERE revoked_at >= $1 OR (expires_at >= $1 AND expires_at <= $2)", "ii",
		    since_ms, clock_wall_ms());
	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(ret_ids, json_string(query_str(q, 0)));
	return rc == ERR_EMPTY ? OK : rc;
}

/* The last look may be long ago: the store did not answer, the process was stopped, the clock was set forward. */
static void tell_revoked(struct fleet *f, struct duties *due)
{
	AUTO_JSON ids = json_array();
	size_t i;
	json_t *id;
	int64_t now = clock_wall_ms();
	int rc = find_revoked(f, MIN(now, due->keys_known_ms) - KEYS_AGAIN_MS, ids);

	if (rc == OK)
		due->keys_known_ms = now;
	else
		store_log_unavailable(f->cfg.store, rc);
	json_array_foreach(ids, i, id)
	{
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_KEY_REVOKED, .key_id = json_string_value(id)});
	}
}

/* Workers of this node that came with a session token and whose claim is over, whatever ended it. */
static int find_claimless(struct fleet *f, json_t *ret_rows)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(f->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT w.team_id, w.id, w.link_epoch FROM workers w WHERE w.only_agent <> '' AND w.node_id = $1 "
		    "AND"
		    " NOT EXISTS(SELECT 1 FROM claims c WHERE c.team_id = w.team_id AND c.worker_id = w.id AND "
		    "c.agent_id ="
		    " w.only_agent)",
		    "s", f->cfg.node->id);
	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(ret_rows,
		    json_pack("[I, s, I]", (json_int_t)query_int(q, 0), query_str(q, 1), (json_int_t)query_int(q, 2)));
	return rc == ERR_EMPTY ? OK : rc;
}

static void end_claimless(struct fleet *f)
{
	AUTO_JSON rows = json_array();
	json_t *row;
	size_t i;
	int rc = find_claimless(f, rows);

	if (rc != OK)
		store_log_unavailable(f->cfg.store, rc);
	json_array_foreach(rows, i, row)
	{
		fleet_claim_over(f, json_integer_value(json_array_get(row, 0)),
		    json_string_value(json_array_get(row, 1)), json_integer_value(json_array_get(row, 2)));
	}
}

/* By the clock, also while a long queue is looked through: on a busy server there is always something to pair. */
static void do_duties(struct fleet *f, struct duties *due)
{
	int64_t now = clock_mono_ms();

	if (now >= due->store_ms) {
		store_look(f->cfg.store);
		if (f->cfg.relay != NULL) {
			relay_look(f->cfg.relay, now);
			take_over_nodes(f, due);
		}
		due->store_ms = now + STORE_MS;
	}
	if (now >= due->renew_ms)
		renew_lease(f, due);
	if (now >= due->keys_ms) {
		tell_revoked(f, due);
		end_claimless(f);
		due->keys_ms = now + KEYS_MS;
	}
}

static void pair_all(struct fleet *f, struct duties *due)
{
	struct queue_place place = {0};
	int rc;

	do {
		do_duties(f, due);
		rc = pair_one(f, &place);
	} while (rc == OK);
	if (store_is_unavailable(rc))
		store_log_unavailable(f->cfg.store, rc);
	else if (rc != ERR_EMPTY)
		log_error("scheduler.failed", "error=%s", err_name(rc));
	free(place.agent_id);
}

static int64_t next_duty(const struct duties *due)
{
	return MIN(MIN(due->sweep_ms, due->store_ms), MIN(due->renew_ms, due->keys_ms));
}

static void scheduler_main(void *arg)
{
	struct fleet *f = OBJ_FROM(fleet, arg, FLEET_MAGIC);
	int64_t start = clock_mono_ms();
	struct duties due = {.sweep_ms = start + SWEEP_MS,
	    .renew_ms = start + RENEW_MS,
	    .keys_ms = start + KEYS_MS,
	    .store_ms = start + STORE_MS,
	    .renewed_ms = start,
	    /* It may be that the store has only just come back. */
	    .patient_ms = start + NODE_LEASE_MS,
	    .keys_known_ms = clock_wall_ms()};

	for (;;) {
		void *token;
		int rc = mailbox_receive(f->scheduler_inbox, next_duty(&due), &token);

		if (rc == ERR_CLOSED)
			break;
		do_duties(f, &due);
		if (rc == OK && token != &wake_token) {
			follow_hint(f, token);
			if (clock_mono_ms() < due.sweep_ms)
				continue;
		}
		if (rc != OK && clock_mono_ms() < due.sweep_ms)
			continue;
		due.sweep_ms = clock_mono_ms() + SWEEP_MS;
		atomic_store(&f->scheduler_woken, false);
		pair_all(f, &due);
	}
	IGNORE(mailbox_post_always(f->stopped, f));
}

int scheduler_start(struct fleet *f)
{
	return thread_start("scheduler", 512 * 1024, scheduler_main, f);
}
