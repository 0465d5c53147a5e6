/* runs/run.h: one run as its thread sees it, and the loops in it. For this folder only.
 *
 * A run has identity, epoch, worker and log. A loop is a conversation with a model: the run's own, or one that a call
 * of another loop started (a nested loop). Each loop has a thread. Struct run holds what all
 * loops of the run share, and is constant from the moment a nested loop can exist; struct loop holds what changes, and
 * belongs to its thread. */
#pragma once
#include "server/fleet/label.h"
#include "server/fleet/queue.h"
#include "base/redact.h"
#include "server/models/models.h"
#include "server/runs/inputs.h"
#include "server/runs/log.h"
#include "server/runs/runs_priv.h"
#include <pthread.h>
#include <string.h>

struct call_routes;
struct team_hooks;
struct team_rules;
struct user_rules;
struct background;

struct run {
	struct runs *runs;
	struct agent *agent;
	struct run_info *info;
	int64_t epoch; /* owner_epoch that its loops write with */
	char *worker_id, *claim_id; /* of its agent's claim */
	struct worker_names names; /* of that worker */
	char *worker_label; /* the same, for people */
	uint64_t incarnation; /* of the worker process it is attached to */
	char *session_claim; /* this run's claim, if that process has its session open; "" if not */
	struct tool_set *tool_set; /* of the worker process */
	json_t *session_info; /* set by session_ensure */
	json_t *tools; /* all that loops of this run may be offered but for those of MCP; set by session_ensure */
	struct live *live; /* what changes meanwhile (live.c) */
	struct inputs inputs; /* mcp_servers: those that the worker starts, the user's and the team's too */
	struct remote_side *remote; /* those that are asked from here; NULL: none */
	struct redactor *redactor; /* of all that comes back from tools; NULL: there is nothing to hide */
	char *env_json; /* what programs of tool calls get as variables, for the worker; NULL: nothing */
	char *mcp_json; /* the MCP servers that the worker starts, secret; NULL: none */
	char *user_email; /* of the agent's user; NULL: it has none */
	struct team_hooks *team_hooks; /* of its team; NULL: none */
	bool team_hooks_whole; /* the worker does not have them: the next opening brings the content */
	struct team_rules *team_rules; /* NULL: none */
	struct user_rules *user_rules; /* of its agent's user; NULL: none */
	const char *env_withheld; /* why it gets none although there are some, a literal; else NULL */
	struct call_routes *routes; /* whose inbox a message of the worker belongs to (calls.c) */
};

#define LOOP_DEPTH_MAX 2 /* a nested loop may start others; those may not */

struct loop {
	struct run *run;
	pthread_t thread; /* the owner; set by loop_load */
	unsigned depth; /* 0: the run's own */
	char *id; /* of the run's own loop: the run's id */
	char *conversation_id;
	char *parent_call_id; /* NULL: the run's own */
	char *mode;
	char *model_text; /* {"id", "params"} */
	struct mailbox *inbox; /* struct fleet_msg */
	const atomic_bool *stop; /* a nested loop: its parent wants it to end; NULL: the run's own */
	bool (*offers)(const json_t *tool); /* a nested loop: loop_spec's */
	int64_t created_at; /* wall time */
	const char *said; /* the text before the calls that are under way; borrowed, NULL: none */
	/* Of a subagent: as the call that started it says; NULL: not said. */
	char *subagent_type, *subagent_task, *subagent_description;

	/* hooks_transcript.c: [{at, line}] of messages that the worker may not have; NULL: no hook listens. Positions
	 * are of the whole conversation: how many were looked at, how many were told. */
	json_t *untold;
	size_t noted, told;

	/* The run's own: subagents that work behind it (background.h), NULL: it never had one; and how many calls of
	 * nested loops it waits for. */
	struct background *background;
	size_t nested_calls;

	/* The model, and what it is asked with each time; set by loop_run. */
	const struct model *model;
	json_t *model_params;
	struct model_memo memo;
	json_t *all; /* the run's tools, with those of MCP servers as of this turn (live.c) */
	unsigned live_version; /* which that was; 0: none yet */
	json_t *tools; /* of those the ones that this loop is offered */
	char *system;
	size_t fixed_bytes; /* of system text and tools */
	bool forget_rules; /* the context was cut: the next call tells the worker */

	/* A write, from loop_begin_write to loop_end_write. */
	struct tx *tx;
	struct log log;

	/* How far the loop is. A write changes `progress`; a repeated one begins with what was committed last. */
	struct loop_progress {
		int64_t step; /* how many steps have begun */
		int64_t step_began_ms; /* monotonic */
	} progress, committed;
	bool ended; /* the run is terminal by this thread's doing */
	int detach_reason; /* not OK: why the loop has to be left alone, found while the model was asked */
	bool planned; /* its answer is the argument of a call (a plan): it is told as text when the run ends */
	bool end_claim; /* the run's session was never open: the claim ends with the run */
	const char *fail_code; /* set with `why` when the loop has failed: the run's own ends it as ERROR */
	struct why why;
	char *fail_text; /* with fail_code: the whole sentence, if it is longer than `why` has room for */
};

/* It may only read, and its answer is a plan. */
static inline bool loop_only_plans(const struct loop *l)
{
	return strcmp(l->mode, "plan") == 0;
}

/* Results that mean "leave the run alone": somebody else, or a later thread, goes on with it. */
static inline bool run_is_left(int rc)
{
	return rc == ERR_LOST || rc == ERR_CANCELLED || rc == ERR_FENCED || rc == ERR_CLOSED || rc == ERR_NOT_FOUND;
}

/* run.c: drives one run until it is terminal, or has to be left alone (worker lost, stopping). */
void run_drive(struct runs *r, const char *run_id);

/* write.c */
/* A write of a loop: everything between the two is one transaction, and what is appended to l->log is committed with
 *it.
 *
 *	do {
 *		rc = loop_begin_write(l);
 *		if (rc == OK)
 *			rc = …;
 *	} while (loop_end_write(l, &rc));
 *
 * The body is repeated while the store is unavailable, so it must change nothing but the store and l->log.
 * ERR_FENCED: this thread does not own the run any more; nothing was written. ERR_CLOSED: the store was unavailable and
 * the server stops. */
int loop_begin_write(struct loop *l) MUST_USE;
bool loop_end_write(struct loop *l, int *rc) MUST_USE;
/* Half a second, while the store is unavailable. */
void run_pause_for_store(void);
/* Sets the reason (at most 8 KiB of it) and returns ERR_INVALID: the loop has failed. */
int loop_fail(struct loop *l, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Whether the loop has to stop (l->detach_reason says why); takes what came into the inbox. While no call is under way.
 */
bool loop_is_interrupted(struct loop *l);

/* session.c: the workspace before the first step and the branch after the last. By the run's own loop. */
int session_ensure(struct loop *l) MUST_USE;
/* Commits and pushes. A failure is loop_fail'ed. */
int session_publish_branch(struct loop *l) MUST_USE;
/* Whether there is something to publish after the last step. */
bool session_publishes(const struct loop *l);

/* live.c: what the worker says of the session while the run goes on: its MCP servers. Any loop of the run. */
struct live *live_new(void);
void live_free(struct live **l);
/* The session's info, as it is when it is opened, by that call. `again`: an earlier thread did so and has told what
 * there is to tell. */
void live_enter(struct run *r, const json_t *info, const char *call_id, bool again);
/* The MCP servers that the control plane itself calls for this run (mcp/tools.h). */
void live_set_control(struct run *r, json_t *servers);
/* News of the worker (struct fleet_msg of kind FLEET_NEWS), unchecked. */
void live_take(struct run *r, const char *text, size_t len);
/* Before a model turn: l->all, and *ret_changed says whether it is another than before. By the run's own loop, what
 * failed since the last time is told, and what is new is kept. */
int live_refresh(struct loop *l, bool *ret_changed) MUST_USE;
/* What MCP servers say of themselves, as of that; malloc'ed or NULL. */
char *live_instructions(struct run *r);

/* loop.c */
/* Loads the row of a loop; l->run is set, the rest zero. ERR_NOT_FOUND. */
int loop_load(struct loop *l, const char *id) MUST_USE;
void loop_fini(struct loop *l);
/* Asks the model, performs its calls, until it answers. *ret_text (malloc'ed) is the final text. */
int loop_run(struct loop *l, char **ret_text) MUST_USE;
/* FINISHED, or ERROR if l->fail_code is set; inside a write of the run's own loop. */
int loop_write_run_end(struct loop *l, const char *text) MUST_USE;
/* step-completed of the newest step, if there is one; inside a write. */
int loop_log_step_end(struct loop *l) MUST_USE;
