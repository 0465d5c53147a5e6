/* Metrics: the text format, the bounds, collectors, and updates from many threads. */
#include "base/errors.h"
#include "base/mem.h"
#include "base/metrics.h"
#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

METRIC_COUNTER(plain, "bullpen_test_plain_total", "A counter.\nSays \"it\" with a \\.");
METRIC_COUNTER(labelled, "bullpen_test_labelled_total", "Labels.", "method", "code");
METRIC_COUNTER(crowded, "bullpen_test_crowded_total", "Too many values.", "who");
METRIC_COUNTER(shared, "bullpen_test_shared_total", "From threads.");
METRIC_COUNTER(shared_labelled, "bullpen_test_shared_labelled_total", "From threads.", "n");
METRIC_GAUGE(level, "bullpen_test_level", "A gauge.");
METRIC_GAUGE(collected, "bullpen_test_collected", "From a collector.", "pool");
METRIC_HISTOGRAM(delay, "bullpen_test_delay_seconds", "A histogram.", METRIC_BUCKETS(0.1, 0.5, 2));
METRIC_HISTOGRAM(sizes, "bullpen_test_sizes_bytes", "With a label.", METRIC_BUCKETS(10), "kind");
METRIC_HISTOGRAM(shared_delay, "bullpen_test_shared_seconds", "From threads.", METRIC_SECONDS);

static char *scrape(void)
{
	struct strbuf out = STRBUF(1 << 20);

	assert_int_equal(metrics_write(&out), OK);
	return strbuf_take(&out);
}

static void assert_has(const char *text, const char *line)
{
	AUTO_STR with_ends = str_printf("\n%s\n", line);

	if (strstr(text, with_ends) == NULL)
		fail_msg("no line '%s' in:\n%s", line, text);
}

static size_t count_of(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}

static void test_counter_and_gauge(void **state)
{
	AUTO_STR text = NULL;

	metric_add(&plain, 1);
	metric_add(&plain, 2);
	metric_set(&level, 7.5);
	metric_add(&level, -2);
	text = scrape();
	assert_has(text, "# HELP bullpen_test_plain_total A counter.\\nSays \"it\" with a \\\\.");
	assert_has(text, "# TYPE bullpen_test_plain_total counter");
	assert_has(text, "bullpen_test_plain_total 3");
	assert_has(text, "# TYPE bullpen_test_level gauge");
	assert_has(text, "bullpen_test_level 5.5");
}

static void test_large_counts_are_written_whole(void **state)
{
	AUTO_STR text = NULL;

	metric_set(&level, 123456789012345.0);
	text = scrape();
	assert_has(text, "bullpen_test_level 123456789012345");
}

static void test_label_values_are_escaped(void **state)
{
	AUTO_STR text = NULL;

	metric_add(&labelled, 1, "GET", "200");
	metric_add(&labelled, 1, "GET", "200");
	metric_add(&labelled, 1, "a\"b\\c\nd", "\xff");
	metric_add(&labelled, 1, NULL, "x");
	text = scrape();
	assert_has(text, "bullpen_test_labelled_total{method=\"GET\",code=\"200\"} 2");
	assert_has(text, "bullpen_test_labelled_total{method=\"a\\\"b\\\\c\\nd\",code=\"?\"} 1");
	assert_has(text, "bullpen_test_labelled_total{method=\"\",code=\"x\"} 1");
}

static void test_series_and_values_are_bounded(void **state)
{
	AUTO_STR text = NULL;
	AUTO_STR longest = mem_alloc(1000);
	char *end;

	memset(longest, 'x', 999);
	longest[999] = '\0';
	metric_add(&crowded, 1, longest);
	for (int i = 0; i < 1000; i++) {
		AUTO_STR who = str_printf("w%d", i);

		metric_add(&crowded, 1, who);
	}
	metric_add(&crowded, 1, "w3");
	text = scrape();
	assert_has(text, "bullpen_test_crowded_total{who=\"w3\"} 2");
	assert_has(text, "bullpen_test_crowded_total{who=\"other\"} 801");
	assert_int_equal(count_of(text, "\nbullpen_test_crowded_total{"), METRIC_SERIES_MAX + 1);
	end = strstr(text, "xxxx");
	assert_non_null(end);
	assert_int_equal(strspn(end, "x"), METRIC_VALUE_MAX);
}

static void test_histogram(void **state)
{
	AUTO_STR text = NULL;

	metric_observe(&delay, 0.1); /* a bound belongs to its bucket */
	metric_observe(&delay, 0.25);
	metric_observe(&delay, 100);
	metric_observe(&sizes, 4, "small");
	text = scrape();
	assert_has(text, "# TYPE bullpen_test_delay_seconds histogram");
	assert_has(text, "bullpen_test_delay_seconds_bucket{le=\"0.1\"} 1\n"
			 "bullpen_test_delay_seconds_bucket{le=\"0.5\"} 2\n"
			 "bullpen_test_delay_seconds_bucket{le=\"2\"} 2\n"
			 "bullpen_test_delay_seconds_bucket{le=\"+Inf\"} 3\n"
			 "bullpen_test_delay_seconds_sum 100.35\n"
			 "bullpen_test_delay_seconds_count 3");
	assert_has(text, "bullpen_test_sizes_bytes_bucket{kind=\"small\",le=\"10\"} 1\n"
			 "bullpen_test_sizes_bytes_bucket{kind=\"small\",le=\"+Inf\"} 1\n"
			 "bullpen_test_sizes_bytes_sum{kind=\"small\"} 4\n"
			 "bullpen_test_sizes_bytes_count{kind=\"small\"} 1");
}

static void set_pools(void *ctx)
{
	const int *n = ctx;

	metric_clear(&collected);
	for (int i = 0; i < *n; i++) {
		AUTO_STR pool = str_printf("p%d", i);

		metric_set(&collected, i, pool);
	}
}

static void test_collectors_are_asked_at_each_scrape(void **state)
{
	int n = 3;
	struct metrics_collector *c = metrics_collector(set_pools, &n);
	char *text = scrape();

	assert_has(text, "bullpen_test_collected{pool=\"p2\"} 2");
	str_free(&text);
	n = 1;
	text = scrape();
	assert_has(text, "bullpen_test_collected{pool=\"p0\"} 0");
	assert_int_equal(count_of(text, "\nbullpen_test_collected{"), 1);
	str_free(&text);
	metrics_collector_free(&c);
	assert_null(c);
	n = 3;
	text = scrape();
	assert_int_equal(count_of(text, "\nbullpen_test_collected{"), 1);
	str_free(&text);
}

static void test_each_line_has_the_form(void **state)
{
	AUTO_STR text = scrape();
	const char *previous = "";
	char *rest = NULL;

	assert_int_equal(text[strlen(text) - 1], '\n');
	for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		char *end = NULL;

		if (strncmp(line, "# HELP ", 7) == 0) {
			assert_true(strcmp(previous, line) < 0); /* by name */
			previous = line;
		}
		if (line[0] == '#') {
			assert_true(
			    strncmp(line, "# HELP bullpen_", 15) == 0 || strncmp(line, "# TYPE bullpen_", 15) == 0);
			continue;
		}
		assert_int_equal(strncmp(line, "bullpen_", 8), 0);
		end = strrchr(line, ' ');
		assert_non_null(end);
		strtod(end + 1, &end);
		assert_int_equal(*end, '\0');
	}
}

static void test_too_large_is_said(void **state)
{
	AUTO_FINI(strbuf) out = STRBUF(100);

	assert_int_equal(metrics_write(&out), ERR_TOO_LARGE);
}

#define THREADS 6
#define EACH 5000

static void *update_all(void *arg)
{
	for (int i = 0; i < EACH; i++) {
		const char n[2] = {(char)('a' + i % 5), '\0'};

		metric_add(&shared, 1);
		metric_add(&shared_labelled, 1, n);
		metric_observe(&shared_delay, 1);
	}
	return NULL;
}

static void test_no_update_is_lost_between_threads(void **state)
{
	pthread_t t[THREADS];
	AUTO_STR text = NULL;
	AUTO_STR line = str_printf("bullpen_test_shared_total %d", THREADS * EACH);
	AUTO_STR one_of_five = str_printf("bullpen_test_shared_labelled_total{n=\"c\"} %d", THREADS * EACH / 5);
	AUTO_STR sum = str_printf(
	    "bullpen_test_shared_seconds_sum %d\nbullpen_test_shared_seconds_count %d", THREADS * EACH, THREADS * EACH);

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, update_all, NULL), 0);
	for (int i = 0; i < 20; i++)
		free(scrape());
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	text = scrape();
	assert_has(text, line);
	assert_has(text, one_of_five);
	assert_has(text, sum);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_counter_and_gauge),
	    cmocka_unit_test(test_large_counts_are_written_whole),
	    cmocka_unit_test(test_label_values_are_escaped),
	    cmocka_unit_test(test_series_and_values_are_bounded),
	    cmocka_unit_test(test_histogram),
	    cmocka_unit_test(test_collectors_are_asked_at_each_scrape),
	    cmocka_unit_test(test_each_line_has_the_form),
	    cmocka_unit_test(test_too_large_is_said),
	    cmocka_unit_test(test_no_update_is_lost_between_threads),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
