/* fleet/fleet.h: connected workers and the calls that go to them.
 *
 * One thread, the hub, owns every worker link; loops, handlers and run threads reach it by messages. What others may
 * rely on (who is connected, who is free, which claim holds) is in the store; the hub's memory can be rebuilt from
 * reconnecting workers.
 *
 * Of what others do it hears by notes (node/notify.h). It listens to NOTE_QUEUE_CHANGED (the scheduler looks for
 * pairs), NOTE_RUN_CANCELLED (everything that the run has on its worker is ended, its inbox is told), NOTE_CLAIM_ENDED
 * (the worker closes the session that was opened for that claim, and no other) NOTE_KEY_REVOKED (the connections
 * that were made with that key are cut), NOTE_WORKER_RELEASED and NOTE_WORKER_MOVED. It sends NOTE_RUN_READY (from the
 * scheduler or the hub), NOTE_RUN_CHANGED (the worker of that run is lost or back), NOTE_QUEUE_CHANGED and
 * NOTE_KEY_REVOKED.
 *
 * Functions may be called from any thread unless said otherwise; none blocks on the network. */
#pragma once
#include "base/json.h"
#include "base/mailbox.h"
#include "base/pool.h"
#include "link/call_kind.h"
#include "net/http_server.h"
#include "server/node/node.h"
#include "server/node/notify.h"
#include "server/node/relay.h"
#include "store/store.h"
#include <stdatomic.h>

struct fleet;

struct fleet_config {
	struct store *store;
	const struct node *node; /* this process */
	struct notify *notify;
	struct relay *relay; /* NULL: there are no other nodes */
	/* That node has ended or was cut off, and what the fleet had there is ours. On the scheduler's thread, in the
	 * transaction that takes it over; may be NULL. */
	int (*taken_over)(void *ctx, struct tx *tx, const char *node_id);
	struct pool *jobs; /* short store work of the hub runs here */
	int64_t loss_grace_ms; /* how long a lost worker may take to come back */
	unsigned max_workers_per_team, max_workers_per_user; /* 0: no limit */
	/* Streams of which it is not known yet who opened them, in all and from one peer address; 0: no limit. */
	unsigned max_unauthenticated, max_unauthenticated_per_peer;
	void *ctx;
	/* The run that waits for the result of this call (malloc'ed). ERR_EMPTY: nobody waits for it. Inside a
	 * transaction. */
	int (*call_run)(void *ctx, struct tx *tx, const char *call_id, char **ret_run_id);
	/* A session was closed that nobody waits for; the result is the worker's, unchecked. Inside a transaction.
	 * NULL: nobody wants to know. */
	int (*session_closed)(void *ctx, struct tx *tx, int64_t team_id, const char *worker_id, const char *agent_id,
	    const char *result_json);
};

/* Listens to notes from here on; what comes before fleet_start waits. */
struct fleet *fleet_new(const struct fleet_config *cfg);
/* Starts the hub and the scheduler, which send notes: after everybody who listens to them has said so, once. */
void fleet_start(struct fleet *f);
/* Forgets what former processes of this node, and those from before there were nodes, left in the store about live
 * connections; what other nodes have there is theirs. After node_start, before fleet_new. */
int fleet_recover(struct store *st, const struct node *node) MUST_USE;
/* The same for the next node whose lease is over (node_take_over), whose id is *ret_id, malloc'ed. ERR_EMPTY: none. */
int fleet_take_over(const struct fleet_config *cfg, bool only_left, char **ret_id) MUST_USE;
/* Ends the hub and the scheduler: every attached run hears FLEET_LOST, later messages are dropped (an attach is
 * answered with FLEET_LOST). After the end of the HTTP server and of the jobs; before fleet_free, so that run threads
 * can end in between. */
void fleet_stop(struct fleet *f);
void fleet_free(struct fleet **f);

/* The worker link's HTTP side. Loop thread, from on_request of a streaming exchange. What has no credential is answered
 * at once with the gRPC status UNAUTHENTICATED, what is over the limits with RESOURCE_EXHAUSTED: the hub does not hear
 * of either. */
void fleet_connect(struct fleet *f, struct http_exchange *x, const char *authorization);
/* Who opens a connection. */
struct fleet_identity {
	int64_t team_id;
	int64_t user_id; /* 0: a service account */
	char *account; /* whose worker ids are its own: "sa_…" or "user:7" */
	char *key_id; /* when that is revoked the connection ends */
	enum fleet_credential { FLEET_API_KEY, FLEET_WORKER_TOKEN, FLEET_USER_TOKEN, FLEET_SESSION_TOKEN } kind;
	bool connects_pool, connects_machine; /* what it may connect, by its scopes */
	char *only_agent, *only_worker; /* of a session token: the one claim that it is for; else NULL */
};
void fleet_identity_fini(struct fleet_identity *id);
/* The authentication that fleet_connect uses, given by the server: runs as a job. ERR_UNAUTHORIZED with *ret_code, a
 * literal (unauthorized, token_expired, claim_ended, key_revoked), and store errors; code and `why` are told to the
 * worker. Set once, before fleet_start. */
typedef int fleet_authenticate(
    void *ctx, const char *authorization, struct fleet_identity *ret, const char **ret_code, struct why *why);
void fleet_set_authenticate(struct fleet *f, fleet_authenticate *fn, void *ctx);

/* The tools of a worker process as it described them; shared and constant. */
struct tool_set {
	atomic_uint refs;
	char hash[65]; /* SHA-256 of text */
	char *text; /* JSON array */
	json_t *list;
};
#define TOOLS_MAX 500 /* that one run may be offered */
/* Tools from outside, of a worker or of a session: a JSON array of at most TOOLS_MAX in the form of
 * docs/worker-protocol.md, no name twice, whatever the case. ERR_INVALID with `why`, which names the tool. */
int tool_list_check(const json_t *list, struct why *why) MUST_USE;
struct tool_set *tool_set_ref(struct tool_set *s);
void tool_set_free(struct tool_set **s); /* gives one reference back */

/* What a run thread hears in its inbox. */
enum fleet_msg_kind {
	FLEET_ATTACHED, /* answer to fleet_attach: incarnation, tools and session_claim are set */
	FLEET_LOST, /* the worker is not connected (any more); nothing else follows */
	FLEET_CANCELLED, /* a NOTE_RUN_CANCELLED came for this run */
	FLEET_OUTPUT, /* call_id, stream, data; stream 3, of an opening: what it is doing, a short line */
	FLEET_RESULT, /* call_id, outcome … sdk_json */
	FLEET_INTERRUPTED, /* call_id: the process that had this call is gone; outcome unknown */
	FLEET_NEWS, /* data: members of the session's info that are others now, an object, unchecked */
};

struct fleet_msg {
	enum fleet_msg_kind kind;
	char *call_id;
	uint64_t incarnation;
	struct tool_set *tools; /* a reference */
	/* The claim that was attached for, if its session is open on the worker, as far as the hub has heard; else "".
	 */
	char *session_claim;
	bool takes_env; /* FLEET_ATTACHED: the worker was started so that it takes variables */
	int stream;
	char *data;
	size_t len;
	int outcome; /* CallResult.Outcome */
	/* FLEET_RESULT: on which connection, and after how many words about its fitness, the worker said it. */
	int64_t link_epoch, fitness_n;
	char *result_json, *model_text, *sdk_json;
};
void fleet_msg_free(struct fleet_msg **m);

/* Binds the run's inbox to the worker: one FLEET_ATTACHED or FLEET_LOST or FLEET_CANCELLED follows. The hub takes a
 * reference of the inbox until fleet_detach or FLEET_LOST. A later attach of the same run replaces the earlier, and of
 * a pool worker, which serves one run at a time, that of another run too. claim_id: the run's claim on that worker. */
void fleet_attach(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id, const char *claim_id,
    struct mailbox *inbox);
void fleet_detach(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id);

/* One call, in the terms of `Call` in proto/worker.proto. Strings are borrowed; NULL is "". */
struct fleet_call {
	call_kind kind;
	const char *call_id, *agent_id, *run_id, *claim_id;
	uint64_t incarnation; /* of the worker process the call was written down for */
	int64_t limit_ms;
	const char *name; /* CALL_TOOL: the tool */
	const char *arguments_json;
	const char *env_json; /* variables for programs, {name: value}; secret */
	const char *mcp_json; /* CALL_OPEN_SESSION: MCP servers to start; secret */
	const char *hook_json; /* what hooks are told of the run; NULL: nothing */
	bool forget_rules; /* the conversation was cut, rules are to be given again */
};
/* At most once: a call that the worker process `incarnation` knows is not sent again, its result is waited for; one
 * that it does not know is sent; if another process is there now, FLEET_INTERRUPTED comes instead. Copies what it
 * needs. A call with the run_id "" is sent if the worker is connected, and nobody hears of it again. */
void fleet_call(struct fleet *f, int64_t team_id, const char *worker_id, const struct fleet_call *c);
/* The result is on disk: worker and hub may forget the call. */
void fleet_result_stored(struct fleet *f, int64_t team_id, const char *worker_id, const char *call_id);
/* Ends one call on the worker; nobody waits for its result any more. */
void fleet_abandon_call(struct fleet *f, int64_t team_id, const char *worker_id, const char *call_id);
/* Tells the worker that its process is to end, with status 0. Nothing happens if it is not connected. */
void fleet_release(struct fleet *f, int64_t team_id, const char *worker_id, const char *reason);
/* Number of connected workers, for metrics and logs. */
unsigned fleet_connected(struct fleet *f);
