/* The scheduler: pairs queued requests with workers. It runs when something changed, and every few seconds anyway, so
 * that a matching idle worker and a queued request never stay side by side for long whatever was missed. Each pairing
 * is one conditional transaction; another that comes first simply wins. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/fleet/fleet_priv.h"
#include "server/fleet/queue.h"

#define SWEEP_MS 5000

static char wake_token;

void fleet_wake_scheduler(struct fleet *f)
{
	/* One token is enough for any number of changes that the scheduler has not looked at yet. */
	if (!atomic_exchange(&f->scheduler_woken, true))
		IGNORE(mailbox_post_always(f->scheduler_inbox, &wake_token));
}

/* A long queue takes a while to look through, and nobody shall wait for that. */
static int look_for_next(struct fleet *f, struct queue_place *place, char **ret_run)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(f->cfg.store, TX_READ, &tx);

	return rc != OK ? rc : queue_next(tx, place, ret_run);
}

/* The next request behind `place`. ERR_EMPTY: that was the last. */
static int pair_one(struct fleet *f, struct queue_place *place)
{
	AUTO(tx) tx = NULL;
	AUTO_STR run = NULL;
	AUTO_STR worker = NULL;
	int rc = look_for_next(f, place, &run);

	if (rc == OK)
		rc = tx_begin(f->cfg.store, TX_WRITE, &tx);
	if (rc != OK)
		return rc;
	rc = queue_match(tx, place->agent_id, clock_wall_ms(), &worker);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		f->cfg.on_worker_ready(f->cfg.ctx, run);
	else if (rc != ERR_EMPTY && !store_is_unavailable(rc))
		log_error("scheduler.pair.failed", "run=%s error=%s", run, err_name(rc));
	/* What is the matter with one request is no reason to keep the others waiting. */
	return store_is_unavailable(rc) ? rc : OK;
}

static void pair_all(struct fleet *f)
{
	struct queue_place place = {0};
	int rc;

	do
		rc = pair_one(f, &place);
	while (rc == OK);
	if (store_is_unavailable(rc))
		store_log_unavailable(f->cfg.store, rc);
	else if (rc != ERR_EMPTY)
		log_error("scheduler.failed", "error=%s", err_name(rc));
	free(place.agent_id);
}

static void cut_revoked(struct fleet *f)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(f->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT DISTINCT w.key_id FROM workers w JOIN api_keys k ON k.id = w.key_id WHERE k.revoked_at IS "
		    "NOT NULL",
		    "");
	while (rc == OK && (rc = query_next(q)) == OK)
		fleet_drop_key(f, query_str(q, 0));
}

static void scheduler_main(void *arg)
{
	struct fleet *f = OBJ_FROM(fleet, arg, FLEET_MAGIC);
	int64_t next_sweep = clock_mono_ms() + SWEEP_MS;

	for (;;) {
		void *token;
		int rc = mailbox_receive(f->scheduler_inbox, next_sweep, &token);

		if (rc == ERR_CLOSED)
			break;
		/* By the clock: on a busy server there is always something that wakes us before. */
		if (clock_mono_ms() >= next_sweep) {
			cut_revoked(f);
			next_sweep = clock_mono_ms() + SWEEP_MS;
		}
		atomic_store(&f->scheduler_woken, false);
		pair_all(f);
	}
	IGNORE(mailbox_post_always(f->stopped, f));
}

int scheduler_start(struct fleet *f)
{
	return thread_start("scheduler", 512 * 1024, scheduler_main, f);
}
