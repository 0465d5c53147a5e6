/* Two honest links with a bad line between them: the input says who talks, how many bytes arrive, when either side
 * notices that the line is cut, and when they meet again. Everything must arrive once, in order and without a gap,
 * except over a fresh start; and when the line is good at last nothing may be left unacknowledged. */
#include "base/mem.h"
#include "bytes.h"
#include "link/link_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct side {
	struct link *l;
	struct strbuf in; /* on the wire to this side */
	uint64_t said, heard; /* the last number in the messages themselves */
	bool gap; /* a fresh start: numbers may have been lost */
};

struct pair {
	struct bytes in;
	struct side worker, server;
	struct link *fresh; /* server: the connection whose hello has not been taken; NULL: none */
	struct link_config worker_cfg, server_cfg;
	bool connected; /* what one side sends reaches the other */
	int64_t now;
};

static struct link *server_link(struct pair *p)
{
	return p->fresh != NULL ? p->fresh : p->server.l;
}

static void heard(struct side *s, const char *id)
{
	uint64_t n = strtoull(id, NULL, 10);

	ENSURE(s->gap ? n > s->heard : n == s->heard + 1);
	s->heard = n;
	s->gap = false;
}

static void worker_event(struct pair *p, const struct link_event *e)
{
	if (e->kind == LINK_WELCOME && !e->welcome->resumed)
		p->worker.gap = true;
	else if (e->kind == LINK_CALL)
		heard(&p->worker, e->call->call_id);
	else if (e->kind == LINK_CANCEL)
		heard(&p->worker, e->cancel->call_id);
	else
		ENSURE(e->kind == LINK_WELCOME);
}

static void meet(struct pair *p)
{
	if (p->server.l != NULL && link_resume(p->server.l, &p->fresh, p->now))
		return;
	link_free(&p->server.l);
	p->server.l = TAKE(p->fresh);
	link_welcome(p->server.l, p->now);
	p->server.gap = true;
}

static void server_event(struct pair *p, const struct link_event *e)
{
	if (e->kind == LINK_HELLO)
		meet(p);
	else if (e->kind == LINK_RESULT)
		heard(&p->server, e->result->call_id);
	else if (e->kind == LINK_OUTPUT)
		heard(&p->server, e->output->call_id);
	else
		ENSURE(false);
}

static void take_worker_events(struct pair *p, size_t max)
{
	struct link_event e;

	while (max-- > 0 && link_next(p->worker.l, &e) == OK)
		worker_event(p, &e);
}

static void take_events(struct pair *p, size_t max)
{
	struct link_event e;

	take_worker_events(p, max);
	for (size_t n = max; n > 0 && server_link(p) != NULL && link_next(server_link(p), &e) == OK; n--)
		server_event(p, &e);
}

static void flush(struct pair *p, struct link *l, struct strbuf *to)
{
	const void *bytes;
	size_t n;

	while (l != NULL && link_attached(l) && (n = link_out(l, &bytes)) > 0) {
		if (p->connected)
			strbuf_add(to, bytes, n);
		link_sent(l, n);
	}
}

static bool deliver(struct pair *p, struct link *l, struct strbuf *in, size_t n)
{
	struct why why;
	size_t len = MIN(n, in->len);
	bool ready;

	if (len == 0 || l == NULL || !link_attached(l))
		return false;
	ready = link_ready(l);
	ENSURE(link_feed(l, in->data, len, p->now, &why) == OK);
	/* A welcome that is not taken is lost with its connection. */
	if (l == p->worker.l && !ready && link_ready(l))
		take_worker_events(p, SIZE_MAX);
	strbuf_consume(in, len);
	return true;
}

static void cut_server(struct pair *p)
{
	p->connected = false;
	strbuf_clear(&p->server.in);
	link_free(&p->fresh);
	if (p->server.l != NULL && link_attached(p->server.l))
		link_detach(p->server.l);
}

static void cut_worker(struct pair *p)
{
	p->connected = false;
	strbuf_clear(&p->worker.in);
	if (link_attached(p->worker.l))
		link_detach(p->worker.l);
}

static void join(struct pair *p)
{
	Bullpen__Worker__V1__Hello hello = BULLPEN__WORKER__V1__HELLO__INIT;

	cut_worker(p);
	cut_server(p);
	p->connected = true;
	p->fresh = link_new(&p->server_cfg);
	link_attach(p->fresh, NULL, p->now);
	link_attach(p->worker.l, &hello, p->now);
}

static void call(struct pair *p, uint8_t what)
{
	Bullpen__Worker__V1__Call m = BULLPEN__WORKER__V1__CALL__INIT;
	char id[32];

	if (p->server.l == NULL)
		return;
	snprintf(id, sizeof id, "%llu", (unsigned long long)++p->server.said);
	m.call_id = id;
	if (what & 128)
		link_send_cancel(p->server.l, id);
	else
		ENSURE(link_send_call(p->server.l, &m) == OK);
}

static void answer(struct pair *p, uint8_t what)
{
	Bullpen__Worker__V1__CallResult m = BULLPEN__WORKER__V1__CALL_RESULT__INIT;
	static char text[3000];
	char id[32];

	memset(text, 'r', sizeof text - 1);
	snprintf(id, sizeof id, "%llu", (unsigned long long)p->worker.said + 1);
	m.call_id = id;
	m.model_text = what & 64 ? text : id;
	if ((what & 128) == 0)
		ENSURE(link_send_result(p->worker.l, &m) == OK);
	else if (link_send_output(p->worker.l, id, 1, text, what) != OK)
		return;
	p->worker.said++;
}

static void act(struct pair *p)
{
	uint8_t op = take_u8(&p->in);
	struct why why;

	switch (op % 10) {
	case 0:
		join(p);
		break;
	case 1:
		cut_worker(p);
		break;
	case 2:
		cut_server(p);
		break;
	case 3:
		call(p, op);
		break;
	case 4:
		answer(p, op);
		break;
	case 5:
		flush(p, p->worker.l, &p->server.in);
		flush(p, server_link(p), &p->worker.in);
		break;
	case 6:
		deliver(p, p->worker.l, &p->worker.in, take_u8(&p->in) * 4u);
		break;
	case 7:
		deliver(p, server_link(p), &p->server.in, take_u8(&p->in) * 4u);
		break;
	case 8:
		take_events(p, op >= 128 ? SIZE_MAX : 1);
		break;
	default:
		p->now += 50 * take_u8(&p->in);
		IGNORE(link_tick(p->worker.l, p->now, &why));
		if (server_link(p) != NULL)
			IGNORE(link_tick(server_link(p), p->now, &why));
	}
}

/* A good line, until all is said. */
static void settle(struct pair *p)
{
	bool moved = true;

	join(p);
	while (moved) {
		struct why why;

		flush(p, p->worker.l, &p->server.in);
		flush(p, server_link(p), &p->worker.in);
		moved = deliver(p, p->worker.l, &p->worker.in, SIZE_MAX);
		moved |= deliver(p, server_link(p), &p->server.in, SIZE_MAX);
		take_events(p, SIZE_MAX);
		/* Acknowledgements wait a second for company. */
		p->now += LINK_ACK_DELAY_MS;
		ENSURE(link_tick(p->worker.l, p->now, &why) == OK && link_tick(server_link(p), p->now, &why) == OK);
		if (!moved && (link_unacked_bytes(p->worker.l) > 0 || link_unacked_bytes(p->server.l) > 0)) {
			flush(p, p->worker.l, &p->server.in);
			flush(p, server_link(p), &p->worker.in);
			moved = p->worker.in.len > 0 || p->server.in.len > 0;
		}
	}
	ENSURE(link_ready(p->worker.l) && link_ready(p->server.l));
	ENSURE(link_unacked_bytes(p->worker.l) == 0 && link_unacked_bytes(p->server.l) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pair p = {.in = {data, size}, .now = 1};

	p.worker_cfg = (struct link_config){.role = LINK_WORKER, .incarnation = 1, .dead_after_ms = INT64_MAX / 2};
	p.server_cfg = (struct link_config){.role = LINK_SERVER, .incarnation = 2, .dead_after_ms = INT64_MAX / 2};
	p.worker.in = p.server.in = STRBUF((size_t)64 * 1024 * 1024);
	p.worker.l = link_new(&p.worker_cfg);
	while (p.in.len > 0)
		act(&p);
	settle(&p);
	call(&p, 0);
	answer(&p, 0);
	settle(&p);
	ENSURE(p.worker.heard == p.server.said && p.server.heard == p.worker.said);
	strbuf_fini(&p.worker.in);
	strbuf_fini(&p.server.in);
	link_free(&p.fresh);
	link_free(&p.server.l);
	link_free(&p.worker.l);
	return 0;
}
