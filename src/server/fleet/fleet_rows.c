#include "server/fleet/fleet_rows.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "server/fleet/ids.h"
#include <string.h>
#include <strings.h>

#define STALE_MS ((int64_t)30 * 24 * 60 * 60 * 1000)
#define POOL_ROWS_MAX 4000 /* of one account */

void fleet_put_repo(json_t *o, const char *name, const char *url)
{
	const char *slash = strrchr(name, '/');
	AUTO_STR owner = slash != NULL ? str_ndup(name, (size_t)(slash - name)) : str_dup("");

	json_put(o, "repoOwner", owner);
	json_put(o, "repoName", slash != NULL ? slash + 1 : name);
	if (url != NULL && url[0] != '\0') {
		AUTO_STR clean = repo_url_redact(url);

		json_put(o, "repoUrl", clean);
	}
}

void fleet_add_pairs(json_t *to, const char *stored)
{
	AUTO_JSON pairs = NULL;
	json_t *item;
	size_t i;

	if (json_parse(stored, strlen(stored), &pairs, NULL) != OK)
		return; /* a damaged row hides no worker */
	json_array_foreach(pairs, i, item)
	{
		const char *pair = json_string_value(item), *eq = pair != NULL ? strchr(pair, '=') : NULL;
		AUTO_STR key = eq != NULL ? str_ndup(pair, (size_t)(eq - pair)) : NULL;

		if (key != NULL)
			json_array_append_new(to, json_pack("{s:s, s:s}", "key", key, "value", eq + 1));
	}
}

/* Of a worker: its claims, those with a run, and when the newest run of theirs did something. */
#define CLAIMS_OF_WORKER "FROM claims c WHERE c.team_id = w.team_id AND c.worker_id = w.id"
#define LAST_OF_RUNS                                                                                                   \
	"(SELECT MAX(r.updated_at) FROM claims c JOIN agents a ON a.id = c.agent_id JOIN runs r ON r.id = "            \
	"a.latest_run_id WHERE c.team_id = w.team_id AND c.worker_id = w.id)"
#define WORKER_COLUMNS                                                                                                 \
	"w.id, w.connected_at, w.repo_name, w.repo_url, w.workspace_root, w.user_id, w.personal, w.team_id,"           \
	" w.service_account_id, w.name, w.labels, (SELECT c.agent_id " CLAIMS_OF_WORKER                                \
	" ORDER BY c.created_at DESC, c.agent_id LIMIT 1), w.pool, w.unfit_code, w.unfit_reason, w.draining,"          \
	" w.version, w.os, w.arch, w.host, w.isolation, w.max_sessions, (SELECT COUNT(*) " CLAIMS_OF_WORKER            \
	"), (SELECT COUNT(*) " CLAIMS_OF_WORKER " AND c.idle_since IS NULL), w.idle_since, COALESCE(" LAST_OF_RUNS     \
	", 0)"
/* A person's own machine, and what now has an agent of hers. */
#define WORKER_IS_OF(user, owner)                                                                                      \
	"(w.personal = 1 AND w.user_id = " user ") OR EXISTS(SELECT 1 FROM claims c JOIN agents a ON a.id = "          \
	"c.agent_id WHERE c.team_id = w.team_id AND c.worker_id = w.id AND a.owner = " owner ")"
#define WORKER_IS_USED "EXISTS(SELECT 1 FROM claims c WHERE c.team_id = w.team_id AND c.worker_id = w.id)"

static const char *state_of(struct query *q, bool in_use)
{
	return query_int(q, 15) != 0	     ? "draining"
	       : query_int(q, 23) > 0	     ? "busy"
	       : query_str(q, 13)[0] != '\0' ? "unfit"
	       : in_use			     ? "held"
					     : "idle";
}

/* What it is and how it is. */
static void put_machine(json_t *o, struct query *q)
{
	static const char *const texts[] = {"version", "os", "arch", "host", "isolation"};

	for (int i = 0; i < (int)ARRAY_LEN(texts); i++)
		if (query_str(q, 16 + i)[0] != '\0')
			json_put(o, texts[i], query_str(q, 16 + i));
	json_put_bool(o, "isPersonal", query_int(q, 6) != 0);
	json_put_int(o, "maxSessions", query_int(q, 21));
	json_put_int(o, "sessions", query_int(q, 22));
	json_put_int(o, "lastActivityMs", MAX(MAX(query_int(q, 1), query_int(q, 24)), query_int(q, 25)));
}

static json_t *worker_json(struct query *q)
{
	json_t *o = json_object(), *tags = json_array();
	bool in_use = !query_is_null(q, 11);

	json_put(o, "workerId", query_str(q, 0));
	json_put_bool(o, "isInUse", in_use);
	json_put(o, "state", state_of(q, in_use));
	put_machine(o, q);
	fleet_put_repo(o, query_str(q, 2), query_str(q, 3));
	json_put(o, "workspaceRootPath", query_str(q, 4));
	json_put_int(o, "connectedAtMs", query_int(q, 1));
	json_put_int(o, "userId", query_int(q, 5));
	if (query_int(q, 6) == 0) {
		json_put_int(o, "teamId", query_int(q, 7));
		json_put(o, "serviceAccountId", query_str(q, 8));
		json_put(o, "poolName", query_str(q, 12));
	}
	if (query_int(q, 15) != 0)
		json_put_bool(o, "isDraining", true);
	if (query_str(q, 13)[0] != '\0') {
		json_t *unfit = json_object();

		json_put(unfit, "code", query_str(q, 13));
		json_put(unfit, "reason", query_str(q, 14));
		json_put_new(o, "unfit", unfit);
	}
	if (in_use)
		json_put(o, "activeBcId", query_str(q, 11));
	if (query_str(q, 9)[0] != '\0')
		json_put(o, "name", query_str(q, 9));
	fleet_add_pairs(tags, query_str(q, 10));
	if (json_array_size(tags) > 0)
		json_object_set(o, "tags", tags);
	json_decref(tags);
	return o;
}

/* Of the filters, 0 leaves all through. */
#define WORKER_FILTER                                                                                                  \
	" FROM workers w WHERE w.team_id = $1 AND ($2 = 0 OR ($2 = 2) = (w.personal = 1))"                             \
	" AND ($3 = 0 OR ($3 = 1) = " WORKER_IS_USED ") AND ($4 IS NULL OR " WORKER_IS_OF("$5", "$4") ")"

int fleet_workers(struct tx *tx, const struct fleet_page *p, json_t **ret, int64_t *ret_total, int64_t *ret_next_ms,
    char **ret_next_id)
{
	AUTO_JSON items = json_array();
	AUTO_STR last_id = NULL;
	AUTO(query) q = NULL;
	int64_t last_ms = 0, n = 0;
	int rc = tx_query_int(tx, ret_total, "SELECT COUNT(*)" WORKER_FILTER, "iiisi", p->team_id, (int64_t)p->scope,
	    (int64_t)p->use, p->of.owner, p->of.user_id);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT " WORKER_COLUMNS WORKER_FILTER " AND (w.connected_at, w.id) < ($6, $7)"
		    " ORDER BY w.connected_at DESC, w.id DESC LIMIT $8",
		    "iiisiisi", p->team_id, (int64_t)p->scope, (int64_t)p->use, p->of.owner, p->of.user_id,
		    p->before_ms, p->before_id, p->limit + 1);
	while (rc == OK && (rc = query_next(q)) == OK && n++ < p->limit) {
		json_array_append_new(items, worker_json(q));
		last_ms = query_int(q, 1);
		str_set(&last_id, query_str(q, 0));
	}
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	if (n > p->limit) {
		*ret_next_ms = last_ms;
		*ret_next_id = TAKE(last_id);
	}
	*ret = TAKE(items);
	return OK;
}

int fleet_worker(struct tx *tx, int64_t team_id, const struct fleet_person *of, const char *worker_id, json_t **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT " WORKER_COLUMNS
	    " FROM workers w WHERE w.team_id = $1 AND w.id = $2 AND ($3 IS NULL OR " WORKER_IS_OF("$4", "$3") ")",
	    "issi", team_id, worker_id, of->owner, of->user_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		*ret = worker_json(q);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int fleet_summary(struct tx *tx, int64_t team_id, json_t **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COUNT(*), COALESCE(SUM(CASE WHEN " WORKER_IS_USED " THEN 1 ELSE 0 END), 0) FROM workers w"
	    " WHERE w.team_id = $1 AND w.personal = 0",
	    "i", team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	*ret = json_object();
	json_put_int(*ret, "totalConnected", query_int(q, 0));
	json_put_int(*ret, "inUse", query_int(q, 1));
	return OK;
}

static json_t *pool_json(struct query *q, int64_t team_id, bool stale, int64_t last_seen_ms)
{
	json_t *o = json_object();

	json_put(o, "scope", "team");
	json_put_int(o, "ownerId", team_id);
	json_put(o, "poolName", query_str(q, 0));
	json_put_int(o, "connectedWorkerCount", query_int(q, 6));
	json_put_int(o, "inUseWorkerCount", query_int(q, 7));
	json_put_int(o, "firstSeenAtMs", query_int(q, 3));
	json_put_int(o, "lastSeenAtMs", last_seen_ms);
	json_put_bool(o, "isStale", stale);
	if (query_str(q, 1)[0] != '\0')
		fleet_put_repo(o, query_str(q, 1), query_str(q, 2));
	json_put_int(o, "workerReadyTimeoutSeconds", query_int(q, 5));
	return o;
}

/* A worker that is leaving has no slots any more, so it is not counted: nothing can be given to it. */
int fleet_pools(struct tx *tx, int64_t team_id, bool with_stale, int64_t now_ms, json_t **ret)
{
	AUTO_JSON items = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT p.name, p.repo_name, p.repo_url, p.first_seen_at, p.last_seen_at, p.ready_timeout_s,"
	    " COALESCE(s.connected, 0), COALESCE(s.used, 0), EXISTS(SELECT 1 FROM requests r WHERE r.team_id = "
	    "p.team_id"
	    " AND r.pool = p.name AND r.repo = p.repo) FROM pools p LEFT JOIN (SELECT x.pool, x.repo, x.repo_host,"
	    " COUNT(*) AS connected, SUM(CASE WHEN " WORKER_IS_USED " THEN 1 ELSE 0 END) AS used"
	    " FROM worker_slots x JOIN workers w ON w.team_id = x.team_id AND w.id = x.worker_id WHERE x.team_id = $1"
	    " GROUP BY x.pool, x.repo, x.repo_host) s ON s.pool = p.name AND s.repo = p.repo AND"
	    " s.repo_host = p.repo_host WHERE p.team_id = $1 AND p.deleted_at IS NULL"
	    " ORDER BY p.name, p.repo, p.repo_host",
	    "i", team_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		bool live = query_int(q, 6) > 0 || query_int(q, 8) != 0;
		int64_t last_seen = query_int(q, 6) > 0 ? now_ms : query_int(q, 4);
		bool stale = !live && last_seen < now_ms - STALE_MS;

		if (with_stale || !stale)
			json_array_append_new(items, pool_json(q, team_id, stale, last_seen));
	}
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(items);
	return OK;
}

/* The host that the row is for. Without an address that of a row that is there, else none, which matches any. */
static int host_of(struct tx *tx, const struct pool_row *p, const char *repo, char **ret_host, struct why *why)
{
	AUTO_STR label = NULL;
	int rc;

	if (repo[0] == '\0') {
		*ret_host = str_dup("");
		return OK;
	}
	if (p->repo_url == NULL) {
		rc = tx_query_text(tx, ret_host,
		    "SELECT repo_host FROM pools WHERE team_id = $1 AND name = $2 AND repo = $3 ORDER BY repo_host "
		    "LIMIT 1",
		    "iss", p->team_id, p->name, repo);
		if (rc == ERR_EMPTY)
			*ret_host = str_dup("");
		return rc == ERR_EMPTY ? OK : rc;
	}
	label = repo_url_label(p->repo_url, ret_host);
	if (label == NULL || strcasecmp(label, repo) != 0)
		return why_set(why, ERR_INVALID, "'repoUrl' is not the address of the repository %s", p->repo_name);
	return OK;
}

int fleet_pool_register(struct tx *tx, const struct pool_row *p, int64_t now_ms, struct why *why)
{
	const struct id_claim room = {.team_id = p->team_id, .account = p->account, .max_ids = POOL_ROWS_MAX};
	AUTO_STR repo = str_dup(p->repo_name);
	AUTO_STR host = NULL;
	AUTO_STR url = p->repo_url != NULL ? repo_url_redact(p->repo_url) : str_dup("");
	int rc;

	id_lower(repo);
	rc = host_of(tx, p, repo, &host, why);
	if (rc == OK)
		rc = pool_make_room(tx, &room, p->name, repo, host, why);
	if (rc != OK)
		return rc;
	return tx_exec(tx,
	    "INSERT INTO pools(team_id, name, repo, repo_host, repo_name, repo_url, first_seen_at, last_seen_at, "
	    "account,"
	    " ready_timeout_s) VALUES($1, $2, $3, $4, $5, $6, $7, $7, $8, CASE WHEN $9 < 0 THEN 0 ELSE $9 END)"
	    " ON CONFLICT(team_id, name, repo, repo_host) DO UPDATE SET last_seen_at = excluded.last_seen_at,"
	    " deleted_at = NULL, repo_url = CASE WHEN $6 = '' THEN pools.repo_url ELSE $6 END,"
	    " ready_timeout_s = CASE WHEN $9 < 0 THEN pools.ready_timeout_s ELSE $9 END",
	    "isssssisi", p->team_id, p->name, repo, host, p->repo_name, url, now_ms, p->account, p->ready_timeout_s);
}

int fleet_pool_remove(
    struct tx *tx, int64_t team_id, const char *name, const char *repo_name, int64_t now_ms, bool *ret)
{
	AUTO_STR repo = str_dup(repo_name);
	int64_t n = 0;
	int rc;

	id_lower(repo);
	rc = tx_change(tx, &n,
	    "UPDATE pools SET deleted_at = $4 WHERE team_id = $1 AND name = $2 AND repo = $3 AND deleted_at IS NULL",
	    "issi", team_id, name, repo, now_ms);
	if (rc == OK)
		*ret = n > 0;
	return rc;
}
