/* How a conversation is cut to what fits a model. */
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/context.h"
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

static char *filled(char c, size_t n)
{
	char *s = mem_alloc(n + 1);

	memset(s, c, n);
	s[n] = '\0';
	return s;
}

/* A prompt, then `steps` of one call with a result of `bytes` each. */
static json_t *conversation(size_t steps, size_t bytes)
{
	json_t *all = json_array();
	AUTO_STR text = filled('r', bytes);

	json_array_append_new(all, json_pack("{s:s, s:s}", "role", "user", "text", "mend the parser"));
	for (size_t i = 0; i < steps; i++) {
		json_array_append_new(
		    all, json_pack("{s:s, s:s, s:[{s:s, s:s, s:{s:i}}]}", "role", "assistant", "text", "looking",
			     "toolCalls", "id", "c", "name", "read_file", "arguments", "step", (int)i));
		json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s, s:s}", "role", "tool", "callId", "c", "name",
					       "read_file", "outcome", "success", "text", text));
	}
	return all;
}

static struct context shown(size_t steps, size_t bytes)
{
	struct context c;
	struct compaction none = {0};

	context_init(&c, conversation(steps, bytes), &none);
	return c;
}

/* As a run does: what was decided is stored, and the context made anew from it. */
static void apply(struct context *c, size_t steps, size_t bytes, const struct context_cut *cut, const char *summary)
{
	struct compaction k;

	context_decide(c, cut, summary, &k);
	context_fini(c);
	context_init(c, conversation(steps, bytes), &k);
}

static const char *at(const struct context *c, size_t i, const char *key)
{
	return json_string_value(json_object_get(json_array_get(c->messages, i), key));
}

static void test_older_results_are_cut_first(void **state)
{
	struct context c = shown(30, 5000);
	struct context_cut cut;
	int64_t before = context_tokens(&c, 0);

	assert_int_equal(context_plan(&c, 100000, 0, &cut), OK);
	assert_int_equal(cut.summarise, 0);
	assert_int_equal(cut.shorten, 61 - 20);
	apply(&c, 30, 5000, &cut, NULL);
	assert_int_equal(json_array_size(c.messages), 61);
	assert_true(strlen(at(&c, 2, "text")) <= 2048);
	assert_non_null(strstr(at(&c, 2, "text"), "left out"));
	assert_int_equal(strlen(at(&c, 60, "text")), 5000);
	assert_true(context_tokens(&c, 0) < before * 3 / 4);
	assert_int_equal(context_plan(&c, 100000, 0, &cut), ERR_EMPTY);
	context_fini(&c);
}

static void test_a_summary_stands_for_what_is_older(void **state)
{
	struct context c = shown(30, 100);
	struct context_cut cut;

	assert_int_equal(context_plan(&c, 1000, 1, &cut), OK);
	/* 20 messages back is a result: its call is kept with it. */
	assert_int_equal(cut.summarise, 41);
	assert_string_equal(at(&c, cut.summarise, "role"), "assistant");
	AUTO_STR text = context_summary_text(&c, cut.summarise, "half is done");

	apply(&c, 30, 100, &cut, text);
	assert_int_equal(json_array_size(c.messages), 1 + 20);
	assert_string_equal(at(&c, 0, "role"), "user");
	assert_non_null(strstr(at(&c, 0, "text"), "half is done"));
	assert_non_null(strstr(at(&c, 0, "text"), "mend the parser"));
	assert_string_equal(at(&c, 1, "role"), "assistant");
	context_fini(&c);
}

static void test_never_a_result_without_its_call(void **state)
{
	for (unsigned level = 0; level < CONTEXT_LEVELS; level++) {
		for (size_t steps = 1; steps < 25; steps++) {
			struct context c = shown(steps, 9000);
			struct context_cut cut;

			if (context_plan(&c, 50000, level, &cut) == OK) {
				apply(&c, steps, 9000, &cut, cut.summarise > 0 ? "s" : NULL);
				assert_string_not_equal(at(&c, 0, "role"), "tool");
				if (json_array_size(c.messages) > 1)
					assert_string_not_equal(at(&c, 1, "role"), "tool");
			}
			context_fini(&c);
		}
	}
}

/* The second summary covers the first, and the user's words stay. */
static void test_summaries_follow_each_other(void **state)
{
	struct context c = shown(30, 100);
	struct context_cut cut;

	assert_int_equal(context_plan(&c, 1000, 1, &cut), OK);
	AUTO_STR first = context_summary_text(&c, cut.summarise, "one");

	apply(&c, 30, 100, &cut, first);
	assert_int_equal(c.compaction.summarised, 41);
	assert_int_equal(context_plan(&c, 1000, 2, &cut), OK);
	AUTO_STR second = context_summary_text(&c, cut.summarise, "two");

	apply(&c, 30, 100, &cut, second);
	assert_int_equal(c.compaction.seq, 2);
	assert_int_equal(c.compaction.summarised, 57);
	assert_int_equal(json_array_size(c.messages), 1 + 4);
	assert_non_null(strstr(at(&c, 0, "text"), "two"));
	assert_null(strstr(at(&c, 0, "text"), "one"));
	assert_non_null(strstr(at(&c, 0, "text"), "word for word:\n\nmend the parser\n\nGo on"));
	context_fini(&c);
}

/* Level after level, as when a model refuses again and again. */
static void test_each_level_is_smaller(void **state)
{
	struct context c = shown(30, 9000);
	int64_t before = context_tokens(&c, 0);

	for (unsigned level = 0; level < CONTEXT_LEVELS; level++) {
		struct context_cut cut;

		assert_int_equal(context_plan(&c, 20000, level, &cut), OK);
		apply(&c, 30, 9000, &cut, cut.summarise > 0 ? "the summary" : NULL);
		assert_true(context_tokens(&c, 0) < before);
		before = context_tokens(&c, 0);
		assert_int_equal(c.compaction.seq, level + 1);
	}
	assert_true(before < 1000);
	context_fini(&c);
}

static void test_what_was_counted_counts(void **state)
{
	struct context c = shown(2, 700);

	assert_true(context_tokens(&c, 3500) > 1400);
	context_counted(&c, 5000);
	assert_int_equal(context_tokens(&c, 3500), 5000);
	json_array_append_new(c.messages, json_pack("{s:s, s:s}", "role", "user", "text", "1234567"));
	assert_int_equal(context_tokens(&c, 3500), 5000 + 8 + 2);
	context_fini(&c);
}

static void test_nothing_left_to_cut(void **state)
{
	struct context c = shown(0, 0);
	struct context_cut cut;

	for (unsigned level = 0; level <= CONTEXT_LEVELS; level++)
		assert_int_equal(context_plan(&c, 10, level, &cut), ERR_EMPTY);
	context_fini(&c);
}

static void test_the_transcript_is_bounded(void **state)
{
	struct context c = shown(30, 5000);
	AUTO_STR text = context_transcript(&c, 61, 4000);

	assert_true(strlen(text) <= 4000);
	assert_non_null(strstr(text, "User: mend the parser"));
	assert_non_null(strstr(text, "[calls read_file {\"step\":0}]"));
	context_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_older_results_are_cut_first),
	    cmocka_unit_test(test_a_summary_stands_for_what_is_older),
	    cmocka_unit_test(test_never_a_result_without_its_call),
	    cmocka_unit_test(test_summaries_follow_each_other),
	    cmocka_unit_test(test_each_level_is_smaller),
	    cmocka_unit_test(test_what_was_counted_counts),
	    cmocka_unit_test(test_nothing_left_to_cut),
	    cmocka_unit_test(test_the_transcript_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
