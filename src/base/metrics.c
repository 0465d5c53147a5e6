/* Metrics: a table made by the linker, numbers that are atomics, and the text format.
 *
 * Lock order: scrape_mtx, then the locks of a collector, then a metric's mtx, under which nothing is locked. */
#include "base/metrics.h"
#include "base/errors.h"
#include "base/mem.h"
#include "base/text.h"
#include <math.h>
#include <string.h>

/* The linker makes these two for the section. Weak: a program that measures nothing has no such section. */
extern struct metric *const __start_metric_table[] __attribute__((weak));
extern struct metric *const __stop_metric_table[] __attribute__((weak));

struct metrics_collector {
	struct metrics_collector *next;
	void (*fn)(void *ctx);
	void *ctx;
};

/* Held for a whole scrape, so that a collector's "clear, then set" is never seen half done, and so that a collector
 * that was freed is certain not to run. */
static pthread_mutex_t scrape_mtx = PTHREAD_MUTEX_INITIALIZER;
static struct metrics_collector *collectors;
static _Thread_local bool scraping_here;

static size_t label_count(const struct metric *m)
{
	size_t n = 0;

	while (m->labels[n] != NULL)
		n++;
	ENSURE(n <= METRIC_LABELS_MAX);
	return n;
}

static uint64_t bits_of(double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof bits);
	return bits;
}

static double number_of(uint64_t bits)
{
	double v;

	memcpy(&v, &bits, sizeof v);
	return v;
}

static void add_atomically(_Atomic uint64_t *to, double v)
{
	uint64_t seen = atomic_load_explicit(to, memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(
	    to, &seen, bits_of(number_of(seen) + v), memory_order_relaxed, memory_order_relaxed))
		continue;
}

/* The value as it is kept: at most METRIC_VALUE_MAX bytes, valid UTF-8. */
static void normalize_value(const char *v, char out[METRIC_VALUE_MAX + 1])
{
	size_t len = v != NULL ? text_utf8_cut(v, strlen(v), METRIC_VALUE_MAX) : 0;

	if (len > 0)
		memcpy(out, v, len);
	out[len] = '\0';
	text_utf8_mend(out);
}

static unsigned slot_of_values(char (*values)[METRIC_VALUE_MAX + 1], size_t n)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++) {
		for (const char *p = values[i]; *p != '\0'; p++)
			h = (h ^ (unsigned char)*p) * 16777619u;
		h = (h ^ 0xffu) * 16777619u; /* "a","b" is not "ab","" */
	}
	return h % METRIC_HASH_SLOTS;
}

static bool has_values(const struct metric_series *s, char (*values)[METRIC_VALUE_MAX + 1], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(s->values[i], values[i]) != 0)
			return false;
	return true;
}

/* mtx held. */
static struct metric_series *series_with_values(struct metric *m, char (*values)[METRIC_VALUE_MAX + 1], size_t n)
{
	struct metric_series *s = m->slots[slot_of_values(values, n)];

	while (s != NULL && !has_values(s, values, n))
		s = s->next_in_slot;
	return s;
}

/* mtx held. */
static struct metric_series *series_add(struct metric *m, char (*values)[METRIC_VALUE_MAX + 1], size_t n)
{
	struct metric_series *s = NEW(struct metric_series), **slot = &m->slots[slot_of_values(values, n)];

	for (size_t i = 0; i < n; i++)
		s->values[i] = str_dup(values[i]);
	s->next_in_slot = *slot;
	*slot = s;
	if (m->first == NULL)
		m->end = &m->first;
	*m->end = s;
	m->end = &s->next;
	m->n_series++;
	return s;
}

/* mtx held. The series that counts for these values, made if there is room. */
static struct metric_series *series_for(struct metric *m, const char *const *given, size_t n)
{
	char values[METRIC_LABELS_MAX][METRIC_VALUE_MAX + 1];
	struct metric_series *s;

	for (size_t i = 0; i < n; i++)
		normalize_value(given[i], values[i]);
	s = series_with_values(m, values, n);
	if (s != NULL)
		return s;
	if (m->n_series >= METRIC_SERIES_MAX) {
		for (size_t i = 0; i < n; i++)
			snprintf(values[i], sizeof values[i], "other");
		s = series_with_values(m, values, n);
	}
	return s != NULL ? s : series_add(m, values, n);
}

static size_t bucket_of(const struct metric *m, double v)
{
	size_t i = 0;

	while (i < m->n_bounds && v > m->bounds[i])
		i++;
	return i;
}

/* Gives the series with the metric's lock held if it has labels; release_series gives it back. */
static struct metric_series *acquire_series(struct metric *m, const char *const *values)
{
	size_t n = label_count(m);

	ENSURE(values[n] == NULL); /* more values than labels */
	if (n == 0)
		return &m->plain;
	pthread_mutex_lock(&m->mtx);
	return series_for(m, values, n);
}

static void release_series(struct metric *m, const struct metric_series *s)
{
	if (s != &m->plain)
		pthread_mutex_unlock(&m->mtx);
}

void metric_add_values(struct metric *m, double v, const char *const *values)
{
	struct metric_series *s = acquire_series(m, values);

	ENSURE(m->kind == METRIC_KIND_GAUGE || (m->kind == METRIC_KIND_COUNTER && v >= 0));
	add_atomically(&s->value, v);
	release_series(m, s);
}

void metric_set_values(struct metric *m, double v, const char *const *values)
{
	struct metric_series *s = acquire_series(m, values);

	ENSURE(m->kind == METRIC_KIND_GAUGE);
	atomic_store_explicit(&s->value, bits_of(v), memory_order_relaxed);
	release_series(m, s);
}

void metric_observe_values(struct metric *m, double v, const char *const *values)
{
	struct metric_series *s = acquire_series(m, values);

	ENSURE(m->kind == METRIC_KIND_HISTOGRAM);
	atomic_fetch_add_explicit(&s->counts[bucket_of(m, v)], 1, memory_order_relaxed);
	add_atomically(&s->value, v);
	release_series(m, s);
}

void metric_clear(struct metric *m)
{
	size_t n = label_count(m);
	struct metric_series *s;

	pthread_mutex_lock(&m->mtx);
	while ((s = m->first) != NULL) {
		m->first = s->next;
		for (size_t i = 0; i < n; i++)
			str_free(&s->values[i]);
		free(s);
	}
	memset(m->slots, 0, sizeof m->slots);
	m->n_series = 0;
	pthread_mutex_unlock(&m->mtx);
}

struct metrics_collector *metrics_collector(void (*fn)(void *ctx), void *ctx)
{
	struct metrics_collector *c = NEW(struct metrics_collector);

	ENSURE(!scraping_here);
	c->fn = fn;
	c->ctx = ctx;
	pthread_mutex_lock(&scrape_mtx);
	c->next = collectors;
	collectors = c;
	pthread_mutex_unlock(&scrape_mtx);
	return c;
}

void metrics_collector_free(struct metrics_collector **cp)
{
	struct metrics_collector *c = TAKE(*cp), **at = &collectors;

	if (c == NULL)
		return;
	ENSURE(!scraping_here); /* a collector that frees itself would wait for itself */
	pthread_mutex_lock(&scrape_mtx);
	while (*at != c) {
		ENSURE(*at != NULL);
		at = &(*at)->next;
	}
	*at = c->next;
	pthread_mutex_unlock(&scrape_mtx);
	free(c);
}

static void write_number(struct strbuf *out, double v)
{
	if (isnan(v))
		strbuf_adds(out, "NaN");
	else if (isinf(v))
		strbuf_adds(out, v > 0 ? "+Inf" : "-Inf");
	else
		strbuf_addf(out, "%.15g", v);
}

/* In HELP texts a quotation mark stays as it is. */
static void write_escaped(struct strbuf *out, const char *s, bool quoted)
{
	for (; *s != '\0'; s++) {
		if (*s == '\n')
			strbuf_adds(out, "\\n");
		else if (*s == '\\' || (*s == '"' && quoted))
			strbuf_addf(out, "\\%c", *s);
		else
			strbuf_addc(out, *s);
	}
}

/* {a="x",b="y",le="0.1"}; nothing if there are no labels. bound: NULL, or of a bucket. */
static void write_labels(struct strbuf *out, const struct metric *m, const struct metric_series *s, const double *bound)
{
	const char *before = "{";

	for (size_t i = 0; m->labels[i] != NULL; i++) {
		strbuf_addf(out, "%s%s=\"", before, m->labels[i]);
		write_escaped(out, s->values[i], true);
		strbuf_addc(out, '"');
		before = ",";
	}
	if (bound != NULL) {
		strbuf_addf(out, "%sle=\"", before);
		write_number(out, *bound);
		strbuf_addc(out, '"');
		before = ",";
	}
	if (before[0] == ',')
		strbuf_addc(out, '}');
}

static void write_sample(struct strbuf *out, const struct metric *m, const char *suffix, const struct metric_series *s,
    const double *bound, double v)
{
	strbuf_addf(out, "%s%s", m->name, suffix);
	write_labels(out, m, s, bound);
	strbuf_addc(out, ' ');
	write_number(out, v);
	strbuf_addc(out, '\n');
}

/* _count is made of the buckets that were read, not kept by itself: the format wants it to equal the bucket +Inf, even
 * while others observe. */
static void write_histogram(struct strbuf *out, const struct metric *m, struct metric_series *s)
{
	uint64_t so_far = 0;

	for (size_t i = 0; i <= m->n_bounds; i++) {
		const double bound = i < m->n_bounds ? m->bounds[i] : (double)INFINITY;

		so_far += atomic_load_explicit(&s->counts[i], memory_order_relaxed);
		write_sample(out, m, "_bucket", s, &bound, (double)so_far);
	}
	write_sample(out, m, "_sum", s, NULL, number_of(atomic_load_explicit(&s->value, memory_order_relaxed)));
	write_sample(out, m, "_count", s, NULL, (double)so_far);
}

static void write_series(struct strbuf *out, const struct metric *m, struct metric_series *s)
{
	if (m->kind == METRIC_KIND_HISTOGRAM)
		write_histogram(out, m, s);
	else
		write_sample(out, m, "", s, NULL, number_of(atomic_load_explicit(&s->value, memory_order_relaxed)));
}

static void write_metric(struct strbuf *out, struct metric *m)
{
	static const char *const kinds[] = {"counter", "gauge", "histogram"};

	strbuf_addf(out, "# HELP %s ", m->name);
	write_escaped(out, m->help, false);
	strbuf_addf(out, "\n# TYPE %s %s\n", m->name, kinds[m->kind]);
	if (label_count(m) == 0) {
		write_series(out, m, &m->plain);
		return;
	}
	pthread_mutex_lock(&m->mtx);
	for (struct metric_series *s = m->first; s != NULL; s = s->next)
		write_series(out, m, s);
	pthread_mutex_unlock(&m->mtx);
}

static int compare_names(const void *a, const void *b)
{
	struct metric *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

int metrics_write(struct strbuf *out)
{
	size_t n = __start_metric_table != NULL ? (size_t)(__stop_metric_table - __start_metric_table) : 0;
	struct metric **sorted = mem_zalloc((n + 1) * sizeof *sorted);

	ENSURE(!scraping_here);
	pthread_mutex_lock(&scrape_mtx);
	scraping_here = true;
	for (struct metrics_collector *c = collectors; c != NULL; c = c->next)
		c->fn(c->ctx);
	if (n > 0)
		memcpy(sorted, __start_metric_table, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, compare_names);
	for (size_t i = 0; i < n; i++) {
		ENSURE(text_has_prefix(sorted[i]->name, "bullpen_"));
		ENSURE(i == 0 || strcmp(sorted[i - 1]->name, sorted[i]->name) != 0); /* two definitions of a name */
		write_metric(out, sorted[i]);
	}
	scraping_here = false;
	pthread_mutex_unlock(&scrape_mtx);
	free(sorted);
	return out->overflowed ? ERR_TOO_LARGE : OK;
}
