/* Registration in the store: a worker's rows, its slots, the claims that it takes up again. Jobs. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include "server/fleet/queue.h"
#include "server/fleet/register_priv.h"
#include "server/fleet/slots.h"
#include "server/fleet/tool_sets.h"
#include <string.h>

#define IDS_LEAST 240
#define NEW_IDS_LEAST 60
#define SESSIONS_DEFAULT 8 /* of a personal machine */
#define SESSIONS_MAX 64

/* What it may take: as many ids as four full fleets, a full fleet of new ones in a minute. */
struct id_claim registration_id_claim(const struct registration *r)
{
	unsigned max = r->conn->fleet->cfg.max_workers_per_team;
	int64_t max_workers = max != 0 ? max : INT32_MAX / 4;

	return (struct id_claim){.team_id = r->team_id,
	    .worker_id = r->hello->worker_id,
	    .account = r->account,
	    .max_ids = MAX(4 * max_workers, IDS_LEAST),
	    .max_new = MAX(max_workers, NEW_IDS_LEAST)};
}

int registration_refuse_by(struct registration *r, int rc, const struct why *why)
{
	if (rc == ERR_DENIED)
		return registration_refuse(r, rc, "worker_id_taken", true, "%s", why->text);
	if (rc == ERR_FULL)
		return registration_refuse(r, rc, "quota_exceeded", false, "%s", why->text);
	return rc;
}

/* Again where it is written: of two that came at once one is second. */
static int take_id(struct registration *r, struct tx *tx, int64_t now)
{
	const struct id_claim c = registration_id_claim(r);
	struct why why;
	int rc = worker_id_check(tx, &c, &why);

	if (rc == OK)
		rc = worker_id_make_room(tx, &c, now, &why);
	return registration_refuse_by(r, rc, &why);
}

/* Registrations of one team come one after the other: the row of the team is written, so that a second transaction
 * waits for the first to end and counts its worker. With SQLite writers wait for each other anyway; a database where
 * they do not would let two of them count the same number and both go in. */
/* Of the same kind: personal machines count for their user, pool workers for their team. When thousands come back at
 * once each of them counts the others, so that is done along indexes alone: all, without the machines, without this. */
static int count_others(struct tx *tx, const struct registration *r, int64_t *ret)
{
	int64_t machines = 0, here = 0;
	int rc;

	if (r->hello->personal)
		return tx_query_int(tx, ret,
		    "SELECT COUNT(*) FROM workers WHERE team_id = $1 AND id <> $2 AND personal = 1 AND user_id = $3",
		    "isi", r->team_id, r->hello->worker_id, r->user_id);
	rc = tx_query_int(tx, ret, "SELECT COUNT(*) FROM workers WHERE team_id = $1", "i", r->team_id);
	if (rc == OK)
		rc = tx_query_int(
		    tx, &machines, "SELECT COUNT(*) FROM workers WHERE team_id = $1 AND personal = 1", "i", r->team_id);
	if (rc == OK)
		rc = tx_query_int(tx, &here,
		    "SELECT COUNT(*) FROM workers WHERE team_id = $1 AND id = $2 AND personal = 0", "is", r->team_id,
		    r->hello->worker_id);
	*ret -= machines + here;
	return rc;
}

static int check_quota(struct registration *r, struct tx *tx)
{
	const struct fleet_config *cfg = &r->conn->fleet->cfg;
	bool personal = r->hello->personal;
	unsigned max = personal ? cfg->max_workers_per_user : cfg->max_workers_per_team;
	int64_t others = 0;
	int rc = tx_exec(tx, "UPDATE teams SET name = name WHERE id = $1", "i", r->team_id);

	if (rc == OK && max != 0)
		rc = count_others(tx, r, &others);
	if (rc == OK && max != 0 && others >= max)
		return registration_refuse(r, ERR_FULL, "quota_exceeded", false,
		    "limit exceeded: %lld workers of this %s are connected (limits.max_workers_per_%s)",
		    (long long)others, personal ? "user" : "team", personal ? "user" : "team");
	return rc;
}

const char *registration_pool(const struct registration *r)
{
	if (r->hello->personal)
		return "";
	return r->hello->pool[0] != '\0' ? r->hello->pool : "default";
}

bool registration_is_unfit(const struct registration *r)
{
	return r->hello->fitness != NULL && r->hello->fitness->code[0] != '\0';
}

/* The row of the pool that such a worker makes known. */
static int put_pool(struct tx *tx, struct registration *r, const struct slot *s, const char *repo_as_given,
    const char *url, int64_t now)
{
	const struct id_claim c = registration_id_claim(r);
	struct why why;
	int rc = registration_refuse_by(r, pool_make_room(tx, &c, s->pool, s->repo, s->repo_host, &why), &why);

	if (rc != OK)
		return rc;
	return tx_exec(tx,
	    "INSERT INTO pools(team_id, name, repo, repo_host, repo_name, first_seen_at, last_seen_at, account, "
	    "repo_url)"
	    " VALUES($1, $2, $3, $4, $5, $6, $6, $7, $8)"
	    " ON CONFLICT(team_id, name, repo, repo_host) DO UPDATE SET last_seen_at = excluded.last_seen_at,"
	    " deleted_at = NULL, repo_url = CASE WHEN excluded.repo_url = '' THEN pools.repo_url ELSE "
	    "excluded.repo_url END",
	    "issssiss", r->team_id, s->pool, s->repo, s->repo_host, repo_as_given, now, r->account, url);
}

/* A row that is there has been of use. */
static int see_pool(struct tx *tx, const struct registration *r, const struct slot *s, int64_t now)
{
	return tx_exec(tx,
	    "UPDATE pools SET last_seen_at = $4 WHERE team_id = $1 AND name = $2 AND repo = $3 AND deleted_at IS NULL",
	    "issi", r->team_id, s->pool, s->repo, now);
}

static int put_slot(
    struct tx *tx, struct registration *r, const char *repo_as_given, const char *host, const char *url, int64_t now)
{
	AUTO_STR repo = str_dup(repo_as_given);
	AUTO_STR lower_host = str_dup(host);
	const struct slot s = {registration_pool(r), repo, lower_host};
	int rc = OK;

	id_lower(repo);
	id_lower(lower_host);
	/* A worker with a session token serves its agent only: nothing finds it, and it makes no pools known. */
	if (r->only_agent != NULL)
		return see_pool(tx, r, &s, now);
	rc = slots_put(tx, r->team_id, r->hello->worker_id, &s, &r->labels, now);
	if (rc == OK && !r->hello->personal)
		rc = put_pool(tx, r, &s, repo_as_given, url, now);
	return rc;
}

static int put_slots(struct tx *tx, struct registration *r, int64_t now)
{
	bool any = false;
	int rc = slots_clear(tx, r->team_id, r->hello->worker_id);

	if (r->drained)
		return rc;
	for (size_t i = 0; rc == OK && i < r->hello->n_roots; i++) {
		const Bullpen__Worker__V1__Root *root = r->hello->roots[i];

		if (root->repo[0] == '\0')
			continue;
		any = true;
		rc = put_slot(tx, r, root->repo, root->host, root->remote_url, now);
	}
	if (rc == OK && !any)
		rc = put_slot(tx, r, "", "", "", now);
	return rc != OK ? rc : slots_follow(tx, r->team_id, r->hello->worker_id, -1);
}

/* The first root that is a repository, for people. */
static const Bullpen__Worker__V1__Root *primary_repo(const Bullpen__Worker__V1__Hello *h)
{
	for (size_t i = 0; i < h->n_roots; i++)
		if (h->roots[i]->repo[0] != '\0')
			return h->roots[i];
	return NULL;
}

static int put_details(struct tx *tx, struct registration *r)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;
	const Bullpen__Worker__V1__Root *repo = primary_repo(h);
	AUTO_STR labels = labels_text(&r->labels);
	AUTO_STR url = repo_url_redact(repo != NULL ? repo->remote_url : "");
	int64_t max = !h->personal ? 1 : h->max_sessions == 0 ? SESSIONS_DEFAULT : MIN(h->max_sessions, SESSIONS_MAX);

	return tx_exec(tx,
	    "UPDATE workers SET user_id = $3, personal = $4, max_sessions = $5, labels = $6, idle_release_s = $7,"
	    " keeps_claims = $8, repo_url = $9, repo_name = $10, version = $11, os = $12, arch = $13, only_agent = "
	    "$14, isolation = $15"
	    " WHERE team_id = $1 AND id = $2",
	    "isiiisiisssssss", r->team_id, h->worker_id, r->user_id, (int64_t)h->personal, max, labels,
	    (int64_t)h->idle_release_s, (int64_t)h->idle_release_given, url != NULL ? url : "",
	    repo != NULL ? repo->repo : "", h->version, h->os, h->arch, r->only_agent != NULL ? r->only_agent : "",
	    h->isolation);
}

/* A new epoch of the id. What was said to the process holds for its later connections too. */
static int take_epoch(struct tx *tx, struct registration *r, int64_t now)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "INSERT INTO worker_epochs(team_id, worker_id, epoch, seen_at, name, host, account, first_seen_at, "
	    "incarnation)"
	    " VALUES($1, $2, 1, $3, $4, $5, $6, $3, $7) ON CONFLICT(team_id, worker_id) DO UPDATE SET"
	    " epoch = worker_epochs.epoch + 1, seen_at = excluded.seen_at, name = excluded.name, host = excluded.host,"
	    " account = excluded.account, incarnation = excluded.incarnation, drained = CASE WHEN"
	    " worker_epochs.incarnation = excluded.incarnation THEN worker_epochs.drained ELSE 0 END"
	    " RETURNING epoch, drained",
	    "isisssi", r->team_id, h->worker_id, now, h->name, r->host, r->account, (int64_t)h->incarnation);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	r->link_epoch = query_int(q, 0);
	r->drained = query_int(q, 1) != 0;
	return OK;
}

static int put_worker(struct tx *tx, struct registration *r, int64_t now)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;
	const struct node *node = r->conn->fleet->cfg.node;
	AUTO_STR reason = text_line(registration_is_unfit(r) ? h->fitness->reason : "", REASON_MAX);
	int rc = take_epoch(tx, r, now);

	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM workers WHERE team_id = $1 AND id = $2", "is", r->team_id, h->worker_id);
	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO workers(team_id, id, link_epoch, name, pool, key_id, service_account_id, "
		    "workspace_root, busy,"
		    " draining, connected_at, idle_since, tool_set, node_id, node_epoch, host, unfit_code, "
		    "unfit_reason)"
		    " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $17, $10, $10, $11, $12, $13, $14, $15, $16)",
		    "isisssssiississsi", r->team_id, h->worker_id, r->link_epoch, h->name, registration_pool(r),
		    r->key_id, r->account, h->n_roots > 0 ? h->roots[0]->path : "", (int64_t)r->n_claims, now,
		    r->tools->hash, node->id, node->epoch, r->host, registration_is_unfit(r) ? h->fitness->code : "",
		    reason, (int64_t)(r->drained ? 2 : 0));
	return rc != OK ? rc : put_details(tx, r);
}

/* Does the worker serve what its claim is for? Whoever claimed chose the id on purpose, so the pool must be right, and
 * the repository must not be plainly another one; labels are not asked for. NULL: yes, else what differs (malloc'ed).
 */
static char *mismatch_of(const struct registration *r, const char *pool, const char *repo, const char *host)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;
	size_t others = 0;

	if (h->personal)
		return pool[0] == '\0' ? NULL : str_printf("pool %s", pool);
	if (strcmp(registration_pool(r), pool) != 0)
		return str_printf("pool %s", pool);
	for (size_t i = 0; i < h->n_roots; i++) {
		AUTO_STR have = str_dup(h->roots[i]->repo);
		AUTO_STR at = str_dup(h->roots[i]->host);

		id_lower(have);
		id_lower(at);
		if (have[0] == '\0')
			continue;
		if (strcmp(have, repo) == 0 && (at[0] == '\0' || host[0] == '\0' || strcmp(at, host) == 0))
			return NULL;
		others++;
	}
	return others == 0 || repo[0] == '\0' ? NULL : str_printf("repository %s", repo);
}

/* ERR_CONFLICT: it is not the right worker for its claim, which has ended; the transaction is to be committed. */
static int check_claim(struct tx *tx, struct registration *r, const char *agent_id, int64_t now)
{
	AUTO(query) q = NULL;
	AUTO_STR differs = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT q.pool, q.repo, q.repo_host FROM requests q WHERE q.agent_id = $1 AND q.state IN ('claimed', "
	    "'offline')",
	    "s", agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	differs = mismatch_of(r, query_str(q, 0), query_str(q, 1), query_str(q, 2));
	query_free(&q);
	if (differs == NULL)
		return OK;
	rc = queue_requeue_mismatch(tx, agent_id, now);
	return rc != OK ? rc
			: registration_refuse(r, ERR_CONFLICT, "claim_mismatch", true,
			      "worker %s was claimed for an agent that needs %s, which this worker does not serve",
			      r->hello->worker_id, differs);
}

/* The claim's worker is here. */
static int take_claim_up(struct tx *tx, struct registration *r, const char *claim_id, const char *agent_id, int64_t now)
{
	const struct node *node = r->conn->fleet->cfg.node;
	AUTO_STR run = NULL;
	int rc = tx_exec(tx,
	    "UPDATE claims SET lost_at = NULL, connect_by = NULL, node_id = $2, node_epoch = $3 WHERE agent_id = $1",
	    "ssi", agent_id, node->id, node->epoch);

	if (rc == OK)
		rc = queue_worker_came(tx, agent_id, now);
	if (rc == OK)
		rc = tx_query_text(tx, &run, "SELECT run_id FROM requests WHERE agent_id = $1 AND worker_id = $2", "ss",
		    agent_id, r->hello->worker_id);
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	r->claims = mem_grow(r->claims, &r->claims_cap, r->n_claims + 1, sizeof *r->claims);
	r->claims[r->n_claims++] = (struct reg_claim){str_dup(claim_id), str_dup(agent_id), TAKE(run)};
	return OK;
}

/* Live claims on this worker id: the worker takes them up again. */
static int find_claims(struct tx *tx, struct registration *r, int64_t now)
{
	AUTO_JSON rows = json_array();
	struct query *q = NULL;
	json_t *row;
	size_t i;
	int rc = tx_query(tx, &q, "SELECT id, agent_id FROM claims WHERE team_id = $1 AND worker_id = $2", "is",
	    r->team_id, r->hello->worker_id);

	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(rows, json_pack("[s, s]", query_str(q, 0), query_str(q, 1)));
	query_free(&q); /* before the transaction goes on */
	rc = rc == ERR_EMPTY ? OK : rc;
	json_array_foreach(rows, i, row)
	{
		const char *claim = json_string_value(json_array_get(row, 0));
		const char *agent = json_string_value(json_array_get(row, 1));

		if (rc == OK)
			rc = check_claim(tx, r, agent, now);
		if (rc == OK)
			rc = take_claim_up(tx, r, claim, agent, now);
	}
	return rc;
}

/* A session token is good for its claim alone, which may have ended since it was looked at. */
static int check_only_agent(struct registration *r)
{
	bool holds = r->only_agent == NULL;

	for (size_t i = 0; i < r->n_claims && !holds; i++)
		holds = strcmp(r->claims[i].agent_id, r->only_agent) == 0;
	return holds ? OK
		     : registration_refuse(
			   r, ERR_DENIED, "claim_ended", true, "the claim of this session token has ended");
}

/* Whether the run is one that this worker has. */
static bool has_run(const struct registration *r, const char *run_id)
{
	for (size_t i = 0; i < r->n_claims; i++)
		if (r->claims[i].run_id != NULL && strcmp(r->claims[i].run_id, run_id) == 0)
			return true;
	return false;
}

static int sort_out_calls(struct tx *tx, struct registration *r)
{
	const struct fleet_config *cfg = &r->conn->fleet->cfg;

	r->call_runs = mem_zalloc((r->hello->n_calls + 1) * sizeof *r->call_runs);
	for (size_t i = 0; i < r->hello->n_calls; i++) {
		int rc = cfg->call_run(cfg->ctx, tx, r->hello->calls[i]->call_id, &r->call_runs[i]);

		/* A statement that failed spoils the transaction. */
		if (rc != OK && rc != ERR_EMPTY)
			return rc;
		/* While this worker was away its run may have gone to another one, where it makes calls of its own. */
		if (rc == OK && !has_run(r, r->call_runs[i]))
			str_free(&r->call_runs[i]);
	}
	return OK;
}

static int register_put_tools(struct tx *tx, struct registration *r, int64_t now)
{
	int rc = tool_set_store(tx, r->tools, r->account, now);

	if (rc == ERR_FULL)
		return registration_refuse(r, rc, "quota_exceeded", false,
		    "limit exceeded: too many different descriptions of tools were sent lately");
	return rc;
}

int registration_store(struct registration *r)
{
	AUTO(tx) tx = NULL;
	int64_t now = clock_wall_ms();
	int rc = tx_begin(r->conn->fleet->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = check_quota(r, tx);
	if (rc == OK)
		rc = take_id(r, tx, now);
	if (rc == OK)
		rc = find_claims(tx, r, now);
	if (rc == OK)
		rc = check_only_agent(r);
	if (rc == ERR_CONFLICT && r->code[0] != '\0') {
		int kept = tx_commit(&tx);

		return kept != OK ? kept : rc;
	}
	if (rc == OK)
		rc = put_worker(tx, r, now);
	if (rc == OK)
		rc = put_slots(tx, r, now);
	if (rc == OK)
		rc = register_put_tools(tx, r, now);
	if (rc == OK)
		rc = sort_out_calls(tx, r);
	return rc != OK ? rc : tx_commit(&tx);
}
