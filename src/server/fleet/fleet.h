/* fleet/fleet.h: connected workers and the calls that go to them.
 *
 * One thread, the hub, owns every worker link; loops, handlers and run threads reach it by messages. What others may
 * rely on (who is connected, who is free, which claim holds) is in the store; the hub's memory can be rebuilt from
 * reconnecting workers.
 *
 * Functions may be called from any thread unless said otherwise; none blocks on the network. */
#pragma once
#include "base/json.h"
#include "base/mailbox.h"
#include "base/pool.h"
#include "link/call_kind.h"
#include "net/http_server.h"
#include "store/store.h"
#include <stdatomic.h>

struct fleet;

struct fleet_config {
	struct store *store;
	struct pool *jobs; /* short store work of the hub runs here */
	int64_t loss_grace_ms; /* how long a lost worker may take to come back */
	unsigned max_workers_per_team;
	void *ctx;
	/* A run has its worker, or has it again: drive it. From the scheduler or the hub; must not block for long. */
	void (*on_worker_ready)(void *ctx, const char *run_id);
	/* The run that waits for the result of this call (malloc'ed). ERR_EMPTY: nobody waits for it. Inside a
	 * transaction. */
	int (*call_run)(void *ctx, struct tx *tx, const char *call_id, char **ret_run_id);
};

int fleet_start(const struct fleet_config *cfg, struct fleet **ret) MUST_USE;
/* Forgets what a former process of this node left in the store about live connections. Before fleet_start. */
int fleet_recover(struct store *st) MUST_USE;
/* Ends the hub and the scheduler: every attached run hears FLEET_LOST, later messages are dropped (an attach is
 * answered with FLEET_LOST). After the end of the HTTP server and of the jobs; before fleet_free, so that run threads
 * can end in between. */
void fleet_stop(struct fleet *f);
void fleet_free(struct fleet **f);

/* The worker link's HTTP side. Loop thread, from on_request of a streaming exchange. */
void fleet_connect(struct fleet *f, struct http_exchange *x, const char *authorization);
/* The authentication that fleet_connect uses, given by the server: runs as a job. Fills team_id and the two
 * texts (malloc'ed). ERR_UNAUTHORIZED, ERR_DENIED (a key that may not start pool workers), store errors; `why` is told
 * to the worker. Set once before the first connection. */
typedef int fleet_authenticate(
    void *ctx, const char *authorization, int64_t *ret_team_id, char **ret_account, char **ret_key_id, struct why *why);
void fleet_set_authenticate(struct fleet *f, fleet_authenticate *fn, void *ctx);

/* The tools of a worker process as it described them; shared and constant. */
struct tool_set {
	atomic_uint refs;
	char hash[65]; /* SHA-256 of text */
	char *text; /* JSON array */
	json_t *list;
};
struct tool_set *tool_set_ref(struct tool_set *s);
void tool_set_free(struct tool_set **s); /* gives one reference back */

#define TOOLS_MAX 500 /* of a worker, and of a run */
/* The checks that a worker's own tools get, for tools that come later (with a session). ERR_INVALID with `why`. */
int tool_list_check(const json_t *list, struct why *why) MUST_USE;

/* What a run thread hears in its inbox. */
enum fleet_msg_kind {
	FLEET_ATTACHED, /* answer to fleet_attach: incarnation, tools and session_claim are set */
	FLEET_LOST, /* the worker is not connected (any more); nothing else follows */
	FLEET_CANCELLED, /* fleet_cancel_run was called for this run */
	FLEET_OUTPUT, /* call_id, stream, data */
	FLEET_RESULT, /* call_id, outcome … sdk_json */
	FLEET_INTERRUPTED, /* call_id: the process that had this call is gone; outcome unknown */
};

struct fleet_msg {
	enum fleet_msg_kind kind;
	char *call_id;
	uint64_t incarnation;
	struct tool_set *tools; /* a reference */
	char
	    *session_claim; /* the claim whose session is open on the worker, as far as the hub has heard; "" if none */
	int stream;
	char *data;
	size_t len;
	int outcome; /* CallResult.Outcome */
	char *result_json, *model_text, *sdk_json;
};
void fleet_msg_free(struct fleet_msg **m);

/* Binds the run's inbox to the worker: one FLEET_ATTACHED or FLEET_LOST or FLEET_CANCELLED follows. The hub takes a
 * reference of the inbox until fleet_detach or FLEET_LOST. A later attach of another run replaces the earlier. */
void fleet_attach(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id, struct mailbox *inbox);
void fleet_detach(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id);

/* One call, in the terms of `Call` in proto/worker.proto. Strings are borrowed; NULL is "". */
struct fleet_call {
	call_kind kind;
	const char *call_id, *agent_id, *run_id, *claim_id;
	uint64_t incarnation; /* of the worker process the call was written down for */
	int64_t limit_ms;
	const char *name; /* CALL_TOOL: the tool */
	const char *arguments_json;
	bool forget_rules; /* the conversation was cut, rules are to be given again */
};
/* At most once: a call that the worker process `incarnation` knows is not sent again, its result is waited for; one
 * that it does not know is sent; if another process is there now, FLEET_INTERRUPTED comes instead. Copies what it
 * needs. */
void fleet_call(struct fleet *f, int64_t team_id, const char *worker_id, const struct fleet_call *c);
/* The result is on disk: worker and hub may forget the call. */
void fleet_result_stored(struct fleet *f, int64_t team_id, const char *worker_id, const char *call_id);
/* Ends one call on the worker; nobody waits for its result any more. */
void fleet_abandon_call(struct fleet *f, int64_t team_id, const char *worker_id, const char *call_id);
/* The run was cancelled (already in the store): everything it has on the worker is ended, its inbox is told. */
void fleet_cancel_run(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id);
/* Cuts the connections that were made with this key. */
void fleet_drop_key(struct fleet *f, const char *key_id);
/* The claim ended: the worker closes the session that was opened for it, and no other. */
void fleet_close_session(
    struct fleet *f, int64_t team_id, const char *worker_id, const char *agent_id, const char *claim_id);
/* Requests or workers changed: the scheduler looks for pairs. Cheap, coalesces. */
void fleet_wake_scheduler(struct fleet *f);
/* Number of connected workers, for metrics and logs. */
unsigned fleet_connected(struct fleet *f);
