/* runs/publication.h: what a worker says about the work of an agent when it publishes it or closes its session:
 * branches that were pushed, files that were not, work that is kept on the machine, what it took. Everything is checked
 * and cut before it is stored. For this folder, the API and the server's main. */
#pragma once
#include "server/runs/runs.h"

struct loop;
struct call;

/* Inside the write of the result of a publication, whatever its outcome. */
int publication_take(struct loop *l, struct call *c) MUST_USE;
/* Inside the write of the result of an opening: where work of this agent is kept that this worker does not have. */
int publication_tell_kept(struct loop *l, const struct call *c) MUST_USE;
/* For fleet_config: a session was closed that nobody waits for; `result` is the text of the worker's result. */
int runs_session_closed(
    struct tx *tx, int64_t team_id, const char *worker_id, const char *agent_id, const char *result) MUST_USE;
/* Adds to the run as the API shows it: worker, attempts, resources, notPublished, warnings, keptWork; what there is. */
int run_put_details(struct tx *tx, const struct agent *a, const struct run_info *r, json_t *run) MUST_USE;
