#include "server/fleet/machines.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "server/fleet/match.h"
#include <string.h>
#include <strings.h>

#define KNOWN_MS ((int64_t)30 * 24 * 60 * 60 * 1000)

int machine_find(struct tx *tx, const struct request *r, enum slot_state state, char **ret_worker_id)
{
	return tx_query_text(tx, ret_worker_id,
	    "SELECT w.id FROM workers w JOIN worker_slots s ON s.team_id = w.team_id AND s.worker_id = w.id"
	    " WHERE w.team_id = $1 AND w.user_id = $2 AND w.personal = 1 AND ($3 = '' OR w.name = $3) AND"
	    " w.draining = 0 AND s.repo = $4 AND (s.repo_host = $5 OR s.repo_host = '' OR $5 = '') AND s.state = $6"
	    " ORDER BY w.busy, w.connected_at DESC, w.id LIMIT 1",
	    "iisssi", r->team_id, r->user_id, r->machine, r->repo, r->repo_host, (int64_t)state);
}

int machine_request(struct tx *tx, int64_t team_id, const char *worker_id, char **ret_agent_id)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT r.agent_id, r.user_id FROM workers w JOIN requests r ON r.team_id = w.team_id AND r.user_id = "
	    "w.user_id"
	    " WHERE w.team_id = $1 AND w.id = $2 AND w.personal = 1 AND w.draining = 0 AND r.machine IS NOT NULL AND"
	    " r.state = 'queued' AND (r.machine = '' OR r.machine = w.name) AND EXISTS(SELECT 1 FROM worker_slots s"
	    " WHERE s.team_id = $1 AND s.worker_id = $2 AND s.state IN ($3, $4) AND s.repo = r.repo AND"
	    " (s.repo_host = r.repo_host OR s.repo_host = '' OR r.repo_host = '')) ORDER BY r.queued_at, r.agent_id",
	    "isii", team_id, worker_id, (int64_t)SLOT_FREE, (int64_t)SLOT_HELD);

	while (rc == OK && (rc = query_next(q)) == OK) {
		bool within = true;

		rc = match_within_cap(tx, team_id, query_int(q, 1), &within);
		if (rc == OK && within) {
			*ret_agent_id = str_dup(query_str(q, 0));
			return OK;
		}
	}
	return rc;
}

/* The machines of the user, as they were known when they were last seen. */
static int look_at_known(struct tx *tx, const char *account, const char *name, int64_t since_ms, bool *ret_known,
    struct strbuf *ret_other_case)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT name FROM worker_epochs WHERE account = $1 AND seen_at >= $2 ORDER BY seen_at DESC", "si", account,
	    since_ms);

	while (rc == OK && (rc = query_next(q)) == OK) {
		const char *known = query_str(q, 0);

		*ret_known |= name[0] == '\0' || strcmp(known, name) == 0;
		if (strcasecmp(known, name) == 0 && ret_other_case->len == 0)
			strbuf_addf(ret_other_case, "%s", known);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* Connected ones of that name: whether one serves the repository, and what they serve. */
static int look_at_connected(struct tx *tx, int64_t team_id, int64_t user_id, const char *name, const char *repo,
    const char *repo_host, int64_t *ret_n, bool *ret_serves, struct strbuf *ret_repos)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT DISTINCT s.repo, s.repo_host FROM workers w JOIN worker_slots s ON s.team_id = w.team_id AND"
	    " s.worker_id = w.id WHERE w.team_id = $1 AND w.user_id = $2 AND w.personal = 1 AND ($3 = '' OR w.name = "
	    "$3)"
	    " ORDER BY s.repo",
	    "iis", team_id, user_id, name);

	while (rc == OK && (rc = query_next(q)) == OK) {
		const char *r = query_str(q, 0), *host = query_str(q, 1);

		++*ret_n;
		if (strcmp(r, repo) == 0 && (host[0] == '\0' || repo_host[0] == '\0' || strcmp(host, repo_host) == 0))
			*ret_serves = true;
		else if (r[0] != '\0')
			strbuf_addf(ret_repos, "%s%s", ret_repos->len > 0 ? ", " : "", r);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

int machine_known(struct tx *tx, int64_t user_id, const char *name, int64_t now_ms, struct why *why)
{
	AUTO_STR account = str_printf("user:%lld", (long long)user_id);
	struct strbuf other_case = STRBUF(200);
	bool known = false;
	int rc = look_at_known(tx, account, name, now_ms - KNOWN_MS, &known, &other_case);

	if (rc == OK && !known && other_case.len > 0)
		rc = why_set(why, ERR_INVALID, "you have no machine '%.128s'; did you mean '%s'?", name,
		    strbuf_str(&other_case));
	else if (rc == OK && !known)
		rc = why_set(
		    why, ERR_INVALID, "you have no machine '%.128s': start one with agent worker start --name", name);
	strbuf_fini(&other_case);
	return rc;
}

int machine_check(struct tx *tx, int64_t team_id, int64_t user_id, const char *name, const char *repo,
    const char *repo_host, int64_t now_ms, struct why *why)
{
	struct strbuf repos = STRBUF(300);
	int64_t connected = 0;
	bool serves = false;
	int rc = name[0] != '\0' ? machine_known(tx, user_id, name, now_ms, why) : OK;

	if (rc == OK)
		rc = look_at_connected(tx, team_id, user_id, name, repo, repo_host, &connected, &serves, &repos);
	if (rc != OK)
		; /* said above, or the store's */
	else if (name[0] == '\0' && !serves)
		rc = why_set(why, ERR_INVALID, "no personal machine of yours is connected that serves %.200s", repo);
	else if (connected > 0 && !serves)
		rc = why_set(why, ERR_INVALID, "machine '%.128s' does not serve %.200s; it serves %s", name, repo,
		    repos.len > 0 ? strbuf_str(&repos) : "no repository");
	strbuf_fini(&repos);
	return rc;
}
