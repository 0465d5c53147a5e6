/* fleet/worker_priv.h: what worker_calls.c and worker_runs.c share. Thread: the hub (hub_priv.h). */
#pragma once
#include "server/fleet/worker.h"

/* worker_calls.c */
struct fleet_msg *msg_new(enum fleet_msg_kind kind, const char *call_id);
/* Takes m. Ends, results and losses must arrive; output and news may be left out when the run does not keep up. */
void post_to_run(struct mailbox *inbox, struct fleet_msg *m);
/* Which of the calls the Hello names as finished. */
void worker_note_calls(struct worker *w, const Bullpen__Worker__V1__Hello *hello);
void worker_abandon_calls_of(struct worker *w, const char *run_id);

/* worker_runs.c */
/* Of the run, if it is attached; else NULL. Borrowed. */
struct mailbox *worker_inbox(const struct worker *w, const char *run_id);
bool worker_has_session(const struct worker *w, const char *claim_id);
bool worker_was_cancelled(const struct worker *w, const char *run_id);
/* claim_id "": it failed, and no session of the agent is open. */
void worker_note_opening(struct worker *w, const char *agent_id, const char *claim_id);
void worker_note_closing(struct worker *w, const char *claim_id);
void worker_runs_fini(struct worker *w);
