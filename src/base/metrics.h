/* base/metrics.h: the one registry of what the program measures, in Prometheus' text format 0.0.4.
 *
 *     METRIC_COUNTER(requests, "bullpen_http_requests_total", "Requests answered.", "method", "code");
 *     METRIC_HISTOGRAM(commit_seconds, "bullpen_store_commit_seconds", "Time of a commit.", METRIC_SECONDS);
 *     …
 *     metric_add(&requests, 1, "GET", "200");
 *     metric_observe(&commit_seconds, 0.003);
 *
 * A metric is defined at file scope and registered by the linker. Names begin with bullpen_; units are seconds and
 * bytes. Give exactly the label values that the definition names, in its order.
 *
 * Bounds: a label value is cut at METRIC_VALUE_MAX bytes; after METRIC_SERIES_MAX different sets of values a metric
 * counts further ones as the series whose values are all "other". Label values that a peer may choose are safe
 * therefore, but they drown the useful ones. A gauge with labels that is set from many places or rows is added to after
 * metric_clear, so that "other" is a sum and not the last number.
 *
 * Thread: any; an update takes no lock for a metric without labels, a leaf mutex otherwise. metrics_write and the
 * collectors: see there. */
#pragma once
#include "base/strbuf.h"
#include <pthread.h>
#include <stdatomic.h>

#define METRIC_LABELS_MAX 4
#define METRIC_BUCKETS_MAX 20
#define METRIC_SERIES_MAX 200
#define METRIC_VALUE_MAX 64
#define METRIC_HASH_SLOTS 64

enum metric_kind { METRIC_KIND_COUNTER, METRIC_KIND_GAUGE, METRIC_KIND_HISTOGRAM };

/* One set of label values and its numbers. value: the counter, the gauge or the histogram's sum, as the bits of a
 * double. counts: observations of each bucket by itself; the last one is beyond all bounds. */
struct metric_series {
	struct metric_series *next, *next_in_slot;
	char *values[METRIC_LABELS_MAX];
	_Atomic uint64_t value;
	_Atomic uint64_t counts[METRIC_BUCKETS_MAX + 1];
};

struct metric {
	const char *name, *help;
	enum metric_kind kind;
	const char *labels[METRIC_LABELS_MAX + 1];
	const double *bounds; /* rising upper bounds; +Inf is added */
	size_t n_bounds;
	struct metric_series plain; /* of a metric without labels */

	pthread_mutex_t mtx; /* guards what follows; nothing else is locked under it */
	struct metric_series *first, **end, *slots[METRIC_HASH_SLOTS];
	unsigned n_series;
};

#define METRIC_REGISTER_(var)                                                                                          \
	static struct metric *const registered_##var __attribute__((section("metric_table"), used)) = &var
#define METRIC_DEFINE_(var, name_, help_, kind_, bounds_, n_bounds_, ...)                                              \
	static struct metric var = {.name = (name_),                                                                   \
	    .help = (help_),                                                                                           \
	    .kind = (kind_),                                                                                           \
	    .labels = {__VA_ARGS__},                                                                                   \
	    .bounds = (bounds_),                                                                                       \
	    .n_bounds = (n_bounds_),                                                                                   \
	    .mtx = PTHREAD_MUTEX_INITIALIZER};                                                                         \
	METRIC_REGISTER_(var)

/* After name and help: the names of the labels. */
#define METRIC_COUNTER(var, name, help, ...) METRIC_DEFINE_(var, name, help, METRIC_KIND_COUNTER, NULL, 0, __VA_ARGS__)
#define METRIC_GAUGE(var, name, help, ...) METRIC_DEFINE_(var, name, help, METRIC_KIND_GAUGE, NULL, 0, __VA_ARGS__)
/* buckets: METRIC_SECONDS, METRIC_BYTES or METRIC_BUCKETS(1, 2, 5). */
#define METRIC_HISTOGRAM(var, name, help, buckets, ...)                                                                \
	static const double bounds_of_##var[] = buckets;                                                               \
	_Static_assert(ARRAY_LEN(bounds_of_##var) <= METRIC_BUCKETS_MAX, "too many buckets");                          \
	METRIC_DEFINE_(var, name, help, METRIC_KIND_HISTOGRAM, bounds_of_##var, ARRAY_LEN(bounds_of_##var), __VA_ARGS__)

/* clang-format off */
#define METRIC_BUCKETS(...) {__VA_ARGS__}
#define METRIC_SECONDS {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}
#define METRIC_BYTES {256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
/* clang-format on */

#define METRIC_VALUES_(...) ((const char *const[METRIC_LABELS_MAX + 1]){__VA_ARGS__})

/* Adds to a counter (v >= 0) or a gauge. After v: the label values; NULL counts as "". */
#define metric_add(m, v, ...) metric_add_values((m), (v), METRIC_VALUES_(__VA_ARGS__))
/* Sets a gauge. */
#define metric_set(m, v, ...) metric_set_values((m), (v), METRIC_VALUES_(__VA_ARGS__))
/* Counts one observation in a histogram. */
#define metric_observe(m, v, ...) metric_observe_values((m), (v), METRIC_VALUES_(__VA_ARGS__))
void metric_add_values(struct metric *m, double v, const char *const *values);
void metric_set_values(struct metric *m, double v, const char *const *values);
void metric_observe_values(struct metric *m, double v, const char *const *values);
/* Forgets all series of a metric with labels. For a collector whose gauges have series that go away: clear, then set.
 */
void metric_clear(struct metric *m);

/* Calls fn(ctx) at the beginning of each metrics_write, on its thread, for gauges whose values are read from elsewhere
 * (it calls metric_set). fn may block shortly and take locks, but may not add or free a collector. The handle is the
 * caller's. */
struct metrics_collector;
struct metrics_collector *metrics_collector(void (*fn)(void *ctx), void *ctx);
/* When it returns, fn does not run and is not called again. It waits for a scrape under way, so hold no lock that fn
 * takes. Clears the pointer; NULL is fine. */
void metrics_collector_free(struct metrics_collector **c);

/* Appends all metrics, ordered by name. One scrape at a time; a second one waits. OK or ERR_TOO_LARGE. */
int metrics_write(struct strbuf *out) MUST_USE;
/* The Content-Type of what metrics_write writes. */
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"
