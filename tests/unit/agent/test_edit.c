/* edit_file and the diff it shows. */
#include "workbench.h"
#include "agent/tools/diff.h"

static void test_one_place(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	put_text(b, "f", "a\nb\nc\nd\ne\nf\ng\nh\n");
	c = call(b, "edit_file", "{\"path\":\"f\",\"strReplace\":{\"oldText\":\"e\\n\",\"newText\":\"E\\nEE\\n\"}}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_file(b, "f", "a\nb\nc\nd\nE\nEE\nf\ng\nh\n");
	assert_int_equal(number(&c, "linesAdded"), 2);
	assert_int_equal(number(&c, "linesRemoved"), 1);
	assert_string_equal(field(&c, "diffString"), "@@ -2,7 +2,8 @@\n b\n c\n d\n-e\n+E\n+EE\n f\n g\n h\n");
	assert_true(text_has_prefix(field(&c, "beforeFullFileContent"), "a\nb\nc\nd\ne"));
	assert_true(text_has_prefix(field(&c, "afterFullFileContent"), "a\nb\nc\nd\nE"));
	assert_int_equal(json_object_size(c.sdk_result), 3);
	assert_non_null(strstr(c.model_text, "+EE\n"));
	tool_call_fini(&c);
	expect_success(call(b, "search_replace",
	    "{\"file_path\":\"f\",\"old_string\":\"h\",\"new_string\":\"\",\"replace_all\":false}"));
	assert_file(b, "f", "a\nb\nc\nd\nE\nEE\nf\ng\n\n");
}

static void test_no_match_and_not_unique(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	put_text(b, "f", "int main(void)\n{\n\treturn 0;\n}\nx x x\n");
	c = call(b, "edit_file", "{\"path\":\"f\",\"old_string\":\"  return 0 ;\",\"new_string\":\"y\"}");
	assert_non_null(strstr(c.model_text, "nearest is line 3: return 0;"));
	expect_error(c, "no_match");
	c = call(b, "edit_file", "{\"path\":\"f\",\"old_string\":\"@@@@\",\"new_string\":\"y\"}");
	expect_error(c, "no_match");
	c = call(b, "edit_file", "{\"path\":\"f\",\"old_string\":\"x\",\"new_string\":\"y\"}");
	assert_non_null(strstr(c.model_text, "3 times"));
	expect_error(c, "not_unique");
	expect_success(
	    call(b, "edit_file", "{\"path\":\"f\",\"old_string\":\"x\",\"new_string\":\"xx\",\"replace_all\":true}"));
	assert_file(b, "f", "int main(void)\n{\n\treturn 0;\n}\nxx xx xx\n");
	expect_error(
	    call(b, "edit_file", "{\"path\":\"f\",\"old_string\":\"xx\",\"new_string\":\"xx\"}"), "invalid_arguments");
	expect_error(call(b, "edit_file", "{\"path\":\"f\"}"), "invalid_arguments");
	expect_error(call(b, "edit_file", "{\"path\":\"f\",\"old_string\":\"xx\"}"), "invalid_arguments");
	expect_error(call(b, "edit_file",
			 "{\"path\":\"f\",\"old_string\":\"a\",\"new_string\":\"b\",\"strReplace\":{\"oldText\":\"a\","
			 "\"newText\":"
			 "\"b\"}}"),
	    "invalid_arguments");
	expect_error(
	    call(b, "edit_file", "{\"path\":\"none\",\"old_string\":\"a\",\"new_string\":\"b\"}"), "not_found");
}

static void test_several_all_or_nothing(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	put_text(b, "f", "one two\n");
	expect_success(call(b, "edit_file",
	    "{\"path\":\"f\",\"multiStrReplace\":{\"edits\":[{\"oldText\":\"one\",\"newText\":\"1\"},{\"oldText\":\"1 "
	    "two\",\"newText\":"
	    "\"3\"}]}}"));
	assert_file(b, "f", "3\n");
	c = call(b, "edit_file",
	    "{\"path\":\"f\",\"multiStrReplace\":{\"edits\":[{\"oldText\":\"3\",\"newText\":\"4\"},{\"oldText\":\"3\","
	    "\"newText\":\"5\"}]}}");
	assert_non_null(strstr(c.model_text, "edit 2"));
	expect_error(c, "no_match");
	assert_file(b, "f", "3\n");
	expect_error(call(b, "edit_file", "{\"path\":\"f\",\"multiStrReplace\":{\"edits\":[]}}"), "invalid_arguments");
}

static void test_creates(void **state)
{
	struct bench *b = *state;
	struct tool_call c =
	    call(b, "edit_file", "{\"path\":\"new/f\",\"old_string\":\"\",\"new_string\":\"a\\nb\\n\"}");

	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(field(&c, "diffString"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
	tool_call_fini(&c);
	assert_file(b, "new/f", "a\nb\n");
	expect_error(
	    call(b, "edit_file", "{\"path\":\"new/f\",\"old_string\":\"\",\"new_string\":\"x\"}"), "already_exists");
	put_text(b, "empty", "");
	expect_success(call(b, "edit_file", "{\"path\":\"empty\",\"old_string\":\"\",\"new_string\":\"x\"}"));
	assert_file(b, "empty", "x");
}

static void test_crlf_is_kept(void **state)
{
	struct bench *b = *state;

	put_text(b, "f", "a\r\nb\r\nc\r\n");
	expect_success(call(b, "edit_file", "{\"path\":\"f\",\"old_string\":\"a\\nb\",\"new_string\":\"x\\ny\\nz\"}"));
	assert_file(b, "f", "x\r\ny\r\nz\r\nc\r\n");
	expect_success(call(b, "edit_file", "{\"path\":\"f\",\"old_string\":\"z\\r\\nc\",\"new_string\":\"w\"}"));
	assert_file(b, "f", "x\r\ny\r\nw\r\n");
	put_text(b, "mixed", "a\r\nb\nc\r\n");
	expect_success(call(b, "edit_file", "{\"path\":\"mixed\",\"old_string\":\"b\",\"new_string\":\"B\"}"));
	assert_file(b, "mixed", "a\r\nB\nc\r\n");
}

static void expect_said(struct tool_call c, const char *code, const char *part)
{
	if (strstr(c.model_text, part) == NULL)
		fail_msg("no '%s' in: %s", part, c.model_text);
	expect_error(c, code);
}

static void test_line_ends_that_differ(void **state)
{
	struct bench *b = *state;

	put_text(b, "lf", "a\nb\nc\n");
	expect_success(call(
	    b, "edit_file", "{\"path\":\"lf\",\"old_string\":\"a\\r\\nb\\r\\n\",\"new_string\":\"x\\r\\ny\\r\\n\"}"));
	assert_file(b, "lf", "x\ny\nc\n");
	/* A place of a mixed file keeps what it has. */
	put_text(b, "mixed", "a\nb\r\nc\r\nd\n");
	expect_success(
	    call(b, "edit_file", "{\"path\":\"mixed\",\"old_string\":\"b\\nc\",\"new_string\":\"x\\ny\\nz\"}"));
	assert_file(b, "mixed", "a\nx\r\ny\r\nz\r\nd\n");
	expect_said(call(b, "edit_file", "{\"path\":\"mixed\",\"old_string\":\"a\\nx\\ny\",\"new_string\":\"q\"}"),
	    "no_match", "only in its line ends: the file has both CRLF and LF there");
	put_text(b, "twice", "a\r\nb\r\n-\na\r\nb\r\n");
	expect_said(call(b, "edit_file", "{\"path\":\"twice\",\"old_string\":\"a\\nb\",\"new_string\":\"q\"}"),
	    "not_unique", "occurs 2 times");
	expect_said(call(b, "edit_file", "{\"path\":\"twice\",\"old_string\":\"a\\nc\",\"new_string\":\"q\"}"),
	    "no_match", "nearest is line");
	assert_file(b, "twice", "a\r\nb\r\n-\na\r\nb\r\n");
	put_text(b, "p", "a\nb\r\nc\n");
	expect_said(call(b, "edit_file",
			"{\"path\":\"p\",\"patch\":\"--- a/p\\n+++ b/p\\n@@ -1,3 +1,3 @@\\n a\\n-b\\n+B\\n c\\n\"}"),
	    "no_match", "they differ only in their line ends");
}

static void test_binary_is_refused(void **state)
{
	struct bench *b = *state;

	put_file(b, "bin", "a\0b", 3);
	expect_error(
	    call(b, "edit_file", "{\"path\":\"bin\",\"old_string\":\"a\",\"new_string\":\"c\"}"), "binary_file");
}

static void check_diff(const char *old, const char *new, const char *want, int added, int removed)
{
	AUTO_FINI(diff) d;

	diff_make(old, strlen(old), new, strlen(new), &d);
	assert_string_equal(d.text, want);
	assert_int_equal(d.added, added);
	assert_int_equal(d.removed, removed);
}

static void test_diffs(void **state)
{
	check_diff("", "", "", 0, 0);
	check_diff("a\n", "a\n", "", 0, 0);
	check_diff("a\n", "", "@@ -1,1 +0,0 @@\n-a\n", 0, 1);
	check_diff("a", "a\n", "@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n", 1, 1);
	check_diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\nX\n3\n4\n5\n6\n7\n8\nY\n",
	    "@@ -1,9 +1,9 @@\n 1\n-2\n+X\n 3\n 4\n 5\n 6\n 7\n 8\n-9\n+Y\n", 2, 2);
	check_diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", "X\n2\n3\n4\n5\n6\n7\n8\n9\nY\n",
	    "@@ -1,4 +1,4 @@\n-1\n+X\n 2\n 3\n 4\n@@ -7,4 +7,4 @@\n 7\n 8\n 9\n-10\n+Y\n", 2, 2);
}

/* Random texts: patch(1) must turn the old into the new by our diff. */
static void test_diffs_against_patch(void **state)
{
	struct bench *b = *state;

	for (int round = 0; round < 30; round++) {
		struct strbuf texts[2] = {STRBUF(1 << 20), STRBUF(1 << 20)};
		AUTO_FINI(diff) d;
		int size = round == 0 ? 3000 : 40;

		for (int i = 0; i < size; i++)
			for (int t = 0; t < 2; t++)
				strbuf_addf(&texts[t], "%u\n", id_random_below(round % 3 == 0 ? 1000 : 5));
		diff_make(strbuf_str(&texts[0]), texts[0].len, strbuf_str(&texts[1]), texts[1].len, &d);
		put_text(b, "old", strbuf_str(&texts[0]));
		put_text(b, "new", strbuf_str(&texts[1]));
		AUTO_STR patch = str_printf("--- a/old\n+++ b/old\n%s", d.text);
		put_text(b, "patch", patch);
		SH(b, "cd work; git apply -p1 patch 2>&1 && cmp old new");
		strbuf_fini(&texts[0]);
		strbuf_fini(&texts[1]);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_bench, teardown_bench)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_one_place), T(test_no_match_and_not_unique),
	    T(test_several_all_or_nothing), T(test_creates), T(test_crlf_is_kept), T(test_line_ends_that_differ),
	    T(test_binary_is_refused), cmocka_unit_test(test_diffs), T(test_diffs_against_patch)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
