#include "server/api/rate.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include <pthread.h>

#define BUCKETS_MAX 20000

struct bucket {
	double tokens;
	int64_t at_ms, window_ms;
};

struct rate {
	pthread_mutex_t mtx;
	struct map *buckets;
};

struct rate *rate_new(void)
{
	struct rate *r = NEW(struct rate);

	pthread_mutex_init(&r->mtx, NULL);
	r->buckets = map_new();
	return r;
}

/* mtx held, or alone. Full buckets say nothing that a new one would not. */
static void forget_buckets(struct rate *r, int64_t now_ms)
{
	size_t at = 0;
	const char *key;
	void *value;

	while (map_next(r->buckets, &at, &key, &value)) {
		struct bucket *b = value;

		if (now_ms - b->at_ms < b->window_ms)
			continue;
		map_remove(r->buckets, key);
		free(b);
	}
}

void rate_free(struct rate **rp)
{
	struct rate *r = TAKE(*rp);

	if (r == NULL)
		return;
	forget_buckets(r, INT64_MAX);
	map_free(&r->buckets);
	pthread_mutex_destroy(&r->mtx);
	free(r);
}

bool rate_take(struct rate *r, const char *key, int64_t limit, int64_t window_s, struct rate_answer *ret)
{
	int64_t now = clock_mono_ms();
	double full = (double)limit, per_s = full / (double)window_s;
	struct bucket *b;
	bool ok;

	pthread_mutex_lock(&r->mtx);
	if (map_count(r->buckets) >= BUCKETS_MAX)
		forget_buckets(r, now);
	b = map_get(r->buckets, key);
	if (b == NULL) {
		b = NEW(struct bucket);
		*b = (struct bucket){full, now, window_s * 1000};
		map_put(r->buckets, key, b);
	}
	b->tokens = MIN(b->tokens + (double)(now - b->at_ms) * per_s / 1000.0, full);
	b->at_ms = now;
	ok = b->tokens >= 1;
	if (ok)
		b->tokens -= 1;
	*ret = (struct rate_answer){.limit = limit,
	    .remaining = (int64_t)b->tokens,
	    .retry_after_s = (int64_t)((1 - MIN(b->tokens, 1.0)) / per_s) + 1,
	    .reset_unix_s = clock_wall_ms() / 1000 + (int64_t)((full - b->tokens) / per_s) + 1};
	pthread_mutex_unlock(&r->mtx);
	return ok;
}
