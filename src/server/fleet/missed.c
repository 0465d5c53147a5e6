/* What the notes of other nodes would have told this hub, had none been lost: runs that have ended are stopped at their
 * workers, sessions whose claim has ended are closed, workers that were drained go. A job asks the store for those that
 * the hub knows. */
#include "base/mem.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/worker_priv.h"
#include <string.h>

struct known {
	int64_t team_id;
	char *worker_id, *run_id; /* run_id NULL: a session; agent_id NULL, too: the worker itself */
	char *agent_id, *claim_id;
};

struct missed_job {
	struct fleet *fleet;
	struct known *list;
	size_t n, cap;
};

static void missed_job_free(struct missed_job **jp)
{
	struct missed_job *j = TAKE(*jp);

	for (size_t i = 0; i < j->n; i++) {
		free(j->list[i].worker_id);
		free(j->list[i].run_id);
		free(j->list[i].agent_id);
		free(j->list[i].claim_id);
	}
	free(j->list);
	free(j);
}

static void add(struct missed_job *j, const struct worker *w, const char *run, const char *agent, const char *claim)
{
	j->list = mem_grow(j->list, &j->cap, j->n + 1, sizeof *j->list);
	j->list[j->n++] = (struct known){w->team_id, str_dup(w->id), str_dup(run), str_dup(agent), str_dup(claim)};
}

static bool is_closing(const struct worker *w, const char *claim_id)
{
	for (size_t i = 0; i < w->n_calls; i++)
		if (w->calls[i].kind == CALL_CLOSE_SESSION && strcmp(w->calls[i].claim_id, claim_id) == 0)
			return true;
	return false;
}

/* Of a run that is attached its calls are found with it. */
static void add_worker(struct missed_job *j, const struct worker *w)
{
	add(j, w, NULL, NULL, NULL);
	for (size_t i = 0; i < w->n_runs; i++)
		add(j, w, w->runs[i].run_id, NULL, NULL);
	for (size_t i = 0; i < w->n_calls; i++)
		if (!w->calls[i].abandoned && w->calls[i].result == NULL && w->calls[i].run_id[0] != '\0' &&
		    worker_inbox(w, w->calls[i].run_id) == NULL)
			add(j, w, w->calls[i].run_id, NULL, NULL);
	for (size_t i = 0; i < w->n_sessions; i++)
		if (!is_closing(w, w->sessions[i].claim_id))
			add(j, w, NULL, w->sessions[i].agent_id, w->sessions[i].claim_id);
}

/* ERR_EMPTY: it is over. */
static int is_live(struct tx *tx, const struct known *k)
{
	int64_t one = 0;
	int rc;

	if (k->run_id != NULL)
		return tx_query_int(
		    tx, &one, "SELECT 1 FROM runs WHERE id = $1 AND status IN ('CREATING', 'RUNNING')", "s", k->run_id);
	/* One that was drained and has nothing to do, and not one that goes by itself and takes its time. */
	if (k->agent_id == NULL) {
		rc = tx_query_int(tx, &one,
		    "SELECT COUNT(*) FROM workers w JOIN worker_epochs e ON e.team_id = w.team_id AND e.worker_id = "
		    "w.id"
		    " WHERE w.team_id = $1 AND w.id = $2 AND w.draining = 1 AND e.drained = 1 AND NOT EXISTS(SELECT 1 "
		    "FROM"
		    " claims c JOIN requests q ON q.agent_id = c.agent_id WHERE c.team_id = $1 AND c.worker_id = $2)",
		    "is", k->team_id, k->worker_id);
		return rc == OK && one > 0 ? ERR_EMPTY : rc;
	}
	/* Under another claim of the same agent it may go on. */
	return tx_query_int(tx, &one, "SELECT 1 FROM claims WHERE agent_id = $1 AND team_id = $2 AND worker_id = $3",
	    "sis", k->agent_id, k->team_id, k->worker_id);
}

/* The first *ret_over of the list are over then. */
static int find_over(struct missed_job *j, size_t *ret_over)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(j->fleet->cfg.store, TX_READ, &tx);

	*ret_over = 0;
	for (size_t i = 0; rc == OK && i < j->n; i++) {
		rc = is_live(tx, &j->list[i]);
		if (rc == ERR_EMPTY) {
			struct known over = j->list[i];

			j->list[i] = j->list[*ret_over];
			j->list[(*ret_over)++] = over;
			rc = OK;
		}
	}
	return rc;
}

static void missed_job(void *arg)
{
	AUTO(missed_job) j = arg;
	struct notify *n = j->fleet->cfg.notify;
	size_t over = 0;
	int rc = find_over(j, &over);

	if (rc != OK)
		store_log_unavailable(j->fleet->cfg.store, rc);
	for (size_t i = 0; i < over; i++) {
		const struct known *k = &j->list[i];

		notify_hear(n, &(struct note){.kind = k->run_id != NULL	    ? NOTE_RUN_CANCELLED
						      : k->agent_id != NULL ? NOTE_CLAIM_ENDED
									    : NOTE_WORKER_RELEASED,
				   .team_id = k->team_id,
				   .worker_id = k->worker_id,
				   .run_id = k->run_id,
				   .agent_id = k->agent_id,
				   .claim_id = k->claim_id,
				   .reason = k->run_id == NULL && k->agent_id == NULL ? NOTE_DRAINED : NULL});
	}
	atomic_store(&j->fleet->looking_missed, false);
}

void hub_look_for_missed(struct fleet *f)
{
	struct missed_job *j;
	size_t at = 0;
	const char *key;
	void *value;

	ENSURE(hub_is_mine(f));
	if (atomic_load(&f->looking_missed))
		return;
	j = NEW(struct missed_job);
	j->fleet = f;
	while (map_next(f->workers, &at, &key, &value))
		if (((struct worker *)value)->conn != NULL)
			add_worker(j, value);
	atomic_store(&f->looking_missed, j->n > 0);
	if (j->n > 0 && pool_submit(f->cfg.jobs, missed_job, j) == OK)
		return;
	atomic_store(&f->looking_missed, false);
	missed_job_free(&j);
}
