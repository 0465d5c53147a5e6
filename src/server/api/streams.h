/* api/streams.h: how many event streams each principal has open.
 * Thread: any; a leaf lock inside. */
#pragma once
#include "net/http_server.h"

struct streams;

struct streams *streams_new(void);
/* No exchange that holds a place may be freed later. NULL is fine. */
void streams_free(struct streams **s);

/* Takes a place for the exchange, given back when the exchange is freed. False: `max` are taken by this owner. */
bool streams_take(struct streams *s, const char *owner, int64_t max, struct http_exchange *x);
