/* The small things everything stands on. */
#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "base/toml.h"
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

static void test_strbuf_is_bounded(void **state)
{
	AUTO_FINI(strbuf) b = STRBUF(5);

	assert_int_equal(strbuf_adds(&b, "abc"), OK);
	assert_int_equal(strbuf_adds(&b, "def"), ERR_TOO_LARGE);
	assert_true(b.overflowed);
	assert_string_equal(strbuf_str(&b), "abc");
	strbuf_consume(&b, 2);
	assert_string_equal(strbuf_str(&b), "c");
}

static void test_utf8(void **state)
{
	static const char *const good[] = {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
	static const char *const bad[] = {
	    "\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3", "a\xff"};
	AUTO_STR mended = text_to_utf8("a\xff\0b", 4);

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(text_is_utf8(good[i], strlen(good[i])));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(text_is_utf8(bad[i], strlen(bad[i])));
	assert_string_equal(mended, "a\xef\xbf\xbd\xef\xbf\xbd"
				    "b");
	assert_int_equal(text_utf8_cut("a\xc3\xa9", 3, 2), 1);
	assert_int_equal(text_code_points("a\xc3\xa9"), 2);
}

static void test_whole_characters(void **state)
{
	struct why why;

	assert_int_equal(text_utf8_whole("ab", 2), 2);
	assert_int_equal(text_utf8_whole("a\xc3", 2), 1);
	assert_int_equal(text_utf8_whole("a\xc3\xa9", 3), 3);
	assert_int_equal(text_utf8_whole("\xe2\x82", 2), 0);
	assert_int_equal(text_utf8_whole("\xf0\x9f\x98", 3), 0);
	assert_int_equal(text_utf8_whole("\x80\x80\x80\x80", 4), 4);
	assert_int_equal(why_set(&why, ERR_INVALID, "%510s\xc3\xa9", ""), ERR_INVALID);
	assert_true(text_is_utf8(why.text, strlen(why.text)));
	assert_int_equal(strlen(why.text), 510);
	why_set(&why, ERR_INVALID, "'%.3s'", "ab\xc3\xa9");
	assert_string_equal(why.text, "'ab?'");
	why_set(&why, ERR_INVALID, "the reason");
	why_set(&why, ERR_INVALID, "file x: %s", why.text);
	assert_string_equal(why.text, "file x: the reason");
}

static void test_git_refs(void **state)
{
	static const char *const good[] = {"main", "cursor/a-b", "v1.0", "a.b/c", "0123456789abcdef"};
	static const char *const bad[] = {"", "-x", "/a", "a/", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[",
	    "a\\b", "a@{1}", "@", "a.lock", "a.lock/b", ".a", "a/.b", "a//b", "a.", "a\x7f", "a\n"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!text_is_git_ref(good[i]))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (text_is_git_ref(bad[i]))
			fail_msg("accepted: %s", bad[i]);
}

static void test_cut_middle(void **state)
{
	bool cut;
	AUTO_STR whole = text_cut_middle("abc", 3, 3, &cut);

	assert_false(cut);
	assert_string_equal(whole, "abc");
	AUTO_STR digits = str_printf("%0100d", 7);
	AUTO_STR part = text_cut_middle(digits, 100, 54, &cut);

	assert_true(cut);
	assert_string_equal(part, "0000\n[... 94 bytes left out ...]\n07");
	AUTO_STR again = text_cut_middle(part, strlen(part), 54, &cut);

	assert_false(cut);
	assert_string_equal(again, part);
}

static void test_json_is_strict(void **state)
{
	static const char *const keys[] = {"a", NULL};
	struct why why = {0};
	AUTO_JSON j = NULL;
	AUTO_JSON deep = NULL;
	char nested[200];
	const char *s = NULL;
	bool b = false;

	assert_int_equal(json_parse("{\"a\":1,\"b\":2}", 13, &j, &why), OK);
	assert_int_equal(json_only_keys(j, keys, "", &why), ERR_INVALID);
	assert_string_equal(why.text, "Unrecognized key(s) in the request body: 'b'");
	assert_int_equal(json_get_string(j, "a", &s, &why), ERR_INVALID);
	assert_int_equal(json_get_bool(j, "absent", &b, &why), OK);
	memset(nested, '[', 65);
	memset(nested + 65, ']', 65);
	assert_int_equal(json_parse(nested, 130, &deep, &why), ERR_INVALID);
	assert_int_equal(json_parse(nested + 1, 128, &deep, &why), OK);
	/* A string is one value, whatever it holds. */
	AUTO_STR many = mem_zalloc(300004);
	AUTO_JSON few = NULL;

	many[0] = '[';
	for (size_t i = 0; i < 100000; i++)
		memcpy(many + 1 + 3 * i, "{},", 3);
	memcpy(many + 300000, "]", 2);
	assert_int_equal(json_parse(many, strlen(many), &few, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "too many values"));
	many[0] = '"';
	memcpy(many + 300000, "\"", 2);
	assert_int_equal(json_parse(many, strlen(many), &few, &why), OK);
	assert_int_equal(json_parse("\"\xff\"", 3, &deep, &why), ERR_INVALID);
}

static void refused(int (*parse)(const char *, size_t, json_t **, struct why *), const char *text, const char *sentence)
{
	struct why why = {0};
	AUTO_JSON j = NULL;

	assert_int_equal(parse(text, strlen(text), &j, &why), ERR_INVALID);
	assert_string_equal(why.text, sentence);
}

static void test_json_duplicates_and_nul(void **state)
{
	AUTO_JSON j = NULL;
	const char *twice = "{\"a\":1,\"b\":{\"c\":1,\"c\":2}}";

	assert_int_equal(json_parse(twice, strlen(twice), &j, NULL), OK);
	refused(json_parse_strict, twice, "the field 'c' is given twice");
	refused(json_parse_strict, "{\"x\\\\\":1, \"x\\\\\"  : 2}", "the field 'x\\\\' is given twice");
	refused(json_parse_strict, "{\"q\\\"r\":1,\"q\\\"r\":2}", "the field 'q\\\"r' is given twice");
	refused(json_parse_strict, "{\"\":1,\"\":2}", "the field '' is given twice");
	refused(json_parse_strict,
	    "{\"a name that is longer than what jansson repeats\":1,\"a name that is longer than what "
	    "jansson repeats\":2}",
	    "the field 'a name that is longer than what jansson repeats' is given twice");
	refused(json_parse, "{\"prompt\":{\"text\":\"a\\u0000b\"}}",
	    "text must not hold the character U+0000: field 'prompt.text'");
	refused(json_parse_strict, "{\"a\":\"\",\"repos\":[{},{\"url\":\"\\u0000\"}]}",
	    "text must not hold the character U+0000: field 'repos[1].url'");
	refused(json_parse, "\"\\u0000\"", "text must not hold the character U+0000");
	refused(json_parse, "{\"a\\u0000\":1}", "the name of a field must not hold the character U+0000");
}

static void test_percent_and_base64(void **state)
{
	AUTO_STR plain = NULL;
	AUTO_STR bytes = NULL;
	size_t len;

	assert_int_equal(text_percent_decode("a%2Fb", 5, &plain), OK);
	assert_string_equal(plain, "a/b");
	assert_int_equal(text_percent_decode("%00", 3, &plain), ERR_INVALID);
	assert_int_equal(text_percent_decode("%f", 2, &plain), ERR_INVALID);
	assert_int_equal(base64_decode("YTo=", 4, &bytes, &len), OK);
	assert_string_equal(bytes, "a:");
	str_free(&bytes);
	assert_int_equal(base64_decode("YTo", 3, &bytes, &len), OK);
	assert_string_equal(bytes, "a:");
	assert_int_equal(base64_decode("Y*o=", 4, &bytes, &len), ERR_INVALID);
}

static void test_time(void **state)
{
	char out[CLOCK_ISO_LEN];

	clock_iso8601(1776105000007, out);
	assert_string_equal(out, "2026-04-13T18:30:00.007Z");
}

static void test_time_is_read(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = {{"2026-04-13T18:30:00.007Z", 1776105000007}, {"2026-04-13T18:30:00Z", 1776105000000},
	    {"2026-04-13t18:30:00.0079999z", 1776105000007}, {"2026-04-13T20:30:00+02:00", 1776105000000},
	    {"2026-04-13T13:00:00-0530", 1776105000000}, {"2026-04-13", 1776038400000}, {"2024-02-29", 1709164800000},
	    {"1970-01-01", 0}};
	static const char *const bad[] = {"", "2026", "2026-04", "2026-4-13", "2026-13-01", "2026-00-01", "2026-04-31",
	    "2026-02-29", "2026-04-00", "2026-04-13T", "2026-04-13 18:30:00Z", "2026-04-13T18:30:00",
	    "2026-04-13T24:00:00Z", "2026-04-13T18:60:00Z", "2026-04-13T18:30:60Z", "2026-04-13T18:30:00.Z",
	    "2026-04-13T18:30:00Z!", "2026-04-13T18:30:00+2:00", "2026-04-13T18:30:00+24:00", "-026-04-13",
	    "2026-04-13T1", "2026-04-13T18:30:00+"};
	int64_t ms = -1;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(clock_read_iso8601(good[i].text, &ms), OK);
		assert_int_equal(ms, good[i].ms);
	}
	ms = -1;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(clock_read_iso8601(bad[i], &ms), ERR_INVALID);
	assert_int_equal(ms, -1);
}

static void test_ids(void **state)
{
	AUTO_STR id = id_new("bc-");

	assert_true(id_is(id, "bc-"));
	assert_false(id_is(id, "run-"));
	assert_false(id_is("bc-1111", "bc-"));
}

static void test_toml(void **state)
{
	AUTO_JSON j = NULL;
	struct why why = {0};
	const char *good = "a = 1\n[b]\nc = \"x\"\n", *bad = "a = 1\na = 2\n";

	assert_int_equal(toml_parse(good, strlen(good), "f.toml", &j, &why), OK);
	assert_string_equal(json_string_value(json_object_get(json_object_get(j, "b"), "c")), "x");
	assert_int_equal(toml_parse(bad, strlen(bad), "f.toml", &j, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "f.toml:2:"));
}

static void test_map(void **state)
{
	struct map *m = map_new();
	size_t at = 0, seen = 0;
	const char *key;
	void *value;

	for (intptr_t i = 1; i <= 1000; i++) {
		AUTO_STR k = str_printf("key %ld", (long)i);

		assert_null(map_put(m, k, (void *)i));
	}
	for (intptr_t i = 1; i <= 1000; i += 2) {
		AUTO_STR k = str_printf("key %ld", (long)i);

		assert_ptr_equal(map_remove(m, k), (void *)i);
	}
	assert_int_equal(map_count(m), 500);
	assert_null(map_get(m, "key 1"));
	assert_ptr_equal(map_get(m, "key 2"), (void *)2);
	while (map_next(m, &at, &key, &value)) {
		map_remove(m, key);
		seen++;
	}
	assert_int_equal(seen, 500);
	assert_int_equal(map_count(m), 0);
	map_free(&m);
}

static int setup(void **state)
{
	id_init();
	return 0;
}

static void test_log_quote(void **state)
{
	static const struct {
		const char *text, *quoted;
	} cases[] = {
	    {NULL, "\"\""},
	    {"plain caf\xc3\xa9", "\"plain caf\xc3\xa9\""},
	    {"a\"b\\c\nd\re\x1b[31m\x7f", "\"a\\\"b\\\\c\\nd?e?[31m?\""},
	    {"next\xc2\x85line csi\xc2\x9b", "\"next?line csi?\""}, /* C1 controls */
	    {"\xe2\x80\xa8 \xe2\x80\xa9 \xe2\x80\xa6", "\"? ? \xe2\x80\xa6\""}, /* separators of lines */
	    {"exe\xe2\x80\xaegpj \xe2\x81\xa6 \xd8\x9c", "\"exe?gpj ? ?\""}, /* marks of direction */
	    {"\x9b"
	     "2J \xff \xe2\x80",
		"\"?2J ? ??\""}, /* not UTF-8 */
	    {"\xc2", "\"?\""},
	};
	char long_text[400];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(log_quote(cases[i].text), cases[i].quoted);
	for (size_t i = 0; i < sizeof long_text - 2; i += 3)
		memcpy(long_text + i, "\xe2\x82\xac", 3);
	long_text[sizeof long_text - 1] = '\0';
	AUTO_STR expected = str_printf("\"%.198s...\"", long_text);

	assert_string_equal(log_quote(long_text), expected); /* no half of a character */
}

static void test_text_line(void **state)
{
	static const struct {
		const char *text, *line;
		size_t max;
	} cases[] = {
	    {NULL, "", 10},
	    {"plain caf\xc3\xa9", "plain caf\xc3\xa9", 100},
	    {"plain caf\xc3\xa9", "plain caf", 10},
	    {"a\nb\tc\x1b[1m\x7f", "a b c [1m ", 100},
	    {"next\xc2\x85line", "next line", 100},
	    {"exe\xe2\x80\xaegpj\xe2\x81\xa9", "exe gpj ", 100},
	    {"\xff", "\xef\xbf\xbd", 100},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_STR line = text_line(cases[i].text, cases[i].max);

		assert_string_equal(line, cases[i].line);
	}
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_strbuf_is_bounded),
	    cmocka_unit_test(test_utf8),
	    cmocka_unit_test(test_log_quote),
	    cmocka_unit_test(test_text_line),
	    cmocka_unit_test(test_cut_middle),
	    cmocka_unit_test(test_whole_characters),
	    cmocka_unit_test(test_git_refs),
	    cmocka_unit_test(test_json_is_strict),
	    cmocka_unit_test(test_json_duplicates_and_nul),
	    cmocka_unit_test(test_percent_and_base64),
	    cmocka_unit_test(test_time),
	    cmocka_unit_test(test_time_is_read),
	    cmocka_unit_test(test_ids),
	    cmocka_unit_test(test_toml),
	    cmocka_unit_test(test_map),
	};

	return cmocka_run_group_tests(t, setup, NULL);
}
