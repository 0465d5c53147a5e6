/* The pump's thread: who reads which run, and when to look. */
#include "server/runs/stream.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "server/runs/stream_priv.h"
#include <pthread.h>
#include <string.h>

#define OPENS_WAITING 4096 /* streams that were opened and not yet taken up */
#define SLOW_MS 30000
#define HEARTBEAT_MS 15000
#define TICK_MS 1000

/* PUMP_REVOKED and PUMP_PRIVATE come at most OPENS_WAITING times: a note that finds the inbox full is sent again by the
 * next poll. Of a stream there are at most one PUMP_OPEN, one PUMP_CLOSED, and, because the exchange tells of a drain
 * only after it was full again, few PUMP_DRAINED; of PUMP_CHANGED there is one until the pump has taken the changes. So
 * the inbox is bounded by the open streams. */
enum pump_msg_kind { PUMP_OPEN, PUMP_CHANGED, PUMP_DRAINED, PUMP_CLOSED, PUMP_REVOKED, PUMP_PRIVATE };

struct pump_msg {
	enum pump_msg_kind kind;
	struct reader *reader; /* PUMP_OPEN: owned until it is taken up */
	struct http_header headers[8]; /* PUMP_OPEN */
	size_t n_headers;
	char *id; /* PUMP_REVOKED: of the key; PUMP_PRIVATE: of the agent */
};

struct pump {
	struct runs *runs;
	pthread_t thread; /* owns feeds and readers; after its end, the one that stops it */
	struct mailbox *inbox;
	struct mailbox *gone; /* the thread's last word */
	/* The thread's. */
	struct map *feeds; /* run id -> struct feed */
	atomic_size_t n_readers; /* others may look */
	struct feed *to_look, *to_look_later; /* lists of changed feeds; later: at the next tick */

	/* The only state that others touch: which of the runs with readers have changed. A run without readers leaves
	 * no trace, and one that changes a hundred times before the thread looks is here once. */
	pthread_mutex_t mtx; /* a leaf, but for the inbox' own lock */
	struct map *watched; /* run ids; the value is not used */
	struct map *changed; /* run ids of `watched` */
};

void reader_free(struct reader **sp)
{
	struct reader *s = TAKE(*sp);

	if (s == NULL)
		return;
	http_exchange_free(&s->x);
	free(s->run_id);
	free(s->key_id);
	free(s->agent_id);
	free(s->status);
	free(s->wait_key);
	free(s);
}

static void pump_msg_free(struct pump_msg *m)
{
	for (size_t i = 0; i < m->n_headers; i++) {
		free((char *)m->headers[i].name);
		free((char *)m->headers[i].value);
	}
	free(m->id);
	free(m);
}

/* The pump ended before it took the message up. */
static void drop_pump_msg(void *msg)
{
	struct pump_msg *m = msg;

	if (m->kind == PUMP_OPEN)
		reader_free(&m->reader);
	pump_msg_free(m);
}

static void stream_post(struct pump *p, enum pump_msg_kind kind, struct reader *s)
{
	struct pump_msg *m = NEW(struct pump_msg);

	m->kind = kind;
	m->reader = s;
	if (mailbox_post_always(p->inbox, m) != OK)
		pump_msg_free(m);
}

/* Any thread that has committed something of the run. The note may come before the pump knows the reader that is just
 * being opened: a new feed is looked at anyway, after it is watched. */
static void hear_run_changed(void *ctx, const struct note *note)
{
	struct pump *p = ctx;
	bool first = false;

	pthread_mutex_lock(&p->mtx);
	if (map_get(p->watched, note->run_id) != NULL) {
		first = map_count(p->changed) == 0;
		map_put(p->changed, note->run_id, p);
	}
	pthread_mutex_unlock(&p->mtx);
	if (first)
		stream_post(p, PUMP_CHANGED, NULL);
}

/* Runs of other nodes are read here, too, and their notes may have been lost. */
static void hear_missed(void *ctx, const struct note *note)
{
	struct pump *p = ctx;
	size_t at = 0;
	const char *run_id;
	void *value;
	bool first;

	pthread_mutex_lock(&p->mtx);
	first = map_count(p->changed) == 0 && map_count(p->watched) > 0;
	while (map_next(p->watched, &at, &run_id, &value))
		map_put(p->changed, run_id, p);
	pthread_mutex_unlock(&p->mtx);
	if (first)
		stream_post(p, PUMP_CHANGED, NULL);
}

/* Bounded as PUMP_REVOKED is. */
static void post_end(struct pump *p, enum pump_msg_kind kind, const char *id)
{
	struct pump_msg *m;

	if (atomic_load(&p->n_readers) == 0)
		return;
	m = NEW(struct pump_msg);
	m->kind = kind;
	m->id = str_dup(id);
	if (mailbox_post(p->inbox, m) != OK)
		pump_msg_free(m);
}

/* Any thread. A stream that is just being opened with the key may be missed: whoever sends this note repeats it for
 * longer than an opening takes. */
static void stream_hear_key_revoked(void *ctx, const struct note *note)
{
	post_end(ctx, PUMP_REVOKED, note->key_id);
}

static void stream_hear_agent_private(void *ctx, const struct note *note)
{
	post_end(ctx, PUMP_PRIVATE, note->agent_id);
}

/* Loop thread. */
static void stream_on_drain(void *ctx, struct http_exchange *x)
{
	struct reader *s = OBJ_FROM(reader, ctx, READER_MAGIC);

	stream_post(s->pump, PUMP_DRAINED, s);
}

/* Loop thread, the last callback. */
static void stream_on_close(void *ctx, struct http_exchange *x)
{
	struct reader *s = OBJ_FROM(reader, ctx, READER_MAGIC);

	stream_post(s->pump, PUMP_CLOSED, s);
}

int stream_open(struct runs *r, struct http_exchange *x, const struct http_header *headers, size_t n_headers,
    const char *agent_id, const char *run_id, int64_t after_seq, const char *key_id)
{
	struct pump_msg *m = NEW(struct pump_msg);
	struct reader *s = NEW(struct reader);
	int rc;

	s->magic = READER_MAGIC;
	s->pump = r->pump;
	s->x = http_exchange_ref(x);
	s->agent_id = str_dup(agent_id);
	s->run_id = str_dup(run_id);
	s->key_id = str_dup(key_id);
	s->after_seq = after_seq;
	s->wait_key = str_dup("");
	m->kind = PUMP_OPEN;
	m->reader = s;
	ENSURE(n_headers <= ARRAY_LEN(m->headers));
	for (size_t i = 0; i < n_headers; i++)
		m->headers[i] = (struct http_header){str_dup(headers[i].name), str_dup(headers[i].value)};
	m->n_headers = n_headers;
	rc = mailbox_post(r->pump->inbox, m);
	if (rc != OK)
		drop_pump_msg(m);
	return rc;
}

static void refuse_reader(const struct pump_msg *m)
{
	AUTO_STR too_many = str_printf("this run has %zu streams open already (limits.max_streams_per_run)",
	    m->reader->pump->runs->cfg.max_readers);
	struct http_header h[4] = {
	    {"content-type", "application/json; charset=utf-8"}, {"cache-control", "no-store"}, {"retry-after", "5"}};
	size_t n = 3;

	for (size_t i = 0; i < m->n_headers; i++)
		if (strcmp(m->headers[i].name, "x-request-id") == 0)
			h[n++] = m->headers[i];
	IGNORE(http_reply_error(m->reader->x, 429, h, n, "rate_limit_exceeded", too_many));
}

static void mark_changed(struct pump *p, struct feed *f)
{
	ENSURE_THREAD(p->thread);
	if (f->changed)
		return;
	f->changed = true;
	f->next_changed = p->to_look;
	p->to_look = f;
}

/* A feed that goes while it is in a list. */
static void forget_change(struct feed **list, struct feed *f)
{
	while (*list != NULL && *list != f)
		list = &(*list)->next_changed;
	if (*list == f)
		*list = f->next_changed;
}

static struct feed *feed_of(struct pump *p, const char *run_id)
{
	struct feed *f = map_get(p->feeds, run_id);

	if (f != NULL)
		return f;
	f = NEW(struct feed);
	f->run_id = str_dup(run_id);
	map_put(p->feeds, run_id, f);
	pthread_mutex_lock(&p->mtx);
	map_put(p->watched, run_id, p);
	pthread_mutex_unlock(&p->mtx);
	return f;
}

static void feed_free(struct pump *p, struct feed *f)
{
	ENSURE_THREAD(p->thread);
	ENSURE(f->first == NULL);
	if (f->changed) {
		forget_change(&p->to_look, f);
		forget_change(&p->to_look_later, f);
	}
	pthread_mutex_lock(&p->mtx);
	map_remove(p->watched, f->run_id);
	map_remove(p->changed, f->run_id);
	pthread_mutex_unlock(&p->mtx);
	ENSURE(map_remove(p->feeds, f->run_id) == f);
	queue_group_free(&f->waits_for);
	free(f->run_id);
	free(f);
}

static void open_reader(struct pump *p, struct pump_msg *m)
{
	struct reader *s = TAKE(m->reader);
	struct feed *f = map_get(p->feeds, s->run_id);

	if (f != NULL && f->n >= p->runs->cfg.max_readers) {
		m->reader = s;
		refuse_reader(m);
		reader_free(&m->reader);
		return;
	}
	f = feed_of(p, s->run_id);
	IGNORE(http_start(s->x, 200, m->headers, m->n_headers));
	s->last_frame_ms = clock_mono_ms();
	s->next = f->first;
	f->first = s;
	f->n++;
	atomic_fetch_add(&p->n_readers, 1);
	http_watch(s->x, &(struct http_watch){.on_drain = stream_on_drain, .on_close = stream_on_close, .ctx = s});
	mark_changed(p, f);
}

static void close_reader(struct pump *p, struct reader *s)
{
	struct feed *f = map_get(p->feeds, s->run_id);
	struct reader **at = &f->first;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	f->n--;
	atomic_fetch_sub(&p->n_readers, 1);
	reader_free(&s);
	if (f->first == NULL)
		feed_free(p, f);
}

/* On this thread, as every write is: so nothing can be written behind the end. */
static void end_readers(struct pump *p, enum pump_msg_kind kind, const char *id)
{
	size_t at = 0;
	const char *run_id;
	void *value;

	while (map_next(p->feeds, &at, &run_id, &value)) {
		struct feed *f = value;

		for (struct reader *s = f->first; s != NULL; s = s->next)
			if (!s->done && strcmp(kind == PUMP_REVOKED ? s->key_id : s->agent_id, id) == 0)
				reader_end(s);
	}
}

static void stream_handle_msg(struct pump *p, struct pump_msg *m)
{
	switch (m->kind) {
	case PUMP_OPEN:
		open_reader(p, m);
		break;
	case PUMP_CHANGED:
		break; /* the changes themselves are taken below */
	case PUMP_DRAINED:
		mark_changed(p, map_get(p->feeds, m->reader->run_id));
		break;
	case PUMP_CLOSED:
		close_reader(p, m->reader);
		break;
	case PUMP_REVOKED:
	case PUMP_PRIVATE:
		end_readers(p, m->kind, m->id);
		break;
	}
	pump_msg_free(m);
}

static void take_changes(struct pump *p)
{
	size_t at = 0;
	const char *run_id;
	void *value;

	pthread_mutex_lock(&p->mtx);
	while (map_next(p->changed, &at, &run_id, &value)) {
		struct feed *f = map_get(p->feeds, run_id);

		ENSURE(f != NULL); /* `changed` is a part of `watched`, which has the ids of `feeds` */
		mark_changed(p, f);
		map_remove(p->changed, run_id);
	}
	pthread_mutex_unlock(&p->mtx);
}

static void abort_readers(struct feed *f)
{
	for (struct reader *s = f->first; s != NULL; s = s->next)
		http_abort(s->x);
}

/* Looking closes no reader (that is a message), so the feed is there afterwards. */
static void look_at_changed(struct pump *p)
{
	while (p->to_look != NULL) {
		struct feed *f = p->to_look;
		int rc;

		p->to_look = f->next_changed;
		f->changed = false;
		rc = feed_look(p->runs, f);
		if (rc == ERR_NOT_FOUND) {
			abort_readers(f); /* deleted meanwhile */
		} else if (rc != OK) { /* the store does not answer */
			f->changed = true;
			f->next_changed = p->to_look_later;
			p->to_look_later = f;
		}
	}
}

static void retry_failed_looks(struct pump *p)
{
	while (p->to_look_later != NULL) {
		struct feed *f = p->to_look_later;

		p->to_look_later = f->next_changed;
		f->changed = false;
		mark_changed(p, f);
	}
}

static bool is_queued(const struct feed *f)
{
	return f->waits_for != NULL && strcmp(f->waits_for->state, "queued") == 0;
}

/* Of one that is bound to a worker only the clock is asked: whatever else changes its reason is a change of the run. */
static const char *reason_now(const struct pump *p, const struct queue_view *view, const struct feed *f, int64_t now_ms)
{
	const char *alone = f->wait_code;

	if (is_queued(f) && f->waits_for->alone) {
		int rc = queue_wait_code(p->runs->cfg.store, f->waits_for->agent_id, now_ms, &alone);

		return rc == OK ? alone : f->wait_code;
	}
	if (is_queued(f))
		return queue_view_reason(view, f->waits_for, now_ms);
	if (f->waits_for == NULL || f->wait_code[0] != '\0')
		return f->wait_code;
	return queue_opening_reason(f->waits_for, now_ms);
}

static bool any_is_queued(const struct pump *p)
{
	size_t at = 0;
	const char *run_id;
	void *value;

	while (map_next(p->feeds, &at, &run_id, &value))
		if (is_queued(value))
			return true;
	return false;
}

/* Why queued runs wait, for all of them at once: a fixed number of queries, however many wait and are read. */
static void compare_wait_reasons(struct pump *p)
{
	AUTO(queue_view) view = NULL;
	size_t at = 0;
	const char *run_id;
	void *value;

	int64_t now = clock_wall_ms();

	if (any_is_queued(p) && queue_view_load(p->runs->cfg.store, &view) != OK)
		return;
	while (map_next(p->feeds, &at, &run_id, &value)) {
		struct feed *f = value;
		const char *code = reason_now(p, view, f, now);

		if (strcmp(code != NULL ? code : "", f->wait_code) != 0)
			mark_changed(p, f);
	}
}

/* The connection itself has a limit of the same length, and either may be first; both say so. */
static void drop_slow(struct reader *s)
{
	log_warn(
	    "stream.slow", "run=%s peer=%s reason=\"the reader does not take its events\"", s->run_id, http_peer(s->x));
	s->done = true;
	http_abort(s->x);
}

/* Heartbeats, and readers that do not read. */
static void tick_readers(struct pump *p, int64_t now_ms)
{
	struct strbuf beat = STRBUF(64);
	size_t at = 0;
	const char *run_id;
	void *value;

	add_frame(&beat, NULL, "heartbeat", "{}");
	while (map_next(p->feeds, &at, &run_id, &value)) {
		struct feed *f = value;

		for (struct reader *s = f->first; s != NULL; s = s->next) {
			if (!s->done && s->slow_since_ms != 0 && now_ms - s->slow_since_ms > SLOW_MS)
				drop_slow(s);
			else if (now_ms - s->last_frame_ms >= HEARTBEAT_MS)
				reader_send(s, beat.data, beat.len);
		}
	}
	strbuf_fini(&beat);
}

static char gone_token;

static void pump_main(void *arg)
{
	struct pump *p = arg;
	struct mailbox *gone = mailbox_ref(p->gone);
	int64_t next_tick = clock_mono_ms() + TICK_MS;

	p->thread = pthread_self();
	for (;;) {
		void *msg = NULL;
		int64_t now;
		int rc = mailbox_receive(p->inbox, next_tick, &msg);

		/* Everything that is there is taken first: one look at a run serves many notes about it. */
		for (; rc == OK; rc = mailbox_receive(p->inbox, 0, &msg))
			stream_handle_msg(p, msg);
		if (rc == ERR_CLOSED)
			break;
		take_changes(p);
		now = clock_mono_ms();
		if (now >= next_tick) {
			tick_readers(p, now);
			compare_wait_reasons(p);
			retry_failed_looks(p);
			next_tick = now + TICK_MS;
		}
		look_at_changed(p);
	}
	IGNORE(mailbox_post_always(gone, &gone_token));
	mailbox_free(&gone);
}

int pump_start(struct runs *r)
{
	struct pump *p = NEW(struct pump);

	p->runs = r;
	p->inbox = mailbox_new(OPENS_WAITING, drop_pump_msg);
	p->gone = mailbox_new(1, NULL);
	p->feeds = map_new();
	p->watched = map_new();
	p->changed = map_new();
	pthread_mutex_init(&p->mtx, NULL);
	r->pump = p;
	notify_listen(r->cfg.notify, NOTE_RUN_CHANGED, hear_run_changed, p);
	notify_listen(r->cfg.notify, NOTE_MISSED, hear_missed, p);
	notify_listen(r->cfg.notify, NOTE_KEY_REVOKED, stream_hear_key_revoked, p);
	notify_listen(r->cfg.notify, NOTE_AGENT_PRIVATE, stream_hear_agent_private, p);
	return thread_start("pump", 512 * 1024, pump_main, p);
}

/* Readers whose on_close found the inbox closed. */
static void free_readers(struct pump *p)
{
	size_t at = 0;
	const char *run_id;
	void *value;

	while (map_next(p->feeds, &at, &run_id, &value)) {
		struct feed *f = value;

		while (f->first != NULL) {
			struct reader *s = f->first;

			f->first = s->next;
			reader_free(&s);
		}
		feed_free(p, f);
	}
}

size_t pump_readers(const struct runs *r)
{
	return atomic_load(&r->pump->n_readers);
}

void pump_stop(struct runs *r)
{
	struct pump *p = TAKE(r->pump);
	void *word;

	mailbox_close(p->inbox);
	ENSURE(mailbox_receive(p->gone, INT64_MAX, &word) == OK);
	p->thread = pthread_self();
	free_readers(p);
	map_free(&p->feeds);
	map_free(&p->watched);
	map_free(&p->changed);
	mailbox_free(&p->inbox); /* and with it the streams that were not taken up */
	mailbox_free(&p->gone);
	pthread_mutex_destroy(&p->mtx);
	free(p);
}
