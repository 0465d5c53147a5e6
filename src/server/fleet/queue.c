#include "server/fleet/queue.h"
#include "base/id.h"
#include "base/mem.h"
#include "server/fleet/machines.h"
#include "server/fleet/match.h"
#include "server/fleet/pools.h"
#include "server/fleet/queue_events.h"
#include <string.h>

int queue_follow_fitness(struct tx *tx, int64_t team_id, const char *worker_id)
{
	return slots_follow(tx, team_id, worker_id, -1);
}

int queue_mark_unfit(struct tx *tx, int64_t team_id, const char *worker_id, int64_t link_epoch, int64_t fitness_n,
    const char *code, const char *reason)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE workers SET unfit_code = $5, unfit_reason = $6 WHERE team_id = $1 AND id = $2 AND link_epoch = $3"
	    " AND fitness_n <= $4 AND unfit_code = ''",
	    "isiiss", team_id, worker_id, link_epoch, fitness_n, code, reason);

	return rc != OK || n == 0 ? rc : queue_follow_fitness(tx, team_id, worker_id);
}

struct claim {
	char *id, *worker_id, *pool, *repo, *agent_id;
	int64_t team_id;
	bool personal;
};

static void claim_fini(struct claim *c)
{
	str_free(&c->id);
	str_free(&c->worker_id);
	str_free(&c->pool);
	str_free(&c->repo);
	str_free(&c->agent_id);
}

/* The claim that the statement found, changed or deleted: CLAIM_COLUMNS. ERR_EMPTY: it met none. Takes the query. */
#define CLAIM_COLUMNS "id, team_id, worker_id, personal, pool, repo, agent_id"
static int read_claim(int rc, struct query *taken, struct claim *ret)
{
	AUTO(query) q = taken;

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	ret->id = str_dup(query_str(q, 0));
	ret->team_id = query_int(q, 1);
	ret->worker_id = str_dup(query_str(q, 2));
	ret->personal = query_int(q, 3) != 0;
	ret->pool = str_dup(query_str(q, 4));
	ret->repo = str_dup(query_str(q, 5));
	ret->agent_id = str_dup(query_str(q, 6));
	return OK;
}

static int load_claim(struct tx *tx, const char *agent_id, struct claim *ret)
{
	struct query *q = NULL;
	int rc = tx_query(tx, &q, "SELECT " CLAIM_COLUMNS " FROM claims WHERE agent_id = $1", "s", agent_id);

	return read_claim(rc, q, ret);
}

int claim_find(struct tx *tx, const char *agent_id, int64_t *ret_team, char **ret_worker_id, char **ret_claim_id)
{
	__attribute__((cleanup(claim_fini))) struct claim c = {0};
	int rc = load_claim(tx, agent_id, &c);

	if (rc != OK)
		return rc;
	*ret_team = c.team_id;
	*ret_worker_id = TAKE(c.worker_id);
	if (ret_claim_id != NULL)
		*ret_claim_id = TAKE(c.id);
	return OK;
}

void claim_left_fini(struct claim_left *c)
{
	str_free(&c->worker_id);
	str_free(&c->claim_id);
	str_free(&c->agent_id);
}

/* Of a request of a pool, as it is now: those who watch the queue are told. */
static int tell_event(struct tx *tx, const char *agent_id, const char *kind, int64_t now_ms)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT team_id, pool, repo, repo_host, worker_id, offline_until FROM requests WHERE agent_id = $1 AND"
	    " machine IS NULL",
	    "s", agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		rc = queue_event_add(tx, query_int(q, 0), kind, agent_id, query_str(q, 1), query_str(q, 2),
		    query_str(q, 3), query_text(q, 4), query_int(q, 5), now_ms);
	return rc == ERR_EMPTY ? OK : rc;
}

/* Back to its old place in the queue. */
static int requeue(struct tx *tx, const char *agent_id, int64_t now_ms)
{
	int rc = tx_exec(tx,
	    "UPDATE requests SET state = 'queued', worker_id = NULL, offline_until = NULL, opening_at = NULL,"
	    " opening = NULL, opening_said_at = NULL WHERE agent_id = $1",
	    "s", agent_id);

	return rc != OK ? rc : tell_event(tx, agent_id, "created", now_ms);
}

/* Where the next turn of an agent goes that has a claim. */
enum claimed { CLAIM_NONE, CLAIM_READY, CLAIM_AWAY };

/* The claim's worker is connected now, and fit; or it is away, and its pool waits for those that are (*ret_until).
 * Any other claim is ended: this turn goes to another worker. */
static int look_at_claim(struct tx *tx, const char *agent_id, int64_t now_ms, enum claimed *ret, struct claim *claim,
    int64_t *ret_until, struct claim_left *ret_left)
{
	AUTO(query) q = NULL;
	int64_t window_s = 0;
	bool away;
	int rc = load_claim(tx, agent_id, claim);

	*ret = CLAIM_NONE;
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	rc = tx_query(tx, &q, "SELECT draining, unfit_code FROM workers WHERE team_id = $1 AND id = $2", "is",
	    claim->team_id, claim->worker_id);
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK && query_int(q, 0) == 0 && query_str(q, 1)[0] == '\0') {
		*ret = CLAIM_READY;
		return OK;
	}
	/* Or on its way out, as it has said. One that was drained (2) does not come back. */
	away = rc == ERR_EMPTY || (rc == OK && query_int(q, 0) == 1);
	query_free(&q);
	if (away)
		rc = claim->personal ? OK : pool_window(tx, claim->team_id, claim->pool, claim->repo, &window_s);
	if (rc == OK && window_s > 0) {
		*ret = CLAIM_AWAY;
		*ret_until = now_ms + window_s * 1000;
		return OK;
	}
	if (rc == OK)
		rc = claim_end(tx, agent_id, now_ms);
	if (rc == OK)
		*ret_left =
		    (struct claim_left){claim->team_id, TAKE(claim->worker_id), TAKE(claim->id), str_dup(agent_id)};
	return rc;
}

/* The claim is in use again. ERR_EMPTY: another request took the worker over meanwhile. */
static int wake_claim(struct tx *tx, const char *agent_id, const struct claim *claim, bool away, int64_t now_ms)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE claims SET idle_since = NULL WHERE agent_id = $1 AND id = $2 AND idle_since IS NOT NULL", "ss",
	    agent_id, claim->id);

	if (rc == OK && n != 1)
		return ERR_EMPTY;
	return rc != OK || away ? rc : slots_follow(tx, claim->team_id, claim->worker_id, now_ms);
}

static int insert_request(struct tx *tx, const struct request *r, const char *state, const char *worker_id,
    int64_t offline_until, int64_t now_ms)
{
	AUTO_STR labels = r->labels != NULL ? labels_text(r->labels) : str_dup("[]");
	const char *label = "";
	int rc = match_rarest(tx, r, &label);

	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO requests(agent_id, run_id, team_id, pool, repo, repo_host, state, worker_id, "
		    "queued_at,"
		    " attempts, user_id, machine, labels, label, offline_until)"
		    " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11, $12, $13, CASE WHEN $14 = 0 THEN NULL"
		    " ELSE $14 END)",
		    "ssisssssiisssi", r->agent_id, r->run_id, r->team_id, r->pool, r->repo, r->repo_host, state,
		    worker_id, now_ms, r->user_id, r->machine, labels, label, offline_until);
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM request_labels WHERE agent_id = $1", "s", r->agent_id);
	for (size_t i = 0; rc == OK && r->labels != NULL && r->labels->n > 1 && i < r->labels->n; i++)
		rc = tx_exec(tx, "INSERT INTO request_labels(agent_id, pair) VALUES($1, $2)", "ss", r->agent_id,
		    r->labels->v[i]);
	return rc;
}

int queue_add(struct tx *tx, const struct request *r, int64_t now_ms, char **ret_worker_id, struct claim_left *ret_left)
{
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};
	enum claimed claimed = CLAIM_NONE;
	AUTO_STR worker = NULL;
	int64_t until = 0;
	int rc = look_at_claim(tx, r->agent_id, now_ms, &claimed, &claim, &until, ret_left);

	if (rc == OK && claimed != CLAIM_NONE) {
		rc = wake_claim(tx, r->agent_id, &claim, claimed == CLAIM_AWAY, now_ms);
		if (rc == ERR_EMPTY) {
			claimed = CLAIM_NONE;
			rc = OK;
		}
	}
	if (rc == OK)
		rc = insert_request(tx, r,
		    claimed == CLAIM_READY  ? "claimed"
		    : claimed == CLAIM_AWAY ? "offline"
					    : "queued",
		    claimed != CLAIM_NONE ? claim.worker_id : NULL, until, now_ms);
	if (rc != OK)
		return rc;
	if (claimed == CLAIM_READY) {
		*ret_worker_id = str_dup(claim.worker_id);
		return OK;
	}
	rc = tell_event(tx, r->agent_id, claimed == CLAIM_AWAY ? "claimed_offline" : "created", now_ms);
	if (rc == OK && claimed == CLAIM_NONE) {
		rc = queue_match(tx, r->agent_id, now_ms, &worker, ret_left);
		rc = rc == ERR_EMPTY ? OK : rc;
	}
	if (rc == OK)
		*ret_worker_id = TAKE(worker);
	return rc;
}

/* A full worker has an idle claim that yields: the one that is idle longest ends. `ret_left`: a personal machine has
 * other sessions, so that one must be closed by name; a pool worker closes its only one when the next is opened. */
static int end_yielding_claim(
    struct tx *tx, const struct request *r, const char *worker_id, int64_t now_ms, struct claim_left *ret_left)
{
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};
	struct query *q = NULL;
	int rc = tx_query(tx, &q,
	    "DELETE FROM claims WHERE agent_id = (SELECT c.agent_id FROM claims c WHERE c.team_id = $1 AND c.worker_id "
	    "= $2"
	    " AND c.idle_since IS NOT NULL ORDER BY c.idle_since, c.agent_id LIMIT 1) AND idle_since IS NOT NULL"
	    " RETURNING " CLAIM_COLUMNS,
	    "is", r->team_id, worker_id);

	rc = read_claim(rc, q, &claim);
	if (rc == OK)
		rc = slots_follow(tx, r->team_id, worker_id, now_ms);
	if (rc == OK && claim.personal) {
		claim_left_fini(ret_left);
		*ret_left =
		    (struct claim_left){claim.team_id, TAKE(claim.worker_id), TAKE(claim.id), TAKE(claim.agent_id)};
	}
	return rc;
}

/* ERR_EMPTY: another was faster with the worker or with the request; then nothing is changed. The unique keys of
 * claims decide, so the claim comes first. */
static int bind_worker(struct tx *tx, const struct request *r, const char *worker_id, int64_t now_ms)
{
	AUTO_STR id = id_new("claim-");
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "INSERT INTO claims(id, agent_id, team_id, worker_id, created_at, node_id, node_epoch, personal, pool, "
	    "repo)"
	    " SELECT $1, $2, $3, $4, $5, w.node_id, w.node_epoch, w.personal, $6, $7 FROM workers w WHERE w.team_id = "
	    "$3"
	    " AND w.id = $4 ON CONFLICT DO NOTHING",
	    "ssisiss", id, r->agent_id, r->team_id, worker_id, now_ms, r->pool, r->repo);

	if (rc == OK && n != 1)
		return ERR_EMPTY;
	if (rc == OK)
		rc = tx_change(tx, &n,
		    "UPDATE workers SET busy = busy + 1 WHERE team_id = $1 AND id = $2 AND busy < max_sessions AND"
		    " draining = 0 AND unfit_code = ''",
		    "is", r->team_id, worker_id);
	if (rc == OK && n == 1)
		rc = tx_change(tx, &n,
		    "UPDATE requests SET state = 'claimed', worker_id = $3"
		    " WHERE agent_id = $1 AND run_id = $2 AND state = 'queued'",
		    "sss", r->agent_id, r->run_id, worker_id);
	if (rc == OK && n != 1) {
		rc = claim_end(tx, r->agent_id, now_ms);
		return rc != OK ? rc : ERR_EMPTY;
	}
	if (rc == OK)
		rc = slots_follow(tx, r->team_id, worker_id, now_ms);
	return rc != OK ? rc : tell_event(tx, r->agent_id, "claimed", now_ms);
}

static int find_worker(
    struct tx *tx, const struct request *r, enum slot_state state, bool untried, char **ret_worker_id)
{
	if (r->machine != NULL)
		return machine_find(tx, r, state, ret_worker_id);
	return match_worker(tx, r, state, untried, ret_worker_id);
}

/* A free worker, else one that an idle claim yields. */
static int match_queued(
    struct tx *tx, const struct queued *w, int64_t now_ms, char **ret_worker_id, struct claim_left *ret_left)
{
	AUTO_STR worker = NULL;
	bool untried = false;
	int rc = OK;

	if (w->open_attempts > 0 && w->r.machine == NULL)
		rc = match_has_untried(tx, &w->r, &untried);
	if (rc == OK)
		rc = find_worker(tx, &w->r, SLOT_FREE, untried, &worker);
	if (rc == OK)
		rc = bind_worker(tx, &w->r, worker, now_ms);
	if (rc == ERR_EMPTY) {
		str_free(&worker);
		rc = find_worker(tx, &w->r, SLOT_HELD, untried, &worker);
		if (rc == OK)
			rc = end_yielding_claim(tx, &w->r, worker, now_ms, ret_left);
		if (rc == OK)
			rc = bind_worker(tx, &w->r, worker, now_ms);
	}
	if (rc == OK)
		*ret_worker_id = TAKE(worker);
	return rc;
}

int queue_match(struct tx *tx, const char *agent_id, int64_t now_ms, char **ret_worker_id, struct claim_left *ret_left)
{
	__attribute__((cleanup(queued_fini))) struct queued w = {0};
	bool within = true;
	int rc = queued_load(tx, agent_id, &w);

	if (rc == OK)
		rc = match_within_cap(tx, w.r.team_id, w.r.user_id, &within);
	if (rc == OK && !within)
		return ERR_EMPTY;
	return rc != OK ? rc : match_queued(tx, &w, now_ms, ret_worker_id, ret_left);
}

int queue_match_worker(struct tx *tx, int64_t team_id, const char *worker_id, int64_t now_ms, char **ret_run_id,
    struct claim_left *ret_left)
{
	__attribute__((cleanup(queued_fini))) struct queued w = {0};
	AUTO_STR agent = NULL;
	int64_t free_places = 0;
	int rc = match_request(tx, team_id, worker_id, &agent);

	if (rc == ERR_EMPTY)
		rc = machine_request(tx, team_id, worker_id, &agent);
	if (rc == OK)
		rc = queued_load(tx, agent, &w);
	if (rc == OK)
		rc = tx_query_int(tx, &free_places,
		    "SELECT max_sessions - busy FROM workers WHERE team_id = $1 AND id = $2", "is", team_id, worker_id);
	if (rc == OK && free_places <= 0)
		rc = end_yielding_claim(tx, &w.r, worker_id, now_ms, ret_left);
	if (rc == OK)
		rc = bind_worker(tx, &w.r, worker_id, now_ms);
	if (rc == OK)
		*ret_run_id = str_dup(w.r.run_id);
	return rc;
}

/* While no worker at all is to be had, which is when the queue is long, the queue is not read. The states are written
 * out there, as in the index worker_slots_free. */
_Static_assert(SLOT_FREE == 1 && SLOT_HELD == 2, "as in migrations/0007_pool_indexes.sql");
int queue_next(struct tx *tx, struct queue_place *place, char **ret_run_id)
{
	AUTO(query) q = NULL;
	int64_t one;
	int rc = tx_query_int(tx, &one, "SELECT 1 FROM worker_slots WHERE state IN (1, 2) LIMIT 1", "");

	if (rc != OK)
		return rc;
	rc = tx_query(tx, &q,
	    "SELECT r.queued_at, r.agent_id, r.run_id FROM requests r WHERE r.state = 'queued'"
	    " AND (r.queued_at, r.agent_id) > ($1, $2)"
	    " AND (r.machine IS NOT NULL OR EXISTS("
	    "SELECT 1 FROM worker_slots s WHERE s.team_id = r.team_id AND s.pool = r.pool AND s.repo = r.repo"
	    " AND s.state IN ($3, $4) AND s.n_labels >= CASE WHEN r.label = '' THEN 0 ELSE 1 END"
	    " AND (s.repo_host = r.repo_host OR s.repo_host = '' OR r.repo_host = '')))"
	    " ORDER BY r.queued_at, r.agent_id LIMIT 1",
	    "isii", place->queued_at_ms, place->agent_id != NULL ? place->agent_id : "", (int64_t)SLOT_FREE,
	    (int64_t)SLOT_HELD);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	place->queued_at_ms = query_int(q, 0);
	str_set(&place->agent_id, query_str(q, 1));
	*ret_run_id = str_dup(query_str(q, 2));
	return OK;
}

int queue_set_serving(struct tx *tx, const char *agent_id)
{
	return tx_exec(tx,
	    "UPDATE requests SET state = 'serving', opening_at = NULL, opening = NULL, opening_said_at = NULL"
	    " WHERE agent_id = $1",
	    "s", agent_id);
}

int queue_set_opening(struct tx *tx, const char *agent_id, int64_t now_ms)
{
	return tx_exec(tx,
	    "UPDATE requests SET opening_at = $2, opening = NULL, opening_said_at = NULL"
	    " WHERE agent_id = $1 AND state = 'claimed'",
	    "si", agent_id, now_ms);
}

int queue_say_opening(struct tx *tx, const char *agent_id, const char *what, int64_t now_ms)
{
	return tx_exec(tx,
	    "UPDATE requests SET opening = $2, opening_said_at = $3 WHERE agent_id = $1 AND opening_at IS NOT NULL"
	    " AND (opening IS NULL OR opening <> $2)",
	    "ssi", agent_id, what, now_ms);
}

/* Who watches the queue forgets what left it without a worker. */
static int tell_of_leaving(struct tx *tx, const char *agent_id, int64_t now_ms)
{
	int64_t one;
	int rc = tx_query_int(
	    tx, &one, "SELECT 1 FROM requests WHERE agent_id = $1 AND state IN ('queued', 'offline')", "s", agent_id);

	if (rc == OK)
		rc = tell_event(tx, agent_id, "expired", now_ms);
	return rc == ERR_EMPTY ? OK : rc;
}

int queue_end(struct tx *tx, const char *agent_id, int64_t now_ms)
{
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};
	struct query *q = NULL;
	int rc = tell_of_leaving(tx, agent_id, now_ms);

	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM requests WHERE agent_id = $1", "s", agent_id);
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM request_labels WHERE agent_id = $1", "s", agent_id);
	if (rc != OK)
		return rc;
	/* One that was kept for a worker that has not come yet has no workspace to come back to. */
	rc = tx_query(tx, &q, "UPDATE claims SET idle_since = $2 WHERE agent_id = $1 RETURNING " CLAIM_COLUMNS, "si",
	    agent_id, now_ms);
	rc = read_claim(rc, q, &claim);
	if (rc == OK)
		return slots_follow(tx, claim.team_id, claim.worker_id, now_ms);
	return rc == ERR_EMPTY ? OK : rc;
}

/* `q` deletes a claim: its worker is free. ERR_EMPTY if it met none. ret_claim_id (malloc'ed) may be NULL. */
static int free_worker_of(struct tx *tx, int rc, struct query *q, int64_t now_ms, char **ret_claim_id)
{
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};

	rc = read_claim(rc, q, &claim);
	if (rc == OK)
		rc = slots_follow(tx, claim.team_id, claim.worker_id, now_ms);
	if (rc == OK && ret_claim_id != NULL)
		*ret_claim_id = TAKE(claim.id);
	return rc;
}

int claim_end(struct tx *tx, const char *agent_id, int64_t now_ms)
{
	struct query *q = NULL;
	int rc = tx_query(tx, &q, "DELETE FROM claims WHERE agent_id = $1 RETURNING " CLAIM_COLUMNS, "s", agent_id);

	rc = free_worker_of(tx, rc, q, now_ms, NULL);
	return rc == ERR_EMPTY ? OK : rc;
}

int claim_end_idle(struct tx *tx, const char *agent_id, const char *worker_id, int64_t idle_before_ms, int64_t now_ms,
    char **ret_claim_id)
{
	struct query *q = NULL;
	int rc = tx_query(tx, &q,
	    "DELETE FROM claims WHERE agent_id = $1 AND worker_id = $2 AND idle_since < $3"
	    " RETURNING " CLAIM_COLUMNS,
	    "ssi", agent_id, worker_id, idle_before_ms);

	return free_worker_of(tx, rc, q, now_ms, ret_claim_id);
}

int claim_end_lost(struct tx *tx, const char *agent_id, const char *worker_id, int64_t lost_before_ms, int64_t now_ms)
{
	struct query *q = NULL;
	int rc = tx_query(tx, &q,
	    "DELETE FROM claims WHERE agent_id = $1 AND worker_id = $2 AND lost_at < $3"
	    " AND NOT EXISTS(SELECT 1 FROM requests r WHERE r.agent_id = $1) RETURNING " CLAIM_COLUMNS,
	    "ssi", agent_id, worker_id, lost_before_ms);

	return free_worker_of(tx, rc, q, now_ms, NULL);
}

int queue_requeue_lost(struct tx *tx, const char *agent_id, const char *run_id, const char *worker_id,
    int64_t lost_before_ms, int64_t now_ms, int64_t *ret_attempts)
{
	struct query *q = NULL;
	int64_t attempts = 0;
	int rc = tx_query(tx, &q,
	    "DELETE FROM claims WHERE agent_id = $1 AND worker_id = $2 AND lost_at < $3 RETURNING " CLAIM_COLUMNS,
	    "ssi", agent_id, worker_id, lost_before_ms);

	rc = free_worker_of(tx, rc, q, now_ms, NULL);
	if (rc == OK)
		rc = tx_query_int(tx, &attempts,
		    "UPDATE requests SET attempts = attempts + 1 WHERE agent_id = $1 AND run_id = $2 AND worker_id = $3"
		    " AND state = 'claimed' RETURNING attempts",
		    "sss", agent_id, run_id, worker_id);
	if (rc == OK)
		rc = requeue(tx, agent_id, now_ms);
	if (rc == OK)
		*ret_attempts = attempts;
	return rc;
}

int queue_requeue_unopened(
    struct tx *tx, const char *agent_id, const char *run_id, const char *worker_id, int64_t now_ms)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE requests SET open_attempts = open_attempts + 1"
	    " WHERE agent_id = $1 AND run_id = $2 AND worker_id = $3 AND state = 'claimed'",
	    "sss", agent_id, run_id, worker_id);

	if (rc == OK && n == 0)
		return ERR_EMPTY;
	if (rc == OK)
		rc = requeue(tx, agent_id, now_ms);
	return rc != OK ? rc : claim_end(tx, agent_id, now_ms);
}

int queue_requeue_mismatch(struct tx *tx, const char *agent_id, int64_t now_ms)
{
	int rc = claim_end(tx, agent_id, now_ms);

	if (rc == OK)
		rc = tx_exec(tx, "UPDATE requests SET mismatches = mismatches + 1 WHERE agent_id = $1", "s", agent_id);
	return rc != OK ? rc : requeue(tx, agent_id, now_ms);
}

int queue_worker_came(struct tx *tx, const char *agent_id, int64_t now_ms)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE requests SET state = 'claimed', offline_until = NULL WHERE agent_id = $1 AND state = 'offline'",
	    "s", agent_id);

	return rc != OK || n == 0 ? rc : tell_event(tx, agent_id, "claimed", now_ms);
}

int queue_start_failed(struct tx *tx, const char *agent_id, int64_t connect_before_ms, int64_t now_ms)
{
	struct query *q = NULL;
	int64_t n = 0;
	int rc = tx_query(tx, &q, "DELETE FROM claims WHERE agent_id = $1 AND connect_by < $2 RETURNING " CLAIM_COLUMNS,
	    "si", agent_id, connect_before_ms);

	rc = free_worker_of(tx, rc, q, now_ms, NULL);
	if (rc == OK)
		rc = tx_change(tx, &n,
		    "UPDATE requests SET starts = starts + 1 WHERE agent_id = $1 AND state IN ('claimed', 'offline')",
		    "s", agent_id);
	return rc != OK || n == 0 ? rc : requeue(tx, agent_id, now_ms);
}

int queue_lapse(struct tx *tx, const char *agent_id, int64_t offline_before_ms, int64_t now_ms)
{
	int64_t one;
	int rc = tx_query_int(tx, &one,
	    "SELECT 1 FROM requests WHERE agent_id = $1 AND state = 'offline' AND offline_until < $2", "si", agent_id,
	    offline_before_ms);

	if (rc == OK)
		rc = claim_end(tx, agent_id, now_ms);
	return rc != OK ? rc : requeue(tx, agent_id, now_ms);
}

/* The agent whose claim is to end. */
static int find_kept(struct tx *tx, const struct request *r, int64_t idle_before_ms, char **ret_agent_id)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT c.agent_id, w.labels FROM worker_slots s JOIN workers w ON w.team_id = s.team_id AND w.id = "
	    "s.worker_id"
	    " JOIN claims c ON c.team_id = w.team_id AND c.worker_id = w.id WHERE s.team_id = $1 AND s.pool = $2 AND"
	    " s.repo = $3 AND (s.repo_host = $4 OR s.repo_host = '' OR $4 = '') AND s.state = $5 AND w.idle_release_s "
	    "= "
	    "0"
	    " AND c.idle_since < $6 ORDER BY c.idle_since, c.agent_id",
	    "isssii", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_KEPT, idle_before_ms);

	while (rc == OK && (rc = query_next(q)) == OK) {
		__attribute__((cleanup(labels_fini))) struct labels have = {0};

		labels_parse(query_str(q, 1), &have);
		if (labels_lacking(&have, r->labels) == NULL) {
			*ret_agent_id = str_dup(query_str(q, 0));
			return OK;
		}
	}
	return rc;
}

int queue_reclaim(struct tx *tx, const char *agent_id, int64_t idle_before_ms, int64_t now_ms, struct claim_left *ret)
{
	__attribute__((cleanup(queued_fini))) struct queued w = {0};
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};
	AUTO_STR agent = NULL;
	int rc = queued_load(tx, agent_id, &w);

	if (rc == OK)
		rc = find_kept(tx, &w.r, idle_before_ms, &agent);
	if (rc == OK)
		rc = load_claim(tx, agent, &claim);
	if (rc == OK)
		rc = claim_end(tx, agent, now_ms);
	if (rc == OK)
		*ret = (struct claim_left){claim.team_id, TAKE(claim.worker_id), TAKE(claim.id), TAKE(claim.agent_id)};
	return rc;
}

int queue_check_lost(
    struct tx *tx, const char *agent_id, const char *run_id, const char *worker_id, int64_t lost_before_ms)
{
	int64_t one;

	return tx_query_int(tx, &one,
	    "SELECT 1 FROM requests r JOIN claims c ON c.agent_id = r.agent_id AND c.worker_id = r.worker_id"
	    " WHERE r.agent_id = $1 AND r.run_id = $2 AND r.worker_id = $3 AND c.lost_at < $4",
	    "sssi", agent_id, run_id, worker_id, lost_before_ms);
}

int queue_check_queued(struct tx *tx, const char *agent_id, const char *run_id)
{
	int64_t one;

	return tx_query_int(tx, &one, "SELECT 1 FROM requests WHERE agent_id = $1 AND run_id = $2 AND state = 'queued'",
	    "ss", agent_id, run_id);
}
