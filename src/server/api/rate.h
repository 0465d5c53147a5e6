/* api/rate.h: token buckets, one for each principal and class of requests.
 * Thread: any; a leaf lock inside. */
#pragma once
#include "base/macros.h"

struct rate;

struct rate *rate_new(void);
void rate_free(struct rate **r);

struct rate_answer {
	int64_t limit, remaining, retry_after_s, reset_unix_s;
};
/* Takes one token from the bucket `key`, which holds at most `limit` and fills at that rate in `window_s`; both are the
 * same at every call for a key. False: it is empty. */
bool rate_take(struct rate *r, const char *key, int64_t limit, int64_t window_s, struct rate_answer *ret);
