#include "agent/worker/backoff.h"

#define BASE_MS 1000
#define MAX_MS 60000

int64_t backoff_next(struct backoff *b, int64_t lived_ms, int64_t asked_ms, uint32_t random)
{
	int64_t delay = 0;

	if (lived_ms >= BACKOFF_HEALTHY_MS)
		*b = (struct backoff){0};
	/* Only once: a control plane that welcomes and hangs up must not be hammered. */
	if (lived_ms >= 0 && !b->hurried) {
		b->hurried = true;
	} else {
		int64_t ceiling = b->failures < 6 ? (int64_t)BASE_MS << b->failures : MAX_MS;

		delay = ceiling / 2 + (int64_t)(((uint64_t)ceiling / 2 * random) >> 32);
		b->failures++;
	}
	return MAX(delay, MIN(asked_ms, BACKOFF_MAX_ASKED_MS));
}
