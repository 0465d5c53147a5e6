/* The table pulls. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/pulls/pulls_priv.h"
#include <string.h>

void pull_row_fini(struct pull_row *r)
{
	char **const texts[] = {&r->id, &r->agent_id, &r->run_id, &r->forge, &r->repo, &r->head, &r->base,
	    &r->head_commit, &r->title, &r->body, &r->state, &r->body_sent, &r->reviewer};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		str_free(texts[i]);
}

int pull_row_load(struct store *st, const char *id, struct pull_row *ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT id, agent_id, run_id, forge, repo, head, base, head_commit, title, body, state, body_sent, "
		    "reviewer,"
		    " number, draft, (SELECT a.open_as_app FROM agents a WHERE a.id = pulls.agent_id) FROM pulls WHERE "
		    "id = $1",
		    "s", id);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	char **const texts[] = {&ret->id, &ret->agent_id, &ret->run_id, &ret->forge, &ret->repo, &ret->head, &ret->base,
	    &ret->head_commit, &ret->title, &ret->body, &ret->state, &ret->body_sent, &ret->reviewer};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		*texts[i] = str_dup(query_text(q, (int)i));
	ret->number = query_int(q, 13);
	ret->draft = query_int(q, 14) != 0;
	ret->by_token = query_int(q, 15) == 0;
	return OK;
}

static int show_at_agent(struct tx *tx, const char *agent_id, const char *url, const char *head)
{
	return tx_exec(tx, "UPDATE agents SET pull_url = $2, pull_head = $3 WHERE id = $1", "sss", agent_id, url, head);
}

static int mark_in(struct tx *tx, const struct pull_row *row, const struct pull_outcome *o)
{
	int64_t n = 0;
	/* A later run may want more by now: then its own try says the outcome. */
	int rc = tx_change(tx, &n,
	    "UPDATE pulls SET state = $2, error = $3, number = $4, url = $5, body_sent = $6, updated_at = $7"
	    " WHERE id = $1 AND run_id = $8",
	    "sssissis", row->id, o->state, o->error, o->number, o->url, o->body_sent, clock_wall_ms(), row->run_id);

	if (rc == OK && n > 0)
		rc = outbox_drop(tx, PULL_KIND, row->id);
	if (rc == OK && n > 0 && o->url != NULL)
		rc = show_at_agent(tx, row->agent_id, o->url, row->head);
	return rc;
}

int pull_row_mark(struct store *st, const struct pull_row *row, const struct pull_outcome *o)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = mark_in(tx, row, o);
	return rc == OK ? tx_commit(&tx) : rc;
}

/* The person's account on the forge, NULL: not linked, or a service account's. */
static int find_reviewer(struct tx *tx, const struct forge *forge, const char *owner, char **ret)
{
	static const char *const surfaces[] = {
	    [FORGE_GITHUB] = "github", [FORGE_GITLAB] = "gitlab", [FORGE_GITEA] = "gitea"};
	int64_t user = 0;
	int rc;

	if (!text_has_prefix(owner, "user:") || text_parse_int(owner + 5, 1, INT64_MAX, &user) != OK)
		return OK;
	rc = tx_query_text(tx, ret,
	    "SELECT login FROM accounts WHERE user_id = $1 AND surface = $2 AND place = $3 LIMIT 1", "iss", user,
	    surfaces[forge_kind(forge)], forge_host(forge));
	return rc == ERR_EMPTY ? OK : rc;
}

int pull_want(struct pulls *p, struct tx *tx, const struct pull_want *w, char **ret_id)
{
	struct forge *forge = NULL;
	AUTO_STR repo = NULL;
	AUTO_STR id = NULL;
	AUTO_STR reviewer = NULL;
	char uuid[UUID_LEN];
	int64_t now = clock_wall_ms();
	int rc = OK;

	if (!pulls_knows(p, w->repo_url, &forge, &repo))
		return ERR_NOT_FOUND;
	id_uuid(uuid);
	if (w->ask_review)
		rc = find_reviewer(tx, forge, w->owner, &reviewer);
	if (rc == OK)
		rc = tx_query_text(tx, &id,
		    "INSERT INTO pulls(id, agent_id, run_id, forge, repo, head, base, head_commit, title, body, "
		    "reviewer, draft,"
		    " state, created_at, updated_at) VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, "
		    "'wanted', $13, $13)"
		    " ON CONFLICT(agent_id, forge, repo, head) DO UPDATE SET run_id = excluded.run_id, base = "
		    "excluded.base,"
		    " head_commit = excluded.head_commit, title = excluded.title, body = excluded.body, reviewer = "
		    "excluded.reviewer,"
		    " state = CASE WHEN pulls.state IN ('open', 'given') THEN pulls.state ELSE 'wanted' END, error = "
		    "NULL,"
		    " updated_at = excluded.updated_at RETURNING id",
		    "sssssssssssii", uuid, w->agent_id, w->run_id, forge_name(forge), repo, w->head, w->base,
		    w->head_commit, w->title, w->body, reviewer, (int64_t)forge_opens_drafts(forge), now);
	if (rc == OK)
		rc = outbox_drop(tx, PULL_KIND, id);
	if (rc == OK)
		rc = outbox_add(tx, PULL_KIND, id, "", now, now + PULL_HEAD_START_MS, NULL);
	if (rc == OK)
		*ret_id = TAKE(id);
	return rc;
}

int pull_given(
    struct tx *tx, const char *agent_id, const struct forge *forge, const char *repo, const struct forge_pull *pull)
{
	char uuid[UUID_LEN];
	int64_t now = clock_wall_ms();
	int rc;

	id_uuid(uuid);
	rc = tx_exec(tx,
	    "INSERT INTO pulls(id, agent_id, run_id, forge, repo, head, base, head_commit, title, body, draft, state, "
	    "number, url,"
	    " created_at, updated_at) VALUES($1, $2, '', $3, $4, $5, $6, '', '', '', 0, 'given', $7, $8, $9, $9)",
	    "ssssssisi", uuid, agent_id, forge_name(forge), repo, pull->head, pull->base, pull->number, pull->url, now);
	return rc == OK ? show_at_agent(tx, agent_id, pull->url, pull->head) : rc;
}

int pull_state(struct tx *tx, const char *agent_id, const char *head, char **ret_state)
{
	return tx_query_text(tx, ret_state,
	    "SELECT state FROM pulls WHERE agent_id = $1 AND head = $2 ORDER BY updated_at DESC LIMIT 1", "ss",
	    agent_id, head);
}

int pull_drop(struct tx *tx, const char *agent_id)
{
	int rc = tx_exec(tx,
	    "DELETE FROM outbox WHERE kind = '" PULL_KIND "' AND subject IN (SELECT id FROM pulls WHERE agent_id = $1)",
	    "s", agent_id);

	return rc == OK ? tx_exec(tx, "DELETE FROM pulls WHERE agent_id = $1", "s", agent_id) : rc;
}
