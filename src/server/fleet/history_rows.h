/* fleet/history_rows.h: what an interval looked like, and how several are put together. For this folder. No state. */
#pragma once
#include "base/json.h"
#include "store/store.h"

/* How many had waited about how long: four buckets for each doubling, so a percentile is at most a fifth off. */
#define WAIT_BUCKETS 160
struct waits {
	int64_t n[WAIT_BUCKETS];
	int64_t total;
};
void waits_add(struct waits *w, int64_t ms);
/* The wait that `percent` of them did not exceed; -1: there is none. */
int64_t waits_percentile(const struct waits *w, int64_t percent);

struct sample {
	int64_t samples, queued, queued_max, oldest_ms, workers, busy;
	struct waits waits;
};
void sample_merge(struct sample *to, const struct sample *from);

/* A row of fleet_samples; and back, from the columns SAMPLE_COLUMNS beginning with `at`. */
#define SAMPLE_COLUMNS "samples, queued, queued_max, oldest_ms, workers, busy, waits"
int sample_store(struct tx *tx, int64_t team_id, int64_t at, const char *pool, int64_t span_ms, int64_t counted_to,
    const struct sample *s) MUST_USE;
void sample_read(struct query *q, int at, struct sample *ret);
