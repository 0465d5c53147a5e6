#include "server/runs/followups.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/runs/runs_priv.h"
#include <string.h>

int followups_count(struct tx *tx, const char *agent_id, int64_t *ret)
{
	return tx_query_int(tx, ret, "SELECT COUNT(*) FROM queued_followups WHERE agent_id = $1", "s", agent_id);
}

int followup_add(struct tx *tx, const char *agent_id, const struct prompt *prompt)
{
	AUTO_STR images = prompt->images != NULL ? json_text(prompt->images) : NULL;
	int64_t n = 0;
	int rc = followups_count(tx, agent_id, &n);

	if (rc == OK && n >= FOLLOWUPS_MAX)
		return ERR_FULL;
	return rc != OK ? rc
			: tx_exec(tx,
			      "INSERT INTO queued_followups(agent_id, seq, prompt, images, created_at) SELECT $1,"
			      " COALESCE(MAX(seq), 0) + 1, $2, $3, $4 FROM queued_followups WHERE agent_id = $1",
			      "sssi", agent_id, prompt->text, images, clock_wall_ms());
}

int followups_drop(struct tx *tx, const char *agent_id)
{
	return tx_exec(tx, "DELETE FROM queued_followups WHERE agent_id = $1", "s", agent_id);
}

struct followup {
	char *text;
	json_t *images;
};

static void followup_fini(struct followup *f)
{
	free(f->text);
	json_decref(f->images);
}

/* Takes the oldest row away. Images that cannot be read any more cost nothing but themselves. */
static int take_oldest(struct tx *tx, const char *agent_id, struct followup *ret)
{
	AUTO(query) q = NULL;
	const char *images;
	int rc = tx_query(tx, &q,
	    "DELETE FROM queued_followups WHERE agent_id = $1 AND seq = (SELECT MIN(seq) FROM queued_followups WHERE"
	    " agent_id = $1) RETURNING prompt, images",
	    "s", agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	ret->text = str_dup(query_str(q, 0));
	images = query_text(q, 1);
	if (images != NULL &&
	    (json_parse(images, strlen(images), &ret->images, NULL) != OK || !json_is_array(ret->images)))
		log_error("store.row.damaged", "table=queued_followups key=%s column=images", log_quote(agent_id));
	if (ret->images != NULL && !json_is_array(ret->images)) {
		json_decref(ret->images);
		ret->images = NULL;
	}
	rc = query_next(q); /* to its end: the statement must be over before the commit */
	return rc == ERR_EMPTY ? OK : rc == OK ? ERR_INTERNAL : rc;
}

static int begin_in(struct runs *r, struct tx *tx, const char *agent_id, struct created *made)
{
	__attribute__((cleanup(followup_fini))) struct followup next = {0};
	AUTO(agent) a = NULL;
	int rc = agent_load(tx, agent_id, &a);

	/* Asked for by nobody who could be told: an agent that cannot be read gets no more runs. */
	if (rc == ERR_INTERNAL || rc == ERR_NOT_FOUND)
		return followups_drop(tx, agent_id);
	if (rc == OK && strcmp(a->status, "IDLE") != 0)
		return ERR_EMPTY;
	if (rc == OK)
		rc = take_oldest(tx, agent_id, &next);
	return rc != OK ? rc
			: run_create_next(
			      r, tx, a, &(struct prompt){.text = next.text, .images = next.images}, NULL, NULL, made);
}

int followup_begin(struct runs *r, const char *agent_id)
{
	__attribute__((cleanup(created_fini))) struct created made = {0};
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = begin_in(r, tx, agent_id, &made);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK && made.run != NULL)
		runs_created(r, &made);
	return rc;
}

/* Most ended runs have nobody waiting: a reading transaction is enough to see that. */
static int agent_that_goes_on(struct runs *r, const char *run_id, char **ret_agent)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_READ, &tx);

	return rc != OK ? rc
			: tx_query_text(tx, ret_agent,
			      "SELECT r.agent_id FROM runs r JOIN queued_followups q ON q.agent_id = r.agent_id JOIN "
			      "agents a"
			      " ON a.id = r.agent_id WHERE r.id = $1 AND a.status = 'IDLE' LIMIT 1",
			      "s", run_id);
}

void followups_go_on(struct runs *r, const char *run_id)
{
	AUTO_STR agent = NULL;
	int rc;

	if (atomic_load(&r->stopping))
		return;
	rc = agent_that_goes_on(r, run_id, &agent);
	if (rc == OK)
		rc = followup_begin(r, agent);
	if (rc != OK && rc != ERR_EMPTY && rc != ERR_CONFLICT && !store_is_unavailable(rc))
		log_error("followup.failed", "run=%s error=%s", run_id, err_name(rc));
}
