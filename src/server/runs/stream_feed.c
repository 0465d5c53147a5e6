/* From the rows of a run's log to frames for its readers.
 *
 * Every connection begins with the present status (no id), then the stored events after the resume point, then what
 * comes. A change of the status is a frame without id: a running one before the events that follow it, the terminal one
 * before `result`. Frames that share an id go out in one write. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/stream_priv.h"
#include <string.h>

#define BATCH_ROWS 200

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

void add_frame(struct strbuf *b, const char *id, const char *event, const char *data)
{
	if (id != NULL)
		strbuf_addf(b, "id: %s\n", id);
	strbuf_addf(b, "event: %s\ndata: %s\n\n", event, data);
}

void reader_send(struct reader *s, const char *bytes, size_t len)
{
	if (len == 0 || s->done)
		return;
	s->last_frame_ms = clock_mono_ms();
	IGNORE(http_write(s->x, bytes, len));
}

static void send_frames(struct reader *s, const struct strbuf *b)
{
	reader_send(s, b->data, b->len);
}

void reader_end(struct reader *s)
{
	s->done = true;
	IGNORE(http_end(s->x, NULL, 0));
}

static void feed_news_fini(struct feed_news *n)
{
	free(n->status);
	free(n->error_message);
	json_decref(n->wait);
	free(n->wait_key);
}

static void add_status(struct reader *s, struct strbuf *b, const struct feed_news *n)
{
	AUTO_JSON data = json_pack("{s:s, s:s}", "runId", s->run_id, "status", n->status);
	const char *key = n->wait_key != NULL ? n->wait_key : "";

	if (s->status != NULL && strcmp(s->status, n->status) == 0 && strcmp(s->wait_key, key) == 0)
		return;
	if (n->wait != NULL)
		json_object_set(data, "message", json_object_get(n->wait, "text"));
	else if (n->error_message != NULL)
		json_put(data, "message", n->error_message);
	str_set(&s->status, n->status);
	str_set(&s->wait_key, key);
	AUTO_STR text = json_text(data);

	add_frame(b, NULL, "status", text);
}

/* Rows of a run's log as frames, made once for all readers that are at the same place. */
struct piece {
	bool here;
	int64_t after_seq, upto_seq;
	struct strbuf text;
	size_t result_at; /* where the frames of the run's last row begin; SIZE_MAX: it is not among them */
	bool more; /* there may be rows after it */
};

static void add_event_row(struct piece *p, struct query *q)
{
	AUTO_STR id = str_printf("%lld-%lld", (long long)query_int(q, 1), (long long)query_int(q, 2));
	const char *kind = query_str(q, 3);
	bool last = strcmp(kind, "result") == 0;

	if (last)
		p->result_at = p->text.len;
	add_frame(&p->text, id, kind, query_str(q, 4));
	if (!query_is_null(q, 5))
		add_frame(&p->text, id, "interaction_update", query_str(q, 5));
	if (last)
		add_frame(&p->text, id, "done", "{}");
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
		add_event_row(p, q);
		p->more = ++rows >= BATCH_ROWS || p->text.len >= UNSENT_HIGH;
	}
	p->here = rc == OK || rc == ERR_EMPTY;
	return p->here ? OK : rc;
}

/* `b` holds the frames that go before the piece. */
static void send_piece(struct reader *s, struct strbuf *b, const struct piece *p, const struct feed_news *n)
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

/* A reader that resumes after the very last event gets the status and `done`. */
static void end_if_complete(struct reader *s, const struct feed_news *n)
{
	struct strbuf b = STRBUF(4096);

	if (s->done || !run_status_is_terminal(n->status) || s->after_seq < n->last_seq)
		return;
	AUTO_STR id = str_printf("%lld-%lld", (long long)n->last_ms, (long long)n->last_n);

	add_frame(&b, id, "done", "{}");
	send_frames(s, &b);
	strbuf_fini(&b);
	reader_end(s);
}

/* Sends what the reader has not seen. OK: all of it; ERR_FULL: the reader is slow, more is there. */
static int feed_reader(struct tx *tx, struct reader *s, const struct feed_news *n, struct piece *p)
{
	/* Never more than a piece: UNSENT_HIGH and one row. */
	struct strbuf b = STRBUF(SIZE_MAX / 2);
	bool last = false;
	int rc;

	if (!run_status_is_terminal(n->status) || s->status == NULL)
		add_status(s, &b, n);
	do {
		rc = http_unsent(s->x) < UNSENT_HIGH ? read_piece(tx, s->run_id, s->after_seq, p) : ERR_FULL;
		if (rc == OK)
			send_piece(s, &b, p, n);
		last = rc == OK && p->result_at != SIZE_MAX;
	} while (rc == OK && p->more && !last);
	send_frames(s, &b);
	strbuf_fini(&b);
	if (last)
		reader_end(s);
	else if (rc == OK)
		end_if_complete(s, n);
	return rc;
}

/* While a session is opened, what the worker is doing is news as well. */
static void note_reason(struct feed *f, struct feed_news *n)
{
	const char *code = json_string_value(json_object_get(n->wait, "code"));
	bool opening = strcmp(code, "opening") == 0 && f->waits_for != NULL;

	snprintf(f->wait_code, sizeof f->wait_code, "%s", code);
	n->wait_key = opening ? str_printf("opening: %s", f->waits_for->opening) : str_dup(code);
}

/* The run, its request and its claim in one query: this is read after each commit of a run that has readers. */
static int load_news(struct runs *r, struct tx *tx, struct feed *f, struct feed_news *n)
{
	AUTO(query) q = NULL;
	AUTO_STR agent_id = NULL;
	bool waiting, lost;
	int rc = tx_query(tx, &q,
	    "SELECT r.status, r.error_message, r.agent_id, r.last_seq, r.last_ms, r.last_n, COALESCE(q.state, ''),"
	    " COALESCE(c.lost_at, 0), COALESCE(q.opening_at, 0) FROM runs r LEFT JOIN requests q ON q.agent_id = "
	    "r.agent_id LEFT JOIN claims c ON"
	    " c.agent_id = r.agent_id WHERE r.id = $1",
	    "s", f->run_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	n->status = str_dup(query_str(q, 0));
	n->error_message = str_dup(query_text(q, 1));
	agent_id = str_dup(query_str(q, 2));
	n->last_seq = query_int(q, 3);
	n->last_ms = query_int(q, 4);
	n->last_n = query_int(q, 5);
	waiting = strcmp(query_str(q, 6), "queued") == 0 || query_int(q, 8) != 0;
	lost = query_int(q, 7) != 0;
	query_free(&q);
	queue_group_free(&f->waits_for);
	f->wait_code[0] = '\0';
	if (run_status_is_terminal(n->status) || (!waiting && !lost))
		return OK;
	if (waiting)
		rc = queue_group_load(tx, agent_id, &f->waits_for);
	if (rc == OK || rc == ERR_EMPTY)
		rc = queue_wait_reason(tx, agent_id, clock_wall_ms(), r->cfg.loss_grace_ms, &n->wait);
	if (rc == OK)
		note_reason(f, n);
	return rc == ERR_EMPTY ? OK : rc;
}

static int feed_all(struct tx *tx, struct feed *f, const struct feed_news *n)
{
	struct piece piece = {.text = STRBUF(SIZE_MAX / 2)};
	int rc = OK;

	for (struct reader *s = f->first; rc == OK && s != NULL; s = s->next) {
		int fed = s->done ? OK : feed_reader(tx, s, n, &piece);

		if (fed == ERR_FULL)
			s->slow_since_ms = s->slow_since_ms != 0 ? s->slow_since_ms : clock_mono_ms();
		else
			s->slow_since_ms = 0;
		if (fed != OK && fed != ERR_FULL)
			rc = fed;
	}
	strbuf_fini(&piece.text);
	return rc;
}

int feed_look(struct runs *r, struct feed *f)
{
	__attribute__((cleanup(feed_news_fini))) struct feed_news n = {0};
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = load_news(r, tx, f, &n);
	return rc != OK ? rc : feed_all(tx, f, &n);
}
