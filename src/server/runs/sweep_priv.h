/* runs/sweep_priv.h: what the files of the sweep share. The sweeper's thread. */
#pragma once
#include "server/runs/runs_priv.h"
#include "server/runs/sweep.h"

#define SWEEP_BATCH 100

struct sweeper {
	struct runs *runs;
	struct mailbox *stop; /* closed: come to an end */
	struct mailbox *gone; /* the thread's last word */
	bool free_space; /* the thread's: pages of the database to give back */
	bool moved; /* the thread's: this round something was */
};

struct overdue {
	char *agent_id, *run_id, *worker_id, *state;
	int64_t team_id;
};

struct overdue_list {
	struct overdue rows[SWEEP_BATCH];
	size_t n;
};
void overdue_list_fini(struct overdue_list *l);

/* Rows are (agent_id, run_id, worker_id, state, team_id), older than the limit in $1; $2 is the rule's own (-1: it has
 * none). */
int sweep_find(struct runs *r, const char *sql, int64_t before_ms, int64_t more, struct overdue_list *l);
typedef int sweep_mover(struct runs *r, const struct overdue *o, int64_t before_ms);
/* One row that cannot be moved must not stop the others: only a store that is unavailable ends a rule. */
int sweep_move(struct runs *r, const char *rule, const struct overdue_list *l, int64_t before_ms, sweep_mover *move);

/* Whether the row is still as it was found, inside the transaction that changes it. */
typedef int still_true(struct tx *tx, const struct overdue *o, int64_t before_ms);
struct verdict {
	const char *status, *code, *text;
	still_true *check; /* NULL: that the run is not terminal is enough */
	bool end_claim;
};
int sweep_end(struct runs *r, const struct overdue *o, const struct verdict *v, int64_t before_ms);

/* sweep_pool.c: the rules about workers that do not come. */
int sweep_connect_timeouts(struct runs *r, int64_t now_ms);
int sweep_offline_lapses(struct runs *r, int64_t now_ms);
int sweep_start_failures(struct runs *r, int64_t now_ms);
int sweep_machines_away(struct runs *r, int64_t now_ms);
int sweep_reclaim(struct runs *r, int64_t now_ms);
