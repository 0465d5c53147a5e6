#include "server/fleet/claim_calls.h"
#include "base/id.h"
#include "base/mem.h"
#include "server/fleet/match.h"
#include "server/fleet/queue_events.h"
#include <string.h>

void claim_made_fini(struct claim_made *m)
{
	str_free(&m->claim_id);
	str_free(&m->run_id);
}

void claim_state_fini(struct claim_state *s)
{
	str_free(&s->claim_id);
	str_free(&s->worker_id);
	str_free(&s->run_id);
}

/* As the request is now. */
static int claim_tell(struct tx *tx, const char *agent_id, const char *kind, int64_t now_ms)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT team_id, pool, repo, repo_host, worker_id FROM requests WHERE agent_id = $1",
	    "s", agent_id);

	if (rc == OK)
		rc = query_next(q);
	return rc != OK ? rc
			: queue_event_add(tx, query_int(q, 0), kind, agent_id, query_str(q, 1), query_str(q, 2),
			      query_str(q, 3), query_text(q, 4), 0, now_ms);
}

/* The live claim of the agent, if there is one. ERR_EMPTY. */
static int find_live(struct tx *tx, const struct claim_ask *ask, char **ret_worker, char **ret_claim)
{
	AUTO(query) q = NULL;
	int rc =
	    tx_query(tx, &q, "SELECT worker_id, id FROM claims WHERE agent_id = $1 AND team_id = $2 AND personal = 0",
		"si", ask->agent_id, ask->team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	*ret_worker = str_dup(query_str(q, 0));
	*ret_claim = str_dup(query_str(q, 1));
	return OK;
}

/* Whether the worker is connected now, and if it is, whether it may have the request at once. */
struct candidate {
	bool connected, matches;
	const char *problem; /* a literal, if it does not match */
};

static int has_slot(struct tx *tx, const struct request *r, const char *worker_id, bool *ret)
{
	int64_t one;
	int rc = tx_query_int(tx, &one,
	    "SELECT 1 FROM worker_slots WHERE team_id = $1 AND worker_id = $2 AND pool = $3 AND repo = $4 AND"
	    " (repo_host = $5 OR repo_host = '' OR $5 = '') AND state = $6",
	    "issssi", r->team_id, worker_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_FREE);

	*ret = rc == OK;
	return rc == ERR_EMPTY ? OK : rc;
}

static int look_at_worker(struct tx *tx, const struct request *r, const char *worker_id, struct candidate *ret)
{
	__attribute__((cleanup(labels_fini))) struct labels have = {0};
	AUTO(query) q = NULL;
	bool slot = false;
	int rc = tx_query(tx, &q,
	    "SELECT personal, draining, unfit_code, pool, labels, only_agent FROM workers WHERE team_id = $1 AND id = "
	    "$2",
	    "is", r->team_id, worker_id);

	*ret = (struct candidate){0};
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	ret->connected = true;
	labels_parse(query_str(q, 4), &have);
	if (query_int(q, 0) != 0)
		ret->problem = "it is a personal machine";
	else if (query_int(q, 1) != 0)
		ret->problem = "it is stopping";
	else if (query_str(q, 2)[0] != '\0')
		ret->problem = "it says that it cannot work now";
	else if (query_str(q, 5)[0] != '\0')
		ret->problem = "it came with the session token of another claim";
	else if (strcmp(query_str(q, 3), r->pool) != 0)
		ret->problem = "it is in another pool";
	else if (labels_lacking(&have, r->labels) != NULL)
		ret->problem = "it lacks a label of the request";
	query_free(&q);
	if (ret->problem == NULL) {
		rc = has_slot(tx, r, worker_id, &slot);
		ret->matches = slot;
		ret->problem = slot ? NULL : "it does not serve the repository of the request";
	}
	return rc;
}

/* ERR_EMPTY: another was faster with the worker or with the request. */
static int insert_claim(struct tx *tx, const struct claim_ask *ask, const struct request *r, bool connected,
    const char *claim_id, int64_t now_ms)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "INSERT INTO claims(id, agent_id, team_id, worker_id, created_at, pool, repo, connect_by, node_id,"
	    " node_epoch) VALUES($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 > 0 THEN $8 END, COALESCE((SELECT w.node_id"
	    " FROM workers w WHERE w.team_id = $3 AND w.id = $4), ''), COALESCE((SELECT w.node_epoch FROM workers w"
	    " WHERE w.team_id = $3 AND w.id = $4), 0)) ON CONFLICT DO NOTHING",
	    "ssisissi", claim_id, ask->agent_id, ask->team_id, ask->worker_id, now_ms, r->pool, r->repo,
	    connected ? 0 : ask->connect_by_ms);

	if (rc == OK && n == 1)
		rc = tx_change(tx, &n,
		    "UPDATE requests SET state = 'claimed', worker_id = $2 WHERE agent_id = $1 AND state = 'queued'",
		    "ss", ask->agent_id, ask->worker_id);
	return rc == OK && n != 1 ? ERR_EMPTY : rc;
}

static int worker_is_bound(struct tx *tx, const struct claim_ask *ask, bool *ret)
{
	int64_t n = 0;
	int rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM claims WHERE team_id = $1 AND worker_id = $2", "is",
	    ask->team_id, ask->worker_id);

	*ret = n > 0;
	return rc;
}

static int reserve_queued(struct tx *tx, const struct claim_ask *ask, const struct request *r, int64_t now_ms,
    struct claim_made *ret, struct why *why)
{
	AUTO_STR id = id_new("claim-");
	struct candidate w = {0};
	bool bound = false;
	int rc = worker_is_bound(tx, ask, &bound);

	if (rc == OK && bound)
		return why_set(why, ERR_CONFLICT, "worker %s is bound to another agent", ask->worker_id);
	if (rc == OK)
		rc = look_at_worker(tx, r, ask->worker_id, &w);
	if (rc == OK && w.connected && !w.matches)
		return why_set(why, ERR_INVALID, "worker %s is connected and cannot take this request: %s",
		    ask->worker_id, w.problem);
	if (rc == OK)
		rc = insert_claim(tx, ask, r, w.connected, id, now_ms);
	if (rc == ERR_EMPTY)
		return why_set(why, ERR_CONFLICT, "another claim was faster");
	if (rc == OK)
		rc = slots_follow(tx, ask->team_id, ask->worker_id, now_ms);
	if (rc == OK)
		rc = claim_tell(tx, ask->agent_id, QUEUE_CLAIMED, now_ms);
	if (rc != OK)
		return rc;
	ret->claim_id = TAKE(id);
	ret->run_id = w.connected ? str_dup(r->run_id) : NULL;
	return OK;
}

int claim_reserve(struct tx *tx, const struct claim_ask *ask, int64_t now_ms, struct claim_made *ret, struct why *why)
{
	__attribute__((cleanup(queued_fini))) struct queued w = {0};
	AUTO_STR holder = NULL;
	AUTO_STR claim = NULL;
	int64_t waits = 0;
	int rc = find_live(tx, ask, &holder, &claim);

	if (rc == OK && strcmp(holder, ask->worker_id) == 0) {
		ret->claim_id = TAKE(claim);
		return OK;
	}
	if (rc == OK)
		rc = tx_query_int(tx, &waits, "SELECT COUNT(*) FROM requests WHERE agent_id = $1", "s", ask->agent_id);
	if (rc == OK && waits > 0)
		return why_set(why, ERR_CONFLICT, "the request is worker %s's: release that claim first", holder);
	if (rc == OK || rc == ERR_EMPTY)
		rc = queued_load(tx, ask->agent_id, &w);
	if (rc == ERR_EMPTY || (rc == OK && (w.r.team_id != ask->team_id || w.r.machine != NULL)))
		return why_set(why, ERR_NOT_FOUND, "no pending request has the id %.60s", ask->agent_id);
	return rc != OK ? rc : reserve_queued(tx, ask, &w.r, now_ms, ret, why);
}

int claim_find_pair(
    struct tx *tx, int64_t team_id, const char *agent_id, const char *worker_id, char **ret_claim_id, struct why *why)
{
	int rc = tx_query_text(tx, ret_claim_id,
	    "SELECT id FROM claims WHERE agent_id = $1 AND team_id = $2 AND worker_id = $3 AND personal = 0", "sis",
	    agent_id, team_id, worker_id);

	return rc == ERR_EMPTY
		   ? why_set(why, ERR_NOT_FOUND, "no live claim binds worker %.128s to %.60s", worker_id, agent_id)
		   : rc;
}

int claim_look(struct tx *tx, int64_t team_id, const char *agent_id, struct claim_state *ret, struct why *why)
{
	AUTO(query) q = NULL;
	const char *state;
	int rc = tx_query(tx, &q,
	    "SELECT c.id, c.worker_id, r.run_id, r.state, EXISTS(SELECT 1 FROM workers w WHERE w.team_id = c.team_id "
	    "AND"
	    " w.id = c.worker_id) FROM claims c LEFT JOIN requests r ON r.agent_id = c.agent_id"
	    " WHERE c.agent_id = $1 AND c.team_id = $2 AND c.personal = 0",
	    "si", agent_id, team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == ERR_EMPTY)
		return why_set(why, ERR_NOT_FOUND, "no live claim has the id %.60s", agent_id);
	if (rc != OK)
		return rc;
	state = query_str(q, 3);
	*ret = (struct claim_state){.connected = query_int(q, 4) != 0,
	    .serving = strcmp(state, "serving") == 0,
	    .waking = strcmp(state, "offline") == 0};
	ret->claim_id = str_dup(query_str(q, 0));
	ret->worker_id = str_dup(query_str(q, 1));
	ret->run_id = str_dup(query_text(q, 2));
	return OK;
}

/* A worker that is told to exit is connected for a moment still; nothing may be given to it. */
static int retire_worker(struct tx *tx, int64_t team_id, const char *worker_id)
{
	int rc =
	    tx_exec(tx, "UPDATE workers SET draining = 1 WHERE team_id = $1 AND id = $2", "is", team_id, worker_id);

	return rc != OK ? rc : slots_clear(tx, team_id, worker_id);
}

int claim_release(struct tx *tx, int64_t team_id, const char *agent_id, const struct claim_state *s, int64_t now_ms)
{
	int64_t n = 0;
	int rc = tx_exec(tx, "DELETE FROM claims WHERE agent_id = $1 AND id = $2", "ss", agent_id, s->claim_id);

	if (rc == OK)
		rc = slots_follow(tx, team_id, s->worker_id, now_ms);
	if (rc == OK)
		rc = retire_worker(tx, team_id, s->worker_id);
	if (rc == OK)
		rc = tx_change(tx, &n,
		    "UPDATE requests SET state = 'queued', worker_id = NULL, offline_until = NULL, opening_at = NULL,"
		    " opening = NULL, opening_said_at = NULL WHERE agent_id = $1 AND state IN ('claimed', 'offline')",
		    "s", agent_id);
	return rc != OK || n == 0 ? rc : claim_tell(tx, agent_id, QUEUE_CREATED, now_ms);
}
