#include "agent/worker/outflow.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/mem.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

/* What a full outbox means for the next attempt. */
#define RETRY_MS 100

struct outflow {
	pthread_mutex_t mtx;
	pthread_cond_t room;
	/* One buffer for each stream: order between the two is that of the chunks. Made when first used. */
	char *data[2];
	size_t len[2];
	size_t total; /* taken so far */
	char *progress; /* what the call is doing, the newest word; NULL: it was sent */
	/* The loop's own: the chunk that is being sent, and when the next part chunk is due. */
	char *held;
	size_t held_len;
	int held_stream;
	int64_t due_ms;
	void (*wake)(void *ctx);
	void *wake_ctx;
};

struct outflow *outflow_new(void (*wake)(void *ctx), void *ctx)
{
	struct outflow *o = NEW(struct outflow);
	pthread_condattr_t attr;

	pthread_mutex_init(&o->mtx, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&o->room, &attr);
	pthread_condattr_destroy(&attr);
	o->wake = wake;
	o->wake_ctx = ctx;
	return o;
}

void outflow_free(struct outflow **op)
{
	struct outflow *o = TAKE(*op);

	if (o == NULL)
		return;
	pthread_cond_destroy(&o->room);
	pthread_mutex_destroy(&o->mtx);
	free(o->progress);
	free(o->data[0]);
	free(o->data[1]);
	free(o->held);
	free(o);
}

/* Waits for room in buffer i; false: the deadline passed. */
static bool wait_for_room(struct outflow *o, int i, int64_t deadline_ms)
{
	const struct timespec ts = {
	    .tv_sec = (time_t)(deadline_ms / 1000), .tv_nsec = (long)(deadline_ms % 1000) * 1000000};
	int rc = 0;

	while (o->len[i] == OUTFLOW_CHUNK && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&o->room, &o->mtx, &ts);
	return o->len[i] < OUTFLOW_CHUNK;
}

/* As much as fits; returns how much. Sets *ret_wake if the loop should know. */
static size_t take_some(struct outflow *o, int i, const char *p, size_t len, bool *ret_wake)
{
	size_t n = MIN(MIN(len, OUTFLOW_CHUNK - o->len[i]), OUTFLOW_TOTAL - o->total);

	if (n == 0)
		return 0;
	if (o->data[i] == NULL)
		o->data[i] = mem_alloc(OUTFLOW_CHUNK);
	*ret_wake = o->len[i] == 0 || o->len[i] + n == OUTFLOW_CHUNK;
	memcpy(o->data[i] + o->len[i], p, n);
	o->len[i] += n;
	o->total += n;
	return n;
}

/* Nobody waits for room: the word before is worth nothing any more. */
static void set_progress(struct outflow *o, const char *word, size_t len)
{
	bool wake;

	pthread_mutex_lock(&o->mtx);
	wake = o->progress == NULL;
	free(o->progress);
	o->progress = str_ndup(word, MIN(len, (size_t)OUTFLOW_PROGRESS_MAX));
	pthread_mutex_unlock(&o->mtx);
	if (wake)
		o->wake(o->wake_ctx);
}

void outflow_add(struct outflow *o, int stream, const void *data, size_t len)
{
	const char *p = data;
	int i = stream == 2;

	if (stream == 3) {
		set_progress(o, data, len);
		return;
	}

	while (len > 0) {
		bool wake = false;
		size_t n = 0;

		pthread_mutex_lock(&o->mtx);
		if (o->total < OUTFLOW_TOTAL && wait_for_room(o, i, clock_mono_ms() + OUTFLOW_WAIT_MS))
			n = take_some(o, i, p, len, &wake);
		pthread_mutex_unlock(&o->mtx);
		if (wake)
			o->wake(o->wake_ctx);
		if (n == 0)
			return;
		p += n;
		len -= n;
	}
}

/* Moves the next chunk from the call's side to the loop's. */
static bool hold_next(struct outflow *o, bool parts)
{
	pthread_mutex_lock(&o->mtx);
	for (int i = 0; i < 2 && o->held_len == 0; i++) {
		char *spare = o->held;

		if (o->len[i] == 0 || (!parts && o->len[i] < OUTFLOW_CHUNK))
			continue;
		o->held = o->data[i];
		o->held_len = o->len[i];
		o->held_stream = i + 1;
		o->data[i] = spare;
		o->len[i] = 0;
		pthread_cond_signal(&o->room);
	}
	pthread_mutex_unlock(&o->mtx);
	return o->held_len > 0;
}

static bool is_empty(struct outflow *o)
{
	bool empty;

	pthread_mutex_lock(&o->mtx);
	empty = o->len[0] + o->len[1] == 0 && o->progress == NULL;
	pthread_mutex_unlock(&o->mtx);
	return empty;
}

static char *take_progress(struct outflow *o)
{
	char *word;

	pthread_mutex_lock(&o->mtx);
	word = TAKE(o->progress);
	pthread_mutex_unlock(&o->mtx);
	return word;
}

int64_t outflow_pump(struct outflow *o, int64_t now_mono_ms, bool all,
    bool (*send)(void *ctx, int stream, const void *data, size_t len), void *ctx)
{
	bool parts = all || now_mono_ms >= o->due_ms;
	AUTO_STR word = parts ? take_progress(o) : NULL;

	/* One that does not get through is old news by the time there is room. */
	if (word != NULL && send(ctx, 3, word, strlen(word)))
		o->due_ms = now_mono_ms + OUTFLOW_PACE_MS;
	while (o->held_len > 0 || hold_next(o, parts)) {
		if (!send(ctx, o->held_stream, o->held, o->held_len))
			return now_mono_ms + RETRY_MS;
		o->held_len = 0;
		o->due_ms = now_mono_ms + OUTFLOW_PACE_MS;
	}
	return is_empty(o) ? INT64_MAX : o->due_ms;
}
