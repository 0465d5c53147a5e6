#include "server/fleet/history_rows.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

/* 65536 × 2^(i/4) */
static const int64_t quarters[] = {65536, 77936, 92682, 110218};

static int bucket_of(int64_t ms)
{
	uint64_t v = (uint64_t)MIN(MAX(ms, 0), INT64_C(1) << 39) + 1;
	int e = 63 - __builtin_clzll(v), q = 3;
	int64_t part = (int64_t)((v << 16) >> e);

	while (part < quarters[q])
		q--;
	return MIN(4 * e + q, WAIT_BUCKETS - 1);
}

/* The least that is in the bucket. */
static int64_t bound_of(int i)
{
	return ((quarters[i % 4] << (i / 4)) >> 16) - 1;
}

void waits_add(struct waits *w, int64_t ms)
{
	w->n[bucket_of(ms)]++;
	w->total++;
}

int64_t waits_percentile(const struct waits *w, int64_t percent)
{
	int64_t rank = (w->total * percent + 99) / 100, seen = 0;

	if (w->total == 0)
		return -1;
	rank = MAX(rank, 1);
	for (int i = 0; i < WAIT_BUCKETS; i++) {
		int64_t low = bound_of(i), high = bound_of(i + 1);

		if (seen + w->n[i] >= rank)
			return low + (high - low) * (rank - seen) / (w->n[i] + 1);
		seen += w->n[i];
	}
	return bound_of(WAIT_BUCKETS - 1);
}

void sample_merge(struct sample *to, const struct sample *from)
{
	to->samples += from->samples;
	to->queued += from->queued;
	to->queued_max = MAX(to->queued_max, from->queued_max);
	to->oldest_ms = MAX(to->oldest_ms, from->oldest_ms);
	to->workers += from->workers;
	to->busy += from->busy;
	for (int i = 0; i < WAIT_BUCKETS; i++)
		to->waits.n[i] += from->waits.n[i];
	to->waits.total += from->waits.total;
}

static char *waits_text(const struct waits *w)
{
	json_t *o = json_object();
	char *text;

	for (int i = 0; i < WAIT_BUCKETS; i++) {
		char name[12];

		snprintf(name, sizeof name, "%d", i);
		if (w->n[i] > 0)
			json_put_int(o, name, w->n[i]);
	}
	text = json_text(o);
	json_decref(o);
	return text;
}

/* What is damaged counts as nothing. */
static void waits_read(const char *text, struct waits *w)
{
	AUTO_JSON o = NULL;
	const char *name;
	json_t *v;

	if (json_parse(text, strlen(text), &o, NULL) != OK)
		return;
	json_object_foreach(o, name, v)
	{
		int64_t i, n = json_integer_value(v);

		if (n > 0 && text_parse_int(name, 0, WAIT_BUCKETS - 1, &i) == OK) {
			w->n[i] += n;
			w->total += n;
		}
	}
}

int sample_store(struct tx *tx, int64_t team_id, int64_t at, const char *pool, int64_t span_ms, int64_t counted_to,
    const struct sample *s)
{
	AUTO_STR waits = waits_text(&s->waits);

	return tx_exec(tx,
	    "INSERT INTO fleet_samples(team_id, at, pool, span_ms, counted_to, " SAMPLE_COLUMNS
	    ") VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT(team_id, at, pool) DO UPDATE SET "
	    "span_ms = excluded.span_ms, counted_to = excluded.counted_to, samples = excluded.samples, queued = "
	    "excluded.queued, queued_max = excluded.queued_max, oldest_ms = excluded.oldest_ms, workers = "
	    "excluded.workers, busy = excluded.busy, waits = excluded.waits",
	    "iisiiiiiiiis", team_id, at, pool, span_ms, counted_to, s->samples, s->queued, s->queued_max, s->oldest_ms,
	    s->workers, s->busy, waits);
}

void sample_read(struct query *q, int at, struct sample *ret)
{
	*ret = (struct sample){.samples = query_int(q, at),
	    .queued = query_int(q, at + 1),
	    .queued_max = query_int(q, at + 2),
	    .oldest_ms = query_int(q, at + 3),
	    .workers = query_int(q, at + 4),
	    .busy = query_int(q, at + 5)};
	waits_read(query_str(q, at + 6), &ret->waits);
}
