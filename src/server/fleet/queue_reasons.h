/* fleet/queue_reasons.h: why each of a page of the queue waits. Any thread. */
#pragma once
#include "server/fleet/queue.h"

/* Puts `wait` into each of the requests, by its `id`; one that does not wait any more gets none. They are in the order
 * of the queue. What decides it is read once for all, so a page costs little more than one request. */
int queue_put_reasons(struct tx *tx, json_t *requests, int64_t now_ms, int64_t grace_ms) MUST_USE;
