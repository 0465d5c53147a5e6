#include "server/api/fleet_watch.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "server/fleet/queue_events.h"
#include <stdatomic.h>
#include <string.h>

#define OPENS_WAITING 1024 /* streams that were opened and not yet taken up */
#define HEARTBEAT_MS 20000
#define TICK_MS 1000
#define SLOW_MS 30000
#define UNSENT_HIGH ((size_t)256 * 1024) /* a slow watcher is fed no more until it has drained */
#define BATCH 100 /* events that are read together */
#define FRAME_MAX ((size_t)1024 * 1024)
#define WATCHER_MAGIC 0x57415443u
#define WATCHES_MAGIC 0x57415453u

struct watcher {
	unsigned magic;
	struct watches *of; /* constant */
	struct http_exchange *x; /* constant */
	char *key_id; /* constant; the key that opened it, and ends with it */
	struct queue_filter filter; /* constant */
	struct queue_cursor seen; /* moves with each event, also with those that are filtered out */
	int64_t last_frame_ms, slow_since_ms;
	bool done; /* ended by us; on_close will come */
	struct watcher *next;
};

/* Of a stream there are at most one WATCH_OPEN, one WATCH_CLOSED and few WATCH_DRAINED; of WATCH_CHANGED there is one
 * until it was taken. So the inbox is bounded by the open streams. */
enum watch_msg_kind { WATCH_OPEN, WATCH_CHANGED, WATCH_DRAINED, WATCH_CLOSED, WATCH_REVOKED };

struct watch_msg {
	enum watch_msg_kind kind;
	struct watcher *watcher; /* WATCH_OPEN: owned until it is taken up */
	struct http_header headers[6]; /* WATCH_OPEN */
	size_t n_headers;
	char *key_id; /* WATCH_REVOKED */
};

struct watches {
	unsigned magic;
	struct store *store;
	struct mailbox *inbox;
	struct mailbox *gone; /* the thread's last word */
	_Atomic bool woken; /* a WATCH_CHANGED is on its way */
	_Atomic size_t n; /* watchers; others may look */
	/* The thread's. */
	struct watcher *first;
	unsigned char key[INSTALLATION_KEY_LEN];
	bool has_key;
};

static void watcher_free(struct watcher **wp)
{
	struct watcher *w = TAKE(*wp);

	if (w == NULL)
		return;
	http_exchange_free(&w->x);
	queue_filter_fini(&w->filter);
	queue_cursor_fini(&w->seen);
	free(w->key_id);
	free(w);
}

static void watch_msg_free(struct watch_msg *m)
{
	for (size_t i = 0; i < m->n_headers; i++) {
		free((char *)(uintptr_t)m->headers[i].name);
		free((char *)(uintptr_t)m->headers[i].value);
	}
	free(m->key_id);
	free(m);
}

/* The thread ended before it took the message up. */
static void drop_watch_msg(void *msg)
{
	struct watch_msg *m = msg;

	if (m->kind == WATCH_OPEN)
		watcher_free(&m->watcher);
	watch_msg_free(m);
}

static struct watch_msg *watch_msg_new(enum watch_msg_kind kind, struct watcher *w)
{
	struct watch_msg *m = NEW(struct watch_msg);

	m->kind = kind;
	m->watcher = w;
	return m;
}

static void watch_post(struct watches *ws, enum watch_msg_kind kind, struct watcher *w)
{
	struct watch_msg *m = watch_msg_new(kind, w);

	if (mailbox_post_always(ws->inbox, m) != OK)
		free(m);
}

/* Any thread. */
static void hear_queue(void *ctx, const struct note *note)
{
	struct watches *ws = OBJ_FROM(watches, ctx, WATCHES_MAGIC);

	if (atomic_load(&ws->n) > 0 && !atomic_exchange(&ws->woken, true))
		watch_post(ws, WATCH_CHANGED, NULL);
}

/* Any thread. One that is just being opened may be missed: this note is repeated for longer than an opening takes. */
static void watch_hear_key_revoked(void *ctx, const struct note *note)
{
	struct watches *ws = OBJ_FROM(watches, ctx, WATCHES_MAGIC);
	struct watch_msg *m;

	if (atomic_load(&ws->n) == 0)
		return;
	m = watch_msg_new(WATCH_REVOKED, NULL);
	m->key_id = str_dup(note->key_id);
	if (mailbox_post(ws->inbox, m) != OK)
		drop_watch_msg(m);
}

/* Loop thread. */
static void watch_on_drain(void *ctx, struct http_exchange *x)
{
	struct watcher *w = OBJ_FROM(watcher, ctx, WATCHER_MAGIC);

	watch_post(w->of, WATCH_DRAINED, w);
}

/* Loop thread, the last callback. */
static void watch_on_close(void *ctx, struct http_exchange *x)
{
	struct watcher *w = OBJ_FROM(watcher, ctx, WATCHER_MAGIC);

	watch_post(w->of, WATCH_CLOSED, w);
}

int watches_open(struct watches *ws, struct http_exchange *x, const struct http_header *headers, size_t n_headers,
    const char *key_id, const struct queue_cursor *cursor, struct queue_filter *filter)
{
	struct watcher *w = NEW(struct watcher);
	struct watch_msg *m = watch_msg_new(WATCH_OPEN, w);
	int rc;

	w->magic = WATCHER_MAGIC;
	w->of = ws;
	w->x = http_exchange_ref(x);
	w->key_id = str_dup(key_id);
	w->seen = *cursor;
	w->seen.after = (struct queue_mark){0};
	w->filter = *filter;
	ENSURE(n_headers <= ARRAY_LEN(m->headers));
	for (size_t i = 0; i < n_headers; i++)
		m->headers[m->n_headers++] = (struct http_header){str_dup(headers[i].name), str_dup(headers[i].value)};
	rc = mailbox_post(ws->inbox, m);
	if (rc != OK) {
		w->filter = (struct queue_filter){0}; /* stays the caller's */
		drop_watch_msg(m);
		return rc;
	}
	*filter = (struct queue_filter){0};
	return OK;
}

static void watcher_send(struct watcher *w, const char *bytes, size_t len)
{
	w->last_frame_ms = clock_mono_ms();
	IGNORE(http_write(w->x, bytes, len));
}

static void watcher_end(struct watcher *w)
{
	w->done = true;
	IGNORE(http_end(w->x, NULL, 0));
}

static void open_watcher(struct watches *ws, struct watch_msg *m)
{
	static const char hello[] = ": connected\n\n";
	struct watcher *w = TAKE(m->watcher);

	IGNORE(http_start(w->x, 200, m->headers, m->n_headers));
	w->next = ws->first;
	ws->first = w;
	atomic_fetch_add(&ws->n, 1);
	watcher_send(w, hello, sizeof hello - 1);
	http_watch(w->x, &(struct http_watch){.on_drain = watch_on_drain, .on_close = watch_on_close, .ctx = w});
}

static void close_watcher(struct watches *ws, struct watcher *w)
{
	struct watcher **at = &ws->first;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	atomic_fetch_sub(&ws->n, 1);
	watcher_free(&w);
}

static void end_watchers_of_key(struct watches *ws, const char *key_id)
{
	for (struct watcher *w = ws->first; w != NULL; w = w->next)
		if (!w->done && strcmp(w->key_id, key_id) == 0)
			watcher_end(w);
}

static void take_msg(struct watches *ws, struct watch_msg *m)
{
	if (m->kind == WATCH_OPEN)
		open_watcher(ws, m);
	else if (m->kind == WATCH_CLOSED)
		close_watcher(ws, m->watcher);
	else if (m->kind == WATCH_REVOKED)
		end_watchers_of_key(ws, m->key_id);
	else if (m->kind == WATCH_DRAINED)
		m->watcher->slow_since_ms = 0;
	watch_msg_free(m);
}

/* The order of the lines is a part of the contract. */
static void watch_add_frame(
    const struct watches *ws, const struct watcher *w, struct strbuf *b, const char *event, const char *data)
{
	AUTO_STR id = queue_cursor_make(ws->key, &w->seen);

	strbuf_addf(b, "event: %s\nid: %s\ndata: %s\n\n", event, id, data);
}

/* What this watcher is told of the event: its data, or NULL if it is not for it. A request is shown as it is now; of
 * one that is gone the next event tells. */
static int data_of(
    struct tx *tx, const struct watcher *w, const struct queue_event *e, int64_t now_ms, json_t **ret_data)
{
	bool is_request = strcmp(e->kind, QUEUE_CREATED) == 0 || strcmp(e->kind, QUEUE_CLAIMED_OFFLINE) == 0;
	bool fits = false;
	int rc;

	*ret_data = NULL;
	if (w->filter.pool != NULL && strcmp(w->filter.pool, e->pool) != 0)
		return OK;
	if (is_request) {
		rc = queue_request_json(tx, w->seen.team_id, &w->filter, e->agent_id, now_ms, ret_data);
		return rc == ERR_EMPTY ? OK : rc;
	}
	rc = queue_agent_fits(tx, &w->filter, e->agent_id, &fits);
	if (rc == OK && fits)
		*ret_data = json_pack("{s:s}", "id", e->agent_id);
	return rc;
}

static int send_event(struct watches *ws, struct tx *tx, struct watcher *w, const struct queue_event *e, int64_t now_ms)
{
	struct strbuf b = STRBUF(FRAME_MAX);
	AUTO_JSON data = NULL;
	int rc = data_of(tx, w, e, now_ms, &data);

	if (rc != OK)
		return rc;
	w->seen.seq = e->seq;
	if (data != NULL) {
		AUTO_STR text = json_text(data);

		watch_add_frame(ws, w, &b, e->kind, text);
		watcher_send(w, b.data, b.len);
		strbuf_fini(&b);
	}
	return OK;
}

static bool is_full(struct watcher *w)
{
	if (http_unsent(w->x) <= UNSENT_HIGH)
		return false;
	if (w->slow_since_ms == 0)
		w->slow_since_ms = clock_mono_ms();
	return true;
}

/* Everything that it has not seen, as far as it takes it. */
static int feed_watcher(struct watches *ws, struct tx *tx, struct watcher *w, int64_t now_ms)
{
	struct queue_event events[BATCH];
	size_t n = BATCH;
	int rc = OK;

	while (rc == OK && n == BATCH && !is_full(w)) {
		rc = queue_event_load(tx, w->seen.team_id, w->seen.seq, events, BATCH, &n);
		for (size_t i = 0; i < n; i++) {
			if (rc == OK)
				rc = send_event(ws, tx, w, &events[i], now_ms);
			queue_event_fini(&events[i]);
		}
	}
	/* After the last event: who comes again is told that the chain has ended. */
	if (rc == OK && n < BATCH && queue_cursor_is_over(&w->seen, now_ms))
		watcher_end(w);
	return rc;
}

static int watch_load_key(struct watches *ws)
{
	int rc = ws->has_key ? OK : installation_key(ws->store, CURSOR_KEY, ws->key);

	ws->has_key = rc == OK;
	return rc;
}

/* What the store did not answer is asked again at the next tick. */
static void look(struct watches *ws)
{
	AUTO(tx) tx = NULL;
	int64_t now = clock_wall_ms();
	int rc = ws->first != NULL ? watch_load_key(ws) : ERR_EMPTY;

	if (rc == OK)
		rc = tx_begin(ws->store, TX_READ, &tx);
	for (struct watcher *w = ws->first; rc == OK && w != NULL; w = w->next)
		if (!w->done)
			rc = feed_watcher(ws, tx, w, now);
	if (rc != OK && rc != ERR_EMPTY)
		store_log_unavailable(ws->store, rc);
}

/* Heartbeats, and watchers that do not read. */
static void tick_watchers(struct watches *ws, int64_t now_ms)
{
	for (struct watcher *w = ws->first; w != NULL; w = w->next) {
		struct strbuf b = STRBUF(FRAME_MAX);

		if (!w->done && w->slow_since_ms != 0 && now_ms - w->slow_since_ms > SLOW_MS) {
			log_warn(
			    "watch.slow", "peer=%s reason=\"the watcher does not take its events\"", http_peer(w->x));
			w->done = true;
			http_abort(w->x);
		} else if (!w->done && ws->has_key && now_ms - w->last_frame_ms >= HEARTBEAT_MS) {
			watch_add_frame(ws, w, &b, "heartbeat", "{}");
			watcher_send(w, b.data, b.len);
		}
		strbuf_fini(&b);
	}
}

static char watch_gone_token;

static void watch_main(void *arg)
{
	struct watches *ws = OBJ_FROM(watches, arg, WATCHES_MAGIC);
	struct mailbox *gone = mailbox_ref(ws->gone);
	int64_t next_tick = clock_mono_ms() + TICK_MS;

	for (;;) {
		void *msg = NULL;
		int64_t now;
		int rc = mailbox_receive(ws->inbox, next_tick, &msg);

		for (; rc == OK; rc = mailbox_receive(ws->inbox, 0, &msg))
			take_msg(ws, msg);
		if (rc == ERR_CLOSED)
			break;
		/* Before it is read: what comes later wakes again. */
		atomic_store(&ws->woken, false);
		look(ws);
		now = clock_mono_ms();
		if (now >= next_tick) {
			tick_watchers(ws, now);
			next_tick = now + TICK_MS;
		}
	}
	IGNORE(mailbox_post_always(gone, &watch_gone_token));
	mailbox_free(&gone);
}

struct watches *watches_new(struct store *st, struct notify *n)
{
	struct watches *ws = NEW(struct watches);

	ws->magic = WATCHES_MAGIC;
	ws->store = st;
	ws->inbox = mailbox_new(OPENS_WAITING, drop_watch_msg);
	ws->gone = mailbox_new(1, NULL);
	notify_listen(n, NOTE_QUEUE_CHANGED, hear_queue, ws);
	notify_listen(n, NOTE_MISSED, hear_queue, ws);
	notify_listen(n, NOTE_KEY_REVOKED, watch_hear_key_revoked, ws);
	ENSURE(thread_start("watch", 512 * 1024, watch_main, ws) == OK); /* at start; without it there is no server */
	return ws;
}

void watches_free(struct watches **wp)
{
	struct watches *ws = TAKE(*wp);
	void *word;

	if (ws == NULL)
		return;
	mailbox_close(ws->inbox);
	ENSURE(mailbox_receive(ws->gone, INT64_MAX, &word) == OK);
	while (ws->first != NULL) {
		struct watcher *w = ws->first;

		ws->first = w->next;
		watcher_free(&w);
	}
	mailbox_free(&ws->inbox);
	mailbox_free(&ws->gone);
	free(ws);
}
