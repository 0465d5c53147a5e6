/* fleet/fleet_priv.h: the hub's own structures; for this folder only. Everything here belongs to the hub, except what
 * is marked: to the hub thread, or to another one that has the hub's turn (hub_take_turn, adr/0009). fleet_X makes
 * HUB_X (fleet.c); the hub (hub.c) hands it to worker_X (worker_calls.c). */
#pragma once
#include "base/map.h"
#include "link/link.h"
#include "server/fleet/fleet.h"
#include "server/fleet/gate.h"
#include <pthread.h>
#include <stdatomic.h>

/* The connections that were made with one key. */
struct key_conns {
	struct worker_conn *first;
};

#define FLEET_MAGIC 0x464c4545u
#define CONN_MAGIC 0x434f4e4eu
#define PENDING_HIGH (1024 * 1024) /* unread bytes of one connection in the hub's mailbox: stop reading */
#define AT_ONCE_MAX 4096 /* bytes of a worker that a loop thread looks at itself; more is the hub thread's work */
#define UNSENT_MAX (8 * 1024 * 1024) /* not read by a worker, or not acknowledged */
#define OUTPUT_PIECE_MAX (64 * 1024) /* with the bound of a run's inbox this bounds what waits there */
#define OUTPUT_OF_CALL_MAX (1024 * 1024)
#define EVENTS_PER_S_MAX 5000
#define HUB_TICK_MS 250
#define PROBE_MS 5000
#define STORE_AGAIN_MS 1000

struct worker;

/* One HTTP exchange of a worker. Born on a loop thread, then the hub's; freed when it was closed and no job works on
 * it. Its states:
 *   opened      no hello yet, or a job checks it (job_running)
 *   probing     waits whether the present holder of its worker id is alive (waiting, probe_until_ms)
 *   entering    a job writes the registration to the store (job_running)
 *   connected   worker is set and has the link; until it is lost or replaced
 *   ending      the response has ended; nothing more is written, the close of the exchange comes */
struct worker_conn {
	unsigned magic;
	struct fleet *fleet;
	struct http_exchange *x;
	char *authorization, *peer; /* constant, also for the jobs */
	struct link *link; /* until it is registered; then the worker has it */
	struct worker *worker; /* NULL before registration and after it was replaced */
	char *key_id; /* once it is authenticated */
	char gate_key[GATE_KEY_LEN]; /* "" once it is authenticated */
	size_t index; /* in the hub's conns */
	struct worker_conn *key_next, **key_prev; /* others of the same key; key_prev NULL: in no list */
	bool closed, ending, job_running;
	uint64_t probed_heard; /* `heard` of the present holder when it was asked */
	int64_t probe_until_ms;
	struct registration *waiting; /* what goes on when the probe is decided */
	int64_t second_started_ms;
	unsigned events_this_second;
	_Atomic size_t pending; /* bytes in the hub's mailbox: the loop thread adds, the hub subtracts */
};

/* A call as the hub knows it. */
struct hub_call {
	char *call_id, *run_id;
	/* What it does to the session; CALL_KIND_UNSPECIFIED: heard of from the worker, no run has asked for it yet. */
	call_kind kind;
	char *claim_id;
	bool in_hello; /* the last Hello named it as finished, so what that said of the session is newer than its result
			*/
	bool abandoned;
	size_t output_bytes;
	struct fleet_msg *result; /* NULL while it runs */
};

/* A worker id, connected or lost a short time ago. */
struct worker {
	int64_t team_id;
	char *id, *key; /* key: of the map */
	struct link *link;
	struct worker_conn *conn; /* NULL while lost */
	uint64_t incarnation;
	int64_t link_epoch;
	uint64_t heard; /* counts connections and pieces of input: more than before means that it is alive */
	int64_t lost_at_ms;
	bool start_afresh; /* the link is not to be resumed after this connection */
	bool gone_stored; /* the store knows that it is lost */
	bool gone_submitted; /* a job tells it */
	int64_t gone_tried_ms;
	struct tool_set *tools;
	char *session_claim; /* whose session is open there: from the Hello, then from results; "" if none */
	char *run_id, *cancelled_run;
	struct mailbox *inbox; /* of the run that is attached */
	struct hub_call *calls;
	size_t n_calls, calls_cap;
};

enum hub_msg_kind {
	HUB_OPENED,
	HUB_DATA,
	HUB_CLOSED,
	HUB_REGISTERED,
	HUB_GONE_STORED,
	HUB_ATTACH,
	HUB_DETACH,
	HUB_CALL,
	HUB_RESULT_STORED,
	HUB_ABANDON,
	HUB_CANCEL_RUN,
	HUB_DROP_KEY,
	HUB_CLOSE_SESSION,
	HUB_STOP
};

struct hub_msg {
	enum hub_msg_kind kind;
	struct worker_conn *conn;
	char *bytes;
	size_t len;
	int64_t team_id, epoch;
	char *worker_id, *run_id, *call_id, *agent_id, *claim_id, *key_id;
	struct mailbox *inbox;
	struct registration *reg;
	Bullpen__Worker__V1__Call *call;
	uint64_t incarnation;
	bool ok;
};

/* A Hello on its way through the store. Owned by the job while it runs. */
struct registration {
	struct worker_conn *conn;
	Bullpen__Worker__V1__Hello *hello; /* a copy */
	bool admitted; /* checked and authenticated, the worker id is free: the next job writes it to the store */
	struct tool_set *tools; /* NULL until a job has read them, which it does not before it is known who says it */
	/* Whose it is, from the first job. */
	int64_t team_id;
	char *account, *key_id;
	/* The outcome. */
	char code[48];
	struct why why;
	bool fatal;
	int64_t link_epoch;
	bool claimed;
	char *run_id; /* of a live claim with an active run, or NULL */
	char **call_runs; /* for each call of the hello its run; NULL: nobody waits for it */
};

struct fleet {
	unsigned magic;
	struct fleet_config cfg;
	fleet_authenticate *authenticate;
	void *authenticate_ctx;
	uint64_t incarnation; /* of this process, for the links */
	struct mailbox *inbox;
	pthread_mutex_t turn; /* who holds it is the hub */
	_Atomic size_t queued; /* in `inbox`, or on its way from there to the hub */
	bool started; /* it has its threads */
	bool ended; /* the hub takes no more turns */
	struct mailbox *reader; /* to be woken when the turn is given back; a reference or NULL */
	struct http_exchange *written; /* the same for the loop of this one */
	struct map *workers; /* "team/id" -> struct worker */
	struct map *tool_sets; /* hash -> struct tool_set, a reference */
	int64_t forget_next_ms;
	_Atomic bool forgetting; /* a job is at it */
	struct gate *gate;
	struct map *keys; /* key id -> struct key_conns */
	struct worker_conn **conns;
	size_t n_conns, conns_cap;
	_Atomic unsigned connected;
	struct mailbox *scheduler_inbox;
	_Atomic bool scheduler_woken;
	struct mailbox *stopped; /* threads say goodbye here */
};

/* hub.c */
void hub_post(struct fleet *f, struct hub_msg *m);
/* Any thread; never waits. True: nobody else is the hub and everything posted before is done, so until it gives the
 * turn back the caller may do what the hub thread would do, as far as that takes no lock that anybody waits under. */
bool hub_take_turn(struct fleet *f) MUST_USE;
void hub_give_turn(struct fleet *f);
/* Whoever is woken often runs at once, in the place of the one who wakes, and would find the turn taken. So what the
 * hub put into a mailbox or an exchange is told when the turn is given back. */
void hub_tell(struct fleet *f, struct mailbox *reader);
void hub_send(struct fleet *f, struct http_exchange *written);
/* As hub_post, or at once if the turn is free. For messages to a worker. */
void hub_do(struct fleet *f, struct hub_msg *m);
struct hub_msg *hub_msg_new(enum hub_msg_kind kind);
void hub_msg_free(struct hub_msg **m);
/* Made if it is not known. */
struct worker *hub_worker(struct fleet *f, int64_t team_id, const char *id);
struct worker *hub_find_worker(struct fleet *f, int64_t team_id, const char *id);
struct link *hub_link_new(struct fleet *f);

/* It is known now who opened the connection: it is found by its key from here on. */
void hub_authenticated(struct fleet *f, struct worker_conn *c, const char *key_id);

/* worker_conn.c: one connection. */
void worker_conn_free(struct worker_conn **c);
void worker_conn_flush(struct worker_conn *c, struct link *l);
/* Ends the response with a gRPC status; the worker shows the text. */
void worker_conn_end(struct worker_conn *c, int grpc_status, const char *text);
/* Bytes left the hub's mailbox. */
void worker_conn_took(struct worker_conn *c, size_t len);
void worker_conn_feed(struct worker_conn *c, const char *bytes, size_t len, int64_t now_ms);
void worker_conn_dispatch(struct worker_conn *c, struct link *l, int64_t now_ms);
void worker_conn_lost(struct worker_conn *c, int64_t now_ms);

/* register.c */
void registration_begin(struct worker_conn *c, const Bullpen__Worker__V1__Hello *hello);
void registration_free(struct registration **r);
/* A job is done. Takes r: there may be another job. */
void registration_finish(struct registration *r, int64_t now_ms);
/* The connection is probing: is it decided? */
void registration_tick(struct worker_conn *c, int64_t now_ms);

/* tool_set.c */
/* NULL if it is not known yet. A new reference, as all here. */
struct tool_set *tool_sets_find(struct fleet *f, const char *hash);
/* Puts the known set in the place of an equal one, or makes this one known. */
void tool_sets_share(struct fleet *f, struct tool_set **s);
/* From time to time a job forgets the stored sets that nobody uses. */
void tool_sets_tick(struct fleet *f, int64_t now_ms);
void tool_sets_free(struct fleet *f);
/* In a job: the set that this hello tells, checked, or names by its hash, from the store. ERR_INVALID with `why`,
 * ERR_NOT_FOUND, store errors. */
int tool_set_read(
    struct store *st, const Bullpen__Worker__V1__Hello *h, struct tool_set **ret, struct why *why) MUST_USE;
/* ERR_FULL: too many are kept that no run names. */
int tool_set_store(struct tx *tx, const struct tool_set *s, int64_t now_ms) MUST_USE;

/* Deletes some of the sets that neither a run nor a connected worker names and that were last used before. */
int tool_sets_forget(struct store *st, int64_t before_ms) MUST_USE;
/* The worker is gone: what it used counts as used until now. Before its row is deleted. */
int tool_set_release(struct tx *tx, int64_t team_id, const char *worker_id, int64_t now_ms) MUST_USE;

/* presence.c: tells the store that the worker is lost (its claim starts to age), or only that it takes nothing new. */
void store_worker_gone(struct fleet *f, struct worker *w, int64_t now_ms);
void store_worker_draining(struct fleet *f, struct worker *w);

/* worker_calls.c: what the hub does for runs. */
void worker_attach(struct fleet *f, struct hub_msg *m);
void worker_detach(struct worker *w, const char *run_id);
void worker_call(struct fleet *f, int64_t team_id, const char *worker_id, uint64_t incarnation,
    const Bullpen__Worker__V1__Call *call);
void worker_result_stored(struct worker *w, const char *call_id);
void worker_abandon(struct worker *w, const char *call_id);
void worker_cancel_run(struct worker *w, const char *run_id);
void worker_take_result(struct worker *w, const Bullpen__Worker__V1__CallResult *r);
void worker_take_output(struct worker *w, const Bullpen__Worker__V1__CallOutput *o);
/* A call that the worker says it has; run_id NULL: nobody waits for it. */
void worker_take_up_call(struct worker *w, const char *call_id, const char *run_id);
/* What a Hello says of the open session and of finished calls, also when the link is resumed. */
void worker_take_session(struct worker *w, const Bullpen__Worker__V1__Hello *hello);
void worker_close_session(struct worker *w, const char *agent_id, const char *claim_id);
void worker_forget_running(struct worker *w);
void worker_tell_lost(struct worker *w);
/* The answer to an attach that has no worker to go to. */
void inbox_tell_lost(struct mailbox *inbox);
void worker_free(struct worker **w);

/* fleet.c: hears the notes of others from here on. */
void fleet_listen(struct fleet *f);

/* scheduler.c */
int scheduler_start(struct fleet *f) MUST_USE;
/* Requests or workers changed. Cheap, coalesces. */
void scheduler_wake(struct fleet *f);
