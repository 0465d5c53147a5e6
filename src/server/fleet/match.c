#include "server/fleet/match.h"
#include "base/mem.h"
#include <string.h>

#define RARE_ENOUGH 100 /* workers: counting more would cost more than it saves */

void queued_fini(struct queued *q)
{
	query_free(&q->q);
	labels_fini(&q->labels);
}

int queued_load(struct tx *tx, const char *agent_id, struct queued *ret)
{
	int rc = tx_query(tx, &ret->q,
	    "SELECT run_id, team_id, pool, repo, repo_host, open_attempts, user_id, machine, labels, label FROM "
	    "requests"
	    " WHERE agent_id = $1 AND state = 'queued'",
	    "s", agent_id);

	if (rc == OK)
		rc = query_next(ret->q);
	if (rc != OK)
		return rc;
	labels_parse(query_str(ret->q, 8), &ret->labels);
	ret->r = (struct request){.agent_id = agent_id,
	    .run_id = query_str(ret->q, 0),
	    .team_id = query_int(ret->q, 1),
	    .pool = query_str(ret->q, 2),
	    .repo = query_str(ret->q, 3),
	    .repo_host = query_str(ret->q, 4),
	    .user_id = query_int(ret->q, 6),
	    .machine = query_text(ret->q, 7),
	    .labels = &ret->labels,
	    .label = query_str(ret->q, 9)};
	ret->open_attempts = query_int(ret->q, 5);
	return OK;
}

int match_within_cap(struct tx *tx, int64_t team_id, int64_t user_id, bool *ret)
{
	int64_t max = 0, n = 0;
	int rc;

	*ret = true;
	if (user_id == 0)
		return OK;
	rc = tx_query_int(tx, &max, "SELECT max_active_per_user FROM teams WHERE id = $1", "i", team_id);
	if (rc == OK && max > 0)
		rc = tx_query_int(tx, &n,
		    "SELECT COUNT(*) FROM requests WHERE team_id = $1 AND user_id = $2 AND state IN ('claimed', "
		    "'serving')",
		    "ii", team_id, user_id);
	*ret = max == 0 || n < max;
	return rc == ERR_EMPTY ? OK : rc;
}

int match_rarest(struct tx *tx, const struct request *r, const char **ret)
{
	int64_t best = INT64_MAX;

	*ret = r->labels != NULL && r->labels->n > 0 ? r->labels->v[0] : "";
	for (size_t i = 0; r->labels != NULL && r->labels->n > 1 && i < r->labels->n; i++) {
		int64_t n = 0;
		int rc = tx_query_int(tx, &n,
		    "SELECT COUNT(*) FROM (SELECT 1 FROM slot_labels WHERE team_id = $1 AND pool = $2 AND repo = $3"
		    " AND pair = $4 LIMIT $5) AS few",
		    "isssi", r->team_id, r->pool, r->repo, r->labels->v[i], (int64_t)RARE_ENOUGH);

		if (rc != OK)
			return rc;
		if (n < best) {
			best = n;
			*ret = r->labels->v[i];
		}
	}
	return OK;
}

static bool wants_labels(const struct request *r)
{
	return r->labels != NULL && r->labels->n > 0;
}

#define OF_HOST(s) " AND (" s ".repo_host = $4 OR " s ".repo_host = '' OR $4 = '')"
#define NOT_TRIED(s)                                                                                                   \
	" AND NOT EXISTS(SELECT 1 FROM run_attempts a WHERE a.run_id = $6 AND a.worker_id = " s ".worker_id)"
/* $7: the agent, whose other pairs are in request_labels. */
#define HAS_ALL(s)                                                                                                     \
	" AND NOT EXISTS(SELECT 1 FROM request_labels l WHERE l.agent_id = $7 AND NOT EXISTS(SELECT 1 FROM"            \
	" slot_labels b WHERE b.team_id = " s ".team_id AND b.worker_id = " s ".worker_id AND b.repo = " s ".repo"     \
	" AND b.repo_host = " s ".repo_host AND b.pair = l.pair))"
#define BEST_FIRST(s) " ORDER BY " s ".n_labels, " s ".idle_since, " s ".worker_id LIMIT 1"

/* With an exact host there may be two kinds of rows (that host, unknown): the index gives both in order. */
int match_worker(struct tx *tx, const struct request *r, enum slot_state state, bool untried, char **ret_worker_id)
{
	if (wants_labels(r) && untried)
		return tx_query_text(tx, ret_worker_id,
		    "SELECT s.worker_id FROM slot_labels s WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3"
		    " AND s.state = $5 AND s.pair = $8" OF_HOST("s") NOT_TRIED("s") HAS_ALL("s") BEST_FIRST("s"),
		    "isssisss", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)state, r->run_id, r->agent_id,
		    r->label);
	if (wants_labels(r))
		return tx_query_text(tx, ret_worker_id,
		    "SELECT s.worker_id FROM slot_labels s WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3"
		    " AND s.state = $5 AND s.pair = $6" OF_HOST("s") HAS_ALL("s") BEST_FIRST("s"),
		    "isssiss", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)state, r->label, r->agent_id);
	if (untried)
		return tx_query_text(tx, ret_worker_id,
		    "SELECT s.worker_id FROM worker_slots s WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3"
		    " AND s.state = $5" OF_HOST("s") NOT_TRIED("s") BEST_FIRST("s"),
		    "isssis", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)state, r->run_id);
	return tx_query_text(tx, ret_worker_id,
	    "SELECT s.worker_id FROM worker_slots s WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3"
	    " AND s.state = $5" OF_HOST("s") BEST_FIRST("s"),
	    "isssi", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)state);
}

int match_has_untried(struct tx *tx, const struct request *r, bool *ret)
{
	int64_t one;
	int rc;

	if (wants_labels(r))
		rc = tx_query_int(tx, &one,
		    "SELECT 1 FROM slot_labels s WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3 AND s.state <> $5"
		    " AND s.pair = $8" OF_HOST("s") NOT_TRIED("s") HAS_ALL("s") " LIMIT 1",
		    "isssisss", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_UNFIT, r->run_id, r->agent_id,
		    r->label);
	else
		rc = tx_query_int(tx, &one,
		    "SELECT 1 FROM worker_slots s WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3 AND"
		    " s.state <> $5" OF_HOST("s") NOT_TRIED("s") " LIMIT 1",
		    "isssis", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_UNFIT, r->run_id);
	*ret = rc == OK;
	return rc == ERR_EMPTY ? OK : rc;
}

/* A request that was found, while older ones are looked for. */
struct found {
	char *agent_id;
	int64_t queued_at;
};

static bool is_older(const struct found *a, const struct found *than)
{
	if (than->agent_id == NULL)
		return true;
	return a->queued_at != than->queued_at ? a->queued_at < than->queued_at
					       : strcmp(a->agent_id, than->agent_id) < 0;
}

/* Tried by this worker: it gets it again only if there is no other that could be waited for. */
static int may_have_again(struct tx *tx, const char *agent_id, const char *worker_id, bool *ret)
{
	__attribute__((cleanup(queued_fini))) struct queued w = {0};
	int64_t tried = 0;
	bool others = false;
	int rc = queued_load(tx, agent_id, &w);

	if (rc == OK)
		rc = tx_query_int(tx, &tried, "SELECT COUNT(*) FROM run_attempts WHERE run_id = $1 AND worker_id = $2",
		    "ss", w.r.run_id, worker_id);
	if (rc == OK && tried > 0)
		rc = match_has_untried(tx, &w.r, &others);
	*ret = !others;
	return rc;
}

/* The oldest request of one (pool, repository) that leads with `label` ("": those that want none) and whose other pairs
 * the worker has. */
static int oldest_with(
    struct tx *tx, int64_t team_id, const char *worker_id, const struct slot *s, const char *label, struct found *ret)
{
	AUTO(query) q = NULL;
	int64_t capped = 0;
	int rc = tx_query(tx, &q,
	    "SELECT r.agent_id, r.queued_at, r.open_attempts, r.user_id FROM requests r WHERE r.team_id = $1 AND"
	    " r.pool = $2 AND r.repo = $3 AND r.state = 'queued' AND r.label = $6"
	    " AND (r.repo_host = $4 OR r.repo_host = '' OR $4 = '')"
	    " AND NOT EXISTS(SELECT 1 FROM request_labels l WHERE l.agent_id = r.agent_id AND NOT EXISTS(SELECT 1 FROM"
	    " slot_labels b WHERE b.team_id = $1 AND b.worker_id = $5 AND b.repo = $3 AND b.repo_host = $4 AND"
	    " b.pair = l.pair)) ORDER BY r.queued_at, r.agent_id",
	    "isssss", team_id, s->pool, s->repo, s->repo_host, worker_id, label);

	while (rc == OK && (rc = query_next(q)) == OK) {
		bool within = capped == 0 || query_int(q, 3) != capped, again = true;

		/* A user at the cap may have thousands that wait, one behind the other. */
		if (within)
			rc = match_within_cap(tx, team_id, query_int(q, 3), &within);
		if (rc == OK && !within)
			capped = query_int(q, 3);
		if (rc == OK && within && query_int(q, 2) > 0)
			rc = may_have_again(tx, query_str(q, 0), worker_id, &again);
		if (rc == OK && within && again) {
			ret->agent_id = str_dup(query_str(q, 0));
			ret->queued_at = query_int(q, 1);
			return OK;
		}
	}
	return rc;
}

static int look_in_slot(struct tx *tx, int64_t team_id, const char *worker_id, const struct slot *s,
    const struct labels *labels, struct found *best)
{
	int rc = OK;

	for (size_t i = 0; rc == OK && i <= labels->n; i++) {
		struct found f = {0};

		rc = oldest_with(tx, team_id, worker_id, s, i < labels->n ? labels->v[i] : "", &f);
		if (rc == OK && is_older(&f, best)) {
			free(best->agent_id);
			*best = f;
			f.agent_id = NULL;
		}
		free(f.agent_id);
		rc = rc == ERR_EMPTY ? OK : rc;
	}
	return rc;
}

int match_request(struct tx *tx, int64_t team_id, const char *worker_id, char **ret_agent_id)
{
	__attribute__((cleanup(labels_fini))) struct labels labels = {0};
	AUTO_STR text = NULL;
	AUTO(query) q = NULL;
	struct found best = {0};
	int rc = tx_query_text(
	    tx, &text, "SELECT labels FROM workers WHERE team_id = $1 AND id = $2", "is", team_id, worker_id);

	if (rc != OK)
		return rc;
	labels_parse(text, &labels);
	rc = tx_query(tx, &q,
	    "SELECT pool, repo, repo_host FROM worker_slots WHERE team_id = $1 AND worker_id = $2 AND state IN ($3, $4)"
	    " AND pool <> ''",
	    "isii", team_id, worker_id, (int64_t)SLOT_FREE, (int64_t)SLOT_HELD);
	while (rc == OK && (rc = query_next(q)) == OK) {
		const struct slot s = {query_str(q, 0), query_str(q, 1), query_str(q, 2)};

		rc = look_in_slot(tx, team_id, worker_id, &s, &labels, &best);
	}
	if (rc != ERR_EMPTY || best.agent_id == NULL) {
		free(best.agent_id);
		return rc;
	}
	*ret_agent_id = best.agent_id;
	return OK;
}
