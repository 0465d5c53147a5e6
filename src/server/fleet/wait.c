/* Why a request waits. One reason at a time: the first condition that holds, in the order of docs/api.md. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/fleet/queue.h"
#include <string.h>

struct waiting {
	char *state, *worker_id, *pool, *repo, *host;
	int64_t team_id, queued_at;
};

static void waiting_fini(struct waiting *w)
{
	free(w->state);
	free(w->worker_id);
	free(w->pool);
	free(w->repo);
	free(w->host);
}

static int load(struct tx *tx, const char *agent_id, struct waiting *ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT state, worker_id, pool, repo, repo_host, team_id, queued_at FROM requests WHERE agent_id = $1", "s",
	    agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	*ret = (struct waiting){
	    .state = str_dup(query_str(q, 0)),
	    .worker_id = str_dup(query_str(q, 1)),
	    .pool = str_dup(query_str(q, 2)),
	    .repo = str_dup(query_str(q, 3)),
	    .host = str_dup(query_str(q, 4)),
	    .team_id = query_int(q, 5),
	    .queued_at = query_int(q, 6),
	};
	return OK;
}

static json_t *reason(const char *code, const char *text, int64_t since_ms)
{
	json_t *j = json_object();
	char when[CLOCK_ISO_LEN];

	clock_iso8601(since_ms, when);
	json_put(j, "code", code);
	json_put(j, "text", text);
	json_put(j, "since", when);
	return j;
}

/* Bound to a worker: it waits only if that worker is away. */
static int bound_reason(
    struct tx *tx, const char *agent_id, const struct waiting *w, int64_t now_ms, int64_t grace_ms, json_t **ret)
{
	AUTO_STR text = NULL;
	int64_t lost_at = 0, left;
	int rc = tx_query_int(tx, &lost_at, "SELECT lost_at FROM claims WHERE agent_id = $1", "s", agent_id);

	if (rc != OK || lost_at == 0)
		return rc == OK ? ERR_EMPTY : rc;
	left = MAX(lost_at + grace_ms - now_ms, 0) / 1000;
	text = str_printf(
	    "worker %s disconnected; waiting up to %lld s for it to come back", w->worker_id, (long long)left);
	*ret = reason("waking", text, lost_at);
	return OK;
}

static int count_matching(struct tx *tx, const struct waiting *w, int64_t *ret_all, int64_t *ret_free)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COUNT(*), COALESCE(SUM(CASE WHEN state = $5 THEN 0 ELSE 1 END), 0) FROM worker_slots WHERE team_id "
	    "= $1 AND pool = $2 AND repo = $3"
	    " AND (repo_host = $4 OR repo_host = '' OR $4 = '')",
	    "isssi", w->team_id, w->pool, w->repo, w->host, (int64_t)SLOT_BUSY);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	*ret_all = query_int(q, 0);
	*ret_free = query_int(q, 1);
	return OK;
}

static int queued_reason(struct tx *tx, const char *agent_id, const struct waiting *w, json_t **ret)
{
	AUTO_STR text = NULL;
	int64_t connected = 0, matching = 0, idle = 0, before = 0;
	int rc = tx_query_int(
	    tx, &connected, "SELECT COUNT(*) FROM workers WHERE team_id = $1 AND pool = $2", "is", w->team_id, w->pool);

	if (rc == OK)
		rc = count_matching(tx, w, &matching, &idle);
	if (rc == OK)
		rc = tx_query_int(tx, &before,
		    "SELECT COUNT(*) FROM requests WHERE team_id = $1 AND pool = $2 AND repo = $3 AND state = 'queued'"
		    " AND (queued_at < $4 OR (queued_at = $4 AND agent_id < $5))",
		    "issis", w->team_id, w->pool, w->repo, w->queued_at, agent_id);
	if (rc != OK)
		return rc;
	if (connected == 0) {
		text = str_printf("no worker is connected to pool %s", w->pool);
		*ret = reason("no_workers", text, w->queued_at);
	} else if (matching == 0) {
		text = str_printf("none of the %lld workers of pool %s serves %s", (long long)connected, w->pool,
		    w->repo[0] ? w->repo : "requests without a repository");
		*ret = reason("no_repo", text, w->queued_at);
	} else if (idle > 0) {
		*ret = reason("starting", "a matching worker is free, the request is being assigned", w->queued_at);
	} else {
		text = str_printf(
		    "all %lld matching workers are busy; position %lld", (long long)matching, (long long)before + 1);
		*ret = reason("all_busy", text, w->queued_at);
		json_put_int(*ret, "position", before + 1);
	}
	return OK;
}

int queue_wait_reason(struct tx *tx, const char *agent_id, int64_t now_ms, int64_t grace_ms, json_t **ret)
{
	__attribute__((cleanup(waiting_fini))) struct waiting w = {0};
	int rc = load(tx, agent_id, &w);

	if (rc != OK)
		return rc;
	if (strcmp(w.state, "queued") == 0)
		return queued_reason(tx, agent_id, &w, ret);
	return bound_reason(tx, agent_id, &w, now_ms, grace_ms, ret);
}
