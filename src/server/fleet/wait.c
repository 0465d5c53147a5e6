/* Why a request waits. One reason at a time: the first condition that holds, in the order of docs/api.md. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/fleet/wait.h"
#include <string.h>

void queue_group_free(struct queue_group **gp)
{
	struct queue_group *g = TAKE(*gp);

	if (g == NULL)
		return;
	free(g->agent_id);
	free(g->state);
	free(g->worker_id);
	free(g->pool);
	free(g->repo);
	free(g->repo_host);
	free(g);
}

int queue_group_load(struct tx *tx, const char *agent_id, struct queue_group **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT state, worker_id, pool, repo, repo_host, team_id, queued_at FROM requests WHERE agent_id = $1", "s",
	    agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	*ret = NEW(struct queue_group);
	**ret = (struct queue_group){
	    .agent_id = str_dup(agent_id),
	    .state = str_dup(query_str(q, 0)),
	    .worker_id = str_dup(query_str(q, 1)),
	    .pool = str_dup(query_str(q, 2)),
	    .repo = str_dup(query_str(q, 3)),
	    .repo_host = str_dup(query_str(q, 4)),
	    .team_id = query_int(q, 5),
	    .queued_at = query_int(q, 6),
	};
	return OK;
}

const char *wait_code(const struct queue_group *r, const struct wait_facts *f)
{
	if (strcmp(r->state, "queued") != 0)
		return f->lost_at != 0 ? "waking" : NULL;
	if (f->connected == 0)
		return "no_workers";
	if (f->matching == 0)
		return "no_repo";
	return f->not_busy > 0 ? "starting" : "all_busy";
}

static char *wait_text(
    const struct queue_group *r, const struct wait_facts *f, const char *code, int64_t now_ms, int64_t grace_ms)
{
	if (strcmp(code, "waking") == 0)
		return str_printf("worker %s disconnected; waiting up to %lld s for it to come back", r->worker_id,
		    (long long)(MAX(f->lost_at + grace_ms - now_ms, 0) / 1000));
	if (strcmp(code, "no_workers") == 0)
		return str_printf("no worker is connected to pool %s", r->pool);
	if (strcmp(code, "no_repo") == 0)
		return str_printf("none of the %lld workers of pool %s serves %s", (long long)f->connected, r->pool,
		    r->repo[0] ? r->repo : "requests without a repository");
	if (strcmp(code, "starting") == 0)
		return str_dup("a matching worker is free, the request is being assigned");
	if (f->position == 0)
		return str_printf("all %lld matching workers are busy", (long long)f->matching);
	return str_printf(
	    "all %lld matching workers are busy; position %lld", (long long)f->matching, (long long)f->position);
}

json_t *wait_json(const struct queue_group *r, const struct wait_facts *f, int64_t now_ms, int64_t grace_ms)
{
	const char *code = wait_code(r, f);
	AUTO_STR text = NULL;
	char since[CLOCK_ISO_LEN];
	json_t *j;

	if (code == NULL)
		return NULL;
	j = json_object();
	text = wait_text(r, f, code, now_ms, grace_ms);
	clock_iso8601(strcmp(code, "waking") == 0 ? f->lost_at : r->queued_at, since);
	json_put(j, "code", code);
	json_put(j, "text", text);
	json_put(j, "since", since);
	if (strcmp(code, "all_busy") == 0 && f->position != 0)
		json_put_int(j, "position", f->position);
	return j;
}

static int count_matching(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COUNT(*), COALESCE(SUM(CASE WHEN state = $5 THEN 0 ELSE 1 END), 0) FROM worker_slots WHERE team_id "
	    "= $1 AND pool = $2 AND repo = $3"
	    " AND (repo_host = $4 OR repo_host = '' OR $4 = '')",
	    "isssi", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_BUSY);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	f->matching = query_int(q, 0);
	f->not_busy = query_int(q, 1);
	return OK;
}

/* Counts what is before it in the queue, which takes longer the longer that is: only for the one that is read. */
static int wait_find_position(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	int64_t before = 0;
	int rc = tx_query_int(tx, &before,
	    "SELECT COUNT(*) FROM requests WHERE team_id = $1 AND pool = $2 AND repo = $3 AND state = 'queued'"
	    " AND (queued_at < $4 OR (queued_at = $4 AND agent_id < $5))",
	    "issis", r->team_id, r->pool, r->repo, r->queued_at, r->agent_id);

	f->position = before + 1;
	return rc;
}

static int gather_facts(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	int rc;

	/* Bound to a worker: it waits only if that worker is away. */
	if (strcmp(r->state, "queued") != 0)
		return tx_query_int(
		    tx, &f->lost_at, "SELECT lost_at FROM claims WHERE agent_id = $1", "s", r->agent_id);
	rc = tx_query_int(tx, &f->connected, "SELECT COUNT(*) FROM workers WHERE team_id = $1 AND pool = $2", "is",
	    r->team_id, r->pool);
	if (rc == OK)
		rc = count_matching(tx, r, f);
	if (rc == OK && f->matching > 0 && f->not_busy == 0)
		rc = wait_find_position(tx, r, f);
	return rc;
}

int queue_wait_reason(struct tx *tx, const char *agent_id, int64_t now_ms, int64_t grace_ms, json_t **ret)
{
	AUTO(queue_group) r = NULL;
	struct wait_facts facts = {0};
	json_t *reason;
	int rc = queue_group_load(tx, agent_id, &r);

	if (rc == OK)
		rc = gather_facts(tx, r, &facts);
	if (rc != OK)
		return rc;
	reason = wait_json(r, &facts, now_ms, grace_ms);
	if (reason == NULL)
		return ERR_EMPTY;
	*ret = reason;
	return OK;
}
