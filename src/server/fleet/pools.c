#include "server/fleet/pools.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <string.h>

#define DEFAULT_POOL "default"

int pool_route(struct tx *tx, int64_t team_id, const char *pool, const char *repo, const char *repo_host, bool several,
    char **ret_match_repo, struct why *why)
{
	AUTO(query) q = NULL;
	struct strbuf others = STRBUF(300);
	bool known = strcmp(pool, DEFAULT_POOL) == 0, any_repo = false, match = false;
	int n_others = 0;
	int rc = tx_query(tx, &q,
	    "SELECT repo, repo_host, repo_name FROM pools WHERE team_id = $1 AND name = $2 AND deleted_at IS NULL"
	    " ORDER BY repo",
	    "is", team_id, pool);

	while (rc == OK && (rc = query_next(q)) == OK) {
		const char *row = query_str(q, 0), *host = query_str(q, 1);

		known = true;
		if (row[0] == '\0')
			any_repo = true;
		else if (strcmp(row, repo) == 0 &&
			 (host[0] == '\0' || repo_host[0] == '\0' || strcmp(host, repo_host) == 0))
			match = true;
		else if (n_others++ < 5)
			strbuf_addf(&others, "%s%s", others.len ? ", " : "", query_str(q, 2));
	}
	rc = rc == ERR_EMPTY ? OK : rc;
	if (rc == OK && !known)
		rc = why_set(
		    why, ERR_NOT_FOUND, "there is no pool '%s': start a worker with --pool %s first", pool, pool);
	else if (rc == OK && several && any_repo && strcmp(pool, DEFAULT_POOL) != 0)
		*ret_match_repo = str_dup("");
	else if (rc == OK && (match || strcmp(pool, DEFAULT_POOL) == 0))
		*ret_match_repo = str_dup(repo);
	else if (rc == OK && any_repo)
		*ret_match_repo = str_dup("");
	else if (rc == OK)
		rc = why_set(why, ERR_CONFLICT, "pool '%s' does not serve this repository; it serves %s", pool,
		    strbuf_str(&others));
	strbuf_fini(&others);
	return rc;
}

int pool_window(struct tx *tx, int64_t team_id, const char *pool, const char *repo, int64_t *ret_s)
{
	return tx_query_int(tx, ret_s,
	    "SELECT COALESCE(MAX(ready_timeout_s), 0) FROM pools WHERE team_id = $1 AND name = $2 AND repo = $3", "iss",
	    team_id, pool, repo);
}
