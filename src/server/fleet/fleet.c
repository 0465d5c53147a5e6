/* The side of the runs and the API: messages to the hub, and what comes back. Any thread. */
#include "base/mem.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/scheduler.h"

void fleet_msg_free(struct fleet_msg **mp)
{
	struct fleet_msg *m = TAKE(*mp);

	if (m == NULL)
		return;
	tool_set_free(&m->tools);
	free(m->call_id);
	free(m->session_claim);
	free(m->data);
	free(m->result_json);
	free(m->model_text);
	free(m->sdk_json);
	free(m);
}

void fleet_identity_fini(struct fleet_identity *id)
{
	str_free(&id->account);
	str_free(&id->key_id);
	str_free(&id->only_agent);
	str_free(&id->only_worker);
}

static struct hub_msg *worker_msg(enum hub_msg_kind kind, int64_t team_id, const char *worker_id)
{
	struct hub_msg *m = hub_msg_new(kind);

	m->team_id = team_id;
	m->worker_id = str_dup(worker_id);
	return m;
}

void fleet_attach(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id, const char *claim_id,
    struct mailbox *inbox)
{
	struct hub_msg *m = worker_msg(HUB_ATTACH, team_id, worker_id);

	m->run_id = str_dup(run_id);
	m->claim_id = str_dup(claim_id);
	m->inbox = mailbox_ref(inbox);
	hub_do(f, m);
}

void fleet_detach(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id)
{
	struct hub_msg *m = worker_msg(HUB_DETACH, team_id, worker_id);

	m->run_id = str_dup(run_id);
	hub_do(f, m);
}

static char *borrow(const char *v)
{
	return (char *)(uintptr_t)(v != NULL ? v : "");
}

static Bullpen__Worker__V1__Call *copy_call(const Bullpen__Worker__V1__Call *c)
{
	size_t len = bullpen__worker__v1__call__get_packed_size(c);
	uint8_t *bytes = mem_alloc(len);
	Bullpen__Worker__V1__Call *copy;

	bullpen__worker__v1__call__pack(c, bytes);
	copy = bullpen__worker__v1__call__unpack(NULL, len, bytes);
	ENSURE(copy != NULL);
	free(bytes);
	return copy;
}

/* The one message that is worth being put together only if it must wait. */
void fleet_call(struct fleet *f, int64_t team_id, const char *worker_id, const struct fleet_call *c)
{
	Bullpen__Worker__V1__Call call = BULLPEN__WORKER__V1__CALL__INIT; /* its strings stay the caller's */
	struct hub_msg *m;

	call.call_id = borrow(c->call_id);
	call.agent_id = borrow(c->agent_id);
	call.run_id = borrow(c->run_id);
	call.claim_id = borrow(c->claim_id);
	call.limit_ms = (uint64_t)MAX(c->limit_ms, 0);
	call.kind = c->kind;
	call.name = borrow(c->name);
	call.arguments_json = borrow(c->arguments_json);
	call.env_json = borrow(c->env_json);
	call.mcp_json = borrow(c->mcp_json);
	call.hook_json = borrow(c->hook_json);
	call.forget_rules = c->forget_rules;
	if (hub_take_turn(f)) {
		worker_call(f, team_id, worker_id, c->incarnation, &call);
		hub_give_turn(f);
		return;
	}
	m = worker_msg(HUB_CALL, team_id, worker_id);
	m->incarnation = c->incarnation;
	m->call = copy_call(&call);
	hub_post(f, m);
}

void fleet_result_stored(struct fleet *f, int64_t team_id, const char *worker_id, const char *call_id)
{
	struct hub_msg *m = worker_msg(HUB_RESULT_STORED, team_id, worker_id);

	m->call_id = str_dup(call_id);
	hub_do(f, m);
}

void fleet_abandon_call(struct fleet *f, int64_t team_id, const char *worker_id, const char *call_id)
{
	struct hub_msg *m = worker_msg(HUB_ABANDON, team_id, worker_id);

	m->call_id = str_dup(call_id);
	hub_do(f, m);
}

/* The worker may be at another node. */
void fleet_release(struct fleet *f, int64_t team_id, const char *worker_id, const char *reason)
{
	notify_send(f->cfg.notify,
	    &(struct note){.kind = NOTE_WORKER_RELEASED, .team_id = team_id, .worker_id = worker_id, .reason = reason});
}

static void hear_worker_released(void *ctx, const struct note *n)
{
	struct hub_msg *m = worker_msg(HUB_RELEASE, n->team_id, n->worker_id);

	m->bytes = str_dup(n->reason);
	hub_do(OBJ_FROM(fleet, ctx, FLEET_MAGIC), m);
}

/* Never in a borrowed turn: it comes from the hub itself, too. */
static void hear_worker_moved(void *ctx, const struct note *n)
{
	struct hub_msg *m = worker_msg(HUB_MOVED, n->team_id, n->worker_id);

	m->epoch = n->epoch;
	hub_post(OBJ_FROM(fleet, ctx, FLEET_MAGIC), m);
}

void fleet_claim_over(struct fleet *f, int64_t team_id, const char *worker_id, int64_t link_epoch)
{
	struct hub_msg *m = worker_msg(HUB_CLAIM_OVER, team_id, worker_id);

	m->epoch = link_epoch;
	hub_do(f, m);
}

/* Notes come on the sender's thread: they are posted, or handled in the hub's turn if that is free, which never waits.
 */

static void hear_run_cancelled(void *ctx, const struct note *n)
{
	struct hub_msg *m = worker_msg(HUB_CANCEL_RUN, n->team_id, n->worker_id);

	m->run_id = str_dup(n->run_id);
	hub_do(OBJ_FROM(fleet, ctx, FLEET_MAGIC), m);
}

/* For hooks of sessionEnd; NULL: the agent is gone, or the store is: the worker may know. malloc'ed. */
static char *last_status(struct fleet *f, const char *agent_id)
{
	AUTO(tx) tx = NULL;
	char *status = NULL;

	if (tx_begin(f->cfg.store, TX_READ, &tx) != OK ||
	    tx_query_text(tx, &status, "SELECT status FROM runs WHERE agent_id = $1 ORDER BY number DESC LIMIT 1", "s",
		agent_id) != OK)
		return NULL;
	return status;
}

static void hear_claim_ended(void *ctx, const struct note *n)
{
	struct hub_msg *m = worker_msg(HUB_CLOSE_SESSION, n->team_id, n->worker_id);

	m->agent_id = str_dup(n->agent_id);
	m->claim_id = str_dup(n->claim_id != NULL ? n->claim_id : "");
	m->reason = n->reason;
	m->bytes = last_status(ctx, n->agent_id);
	hub_do(OBJ_FROM(fleet, ctx, FLEET_MAGIC), m);
}

/* Never in a borrowed turn: ending many connections takes a while. */
static void fleet_hear_key_revoked(void *ctx, const struct note *n)
{
	struct hub_msg *m = hub_msg_new(HUB_DROP_KEY);

	m->key_id = str_dup(n->key_id);
	hub_post(OBJ_FROM(fleet, ctx, FLEET_MAGIC), m);
}

static void hear_queue_changed(void *ctx, const struct note *n)
{
	struct fleet *f = OBJ_FROM(fleet, ctx, FLEET_MAGIC);

	if (n->worker_id == NULL && n->agent_id == NULL)
		scheduler_wake(f);
	else if (n->team_id != 0)
		scheduler_hint(f, n->team_id, n->worker_id, n->agent_id, n->run_id);
}

/* Never in a borrowed turn: all workers are looked through. */
static void fleet_hear_missed(void *ctx, const struct note *n)
{
	hub_post(OBJ_FROM(fleet, ctx, FLEET_MAGIC), hub_msg_new(HUB_MISSED));
}

void fleet_listen(struct fleet *f)
{
	struct notify *n = f->cfg.notify;

	notify_listen(n, NOTE_RUN_CANCELLED, hear_run_cancelled, f);
	notify_listen(n, NOTE_CLAIM_ENDED, hear_claim_ended, f);
	notify_listen(n, NOTE_KEY_REVOKED, fleet_hear_key_revoked, f);
	notify_listen(n, NOTE_QUEUE_CHANGED, hear_queue_changed, f);
	notify_listen(n, NOTE_WORKER_RELEASED, hear_worker_released, f);
	notify_listen(n, NOTE_WORKER_MOVED, hear_worker_moved, f);
	notify_listen(n, NOTE_MISSED, fleet_hear_missed, f);
}

unsigned fleet_connected(struct fleet *f)
{
	return atomic_load(&f->connected);
}
