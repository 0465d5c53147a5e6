/* Server-sent events: readers of the run's log. One thread, the pump, owns all subscriptions; it is told which runs
 * have news, reads them from the store once for all their readers, and hands frames to the exchanges. A reader costs no
 * thread.
 *
 * Every connection begins with the present status (no id), then the stored events after the resume point, then what
 * comes. A change of the status is a frame without id: a running one before the events that follow it, the terminal one
 * before `result`. Frames that share an id go out in one write. */
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/fleet/queue.h"
#include "server/runs/runs_priv.h"
#include <string.h>

#define READERS_PER_RUN 64
#define BATCH_ROWS 200
#define UNSENT_HIGH (1024 * 1024) /* a slow reader is fed no more until it has drained */
#define SLOW_MS 30000
#define HEARTBEAT_MS 15000
#define TICK_MS 1000
#define SUB_MAGIC 0x53554253u

struct sub {
	unsigned magic;
	struct pump *pump;
	struct http_exchange *x;
	char *run_id;
	int64_t after_seq;
	int64_t last_frame_ms, slow_since_ms;
	char *status; /* last one sent; NULL: none */
	char *wait_code; /* of the last status frame; "" if it had none */
	bool done; /* ended by us; on_close will come */
	struct sub *next; /* of the same run */
};

enum pump_msg_kind { PUMP_OPEN, PUMP_NEWS, PUMP_DRAINED, PUMP_CLOSED };

struct pump_msg {
	enum pump_msg_kind kind;
	struct sub *sub;
	char *run_id;
	struct http_header headers[8];
	size_t n_headers;
};

struct pump {
	struct runs *runs;
	struct mailbox *inbox;
	struct map *runs_read; /* run id -> first struct sub */
	struct map *news; /* run ids to look at; the value is not used */
	struct mailbox *stopped;
	bool any_news;
};

static void drop_msg(void *msg)
{
	struct pump_msg *m = msg;

	for (size_t i = 0; i < m->n_headers; i++) {
		free((char *)m->headers[i].name);
		free((char *)m->headers[i].value);
	}
	free(m->run_id);
	free(m);
}

static void post(struct pump *p, enum pump_msg_kind kind, struct sub *s, const char *run_id)
{
	struct pump_msg *m = NEW(struct pump_msg);

	m->kind = kind;
	m->sub = s;
	m->run_id = str_dup(run_id);
	if (mailbox_post_always(p->inbox, m) != OK)
		drop_msg(m);
}

void stream_notify(struct runs *r, const char *run_id)
{
	post(r->pump, PUMP_NEWS, NULL, run_id);
}

static void sub_free(struct sub **sp)
{
	struct sub *s = TAKE(*sp);

	if (s == NULL)
		return;
	http_exchange_free(&s->x);
	free(s->run_id);
	free(s->status);
	free(s->wait_code);
	free(s);
}

/* Loop thread. */
static void on_drain(void *ctx, struct http_exchange *x)
{
	struct sub *s = OBJ_FROM(sub, ctx, SUB_MAGIC);

	post(s->pump, PUMP_DRAINED, s, s->run_id);
}

/* Loop thread, the last callback. */
static void on_close(void *ctx, struct http_exchange *x)
{
	struct sub *s = OBJ_FROM(sub, ctx, SUB_MAGIC);

	post(s->pump, PUMP_CLOSED, s, s->run_id);
}

int stream_find_event(struct tx *tx, const char *run_id, const char *event_id, int64_t *ret_seq)
{
	AUTO_STR ms_text = NULL;
	AUTO_STR as_given_out = NULL;
	const char *dash = strchr(event_id, '-');
	int64_t ms, n;
	int rc;

	if (dash == NULL)
		return ERR_NOT_FOUND;
	ms_text = str_ndup(event_id, (size_t)(dash - event_id));
	if (text_parse_int(ms_text, 0, INT64_MAX, &ms) != OK || text_parse_int(dash + 1, 0, INT64_MAX, &n) != OK)
		return ERR_NOT_FOUND;
	as_given_out = str_printf("%lld-%lld", (long long)ms, (long long)n);
	if (strcmp(as_given_out, event_id) != 0)
		return ERR_NOT_FOUND;
	rc = tx_query_int(
	    tx, ret_seq, "SELECT seq FROM events WHERE run_id = $1 AND id_ms = $2 AND id_n = $3", "sii", run_id, ms, n);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

void stream_open(struct runs *r, struct http_exchange *x, const struct http_header *headers, size_t n_headers,
    const char *run_id, int64_t after_seq)
{
	struct pump_msg *m = NEW(struct pump_msg);
	struct sub *s = NEW(struct sub);

	s->magic = SUB_MAGIC;
	s->pump = r->pump;
	s->x = http_exchange_ref(x);
	s->run_id = str_dup(run_id);
	s->after_seq = after_seq;
	s->wait_code = str_dup("");
	m->kind = PUMP_OPEN;
	m->sub = s;
	m->run_id = str_dup(run_id);
	ENSURE(n_headers <= ARRAY_LEN(m->headers));
	for (size_t i = 0; i < n_headers; i++)
		m->headers[i] = (struct http_header){str_dup(headers[i].name), str_dup(headers[i].value)};
	m->n_headers = n_headers;
	if (mailbox_post_always(r->pump->inbox, m) != OK) {
		http_abort(x);
		sub_free(&s);
		drop_msg(m);
	}
}

static void frame(struct strbuf *b, const char *id, const char *event, const char *data)
{
	if (id != NULL)
		strbuf_addf(b, "id: %s\n", id);
	strbuf_addf(b, "event: %s\ndata: %s\n\n", event, data);
}

static void send_bytes(struct sub *s, const char *bytes, size_t len)
{
	if (len == 0 || s->done)
		return;
	s->last_frame_ms = clock_mono_ms();
	IGNORE(http_write(s->x, bytes, len));
}

static void send_frames(struct sub *s, const struct strbuf *b)
{
	send_bytes(s, b->data, b->len);
}

struct news {
	struct run_info *run;
	json_t *wait; /* NULL: it does not wait */
};

static void add_status(struct sub *s, struct strbuf *b, const struct news *n)
{
	AUTO_JSON data = json_pack("{s:s, s:s}", "runId", n->run->id, "status", n->run->status);
	const char *code = n->wait != NULL ? json_string_value(json_object_get(n->wait, "code")) : "";

	if (s->status != NULL && strcmp(s->status, n->run->status) == 0 && strcmp(s->wait_code, code) == 0)
		return;
	if (n->wait != NULL)
		json_object_set(data, "message", json_object_get(n->wait, "text"));
	else if (n->run->error_message != NULL)
		json_put(data, "message", n->run->error_message);
	str_set(&s->status, n->run->status);
	str_set(&s->wait_code, code);
	AUTO_STR text = json_text(data);

	frame(b, NULL, "status", text);
}

/* Rows of a run's log as frames, made once for all readers that are at the same place. */
struct piece {
	bool here;
	int64_t after_seq, upto_seq;
	struct strbuf text;
	size_t result_at; /* where the frames of the run's last row begin; SIZE_MAX: it is not among them */
	bool more; /* there may be rows after it */
};

static void add_event(struct piece *p, struct query *q)
{
	AUTO_STR id = str_printf("%lld-%lld", (long long)query_int(q, 1), (long long)query_int(q, 2));
	const char *kind = query_str(q, 3);
	bool last = strcmp(kind, "result") == 0;

	if (last)
		p->result_at = p->text.len;
	frame(&p->text, id, kind, query_str(q, 4));
	if (!query_is_null(q, 5))
		frame(&p->text, id, "interaction_update", query_str(q, 5));
	if (last)
		frame(&p->text, id, "done", "{}");
	p->upto_seq = query_int(q, 0);
}

static int read_piece(struct tx *tx, const char *run_id, int64_t after_seq, struct piece *p)
{
	AUTO(query) q = NULL;
	int rc, rows = 0;

	if (p->here && p->after_seq == after_seq)
		return OK;
	strbuf_clear(&p->text);
	p->here = p->more = false;
	p->after_seq = p->upto_seq = after_seq;
	p->result_at = SIZE_MAX;
	rc = tx_query(tx, &q,
	    "SELECT seq, id_ms, id_n, kind, data, twin FROM events WHERE run_id = $1 AND seq > $2 ORDER BY seq", "si",
	    run_id, after_seq);
	while (rc == OK && !p->more && p->result_at == SIZE_MAX && (rc = query_next(q)) == OK) {
		add_event(p, q);
		p->more = ++rows >= BATCH_ROWS || p->text.len >= UNSENT_HIGH;
	}
	p->here = rc == OK || rc == ERR_EMPTY;
	return p->here ? OK : rc;
}

/* `b` has what goes before it. */
static void send_piece(struct sub *s, struct strbuf *b, const struct piece *p, const struct news *n)
{
	size_t before_result = MIN(p->result_at, p->text.len);
	const char *text = strbuf_str(&p->text);

	if (b->len == 0 && p->result_at == SIZE_MAX) {
		send_frames(s, &p->text);
	} else {
		strbuf_add(b, text, before_result);
		if (p->result_at != SIZE_MAX)
			add_status(s, b, n);
		strbuf_add(b, text + before_result, p->text.len - before_result);
		send_frames(s, b);
		strbuf_clear(b);
	}
	s->after_seq = p->upto_seq;
}

/* Sends what the reader has not seen. OK: all of it; ERR_FULL: the reader is slow, more is there. */
static int feed(struct tx *tx, struct sub *s, const struct news *n, struct piece *p)
{
	/* Never more than a piece: UNSENT_HIGH and one row. */
	struct strbuf b = STRBUF(SIZE_MAX / 2);
	bool last = false;
	int rc;

	if (!run_status_is_terminal(n->run->status) || s->status == NULL)
		add_status(s, &b, n);
	do {
		rc = http_unsent(s->x) < UNSENT_HIGH ? read_piece(tx, s->run_id, s->after_seq, p) : ERR_FULL;
		if (rc == OK)
			send_piece(s, &b, p, n);
		last = rc == OK && p->result_at != SIZE_MAX;
	} while (rc == OK && p->more && !last);
	send_frames(s, &b);
	strbuf_fini(&b);
	if (last) {
		s->done = true;
		IGNORE(http_end(s->x, NULL, 0));
	}
	return rc;
}

static int load_news(struct runs *r, struct tx *tx, const char *run_id, struct news *n)
{
	int rc = run_load(tx, run_id, &n->run);

	if (rc != OK || run_status_is_terminal(n->run->status))
		return rc;
	rc = queue_wait_reason(tx, n->run->agent_id, clock_wall_ms(), r->cfg.loss_grace_ms, &n->wait);
	return rc == ERR_EMPTY ? OK : rc;
}

/* A reader that resumes after the very last event gets the status and `done`. */
static int end_if_complete(struct tx *tx, struct sub *s, const struct news *n)
{
	int64_t last_seq = 0, ms = 0, seq_n = 0;
	AUTO(query) q = NULL;
	struct strbuf b = STRBUF(4096);
	int rc;

	if (s->done || !run_status_is_terminal(n->run->status))
		return OK;
	rc = tx_query(tx, &q, "SELECT last_seq, last_ms, last_n FROM runs WHERE id = $1", "s", s->run_id);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	last_seq = query_int(q, 0);
	ms = query_int(q, 1);
	seq_n = query_int(q, 2);
	if (s->after_seq < last_seq)
		return OK;
	AUTO_STR id = str_printf("%lld-%lld", (long long)ms, (long long)seq_n);

	frame(&b, id, "done", "{}");
	send_frames(s, &b);
	strbuf_fini(&b);
	s->done = true;
	IGNORE(http_end(s->x, NULL, 0));
	return OK;
}

static void look_at(struct pump *p, const char *run_id)
{
	struct news n = {0};
	struct piece piece = {.text = STRBUF(SIZE_MAX / 2)};
	AUTO(tx) tx = NULL;
	int rc = tx_begin(p->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = load_news(p->runs, tx, run_id, &n);
	for (struct sub *s = map_get(p->runs_read, run_id); rc == OK && s != NULL; s = s->next) {
		int fed = s->done ? OK : feed(tx, s, &n, &piece);

		if (fed == ERR_FULL)
			s->slow_since_ms = s->slow_since_ms != 0 ? s->slow_since_ms : clock_mono_ms();
		else
			s->slow_since_ms = 0;
		if (fed == OK)
			rc = end_if_complete(tx, s, &n);
		else if (fed != ERR_FULL)
			rc = fed;
	}
	if (rc == ERR_NOT_FOUND)
		for (struct sub *s = map_get(p->runs_read, run_id); s != NULL; s = s->next)
			http_abort(s->x); /* deleted meanwhile */
	strbuf_fini(&piece.text);
	run_info_free(&n.run);
	json_decref(n.wait);
}

static size_t count_readers(const struct sub *s)
{
	size_t n = 0;

	for (; s != NULL; s = s->next)
		n++;
	return n;
}

static void refuse_sub(const struct pump_msg *m)
{
	static const char too_many[] =
	    "{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"this run has 64 streams open already\"}}";
	struct http_header h[4] = {
	    {"content-type", "application/json; charset=utf-8"}, {"cache-control", "no-store"}, {"retry-after", "5"}};
	size_t n = 3;

	for (size_t i = 0; i < m->n_headers; i++)
		if (strcmp(m->headers[i].name, "x-request-id") == 0)
			h[n++] = m->headers[i];
	IGNORE(http_reply(m->sub->x, 429, h, n, too_many, strlen(too_many)));
}

static void open_sub(struct pump *p, struct pump_msg *m)
{
	struct sub *s = m->sub;
	struct sub *first = map_get(p->runs_read, s->run_id);

	if (count_readers(first) >= READERS_PER_RUN) {
		refuse_sub(m);
		sub_free(&s);
		return;
	}
	IGNORE(http_start(s->x, 200, m->headers, m->n_headers));
	s->last_frame_ms = clock_mono_ms();
	s->next = first;
	map_put(p->runs_read, s->run_id, s);
	http_watch(s->x, &(struct http_watch){.on_drain = on_drain, .on_close = on_close, .ctx = s});
	map_put(p->news, s->run_id, p);
}

static void close_sub(struct pump *p, struct sub *s)
{
	struct sub *first = map_get(p->runs_read, s->run_id);

	if (first == s) {
		if (s->next != NULL)
			map_put(p->runs_read, s->run_id, s->next);
		else
			map_remove(p->runs_read, s->run_id);
	} else {
		while (first->next != s)
			first = first->next;
		first->next = s->next;
	}
	sub_free(&s);
}

static void handle(struct pump *p, struct pump_msg *m)
{
	if (m->kind == PUMP_OPEN)
		open_sub(p, m);
	else if (m->kind == PUMP_CLOSED)
		close_sub(p, m->sub);
	else if (map_get(p->runs_read, m->run_id) != NULL)
		map_put(p->news, m->run_id, p);
	drop_msg(m);
}

static void look_at_news(struct pump *p)
{
	size_t at = 0;
	const char *run_id;
	void *value;

	while (map_next(p->news, &at, &run_id, &value)) {
		AUTO_STR id = str_dup(run_id);

		map_remove(p->news, id);
		look_at(p, id);
	}
}

/* Heartbeats, readers that do not read, and why a waiting run waits. */
static void tick(struct pump *p, int64_t now_ms)
{
	struct strbuf beat = STRBUF(64);
	size_t at = 0;
	const char *run_id;
	void *value;

	frame(&beat, NULL, "heartbeat", "{}");
	while (map_next(p->runs_read, &at, &run_id, &value)) {
		for (struct sub *s = value; s != NULL; s = s->next) {
			if (s->slow_since_ms != 0 && now_ms - s->slow_since_ms > SLOW_MS)
				http_abort(s->x);
			else if (now_ms - s->last_frame_ms >= HEARTBEAT_MS)
				send_frames(s, &beat);
			if (!s->done)
				map_put(p->news, run_id, p);
		}
	}
	strbuf_fini(&beat);
}

static void pump_main(void *arg)
{
	struct pump *p = arg;
	int64_t next_tick = clock_mono_ms() + TICK_MS;

	for (;;) {
		void *msg = NULL;
		int64_t now;
		int rc = mailbox_receive(p->inbox, next_tick, &msg);

		/* Take everything that is there first: one look at a run serves many notes about it. */
		for (; rc == OK; rc = mailbox_receive(p->inbox, 0, &msg))
			handle(p, msg);
		if (rc == ERR_CLOSED)
			break;
		look_at_news(p);
		now = clock_mono_ms();
		if (now >= next_tick) {
			tick(p, now);
			next_tick = now + TICK_MS;
		}
	}
	IGNORE(mailbox_post_always(p->stopped, p));
}

int pump_start(struct runs *r)
{
	struct pump *p = NEW(struct pump);

	p->runs = r;
	p->inbox = mailbox_new(SIZE_MAX, drop_msg);
	p->stopped = mailbox_new(1, NULL);
	p->runs_read = map_new();
	p->news = map_new();
	r->pump = p;
	return thread_start("pump", 512 * 1024, pump_main, p);
}

/* A reader that came while the server stopped: its on_close found the inbox closed. */
static void drop_readers(struct pump *p)
{
	size_t at = 0;
	const char *run_id;
	void *value;

	while (map_next(p->runs_read, &at, &run_id, &value)) {
		struct sub *s = value;

		while (s != NULL) {
			struct sub *next = s->next;

			sub_free(&s);
			s = next;
		}
	}
}

/* The HTTP server is gone by now: no callback comes any more. */
void pump_stop(struct runs *r)
{
	struct pump *p = TAKE(r->pump);
	void *goodbye;

	mailbox_close(p->inbox);
	IGNORE(mailbox_receive(p->stopped, INT64_MAX, &goodbye));
	drop_readers(p);
	map_free(&p->runs_read);
	map_free(&p->news);
	mailbox_free(&p->inbox);
	mailbox_free(&p->stopped);
	free(p);
}
