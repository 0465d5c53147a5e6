#include "harness.h"

static void make_worker(struct world *w)
{
	struct link_config cfg = w->worker_cfg;

	cfg.role = LINK_WORKER;
	cfg.incarnation = ++w->worker_incarnation;
	w->worker = link_new(&cfg);
}

static struct link *make_server(struct world *w)
{
	struct link_config cfg = w->server_cfg;

	cfg.role = LINK_SERVER;
	cfg.incarnation = w->server_incarnation;
	return link_new(&cfg);
}

void world_init(struct world *w)
{
	memset(w, 0, sizeof *w);
	w->now = 1000;
	w->worker_incarnation = 100;
	w->server_incarnation = 7;
	w->in_order = true;
	w->to_server = w->to_worker = STRBUF(64 << 20);
	make_worker(w);
}

void world_fini(struct world *w)
{
	link_free(&w->worker);
	link_free(&w->server);
	link_free(&w->fresh);
	strbuf_fini(&w->to_server);
	strbuf_fini(&w->to_worker);
}

void world_connect(struct world *w)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	Bullpen__Worker__V1__CallState states[MAX_CALLS], *list[MAX_CALLS];
	char ids[MAX_CALLS][16];

	assert_false(w->worker_up);
	world_cut_server(w);
	h.worker_id = "w1";
	h.calls = list;
	for (unsigned i = 0; i < w->n_calls; i++) {
		if (!w->calls[i].known)
			continue;
		bullpen__worker__v1__call_state__init(&states[i]);
		snprintf(ids[i], sizeof ids[i], "c%u", i + 1);
		states[i].call_id = ids[i];
		states[i].finished = true;
		list[h.n_calls++] = &states[i];
	}
	link_attach(w->worker, &h, w->now);
	w->fresh = make_server(w);
	link_attach(w->fresh, NULL, w->now);
	w->worker_up = w->server_up = true;
	w->welcomed = false;
}

void world_cut_worker(struct world *w)
{
	if (w->worker_up)
		link_detach(w->worker);
	w->worker_up = false;
	strbuf_clear(&w->to_worker);
}

void world_cut_server(struct world *w)
{
	link_free(&w->fresh);
	if (w->server != NULL && link_attached(w->server))
		link_detach(w->server);
	w->server_up = false;
	strbuf_clear(&w->to_server);
}

void world_restart_worker(struct world *w)
{
	world_cut_worker(w);
	link_free(&w->worker);
	make_worker(w);
	for (unsigned i = 0; i < w->n_calls; i++)
		w->calls[i].known = false;
}

void world_restart_server(struct world *w)
{
	world_cut_server(w);
	link_free(&w->server);
	w->server_incarnation++;
}

static void send_call(struct world *w, unsigned i)
{
	Bullpen__Worker__V1__Call m = BULLPEN__WORKER__V1__CALL__INIT;
	char id[16];

	snprintf(id, sizeof id, "c%u", i + 1);
	m.call_id = id;
	m.kind = BULLPEN__WORKER__V1__CALL_KIND__TOOL;
	m.name = "t";
	m.arguments_json = "{}";
	assert_int_equal(link_send_call(w->server, &m), OK);
}

void world_call(struct world *w)
{
	assert_true(w->n_calls < MAX_CALLS);
	w->calls[w->n_calls].sent = true;
	if (w->server != NULL)
		send_call(w, w->n_calls);
	w->n_calls++;
}

static void send_result(struct world *w, const char *id)
{
	Bullpen__Worker__V1__CallResult m = BULLPEN__WORKER__V1__CALL_RESULT__INIT;

	m.call_id = (char *)(uintptr_t)id;
	m.outcome = BULLPEN__WORKER__V1__CALL_RESULT__OUTCOME__SUCCESS;
	m.result_json = "{}";
	assert_int_equal(link_send_result(w->worker, &m), OK);
}

static unsigned index_of(const struct world *w, const char *id)
{
	unsigned i = (unsigned)strtoul(id + 1, NULL, 10) - 1;

	assert_true(id[0] == 'c' && i < w->n_calls);
	return i;
}

static void worker_event(struct world *w, const struct link_event *e)
{
	unsigned i;

	switch (e->kind) {
	case LINK_WELCOME:
		w->welcomed = true;
		for (i = 0; i < w->n_calls && !e->welcome->resumed; i++) {
			char id[16];

			snprintf(id, sizeof id, "c%u", i + 1);
			if (w->calls[i].known)
				send_result(w, id);
		}
		break;
	case LINK_CALL:
		i = index_of(w, e->call->call_id);
		w->in_order = w->in_order && i == w->executed_last;
		w->executed_last = i + 1;
		w->calls[i].executed++;
		w->calls[i].known = true;
		IGNORE(link_send_output(w->worker, e->call->call_id, 1, "out", 3));
		send_result(w, e->call->call_id);
		break;
	case LINK_RESULT_ACK:
		w->calls[index_of(w, e->result_ack->call_id)].known = false;
		break;
	default:
		fail_msg("unexpected event %d at the worker", e->kind);
	}
}

/* The application's part of a fresh start: what the worker does not know was never done, or died with its process. */
static void compare_notes(struct world *w, const Bullpen__Worker__V1__Hello *h)
{
	for (unsigned i = 0; i < w->n_calls; i++) {
		struct call_state *c = &w->calls[i];
		bool known = false;

		for (size_t k = 0; k < h->n_calls; k++)
			known = known || index_of(w, h->calls[k]->call_id) == i;
		if (known || c->answered || c->interrupted)
			continue;
		if (c->executed > 0)
			c->interrupted = true;
		else
			send_call(w, i);
	}
}

static void server_hello(struct world *w, const Bullpen__Worker__V1__Hello *h)
{
	if (w->server != NULL && link_resume(w->server, &w->fresh, w->now)) {
		w->resumed++;
		return;
	}
	link_free(&w->server);
	w->server = TAKE(w->fresh);
	link_welcome(w->server, w->now);
	w->started++;
	compare_notes(w, h);
}

static void server_event(struct world *w, const struct link_event *e)
{
	unsigned i;

	switch (e->kind) {
	case LINK_HELLO:
		server_hello(w, e->hello);
		break;
	case LINK_RESULT:
		i = index_of(w, e->result->call_id);
		w->in_order = w->in_order && i == w->answered_last;
		w->answered_last = i + 1;
		w->calls[i].results++;
		w->calls[i].answered = true;
		link_send_result_ack(w->server, e->result->call_id);
		break;
	case LINK_OUTPUT:
		w->outputs++;
		break;
	case LINK_FITNESS:
		w->fitness_heard++;
		snprintf(w->fitness_code, sizeof w->fitness_code, "%s", e->fitness->code);
		break;
	case LINK_GOING_AWAY:
		break;
	default:
		fail_msg("unexpected event %d at the server", e->kind);
	}
}

static void flush(struct link *l, struct strbuf *pipe)
{
	const void *bytes;
	size_t n;

	while (l != NULL && link_attached(l) && (n = link_out(l, &bytes)) > 0) {
		assert_int_equal(strbuf_add(pipe, bytes, n), OK);
		link_sent(l, n);
	}
}

void world_flush(struct world *w)
{
	flush(w->worker, &w->to_server);
	flush(w->fresh != NULL ? w->fresh : w->server, &w->to_worker);
	/* Into a dead connection. */
	if (!w->server_up)
		strbuf_clear(&w->to_server);
	if (!w->worker_up)
		strbuf_clear(&w->to_worker);
}

void world_deliver(struct world *w, bool to_server, size_t n)
{
	struct strbuf *pipe = to_server ? &w->to_server : &w->to_worker;
	struct link *l = !to_server ? w->worker : w->fresh != NULL ? w->fresh : w->server;
	struct link_event e;
	struct why why = {""};

	n = MIN(n, pipe->len);
	if (n == 0)
		return;
	if (link_feed(l, pipe->data, n, w->now, &why) != OK)
		fail_msg("feed: %s", why.text);
	strbuf_consume(pipe, n);
	if (!to_server) {
		while (link_next(w->worker, &e) == OK)
			worker_event(w, &e);
		return;
	}
	/* The hello may replace the link. */
	while (link_next(w->fresh != NULL ? w->fresh : w->server, &e) == OK)
		server_event(w, &e);
}

void world_settle(struct world *w)
{
	do {
		world_flush(w);
		world_deliver(w, true, SIZE_MAX);
		world_deliver(w, false, SIZE_MAX);
		world_flush(w);
	} while (w->to_server.len + w->to_worker.len > 0);
}
