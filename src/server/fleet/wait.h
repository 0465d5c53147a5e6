/* fleet/wait.h: the reasons themselves, for wait.c (one request) and queue_view.c (many). For this folder only. */
#pragma once
#include "server/fleet/queue.h"

/* What decides why a request waits. */
struct wait_facts {
	int64_t lost_at; /* of its claim; 0: the worker is there */
	int64_t connected; /* workers of its pool */
	int64_t matching; /* of those, what serves its repository */
	int64_t not_busy; /* of those */
	int64_t position; /* in the queue, from 1; 0: not counted */
};
/* A literal; NULL if it does not wait. */
const char *wait_code(const struct queue_group *r, const struct wait_facts *f);
/* {code, text, since, position?}; a new reference, NULL if it does not wait. */
json_t *wait_json(const struct queue_group *r, const struct wait_facts *f, int64_t now_ms, int64_t grace_ms);
