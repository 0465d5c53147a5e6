#include "bench/peer.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "bench/measure.h"
#include "link/link.h"
#include "net/h2_stream.h"

#define CONNECT_PATH "/bullpen.worker.v1.WorkerLink/Connect"

struct peer {
	struct peer_config cfg;
	struct link *link;
	struct h2_stream *stream;
	char *worker_id;
	char *refusal; /* of this connection; NULL: none */
	int64_t asked_ms;
};

static void flush(struct peer *p)
{
	const void *bytes;
	size_t n;

	while (link_attached(p->link) && (n = link_out(p->link, &bytes)) > 0) {
		if (h2_stream_write(p->stream, bytes, n) != 0)
			return;
		link_sent(p->link, n);
	}
}

static void on_open(void *ctx)
{
	struct peer *p = ctx;
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	Bullpen__Worker__V1__Label os = BULLPEN__WORKER__V1__LABEL__INIT, host = BULLPEN__WORKER__V1__LABEL__INIT;
	Bullpen__Worker__V1__Label *labels[] = {&os, &host};

	h.worker_id = h.name = p->worker_id;
	h.pool = (char *)(uintptr_t)p->cfg.pool;
	if (p->cfg.label != NULL) {
		os.key = (char *)(uintptr_t) "os";
		os.value = (char *)(uintptr_t) "linux";
		host.key = (char *)(uintptr_t) "host";
		host.value = (char *)(uintptr_t)p->cfg.label;
		h.labels = labels;
		h.n_labels = ARRAY_LEN(labels);
	}
	link_attach(p->link, &h, clock_mono_ms());
	flush(p);
}

static void answer(struct peer *p, const Bullpen__Worker__V1__Call *c)
{
	Bullpen__Worker__V1__CallResult r = BULLPEN__WORKER__V1__CALL_RESULT__INIT;

	r.call_id = c->call_id;
	r.outcome = BULLPEN__WORKER__V1__CALL_RESULT__OUTCOME__SUCCESS;
	r.result_json = c->kind == BULLPEN__WORKER__V1__CALL_KIND__TOOL ? c->arguments_json : (char *)(uintptr_t) "{}";
	if (link_send_result(p->link, &r) != 0)
		bench_die("the link does not take a result");
}

static void refused(struct peer *p, const Bullpen__Worker__V1__Refuse *r)
{
	if (p->cfg.on_lost == NULL)
		bench_die("refused: %s: %s", r->code, r->message);
	free(p->refusal);
	p->asked_ms = r->retry_after_ms;
	p->refusal = str_printf("%s%s: %s", r->fatal ? "fatal " : "", r->code, r->message);
	h2_stream_close(p->stream);
}

static void on_data(void *ctx, const void *bytes, size_t len)
{
	struct peer *p = ctx;
	struct link_event e;
	struct why why = {""};

	if (link_feed(p->link, bytes, len, clock_mono_ms(), &why) != 0)
		bench_die("the link broke: %s", why.text);
	while (link_next(p->link, &e) == OK) {
		if (e.kind == LINK_CALL)
			answer(p, e.call);
		else if (e.kind == LINK_WELCOME && p->cfg.on_ready != NULL)
			p->cfg.on_ready(p->cfg.ctx, p);
		else if (e.kind == LINK_REFUSED)
			refused(p, e.refuse);
	}
	flush(p);
}

static void on_close(void *ctx, const struct h2_close *why)
{
	struct peer *p = ctx;
	AUTO_STR said = TAKE(p->refusal);

	if (p->cfg.on_lost == NULL)
		bench_die("the connection ended: %s", why->text);
	p->stream = NULL;
	if (link_attached(p->link))
		link_detach(p->link);
	if (said == NULL && (why->http_status != 0 || why->grpc_status > 0) && why->kind == H2_CLOSE_STATUS)
		said = str_printf("http %d, grpc %d: %s", why->http_status, why->grpc_status, why->text);
	p->cfg.on_lost(p->cfg.ctx, p, said, p->asked_ms);
}

void peer_dial(struct peer *p)
{
	AUTO_STR url = str_printf("%s" CONNECT_PATH, p->cfg.endpoint);
	AUTO_STR bearer = str_printf("Bearer %s", p->cfg.key);
	const struct http_header headers[] = {
	    {"authorization", bearer}, {"content-type", "application/grpc"}, {"te", "trailers"}};
	const struct h2_stream_config stream = {.url = url,
	    .headers = headers,
	    .n_headers = ARRAY_LEN(headers),
	    .connect_timeout_ms = 60000,
	    .ctx = p,
	    .on_open = on_open,
	    .on_data = on_data,
	    .on_close = on_close};

	p->asked_ms = 0;
	if (h2_stream_dial(p->cfg.loop, &stream, &p->stream) != OK)
		bench_die("cannot dial %s", url);
}

struct peer *peer_new(const struct peer_config *cfg)
{
	struct peer *p = NEW(struct peer);
	const struct link_config link_cfg = {.role = LINK_WORKER, .incarnation = id_random64() | 1};

	p->cfg = *cfg;
	p->worker_id = str_dup(cfg->worker_id);
	p->cfg.worker_id = p->worker_id;
	if (cfg->label != NULL)
		p->cfg.label = str_dup(cfg->label);
	p->link = link_new(&link_cfg);
	peer_dial(p);
	return p;
}

size_t peer_number(const struct peer *p)
{
	return p->cfg.number;
}

void peer_tick(struct peer *p)
{
	struct why why = {""};

	if (!link_attached(p->link))
		return;
	if (link_tick(p->link, clock_mono_ms(), &why) != OK) {
		if (p->cfg.on_lost == NULL)
			bench_die("the link died: %s", why.text);
		h2_stream_close(p->stream);
		return;
	}
	flush(p);
}
