#include "server/fleet/queue.h"
#include "base/id.h"
#include "base/mem.h"

/* workers.busy and worker_slots.state say the same, so they change together. A worker that is not connected has no
 * rows, one that goes away has no slots: then there is nothing to change. */
static int set_worker(struct tx *tx, int64_t team_id, const char *worker_id, enum slot_state state, int64_t since_ms)
{
	int rc = tx_exec(tx, "UPDATE workers SET busy = $3, idle_since = $4 WHERE team_id = $1 AND id = $2", "isii",
	    team_id, worker_id, (int64_t)(state != SLOT_FREE), since_ms);

	if (rc == OK)
		rc = tx_exec(tx,
		    "UPDATE worker_slots SET state = CASE WHEN state = $5 THEN state ELSE $3 END, idle_since = $4"
		    " WHERE team_id = $1 AND worker_id = $2",
		    "isiii", team_id, worker_id, (int64_t)state, since_ms, (int64_t)SLOT_UNFIT);
	return rc;
}

/* As set_worker would have left them, were it not for the fitness. */
int queue_follow_fitness(struct tx *tx, int64_t team_id, const char *worker_id)
{
	return tx_exec(tx,
	    "UPDATE worker_slots SET state = CASE"
	    " WHEN EXISTS(SELECT 1 FROM workers w WHERE w.team_id = $1 AND w.id = $2 AND w.unfit_code <> '') THEN $3"
	    " WHEN EXISTS(SELECT 1 FROM claims c WHERE c.team_id = $1 AND c.worker_id = $2 AND c.idle_since IS NULL) "
	    "THEN $4"
	    " WHEN EXISTS(SELECT 1 FROM claims c WHERE c.team_id = $1 AND c.worker_id = $2) THEN $5"
	    " ELSE $6 END WHERE team_id = $1 AND worker_id = $2",
	    "isiiii", team_id, worker_id, (int64_t)SLOT_UNFIT, (int64_t)SLOT_BUSY, (int64_t)SLOT_HELD,
	    (int64_t)SLOT_FREE);
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
	char *id, *worker_id;
	int64_t team_id;
};

static void claim_fini(struct claim *c)
{
	str_free(&c->id);
	str_free(&c->worker_id);
}

/* The claim that the statement found, changed or deleted: CLAIM_COLUMNS. ERR_EMPTY: it met none. Takes the query. */
#define CLAIM_COLUMNS "id, team_id, worker_id"
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
}

/* The claim's worker if it is connected now, and fit. Another claim is ended: this turn goes to another worker. */
static int claimed_and_connected(
    struct tx *tx, const char *agent_id, int64_t now_ms, char **ret_worker_id, struct claim_left *ret_left)
{
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};
	int64_t n = 0;
	int rc = load_claim(tx, agent_id, &claim);

	if (rc == OK)
		rc = tx_query_int(tx, &n,
		    "SELECT COUNT(*) FROM workers WHERE team_id = $1 AND id = $2 AND draining = 0 AND unfit_code = ''",
		    "is", claim.team_id, claim.worker_id);
	if (rc != OK)
		return rc;
	if (n == 0) {
		rc = claim_end(tx, agent_id, now_ms);
		if (rc != OK)
			return rc;
		*ret_left = (struct claim_left){claim.team_id, TAKE(claim.worker_id), TAKE(claim.id)};
		return ERR_EMPTY;
	}
	rc = tx_change(tx, &n,
	    "UPDATE claims SET idle_since = NULL WHERE agent_id = $1 AND id = $2 AND idle_since IS NOT NULL", "ss",
	    agent_id, claim.id);
	if (rc == OK && n != 1)
		return ERR_EMPTY; /* another request took it over meanwhile */
	if (rc == OK)
		rc = set_worker(tx, claim.team_id, claim.worker_id, SLOT_BUSY, now_ms);
	if (rc == OK)
		*ret_worker_id = TAKE(claim.worker_id);
	return rc;
}

int queue_add(struct tx *tx, const struct request *r, int64_t now_ms, char **ret_worker_id, struct claim_left *ret_left)
{
	AUTO_STR worker = NULL;
	int rc = claimed_and_connected(tx, r->agent_id, now_ms, &worker, ret_left);

	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	rc = tx_exec(tx,
	    "INSERT INTO requests(agent_id, run_id, team_id, pool, repo, repo_host, state, worker_id, queued_at, "
	    "attempts)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)",
	    "ssisssssi", r->agent_id, r->run_id, r->team_id, r->pool, r->repo, r->repo_host,
	    worker != NULL ? "claimed" : "queued", worker, now_ms);
	if (rc == OK && worker == NULL) {
		rc = queue_match(tx, r->agent_id, now_ms, &worker);
		rc = rc == ERR_EMPTY ? OK : rc;
	}
	if (rc == OK)
		*ret_worker_id = TAKE(worker);
	return rc;
}

/* Whether a worker that has not tried to open the session of this run could be waited for. */
static int has_untried(struct tx *tx, const struct request *r, bool *ret)
{
	int64_t one;
	int rc = tx_query_int(tx, &one,
	    "SELECT 1 FROM worker_slots s WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3 AND s.state <> $5"
	    " AND (s.repo_host = $4 OR s.repo_host = '' OR $4 = '') AND NOT EXISTS(SELECT 1 FROM run_attempts a"
	    " WHERE a.run_id = $6 AND a.worker_id = s.worker_id) LIMIT 1",
	    "isssis", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_UNFIT, r->run_id);

	*ret = rc == OK;
	return rc == ERR_EMPTY ? OK : rc;
}

/* The worker that has been in this state longest. `untried`: none that could not open the session of this run. */
static int find_worker(
    struct tx *tx, const struct request *r, enum slot_state state, bool untried, char **ret_worker_id)
{
	if (untried)
		return tx_query_text(tx, ret_worker_id,
		    "SELECT s.worker_id FROM worker_slots s WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3 AND"
		    " s.state = $5 AND (s.repo_host = $4 OR s.repo_host = '' OR $4 = '') AND NOT EXISTS(SELECT 1 FROM"
		    " run_attempts a WHERE a.run_id = $6 AND a.worker_id = s.worker_id)"
		    " ORDER BY s.idle_since, s.worker_id LIMIT 1",
		    "isssis", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)state, r->run_id);
	return tx_query_text(tx, ret_worker_id,
	    "SELECT worker_id FROM worker_slots WHERE team_id = $1 AND pool = $2 AND repo = $3 AND state = $5"
	    " AND (repo_host = $4 OR repo_host = '' OR $4 = '') ORDER BY idle_since, worker_id LIMIT 1",
	    "isssi", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)state);
}

/* A worker that is held by the claim of an agent between two runs: that claim ends. */
static int take_over_idle_claim(
    struct tx *tx, const struct request *r, bool untried, int64_t now_ms, char **ret_worker_id)
{
	AUTO_STR worker = NULL;
	int64_t n = 0;
	int rc = find_worker(tx, r, SLOT_HELD, untried, &worker);

	if (rc == OK)
		rc = tx_change(tx, &n,
		    "DELETE FROM claims WHERE team_id = $1 AND worker_id = $2 AND idle_since IS NOT NULL", "is",
		    r->team_id, worker);
	if (rc == OK && n != 1)
		return ERR_EMPTY; /* its agent went on meanwhile */
	if (rc == OK)
		rc = set_worker(tx, r->team_id, worker, SLOT_FREE, now_ms);
	if (rc == OK)
		*ret_worker_id = TAKE(worker);
	return rc;
}

/* ERR_EMPTY: another was faster with the worker or with the request; then nothing is changed. The unique keys of
 * claims decide, so the claim comes first. */
static int bind_worker(struct tx *tx, const struct request *r, const char *worker_id, int64_t now_ms)
{
	AUTO_STR id = id_new("claim-");
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "INSERT INTO claims(id, agent_id, team_id, worker_id, created_at, node_id, node_epoch)"
	    " SELECT $1, $2, $3, $4, $5, w.node_id, w.node_epoch FROM workers w WHERE w.team_id = $3 AND w.id = $4"
	    " ON CONFLICT DO NOTHING",
	    "ssisi", id, r->agent_id, r->team_id, worker_id, now_ms);

	if (rc == OK && n != 1)
		return ERR_EMPTY;
	if (rc == OK)
		rc = tx_change(tx, &n,
		    "UPDATE workers SET busy = 1 WHERE team_id = $1 AND id = $2 AND busy = 0 AND draining = 0 AND"
		    " unfit_code = ''",
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
	return rc != OK ? rc : set_worker(tx, r->team_id, worker_id, SLOT_BUSY, now_ms);
}

int queue_match(struct tx *tx, const char *agent_id, int64_t now_ms, char **ret_worker_id)
{
	AUTO(query) q = NULL;
	AUTO_STR worker = NULL;
	struct request r;
	bool untried = false;
	int rc = tx_query(tx, &q,
	    "SELECT run_id, team_id, pool, repo, repo_host, open_attempts FROM requests WHERE agent_id = $1 AND state "
	    "= 'queued'",
	    "s", agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	r = (struct request){.agent_id = agent_id,
	    .run_id = query_str(q, 0),
	    .team_id = query_int(q, 1),
	    .pool = query_str(q, 2),
	    .repo = query_str(q, 3),
	    .repo_host = query_str(q, 4)};
	if (query_int(q, 5) > 0)
		rc = has_untried(tx, &r, &untried);
	if (rc == OK)
		rc = find_worker(tx, &r, SLOT_FREE, untried, &worker);
	if (rc == OK)
		rc = bind_worker(tx, &r, worker, now_ms);
	if (rc == ERR_EMPTY) {
		str_free(&worker);
		rc = take_over_idle_claim(tx, &r, untried, now_ms, &worker);
		if (rc == OK)
			rc = bind_worker(tx, &r, worker, now_ms);
	}
	if (rc == OK)
		*ret_worker_id = TAKE(worker);
	return rc;
}

/* While no worker at all is to be had, which is when the queue is long, the queue is not read. */
int queue_next(struct tx *tx, struct queue_place *place, char **ret_run_id)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT r.queued_at, r.agent_id, r.run_id FROM requests r WHERE r.state = 'queued'"
	    " AND (r.queued_at, r.agent_id) > ($1, $2)"
	    " AND EXISTS(SELECT 1 FROM worker_slots WHERE state IN ($3, $4)) AND EXISTS("
	    "SELECT 1 FROM worker_slots s WHERE s.team_id = r.team_id AND s.pool = r.pool AND s.repo = r.repo"
	    " AND s.state IN ($3, $4) AND (s.repo_host = r.repo_host OR s.repo_host = '' OR r.repo_host = ''))"
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

int queue_end(struct tx *tx, const char *agent_id, int64_t now_ms)
{
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};
	struct query *q = NULL;
	int rc = tx_exec(tx, "DELETE FROM requests WHERE agent_id = $1", "s", agent_id);

	if (rc != OK)
		return rc;
	rc = tx_query(tx, &q, "UPDATE claims SET idle_since = $2 WHERE agent_id = $1 RETURNING " CLAIM_COLUMNS, "si",
	    agent_id, now_ms);
	rc = read_claim(rc, q, &claim);
	if (rc == OK)
		return set_worker(tx, claim.team_id, claim.worker_id, SLOT_HELD, now_ms);
	return rc == ERR_EMPTY ? OK : rc;
}

/* `q` deletes a claim: its worker is free. ERR_EMPTY if it met none. ret_claim_id (malloc'ed) may be NULL. */
static int free_worker_of(struct tx *tx, int rc, struct query *q, int64_t now_ms, char **ret_claim_id)
{
	__attribute__((cleanup(claim_fini))) struct claim claim = {0};

	rc = read_claim(rc, q, &claim);
	if (rc == OK)
		rc = set_worker(tx, claim.team_id, claim.worker_id, SLOT_FREE, now_ms);
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
		    "UPDATE requests SET state = 'queued', worker_id = NULL, attempts = attempts + 1, opening_at = "
		    "NULL,"
		    " opening = NULL"
		    " WHERE agent_id = $1 AND run_id = $2 AND worker_id = $3 AND state = 'claimed' RETURNING attempts",
		    "sss", agent_id, run_id, worker_id);
	if (rc == OK)
		*ret_attempts = attempts;
	return rc;
}

int queue_requeue_unopened(
    struct tx *tx, const char *agent_id, const char *run_id, const char *worker_id, int64_t now_ms)
{
	struct query *q = NULL;
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE requests SET state = 'queued', worker_id = NULL, open_attempts = open_attempts + 1,"
	    " opening_at = NULL, opening = NULL, opening_said_at = NULL"
	    " WHERE agent_id = $1 AND run_id = $2 AND worker_id = $3 AND state = 'claimed'",
	    "sss", agent_id, run_id, worker_id);

	if (rc == OK && n == 0)
		return ERR_EMPTY;
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "DELETE FROM claims WHERE agent_id = $1 AND worker_id = $2 RETURNING " CLAIM_COLUMNS, "ss",
		    agent_id, worker_id);
	rc = free_worker_of(tx, rc, q, now_ms, NULL);
	return rc == ERR_EMPTY ? OK : rc;
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
