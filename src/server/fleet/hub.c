/* The hub owns the worker links. It has a thread and a mailbox; who finds it idle and its mailbox empty may take its
 * turn for one step instead of waking the thread (adr/0009). It never blocks on the store (jobs do) nor on the network
 * (loops do). */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/grpc.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/register.h"
#include "server/fleet/scheduler.h"
#include "server/fleet/tool_sets.h"
#include <string.h>

#define HUB_TICK_MS 250
#define LEAVE_MS 10000
#define WORKERS_EVERY 4 /* ticks: what the tick does for all workers is for what went wrong before */

struct hub_msg *hub_msg_new(enum hub_msg_kind kind)
{
	struct hub_msg *m = NEW(struct hub_msg);

	m->kind = kind;
	return m;
}

void hub_msg_free(struct hub_msg **mp)
{
	struct hub_msg *m = TAKE(*mp);

	if (m == NULL)
		return;
	free(m->bytes);
	free(m->worker_id);
	free(m->run_id);
	free(m->call_id);
	free(m->agent_id);
	free(m->claim_id);
	free(m->key_id);
	mailbox_free(&m->inbox);
	if (m->call != NULL)
		bullpen__worker__v1__call__free_unpacked(m->call, NULL);
	free(m);
}

/* The hub is gone or going: who waits for an answer gets one, what the message owns is freed. */
static void drop_msg(void *msg)
{
	struct hub_msg *m = msg;

	if (m->kind == HUB_ATTACH)
		inbox_tell_lost(m->inbox);
	else if (m->kind == HUB_OPENED)
		worker_conn_free(&m->conn);
	else if (m->kind == HUB_REGISTERED)
		registration_free(&m->reg);
	hub_msg_free(&m);
}

void hub_post(struct fleet *f, struct hub_msg *m)
{
	/* Bytes of a worker are bounded by PENDING_HIGH, its calls by what the runs have open; the rest is a few
	 * messages a connection, run or revoked key. */
	atomic_fetch_add(&f->queued, 1);
	if (mailbox_post_always(f->inbox, m) != OK)
		drop_msg(m);
}

/* Who has the turn is known to that thread alone, so asking costs nothing that threads share. */
static _Thread_local const struct fleet *my_turn;

bool hub_is_mine(const struct fleet *f)
{
	return my_turn == f;
}

bool hub_take_turn(struct fleet *f)
{
	if (pthread_mutex_trylock(&f->turn) != 0)
		return false;
	if (!f->ended && atomic_load(&f->queued) == 0) {
		my_turn = f;
		return true;
	}
	pthread_mutex_unlock(&f->turn);
	return false;
}

static void wake_told(struct mailbox **reader, struct http_exchange *written[HUB_LOOPS])
{
	for (size_t i = 0; i < HUB_LOOPS && written[i] != NULL; i++) {
		http_wake(written[i]);
		http_exchange_free(&written[i]);
	}
	if (*reader != NULL)
		mailbox_wake(*reader);
	mailbox_free(reader);
}

void hub_give_turn(struct fleet *f)
{
	struct mailbox *reader = TAKE(f->reader);
	struct http_exchange *written[HUB_LOOPS];

	ENSURE(hub_is_mine(f));
	memcpy(written, f->written, sizeof written);
	memset(f->written, 0, sizeof written);
	my_turn = NULL;
	pthread_mutex_unlock(&f->turn);
	wake_told(&reader, written);
}

void hub_tell(struct fleet *f, struct mailbox *reader)
{
	ENSURE(hub_is_mine(f));
	if (f->reader == reader)
		return;
	wake_told(&f->reader, f->written);
	f->reader = mailbox_ref(reader);
}

void hub_send(struct fleet *f, struct http_exchange *written)
{
	ENSURE(hub_is_mine(f));
	for (size_t i = 0; i < HUB_LOOPS; i++) {
		if (f->written[i] == NULL) {
			f->written[i] = http_exchange_ref(written);
			return;
		}
		if (http_same_loop(f->written[i], written))
			return;
	}
	wake_told(&f->reader, f->written);
	f->written[0] = http_exchange_ref(written);
}

static char *worker_key(int64_t team_id, const char *id)
{
	return str_printf("%lld/%s", (long long)team_id, id);
}

struct worker *hub_find_worker(struct fleet *f, int64_t team_id, const char *id)
{
	AUTO_STR key = worker_key(team_id, id);

	ENSURE(hub_is_mine(f));
	return map_get(f->workers, key);
}

struct worker *hub_worker(struct fleet *f, int64_t team_id, const char *id)
{
	struct worker *w = hub_find_worker(f, team_id, id);

	if (w != NULL)
		return w;
	w = NEW(struct worker);
	w->team_id = team_id;
	w->id = str_dup(id);
	w->key = worker_key(team_id, id);
	w->label = str_dup(id);
	w->unfit_code = str_dup("");
	w->unfit_reason = str_dup("");
	map_put(f->workers, w->key, w);
	return w;
}

struct link *hub_link_new(struct fleet *f)
{
	const struct link_config cfg = {
	    .role = LINK_SERVER, .incarnation = f->incarnation, .loss_grace_ms = f->cfg.loss_grace_ms};

	return link_new(&cfg);
}

static void add_conn(struct fleet *f, struct worker_conn *c, int64_t now_ms)
{
	c->link = hub_link_new(f);
	link_attach(c->link, NULL, now_ms);
	conns_add(&f->conns, c);
}

static void remove_conn(struct fleet *f, struct worker_conn *c)
{
	conns_remove(&f->conns, c);
	worker_conn_free(&c);
}

static void on_closed(struct fleet *f, struct worker_conn *c, int64_t now_ms)
{
	c->closed = true;
	worker_conn_lost(c, now_ms);
	if (!c->job_running)
		remove_conn(f, c);
}

static void on_registered(struct fleet *f, struct hub_msg *m, int64_t now_ms)
{
	struct worker_conn *c = m->conn;

	c->job_running = false;
	conns_touch(&f->conns, c);
	registration_finish(TAKE(m->reg), now_ms);
	if (c->closed)
		remove_conn(f, c);
}

static void on_gone_stored(struct fleet *f, struct hub_msg *m)
{
	struct worker *w = hub_find_worker(f, m->team_id, m->worker_id);

	/* An older epoch: it was here again since. */
	if (w == NULL || w->conn != NULL || w->link_epoch != m->epoch)
		return;
	w->gone_submitted = false;
	w->gone_stored = m->ok;
}

static void on_fitness_stored(struct fleet *f, struct hub_msg *m, int64_t now_ms)
{
	struct worker *w = hub_find_worker(f, m->team_id, m->worker_id);

	if (w != NULL)
		fitness_stored(f, w, m->epoch, m->fitness_n, now_ms);
}

static void end_conns_of_key(struct fleet *f, const char *key_id)
{
	for (struct worker_conn *c = conns_of_key(&f->conns, key_id); c != NULL; c = c->key_next)
		worker_conn_end(c, GRPC_UNAUTHENTICATED, "the key of this worker was revoked");
}

static void release_worker(struct worker *w, const char *reason)
{
	if (w->conn == NULL)
		return;
	link_send_release(w->link, reason, true);
	worker_conn_flush(w->conn, w->link);
}

/* It came with a session token, whose claim is over. It is told to exit, and has a moment for it. */
static void end_claimless_worker(struct worker *w, int64_t epoch)
{
	if (w->conn == NULL || w->link_epoch != epoch || w->leave_by_ms != 0)
		return;
	w->leave_by_ms = clock_mono_ms() + LEAVE_MS;
	release_worker(w, "the claim of its session token has ended");
}

static void handle_worker_msg(struct fleet *f, struct hub_msg *m)
{
	struct worker *w = hub_find_worker(f, m->team_id, m->worker_id);

	switch (m->kind) {
	case HUB_ATTACH:
		worker_attach(f, m);
		return;
	case HUB_CALL:
		worker_call(f, m->team_id, m->worker_id, m->incarnation, m->call);
		return;
	default:
		break;
	}
	if (w == NULL)
		return;
	switch (m->kind) {
	case HUB_DETACH:
		worker_detach(w, m->run_id);
		break;
	case HUB_RESULT_STORED:
		worker_result_stored(w, m->call_id);
		break;
	case HUB_ABANDON:
		worker_abandon(w, m->call_id);
		break;
	case HUB_CANCEL_RUN:
		worker_cancel_run(w, m->run_id);
		break;
	case HUB_CLOSE_SESSION:
		worker_close_session(w, m->agent_id, m->claim_id, m->reason, m->bytes);
		break;
	case HUB_RELEASE:
		release_worker(w, m->bytes);
		break;
	case HUB_MOVED:
		if (w->conn != NULL && w->link_epoch < m->epoch)
			worker_conn_end(w->conn, GRPC_UNAVAILABLE, "this worker is connected elsewhere");
		break;
	case HUB_CLAIM_OVER:
		end_claimless_worker(w, m->epoch);
		break;
	default:
		ENSURE(!"a message for a worker");
	}
	/* Not everything that is said to a worker is flushed at once. */
	if (w->conn != NULL)
		conns_touch(&f->conns, w->conn);
}

void hub_do(struct fleet *f, struct hub_msg *m)
{
	if (!hub_take_turn(f)) {
		hub_post(f, m);
		return;
	}
	handle_worker_msg(f, m);
	hub_give_turn(f);
	hub_msg_free(&m);
}

static bool hub_handle_msg(struct fleet *f, struct hub_msg *m)
{
	int64_t now = clock_mono_ms();

	switch (m->kind) {
	case HUB_OPENED:
		add_conn(f, m->conn, now);
		break;
	case HUB_DATA:
		worker_conn_took(m->conn, m->len);
		worker_conn_feed(m->conn, m->bytes, m->len, now);
		break;
	case HUB_CLOSED:
		on_closed(f, m->conn, now);
		break;
	case HUB_REGISTERED:
		on_registered(f, m, now);
		break;
	case HUB_GONE_STORED:
		on_gone_stored(f, m);
		break;
	case HUB_LEAVE_STORED: {
		struct worker *w = hub_find_worker(f, m->team_id, m->worker_id);

		if (w != NULL)
			worker_may_leave(w, m->epoch, m->ok);
		break;
	}
	case HUB_FITNESS_STORED:
		on_fitness_stored(f, m, now);
		break;
	case HUB_DROP_KEY:
		end_conns_of_key(f, m->key_id);
		break;
	case HUB_MISSED:
		hub_look_for_missed(f);
		break;
	case HUB_STOP:
		return false;
	default:
		handle_worker_msg(f, m);
	}
	return true;
}

/* The end of the response was written, which says nothing about when the peer reads it: one that reads nothing and goes
 * on talking would keep its worker in the store, and be given runs. */
static void tick_ending_conn(struct worker_conn *c, int64_t now_ms)
{
	worker_conn_lost(c, now_ms);
	if (now_ms >= c->abort_at_ms)
		http_abort(c->x);
}

static void tick_conn(struct worker_conn *c, int64_t now_ms)
{
	struct link *l = c->worker != NULL ? c->worker->link : c->link;
	struct why why;

	if (c->ending && !c->closed)
		tick_ending_conn(c, now_ms);
	if (c->closed || c->ending || l == NULL)
		return;
	if (c->waiting != NULL)
		registration_tick(c, now_ms);
	if (c->worker != NULL && c->worker->leave_by_ms != 0 && now_ms >= c->worker->leave_by_ms) {
		worker_conn_end(c, GRPC_UNAUTHENTICATED, "the claim of its session token has ended");
		return;
	}
	if (link_next_tick(l) <= now_ms && link_tick(l, now_ms, &why) != OK) {
		worker_conn_end(c, GRPC_DEADLINE_EXCEEDED, why.text);
		worker_conn_lost(c, now_ms);
		return;
	}
	worker_conn_flush(c, l);
}

static void tick_workers(struct fleet *f, int64_t now_ms)
{
	size_t at = 0;
	const char *key;
	void *value;

	while (map_next(f->workers, &at, &key, &value)) {
		struct worker *w = value;

		if (w->conn != NULL) {
			fitness_store(f, w, now_ms);
			continue;
		}
		if (!w->gone_stored)
			store_worker_gone(f, w, now_ms);
		else if (now_ms - w->lost_at_ms > f->cfg.loss_grace_ms + 10000) {
			map_remove(f->workers, w->key);
			worker_free(&w);
		}
	}
}

static void tick_hub(struct fleet *f, int64_t now_ms)
{
	for (size_t i = 0; i < f->conns.n; i++) {
		struct worker_conn *c = f->conns.list[i];

		if (f->conns.due_ms[i] > now_ms)
			continue;
		tick_conn(c, now_ms);
		f->conns.due_ms[i] = worker_conn_next_look(c);
	}
	if (f->ticks++ % WORKERS_EVERY == 0)
		tick_workers(f, now_ms);
	tool_sets_tick(f, now_ms);
}

static void end_all(struct fleet *f)
{
	size_t at = 0;
	const char *key;
	void *value;

	/* First nobody comes in any more, then those are answered that came while the stop was on its way. */
	mailbox_close(f->inbox);
	while (mailbox_receive(f->inbox, INT64_MAX, &value) == OK)
		drop_msg(value);
	while (map_next(f->workers, &at, &key, &value)) {
		struct worker *w = value;

		worker_tell_lost(w);
		worker_free(&w);
	}
	map_free(&f->workers);
	while (f->conns.n > 0)
		remove_conn(f, f->conns.list[f->conns.n - 1]);
	conns_fini(&f->conns);
	tool_sets_free(f);
}

static void hub_main(void *arg)
{
	struct fleet *f = OBJ_FROM(fleet, arg, FLEET_MAGIC);
	int64_t next_tick = clock_mono_ms() + HUB_TICK_MS;
	bool going = true;

	while (going) {
		void *msg = NULL;
		int64_t now;
		int rc = mailbox_receive(f->inbox, next_tick, &msg);

		pthread_mutex_lock(&f->turn);
		my_turn = f;
		if (rc == OK) {
			struct hub_msg *m = msg;

			going = hub_handle_msg(f, m);
			atomic_fetch_sub(&f->queued, 1);
			hub_msg_free(&m);
		}
		now = clock_mono_ms();
		if (going && now >= next_tick) {
			tick_hub(f, now);
			next_tick = now + HUB_TICK_MS;
		}
		f->ended = !going;
		hub_give_turn(f);
	}
	end_all(f);
	IGNORE(mailbox_post_always(f->stopped, f));
}

struct fleet *fleet_new(const struct fleet_config *cfg)
{
	struct fleet *f = NEW(struct fleet);

	f->magic = FLEET_MAGIC;
	f->cfg = *cfg;
	f->incarnation = id_random64() | 1;
	pthread_mutex_init(&f->turn, NULL);
	f->inbox = mailbox_new(SIZE_MAX, drop_msg);
	f->scheduler_inbox = mailbox_new(16, scheduler_drop_hint);
	f->stopped = mailbox_new(4, NULL);
	f->workers = map_new();
	conns_init(&f->conns);
	f->gate = gate_new(cfg->max_unauthenticated, cfg->max_unauthenticated_per_peer);
	f->tool_sets = map_new();
	fleet_listen(f);
	return f;
}

void fleet_start(struct fleet *f)
{
	int rc = thread_start("hub", 512 * 1024, hub_main, f);

	if (rc == OK)
		rc = scheduler_start(f);
	ENSURE(rc == OK); /* at start; without these threads there is no server */
	f->started = true;
}

void fleet_set_authenticate(struct fleet *f, fleet_authenticate *fn, void *ctx)
{
	f->authenticate = fn;
	f->authenticate_ctx = ctx;
}

void fleet_stop(struct fleet *f)
{
	void *goodbye;

	mailbox_close(f->scheduler_inbox);
	if (!f->started) {
		f->ended = true;
		end_all(f);
		return;
	}
	hub_post(f, hub_msg_new(HUB_STOP));
	for (int i = 0; i < 2; i++)
		IGNORE(mailbox_receive(f->stopped, INT64_MAX, &goodbye));
}

void fleet_free(struct fleet **fp)
{
	struct fleet *f = TAKE(*fp);

	if (f == NULL)
		return;
	mailbox_free(&f->inbox);
	mailbox_free(&f->scheduler_inbox);
	mailbox_free(&f->stopped);
	pthread_mutex_destroy(&f->turn);
	gate_free(&f->gate);
	free(f);
}
