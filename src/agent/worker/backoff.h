/* agent/worker/backoff.h: when to dial again.
 * Thread: the owner's. */
#pragma once
#include "base/macros.h"

#define BACKOFF_HEALTHY_MS 60000
#define BACKOFF_MAX_ASKED_MS 300000

struct backoff {
	unsigned failures; /* in a row */
	bool hurried; /* an immediate attempt was made since the last healthy connection */
};

/* A connection ended, or could not be made. `lived_ms`: since it was established, -1: it never was. `asked_ms`: what
 * the control plane asked for, 0: nothing. The time to wait: none after an established connection dropped, once;
 * otherwise random(0.5..1) * min(60 s, 1 s * 2^failures). `random` is uniform in [0, 2^32). */
int64_t backoff_next(struct backoff *b, int64_t lived_ms, int64_t asked_ms, uint32_t random);
