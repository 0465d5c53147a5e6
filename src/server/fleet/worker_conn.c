/* One worker connection: HTTP exchange on one side, link state machine on the other. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/grpc.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/register.h"
#include <string.h>

#define PENDING_HIGH (1024 * 1024) /* unread bytes of one connection in the hub's mailbox: stop reading */
#define AT_ONCE_MAX 4096 /* bytes of a worker that a loop thread looks at itself; more is the hub thread's work */
#define UNSENT_MAX (8 * 1024 * 1024) /* not read by a worker, or not acknowledged */
#define EVENTS_PER_S_MAX 5000
#define ENDING_MS 10000 /* how long a peer may take to read the end of its response */

void worker_conn_free(struct worker_conn **cp)
{
	struct worker_conn *c = TAKE(*cp);

	if (c == NULL)
		return;
	gate_leave(c->fleet->gate, c->gate_key);
	registration_free(&c->waiting);
	link_free(&c->link);
	http_exchange_free(&c->x);
	free(c->authorization);
	free(c->peer);
	free(c->key_id);
	free(c);
}

/* Loop thread. */
static void conn_on_data(void *ctx, struct http_exchange *x, const void *bytes, size_t len)
{
	struct worker_conn *c = OBJ_FROM(worker_conn, ctx, CONN_MAGIC);
	struct hub_msg *m;

	if (len <= AT_ONCE_MAX && hub_take_turn(c->fleet)) {
		worker_conn_feed(c, bytes, len, clock_mono_ms());
		hub_give_turn(c->fleet);
		return;
	}
	m = hub_msg_new(HUB_DATA);
	m->conn = c;
	m->bytes = mem_dup(bytes, len);
	m->len = len;
	/* Before the post: whoever takes this message can take the pause back, so none is left over with nothing to
	 * read. */
	if (atomic_fetch_add(&c->pending, len) + len > PENDING_HIGH)
		http_pause(x, true);
	hub_post(c->fleet, m);
}

/* Loop thread. */
static void on_end(void *ctx, struct http_exchange *x)
{
	IGNORE(http_end(x, (struct http_header[]){{"grpc-status", "0"}}, 1));
}

/* Loop thread; the last callback, so the hub owns c alone afterwards. */
static void conn_on_close(void *ctx, struct http_exchange *x)
{
	struct worker_conn *c = OBJ_FROM(worker_conn, ctx, CONN_MAGIC);
	struct hub_msg *m = hub_msg_new(HUB_CLOSED);

	m->conn = c;
	hub_post(c->fleet, m);
}

static void open_conn(struct fleet *f, struct http_exchange *x, const char *authorization, const char *gate_key)
{
	static const struct http_header headers[] = {{"content-type", "application/grpc"}};
	struct worker_conn *c = NEW(struct worker_conn);
	struct hub_msg *m = hub_msg_new(HUB_OPENED);
	struct http_watch watch = {.on_data = conn_on_data, .on_end = on_end, .on_close = conn_on_close, .ctx = c};

	c->magic = CONN_MAGIC;
	c->fleet = f;
	c->x = http_exchange_ref(x);
	c->authorization = str_dup(authorization);
	c->peer = str_dup(http_peer(x));
	memcpy(c->gate_key, gate_key, GATE_KEY_LEN);
	m->conn = c;
	hub_post(f, m);
	IGNORE(http_start(x, 200, headers, ARRAY_LEN(headers)));
	http_watch(x, &watch);
}

/* Loop thread. A response without a body: the status is in its head. */
static void refuse_stream(struct http_exchange *x, int grpc_status, const char *text)
{
	char status[12];
	AUTO_STR message = grpc_message_encode(text);

	snprintf(status, sizeof status, "%d", grpc_status);
	IGNORE(http_reply(x, 200,
	    (struct http_header[]){
		{"content-type", "application/grpc"}, {"grpc-status", status}, {"grpc-message", message}},
	    3, "", 0));
}

void fleet_connect(struct fleet *f, struct http_exchange *x, const char *authorization)
{
	char gate_key[GATE_KEY_LEN];
	struct why why = {""};

	OBJ_CHECK(f, FLEET_MAGIC);
	if (!gate_is_credential(authorization))
		refuse_stream(x, GRPC_UNAUTHENTICATED, "the API key is missing or has not the form of one");
	else if (gate_enter(f->gate, http_peer(x), gate_key, &why) != OK)
		refuse_stream(x, GRPC_RESOURCE_EXHAUSTED, why.text);
	else
		open_conn(f, x, authorization, gate_key);
}

void worker_conn_flush(struct worker_conn *c, struct link *l)
{
	const void *bytes;
	size_t n;

	conns_touch(&c->fleet->conns, c);
	while ((n = link_out(l, &bytes)) > 0) {
		if (!c->ending && http_put(c->x, bytes, n) == OK)
			hub_send(c->fleet, c->x);
		link_sent(l, n);
	}
	if (!c->ending && http_unsent(c->x) > UNSENT_MAX)
		worker_conn_end(c, GRPC_RESOURCE_EXHAUSTED, "the worker does not read what it is sent");
	if (!c->ending && link_unacked_bytes(l) > UNSENT_MAX) {
		/* What it did not acknowledge would be kept for the next connection: that one begins anew. */
		if (c->worker != NULL)
			c->worker->start_afresh = true;
		worker_conn_end(c, GRPC_RESOURCE_EXHAUSTED, "the worker does not acknowledge what it is sent");
	}
}

void worker_conn_end(struct worker_conn *c, int grpc_status, const char *text)
{
	char status[12];
	AUTO_STR message = grpc_message_encode(text);

	if (c->ending || c->closed)
		return;
	c->ending = true;
	conns_touch(&c->fleet->conns, c);
	c->abort_at_ms = clock_mono_ms() + ENDING_MS;
	snprintf(status, sizeof status, "%d", grpc_status);
	if (grpc_status != GRPC_OK)
		log_warn("worker.connection.ended", "peer=%s worker=%s name=%s status=%d reason=%s", c->peer,
		    log_quote(c->worker != NULL ? c->worker->id : ""),
		    log_quote(c->worker != NULL ? c->worker->label : ""), grpc_status, log_quote(text));
	IGNORE(http_end(c->x, (struct http_header[]){{"grpc-status", status}, {"grpc-message", message}}, 2));
}

void worker_conn_lost(struct worker_conn *c, int64_t now_ms)
{
	struct worker *w = TAKE(c->worker);

	if (w == NULL)
		return;
	log_info("worker.disconnected", "worker=%s name=%s peer=%s", log_quote(w->id), log_quote(w->label), c->peer);
	atomic_fetch_sub(&c->fleet->connected, 1);
	w->conn = NULL;
	w->lost_at_ms = now_ms;
	w->gone_stored = w->gone_submitted = false;
	w->gone_tried_ms = 0;
	link_detach(w->link);
	if (w->start_afresh) {
		link_free(&w->link);
		w->link = hub_link_new(c->fleet);
		w->start_afresh = false;
	}
	worker_tell_lost(w);
	store_worker_gone(c->fleet, w, now_ms);
}

static void going_away(struct worker_conn *c, const char *reason, bool idle)
{
	struct worker *w = c->worker;

	log_info("worker.going_away", "worker=%s name=%s reason=%s", log_quote(w->id), log_quote(w->label),
	    log_quote(reason));
	store_worker_draining(c->fleet, w, idle);
}

static void take_news(struct worker_conn *c, const Bullpen__Worker__V1__SessionNews *n, int64_t now_ms)
{
	if (!worker_take_news(c->worker, n, now_ms))
		worker_conn_end(c, GRPC_RESOURCE_EXHAUSTED, "more than 50 news of sessions in a second");
}

/* The hub thread of a flooding worker must stay useful for the others. */
static bool conn_within_rate(struct worker_conn *c, int64_t now_ms)
{
	if (now_ms - c->second_started_ms >= 1000) {
		c->second_started_ms = now_ms;
		c->events_this_second = 0;
	}
	return ++c->events_this_second <= EVENTS_PER_S_MAX;
}

void worker_conn_dispatch(struct worker_conn *c, struct link *l, int64_t now_ms)
{
	struct link_event ev;

	ENSURE(hub_is_mine(c->fleet));
	while (!c->ending && link_next(l, &ev) == OK) {
		if (!conn_within_rate(c, now_ms)) {
			worker_conn_end(c, GRPC_RESOURCE_EXHAUSTED, "more than 5000 messages in a second");
			return;
		}
		if (ev.kind == LINK_HELLO) {
			registration_begin(c, ev.hello);
			continue;
		}
		ENSURE(c->worker != NULL); /* the link lets nothing else through before the welcome */
		if (ev.kind == LINK_RESULT)
			worker_take_result(c->worker, ev.result);
		else if (ev.kind == LINK_OUTPUT)
			worker_take_output(c->worker, ev.output);
		else if (ev.kind == LINK_FITNESS)
			fitness_take(c->fleet, c->worker, ev.fitness, now_ms);
		else if (ev.kind == LINK_SESSION_NEWS)
			take_news(c, ev.session_news, now_ms);
		else if (ev.kind == LINK_GOING_AWAY)
			going_away(c, ev.going_away->reason, ev.going_away->idle);
	}
}

void worker_conn_took(struct worker_conn *c, size_t len)
{
	if (atomic_fetch_sub(&c->pending, len) - len < PENDING_HIGH / 2)
		http_pause(c->x, false);
}

int64_t worker_conn_next_look(const struct worker_conn *c)
{
	const struct link *l = c->worker != NULL ? c->worker->link : c->link;

	if (c->closed)
		return INT64_MAX;
	if (c->ending || c->waiting != NULL)
		return 0;
	if (c->worker != NULL && c->worker->leave_by_ms != 0)
		return 0;
	return l != NULL ? link_next_tick(l) : INT64_MAX;
}

void worker_conn_feed(struct worker_conn *c, const char *bytes, size_t len, int64_t now_ms)
{
	struct link *l = c->worker != NULL ? c->worker->link : c->link;
	struct why why = {0};

	if (c->ending || c->closed || l == NULL)
		return;
	if (c->worker != NULL)
		c->worker->heard++;
	if (link_feed(l, bytes, len, now_ms, &why) != OK) {
		worker_conn_end(c, GRPC_INVALID_ARGUMENT, why.text);
		return;
	}
	worker_conn_dispatch(c, l, now_ms);
	l = c->worker != NULL ? c->worker->link : c->link;
	if (l == NULL)
		return;
	worker_conn_flush(c, l);
	/* Everything is said that there was to say, so the tick may wait for the next heartbeat. */
	conns_due(&c->fleet->conns, c, worker_conn_next_look(c));
}
