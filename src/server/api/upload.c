#include "server/api/upload.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "server/api/api_priv.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* Full: the loop reads no more of this body, but for what it has read already (64 KiB and a frame at most). */
#define BUFFER_HIGH ((size_t)256 * 1024)
#define BUFFER_MAX ((size_t)4 * 1024 * 1024)
/* A handler's thread waits meanwhile. */
#define PIECE_MS 10000
#define WHOLE_MS 600000
/* A server that stops waits for its handlers: what is left of a body must come in this time then. */
#define STOPPING_MS 5000
#define LOOK_MS 500 /* how soon a waiting handler sees that the server stops */

struct upload {
	/* Held over http_pause, so that the pause of the loop and the resume of the handler come in the order of what
	 * they saw; else a late pause would stay for ever. The exchange's inbox is locked under it, nothing else. */
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	unsigned refs; /* the handler and the exchange's watch */
	struct http_exchange *x; /* the handler's reference keeps it */
	size_t max_body, total;
	struct strbuf buffer; /* arrived and not read yet, from `at` on */
	size_t at;
	bool paused, ended, gone;
	int64_t deadline_mono_ms;
	const _Atomic bool *stopping; /* the API's; outlives the handlers */
	bool hurried; /* the deadline is that of a stopping server */
};

static void upload_unref(struct upload *u)
{
	bool last;

	pthread_mutex_lock(&u->mtx);
	last = --u->refs == 0;
	pthread_mutex_unlock(&u->mtx);
	if (!last)
		return;
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->mtx);
	strbuf_fini(&u->buffer);
	free(u);
}

void upload_free(struct upload **u)
{
	if (*u != NULL)
		upload_unref(TAKE(*u));
}

/* Loop thread. Bytes beyond the limit are thrown away: the handler is told by the total. */
static void on_upload_data(void *ctx, struct http_exchange *x, const void *bytes, size_t len)
{
	struct upload *u = ctx;
	bool full;

	pthread_mutex_lock(&u->mtx);
	u->total += len;
	if (u->total <= u->max_body && strbuf_add(&u->buffer, bytes, len) != OK)
		u->gone = true; /* more arrived after the pause than the buffer has room for */
	full = u->buffer.len - u->at >= BUFFER_HIGH || u->total > u->max_body;
	if (full) {
		u->paused = true;
		http_pause(x, true);
	}
	pthread_cond_signal(&u->changed);
	pthread_mutex_unlock(&u->mtx);
}

/* Loop thread. */
static void on_upload_end(void *ctx, struct http_exchange *x)
{
	struct upload *u = ctx;

	pthread_mutex_lock(&u->mtx);
	u->ended = true;
	pthread_cond_signal(&u->changed);
	pthread_mutex_unlock(&u->mtx);
}

/* Loop thread, the last callback. */
static void on_upload_close(void *ctx, struct http_exchange *x)
{
	struct upload *u = ctx;

	pthread_mutex_lock(&u->mtx);
	u->gone = true;
	pthread_cond_signal(&u->changed);
	pthread_mutex_unlock(&u->mtx);
	upload_unref(u);
}

struct upload *upload_new(struct http_exchange *x, size_t max_body, const _Atomic bool *stopping)
{
	struct upload *u = NEW(struct upload);
	pthread_condattr_t attr;

	pthread_mutex_init(&u->mtx, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->changed, &attr);
	pthread_condattr_destroy(&attr);
	u->refs = 2;
	u->x = x;
	u->max_body = max_body;
	u->stopping = stopping;
	u->buffer = STRBUF(BUFFER_MAX);
	u->deadline_mono_ms = clock_mono_ms() + WHOLE_MS;
	http_watch(x, &(struct http_watch){
			  .ctx = u, .on_data = on_upload_data, .on_end = on_upload_end, .on_close = on_upload_close});
	return u;
}

/* mtx held. */
static void shorten_deadline_if_stopping(struct upload *u)
{
	if (u->hurried || !atomic_load(u->stopping))
		return;
	u->hurried = true;
	u->deadline_mono_ms = MIN(u->deadline_mono_ms, clock_mono_ms() + STOPPING_MS);
}

/* mtx held. OK: there are bytes. */
static int wait_for_bytes(struct upload *u)
{
	int64_t piece_until = clock_mono_ms() + PIECE_MS;

	for (;;) {
		int64_t now = clock_mono_ms(), look;

		shorten_deadline_if_stopping(u);
		if (u->total > u->max_body)
			return ERR_TOO_LARGE;
		/* Before the bytes: a client that never lets the buffer become empty has no more time than another. */
		if (!u->ended && now >= u->deadline_mono_ms)
			return ERR_TIMEOUT;
		if (u->buffer.len > u->at)
			return OK;
		if (u->ended || u->gone)
			return u->ended ? ERR_EMPTY : ERR_CLOSED;
		if (now >= piece_until)
			return ERR_TIMEOUT;
		look = MIN(MIN(u->deadline_mono_ms, piece_until), now + LOOK_MS);
		pthread_cond_timedwait(
		    &u->changed, &u->mtx, &(struct timespec){.tv_sec = look / 1000, .tv_nsec = look % 1000 * 1000000});
	}
}

int upload_read(struct upload *u, void *buf, size_t max, size_t *ret_len)
{
	int rc;

	pthread_mutex_lock(&u->mtx);
	rc = wait_for_bytes(u);
	if (rc == OK) {
		*ret_len = MIN(max, u->buffer.len - u->at);
		memcpy(buf, u->buffer.data + u->at, *ret_len);
		u->at += *ret_len;
		if (u->at == u->buffer.len)
			u->at = u->buffer.len = 0;
		/* Only when it is empty, so that a reader of small pieces does not wake the loop for each. */
		if (u->paused && u->buffer.len == 0) {
			u->paused = false;
			http_pause(u->x, false);
		}
	}
	pthread_mutex_unlock(&u->mtx);
	return rc;
}

void upload_refuse(struct api_request *rq, int rc)
{
	if (rc == ERR_TOO_LARGE)
		api_reply(rq, 413, api_error_body(rq, API_validation_error, "the request body is too large"));
	else if (rc == ERR_TIMEOUT)
		api_reply(rq, 408, api_error_body(rq, API_validation_error, "the request body did not arrive in time"));
	else if (rc == ERR_CLOSED)
		api_reply(rq, 400, api_error_body(rq, API_validation_error, "the request body has no end"));
	else
		api_refuse(rq, rc, NULL);
}
