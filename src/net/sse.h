/* net/sse.h: server-sent events, bytes in, events out.
 * Thread: the owner's. */
#pragma once
#include "base/strbuf.h"

#define SSE_EVENT_MAX (8 * 1024 * 1024)

struct sse {
	struct strbuf line, data; /* their max may be changed after sse_init */
	char *id, *event;
	int64_t retry_ms; /* what the other side asked to wait before a new connection; -1: nothing */
	bool tells_ids; /* on_event is also called for an event that has nothing but an id */
	bool begun, after_cr;
	/* `id` is "" for an event without one. A result other than OK ends sse_feed with it. */
	int (*on_event)(void *ctx, const char *id, const char *event, const char *data);
	void *ctx;
};

void sse_init(
    struct sse *s, int (*on_event)(void *ctx, const char *id, const char *event, const char *data), void *ctx);
void sse_fini(struct sse *s);
/* A new connection begins: what was half read is dropped; retry_ms stays. */
void sse_reset(struct sse *s);
/* ERR_TOO_LARGE, or what on_event said. */
int sse_feed(struct sse *s, const char *bytes, size_t len);
