/* main/gauges.h: the figures of /metrics that are read from the store at each scrape: what is in it, not what happened.
 */
#pragma once
#include "server/runs/runs.h"

struct gauges;

/* Registers the collector. `st` and `runs` live until gauges_free. */
struct gauges *gauges_new(struct store *st, struct runs *runs);
void gauges_free(struct gauges **g); /* NULL is fine */
