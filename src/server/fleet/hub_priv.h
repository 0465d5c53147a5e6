/* fleet/hub_priv.h: the hub: its state, its messages and its turn. What the structures of this folder hold is the
 * hub's, except what is marked: that is the hub thread, or another one that has the hub's turn (hub_take_turn,
 * adr/0009). fleet_X makes HUB_X (fleet.c); the hub (hub.c) hands it to worker_X (worker_calls.c). */
#pragma once
#include "base/map.h"
#include "server/fleet/conns.h"
#include "server/fleet/fleet.h"
#include "server/fleet/worker.h"
#include <pthread.h>

#define FLEET_MAGIC 0x464c4545u
#define HUB_LOOPS 8 /* that one turn can write to before it wakes them */

enum hub_msg_kind {
	HUB_OPENED,
	HUB_DATA,
	HUB_CLOSED,
	HUB_REGISTERED,
	HUB_GONE_STORED,
	HUB_LEAVE_STORED,
	HUB_FITNESS_STORED,
	HUB_ATTACH,
	HUB_DETACH,
	HUB_CALL,
	HUB_RESULT_STORED,
	HUB_ABANDON,
	HUB_CANCEL_RUN,
	HUB_DROP_KEY,
	HUB_CLOSE_SESSION,
	HUB_RELEASE, /* bytes: the reason, as text */
	HUB_MOVED, /* epoch: that of a connection at another node; an older one here ends */
	HUB_MISSED, /* notes may have been lost */
	HUB_CLAIM_OVER, /* epoch: that of the connection that was there for that claim alone */
	HUB_STOP
};

struct hub_msg {
	enum hub_msg_kind kind;
	struct worker_conn *conn;
	char *bytes;
	size_t len;
	int64_t team_id, epoch, fitness_n;
	char *worker_id, *run_id, *call_id, *agent_id, *claim_id, *key_id;
	const char *reason; /* HUB_CLOSE_SESSION, a literal; NULL: none was given */
	struct mailbox *inbox;
	struct registration *reg;
	Bullpen__Worker__V1__Call *call;
	uint64_t incarnation;
	bool ok;
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
	struct http_exchange
	    *written[HUB_LOOPS]; /* the same for the loops of these, one for each loop; NULL: no more */
	struct map *workers; /* "team/id" -> struct worker */
	struct map *tool_sets; /* hash -> struct tool_set, a reference */
	int64_t forget_next_ms;
	_Atomic bool forgetting; /* a job is at it */
	_Atomic bool looking_missed; /* a job is at it */
	struct gate *gate;
	struct conns conns;
	unsigned ticks;
	_Atomic unsigned connected;
	struct mailbox *scheduler_inbox;
	_Atomic bool scheduler_woken;
	_Atomic unsigned scheduler_hints; /* in the inbox */
	struct mailbox *stopped; /* threads say goodbye here */
};

void hub_post(struct fleet *f, struct hub_msg *m);
/* Any thread; never waits. True: nobody else is the hub and everything posted before is done, so until it gives the
 * turn back the caller may do what the hub thread would do, as far as that takes no lock that anybody waits under. */
bool hub_take_turn(struct fleet *f) MUST_USE;
void hub_give_turn(struct fleet *f);
/* Whether this thread is the hub at this moment: for assertions in functions that only the hub may call. */
bool hub_is_mine(const struct fleet *f);
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

/* fleet.c: that connection was there for one claim, which has ended: it is told to go, and goes. */
void fleet_claim_over(struct fleet *f, int64_t team_id, const char *worker_id, int64_t link_epoch);
/* missed.c: what has ended, and nobody said so. */
void hub_look_for_missed(struct fleet *f);
/* fleet.c: hears the notes of others from here on. */
void fleet_listen(struct fleet *f);
