/* Whether workers can work: what they say of themselves goes to the store, and so out of and back into matching. The
 * hub knows the newest word of each worker; a job writes it, one at a time for each worker, so that an older word never
 * comes last. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/queue.h"
#include <string.h>

#define FITNESS_AGAIN_MS 1000
#define FITNESS_REASON_MAX 1024

struct fitness_job {
	struct fleet *fleet;
	int64_t team_id, epoch, n;
	char *worker_id, *code, *reason;
};

static void fitness_job_free(struct fitness_job **jp)
{
	struct fitness_job *j = TAKE(*jp);

	free(j->worker_id);
	free(j->code);
	free(j->reason);
	free(j);
}

static int store_fitness(const struct fitness_job *j)
{
	AUTO(tx) tx = NULL;
	int64_t n = 0;
	int rc = tx_begin(j->fleet->cfg.store, TX_WRITE, &tx);

	/* An older epoch than the present: the Hello of the new connection has said it. */
	if (rc == OK)
		rc = tx_change(tx, &n,
		    "UPDATE workers SET unfit_code = $5, unfit_reason = $6, fitness_n = $4 WHERE team_id = $1 AND id = "
		    "$2 AND link_epoch = $3 AND fitness_n < $4",
		    "isiiss", j->team_id, j->worker_id, j->epoch, j->n, j->code, j->reason);
	if (rc == OK && n == 1)
		rc = queue_follow_fitness(tx, j->team_id, j->worker_id);
	return rc != OK ? rc : tx_commit(&tx);
}

static void fitness_job(void *arg)
{
	AUTO(fitness_job) j = arg;
	int rc = store_fitness(j);
	struct hub_msg *m = hub_msg_new(HUB_FITNESS_STORED);

	if (rc == OK)
		notify_send(j->fleet->cfg.notify,
		    &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = j->team_id, .worker_id = j->worker_id});
	else
		store_log_unavailable(j->fleet->cfg.store, rc);
	m->team_id = j->team_id;
	m->worker_id = str_dup(j->worker_id);
	m->epoch = j->epoch;
	m->fitness_n = rc == OK ? j->n : 0;
	hub_post(j->fleet, m);
}

void fitness_store(struct fleet *f, struct worker *w, int64_t now_ms)
{
	struct fitness_job *j;

	if (w->conn == NULL || w->fitness_submitted || w->fitness_stored >= w->fitness_n ||
	    (w->fitness_tried_ms != 0 && now_ms - w->fitness_tried_ms < FITNESS_AGAIN_MS))
		return;
	j = NEW(struct fitness_job);
	*j = (struct fitness_job){.fleet = f,
	    .team_id = w->team_id,
	    .epoch = w->link_epoch,
	    .n = w->fitness_n,
	    .worker_id = str_dup(w->id),
	    .code = str_dup(w->unfit_code),
	    .reason = str_dup(w->unfit_reason)};
	w->fitness_tried_ms = now_ms;
	w->fitness_submitted = pool_submit(f->cfg.jobs, fitness_job, j) == OK;
	if (!w->fitness_submitted)
		fitness_job_free(&j);
}

void fitness_stored(struct fleet *f, struct worker *w, int64_t epoch, int64_t n, int64_t now_ms)
{
	if (w->link_epoch != epoch)
		return; /* of an earlier connection */
	w->fitness_submitted = false;
	if (n > w->fitness_stored) {
		w->fitness_stored = n;
		w->fitness_tried_ms = 0;
	}
	fitness_store(f, w, now_ms);
}

/* A line for each change, not for each time it is said again. */
static void note_fitness(struct worker *w, const Bullpen__Worker__V1__Fitness *m)
{
	AUTO_STR code = str_dup(m != NULL ? m->code : "");
	AUTO_STR reason = text_line(m != NULL && code[0] != '\0' ? m->reason : "", FITNESS_REASON_MAX);
	bool was_unfit = w->unfit_code != NULL && w->unfit_code[0] != '\0';

	if (code[0] != '\0' && (!was_unfit || strcmp(w->unfit_code, code) != 0 || strcmp(w->unfit_reason, reason) != 0))
		log_warn("worker.unfit", "worker=%s name=%s code=%s reason=%s", log_quote(w->id), log_quote(w->label),
		    code, log_quote(reason));
	else if (code[0] == '\0' && was_unfit)
		log_info("worker.fit", "worker=%s name=%s code=%s reason=%s", log_quote(w->id), log_quote(w->label),
		    w->unfit_code, log_quote(w->unfit_reason));
	str_set(&w->unfit_code, code);
	str_set(&w->unfit_reason, reason);
}

void fitness_take_hello(struct worker *w, const Bullpen__Worker__V1__Hello *hello)
{
	note_fitness(w, hello->fitness);
	w->fitness_n = w->fitness_stored = 0; /* the registration has written it */
	w->fitness_submitted = false;
	w->fitness_tried_ms = 0;
}

void fitness_take(struct fleet *f, struct worker *w, const Bullpen__Worker__V1__Fitness *m, int64_t now_ms)
{
	note_fitness(w, m);
	w->fitness_n++;
	fitness_store(f, w, now_ms);
}
