/* runs/runs.h: agents and their runs, from prompt to result.
 *
 * The store holds agents and runs. A run thread only moves its run on: it owns the run while
 * its owner_epoch is the run's, and every write says so. Kill it anywhere: the next thread reads the store and goes on.
 *
 * Functions may be called from any thread; those with a store work block on it. */
#pragma once
#include "base/json.h"
#include "server/audit/audit.h"
#include "server/fleet/fleet.h"
#include "server/fleet/queue.h"
#include "server/node/node.h"
#include "server/node/notify.h"
#include "store/store.h"

struct agent;
struct runs;
struct remotes;
struct pulls;

struct runs_config {
	struct store *store;
	const struct seal *seal; /* base/seal.h */
	const struct node *node; /* this process */
	struct notify *notify;
	struct remotes *remotes; /* mcp/remotes.h; NULL: no MCP server is asked from here */
	struct pulls *pulls; /* pulls/pulls.h; NULL: none are opened */
	int64_t run_timeout_ms, queue_timeout_ms, loss_grace_ms, idle_release_ms;
	/* How long things are kept (retention.h); 0, but for the stream: for ever. */
	int64_t stream_retention_ms, image_retention_ms, conversation_retention_ms, agent_retention_ms,
	    audit_retention_ms, trace_retention_ms;
	int64_t machine_wait_ms; /* for a personal machine that is not connected */
	/* A request that waits so long beside a worker that keeps a claim idle for so long gets it; 0: never. */
	int64_t reclaim_after_ms, reclaim_idle_ms;
	int64_t max_steps;
	int64_t open_timeout_ms; /* how long the opening of a session may take */
	int64_t open_retries; /* how often a run whose session could not be opened goes to another worker */
	unsigned max_active; /* run threads at once */
	size_t max_readers; /* streams of one run */
	const char *branch_prefix, *author_name, *author_email;
	/* What the worker of a claim needs to bring artifacts: a new reference. NULL: they are not brought. */
	json_t *(*grant)(void *ctx, const char *agent_id, const char *claim_id);
	/* What its pull request says of the agent's artifacts: Markdown, malloc'ed. NULL: nothing. */
	int (*tell_artifacts)(void *ctx, struct tx *tx, const struct agent *a, const char *agent_url, char **ret);
	void *grant_ctx; /* of both */
};

int runs_start(const struct runs_config *cfg, struct fleet *fleet, struct runs **ret) MUST_USE;
/* Lets every run thread stop at its next safe point and waits for them. Runs stay as they are in the store. */
void runs_free(struct runs **r);
const struct runs_config *runs_config(const struct runs *r);

/* For metrics. */
struct runs_count {
	unsigned threads; /* runs that have one */
	size_t waiting; /* runs that wait for one */
	size_t readers; /* of event streams */
};
void runs_count(struct runs *r, struct runs_count *ret);

/* For fleet_config. */
/* The run that waits for the result of this call (malloc'ed); ERR_EMPTY. */
int runs_call_run(struct tx *tx, const char *call_id, char **ret_run_id) MUST_USE;

/* Rows as the API shows them. Texts are malloc'ed and never NULL, unless said. */
struct agent {
	char *id, *owner, *name, *status, *env_type, *env_name, *pool;
	json_t *repos; /* as sent, without userinfo */
	json_t *metadata; /* NULL if none */
	char *repo_url, *repo, *repo_host, *match_repo, *starting_ref, *branch;
	char *pushed_branch; /* NULL until one was pushed */
	json_t *pushed_branches; /* [{branch, commit?}] if the worker listed them; else NULL */
	json_t *kept_work; /* {workerId, workerName, host, ref, commit, reason, at}: on that worker, not on the remote;
			      NULL: none */
	char *model, *mode, *latest_run_id;
	char *machine; /* the personal machine that was asked for ("": any of the owner's); NULL: a pool */
	struct labels labels; /* that its worker must have */
	char *pull_url, *pull_head; /* its newest pull request, and that one's branch; NULL: none */
	bool work_on_current_branch, skip_reviewer_request, open_as_app, auto_create_pr;
	bool of_team; /* the members of the team may read it in their browsers */
	int64_t team_id, run_count, created_at, updated_at;
};
void agent_free(struct agent **a);

struct run_info {
	char *id, *agent_id, *status, *request_id;
	char *result, *error_code, *error_message; /* NULL if none */
	int64_t number, created_at, updated_at; /* number: 1 for the first run of the agent */
	int64_t started_at, ended_at; /* 0 if not yet */
};
void run_info_free(struct run_info **r);
bool run_status_is_terminal(const char *status);

/* ERR_NOT_FOUND if there is none; ERR_INTERNAL if the stored row is damaged (logged with table and key). */
int agent_load(struct tx *tx, const char *id, struct agent **ret) MUST_USE;
int run_load(struct tx *tx, const char *id, struct run_info **ret) MUST_USE;
/* A page in one query: at most `limit` agents of the owner, or of all of a team, behind (created_at, id), newest first;
 * likewise the runs of an agent with a number below. Then agents_next or runs_next gives one after the other: ERR_EMPTY
 * at the end, else as the loading of one. */
struct agents_filter {
	const char *owner; /* NULL: everybody's of the team */
	int64_t team_id; /* without `owner` */
	bool with_archived;
	const char *pull_url; /* only those with that pull request; NULL: all */
};
int agents_query(struct tx *tx, const struct agents_filter *filter, int64_t created_at, const char *id, int64_t limit,
    struct query **ret) MUST_USE;
int agents_next(struct query *q, struct agent **ret) MUST_USE;
int runs_query(struct tx *tx, const char *agent_id, int64_t before_number, int64_t limit, struct query **ret) MUST_USE;
int runs_next(struct query *q, struct run_info **ret) MUST_USE;
/* {"branches":[…]} or NULL while nothing was pushed. New reference. */
json_t *agent_git(const struct agent *a);

/* Creates agent and first run in the caller's transaction. Given by the caller: id (NULL: one is minted), owner, name,
 * env_type … match_repo, starting_ref, branch (NULL: named after the agent), model, mode and the flags; ids, status,
 * branch and times are set here. ERR_CONFLICT: the id is taken, ERR_DENIED: the branch is another agent's. After the
 * commit the caller calls runs_created with what came back. */
struct prompt {
	const char *text;
	const json_t *images; /* [{mimeType, data (base64)}]; NULL: none */
};
struct created {
	struct run_info *run;
	char *worker_id; /* NULL: it waits in the queue */
	int64_t team_id;
	struct claim_left left; /* of the agent's run before, on a worker that takes no work now */
};
void created_fini(struct created *c);
int agent_create(
    struct runs *r, struct tx *tx, struct agent *a, const struct prompt *prompt, struct created *ret) MUST_USE;
/* The next run of an idle agent. mode and model may be NULL: the agent's; else they are the agent's from now on.
 * ERR_CONFLICT: a run is active, or follow-ups wait (followups.h). */
int run_create(struct runs *r, struct tx *tx, struct agent *a, const struct prompt *prompt, const char *mode,
    const char *model, struct created *ret) MUST_USE;
void runs_created(struct runs *r, const struct created *c);

/* Tokens that the runs of an agent used, newest first: [{"id", "usageUuid"?, "usage": {…}}]; `run_id` (NULL: all): that
 * one only. New reference. */
int runs_usage(struct tx *tx, const char *agent_id, const char *run_id, json_t **ret) MUST_USE;

/* Puts an agent away, back, or deletes it; in the store when it returns. An active run is cancelled, its worker let go.
 * Twice is fine, but for deleting. ERR_NOT_FOUND. */
int agent_archive(struct runs *r, const char *agent_id) MUST_USE;
int agent_unarchive(struct runs *r, const char *agent_id) MUST_USE;
/* In the audit log. */
int agent_delete(struct runs *r, const char *agent_id, const struct audit_by *by) MUST_USE;

/* Cancels the active run of an agent, if one is, and forgets the follow-ups that wait; as run_cancel. ERR_CONFLICT:
 * nothing is active and nothing waits. */
int agent_stop(struct runs *r, const char *agent_id) MUST_USE;

/* What was said in the agent's runs, in order: [{"id", "type", "text"}], new reference. The ids stay the same while
 * more is said. */
int agent_transcript(struct tx *tx, const char *agent_id, json_t **ret) MUST_USE;

/* Cancels a run that is not terminal, and forgets the follow-ups that wait for its end; in the store when it returns.
 * ERR_CONFLICT: it is terminal already. */
int run_cancel(struct runs *r, const char *run_id) MUST_USE;

/* claims.c: what a controller says of a claim of the team's pools. *ret_worker_id (malloc'ed): whose it was.
 * ERR_NOT_FOUND, ERR_CONFLICT with `why`; then nothing was changed.
 *
 * Gives it back: a run that has not begun goes back to the queue, one that had begun ends (its worker is away), the
 * worker is told to exit. ERR_CONFLICT: a turn uses the worker. */
int runs_release_claim(
    struct runs *r, int64_t team_id, const char *agent_id, char **ret_worker_id, struct why *why) MUST_USE;
/* Its worker cannot be started: the run ends with that message. ERR_CONFLICT with *ret_fault. */
enum claim_fault { CLAIM_NO_TURN, CLAIM_CONNECTED };
int runs_fail_claim(struct runs *r, int64_t team_id, const char *agent_id, const char *message, char **ret_worker_id,
    enum claim_fault *ret_fault, struct why *why) MUST_USE;

/* Server-sent events of one run, from the log. Takes over the exchange (a reference of its own). `after_seq`: the last
 * event the client has, 0 for none. `key_id`: when that key is revoked the stream ends. Answers 429 itself when the run
 * has too many readers. ERR_FULL, ERR_CLOSED: too many streams are being opened, or the server stops; the exchange is
 * not answered. */
int stream_open(struct runs *r, struct http_exchange *x, const struct http_header *headers, size_t n_headers,
    const char *agent_id, const char *run_id, int64_t after_seq, const char *key_id) MUST_USE;
/* The event with this public id ("<ms>-<n>") of the run: its sequence number. ERR_NOT_FOUND. */
int stream_find_event(struct tx *tx, const char *run_id, const char *event_id, int64_t *ret_seq) MUST_USE;
