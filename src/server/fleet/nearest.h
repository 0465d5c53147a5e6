/* fleet/nearest.h: of the workers that a waiting request does not get, those that come nearest, and what stands in the
 * way. Inside the caller's transaction. */
#pragma once
#include "base/json.h"
#include "store/store.h"

/* Adds "nearest" to the reason to wait of a request that is queued: [{workerId?, name?, pool?, blockedBy: [sentence]}],
 * at most three, the one with the fewest obstacles first. names: the reader may know which workers these are. Nothing
 * is added if the request waits for a certain worker, or if no worker is connected. */
int nearest_put(struct tx *tx, const char *agent_id, bool names, json_t *wait) MUST_USE;
