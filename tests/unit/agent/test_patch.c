/* edit_file with a patch, in both forms. */
#include "workbench.h"
#include "agent/tools/patch.h"

/* One edit_file call with this patch; path may be NULL. */
static struct tool_call patch(struct bench *b, const char *path, const char *text)
{
	AUTO_JSON args = json_object();
	json_t *apply = json_object();
	AUTO_STR json = NULL;

	json_put(args, "path", path);
	json_put(apply, "patchContent", text);
	json_put_new(args, "applyPatch", apply);
	json = json_text(args);
	return call(b, "edit_file", "%s", json);
}

#define expect_part(c, part)                                                                                           \
	do {                                                                                                           \
		if (strstr((c).model_text, part) == NULL)                                                              \
			fail_msg("no '%s' in: %s", part, (c).model_text);                                              \
	} while (0)

static const char ten[] = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

static void test_unified(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	put_text(b, "f", ten);
	c = patch(b, "f",
	    "diff --git a/f b/f\nindex 1..2 100644\n--- a/f\n+++ b/f\n@@ -2,3 +2,4 @@ heading\n 2\n-3\n+three\n+3b\n "
	    "4\n"
	    "@@ -9,2 +10,1 @@\n 9\n-10\n");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_int_equal(number(&c, "linesAdded"), 2);
	assert_int_equal(number(&c, "linesRemoved"), 2);
	assert_true(text_has_prefix(field(&c, "beforeFullFileContent"), "1\n2\n3\n"));
	tool_call_fini(&c);
	assert_file(b, "f", "1\n2\nthree\n3b\n4\n5\n6\n7\n8\n9\n");
	/* Without headers, without counts that are right, blank lines behind it. */
	put_text(b, "f", "a\n\nb\n");
	expect_success(patch(b, "f", "@@ -1,9 +1,9 @@\n a\n\n-b\n+B\n"));
	assert_file(b, "f", "a\n\nB\n");
	expect_success(patch(b, "f", "@@ -1,1 +1,2 @@\n a\n+x\n\n\n"));
	assert_file(b, "f", "a\nx\n\nB\n");
	/* Removed and added lines that look like file headers. */
	put_text(b, "f", "-- x\ny\n");
	expect_success(patch(b, "f", "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n--- x\n+++ x\n y\n"));
	assert_file(b, "f", "++ x\ny\n");
}

static void test_numbers_may_be_off(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	put_text(b, "f", ten);
	expect_success(patch(b, "f", "@@ -1,2 +1,2 @@\n 6\n-7\n+seven\n@@ -3,1 +3,1 @@\n-9\n+nine\n"));
	assert_file(b, "f", "1\n2\n3\n4\n5\n6\nseven\n8\nnine\n10\n");
	/* The stated number decides between places that are alike, else they are one too many. */
	put_text(b, "f", "x\na\nx\na\n");
	expect_success(patch(b, "f", "@@ -3,2 +3,2 @@\n x\n-a\n+b\n"));
	assert_file(b, "f", "x\na\nx\nb\n");
	put_text(b, "f", "x\na\nx\na\n");
	c = patch(b, "f", "@@ -2,2 +2,2 @@\n x\n-a\n+b\n");
	expect_part(c, "more than one place");
	expect_error(c, "not_unique");
	/* The second hunk is looked for as far off as the first was. */
	put_text(b, "f", "n\nn\nx\na\ny\na\ny\n");
	expect_success(patch(b, "f", "@@ -1,1 +1,1 @@\n-x\n+X\n@@ -4,1 +4,1 @@\n-a\n+A\n"));
	assert_file(b, "f", "n\nn\nX\na\ny\nA\ny\n");
	/* Order is that of the file. */
	put_text(b, "f", ten);
	expect_error(patch(b, "f", "@@ -9,1 +9,1 @@\n-9\n+x\n@@ -2,1 +2,1 @@\n-2\n+y\n"), "no_match");
	assert_file(b, "f", ten);
}

static void test_mismatch_changes_nothing(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	put_text(b, "f", "int main(void)\n{\n\treturn 0;\n}\n");
	c = patch(b, "f",
	    "@@ -1,1 +1,1 @@\n-int main(void)\n+int main(int argc)\n@@ -3,1 +3,1 @@\n-  return 0;\n+\treturn 1;\n");
	expect_part(c, "nearest to its first line is line 3: return 0;");
	expect_error(c, "no_match");
	c = patch(b, "f", "@@ -1,3 +1,3 @@\n int main(void)\n {\n-\treturn 9;\n+\treturn 1;\n");
	expect_part(c, "fits at line 1 as far as line 3, which is '\treturn 0;', not '\treturn 9;'");
	expect_error(c, "no_match");
	c = patch(b, "f", "@@ -4,2 +4,2 @@\n }\n-more\n+less\n");
	expect_part(c, "the file ends before 'more'");
	expect_error(c, "no_match");
	expect_error(patch(b, "f", "@@ -1,1 +1,1 @@\n-int main(void) \n+x\n"), "no_match");
	expect_error(patch(b, "f", "@@ -90,0 +90,1 @@\n+x\n"), "no_match");
	expect_error(patch(b, "f", "@@ -2 +2,2 @@\n+x\n"), "no_match");
	assert_file(b, "f", "int main(void)\n{\n\treturn 0;\n}\n");
	expect_error(patch(b, "none", "@@ -1,1 +1,1 @@\n-a\n+b\n"), "not_found");
	expect_error(patch(b, "../f", "@@ -1,1 +1,1 @@\n-a\n+b\n"), "path_outside_workspace");
}

static void test_malformed(void **state)
{
	static const char *const bad[] = {"hello", "--- a/f\n+++ b/f\n", "--- a/f\n@@ -1 +1 @@\n-1\n+x\n",
	    "@@ -1,2 +1,2 @@\n1\n-2\n+x\n", "@@ -1 +1 @@\n\\ No newline\n",
	    "--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n",
	    "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+x\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-1\n+x\n",
	    "--- a/other\n+++ b/other\n@@ -1 +1 @@\n-1\n+x\n", "--- a/ff\n+++ b/ff\n@@ -1 +1 @@\n-1\n+x\n",
	    "diff --git a/f b/g\nrename from f\nrename to g\n--- a/f\n+++ b/g\n@@ -1 +1 @@\n-1\n+x\n",
	    "*** Begin Patch\n*** End Patch\n", "*** Begin Patch\n*** Delete File: f\n*** End Patch\n",
	    "*** Begin Patch\n*** Update File: f\n*** Move to: g\n@@\n-1\n+x\n*** End Patch\n",
	    "*** Begin Patch\n*** Update File: f\n@@\n-1\n+x\n*** Update File: g\n@@\n-1\n+x\n*** End Patch\n",
	    "*** Begin Patch\n*** Something\n*** End Patch\n", "*** Begin Patch\n*** Add File: f\n 1\n*** End Patch\n",
	    "*** Begin Patch\n*** End of File\n*** End Patch\n"};
	struct bench *b = *state;

	put_text(b, "f", ten);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct tool_call c = patch(b, "f", bad[i]);

		if (c.outcome != TOOL_ERROR || strcmp(field(&c, "code"), "invalid_patch") != 0)
			fail_msg("%s: %s", bad[i], c.model_text);
		tool_call_fini(&c);
	}
	assert_file(b, "f", ten);
	expect_error(call(b, "edit_file", "{\"path\":\"f\",\"applyPatch\":{}}"), "invalid_arguments");
	expect_error(
	    call(b, "edit_file", "{\"path\":\"f\",\"patchContent\":\"@@\",\"old_string\":\"1\",\"new_string\":\"2\"}"),
	    "invalid_arguments");
	expect_error(call(b, "edit_file", "{\"patchContent\":\"@@ -1 +1 @@\\n-1\\n+2\\n\"}"), "invalid_arguments");
}

static void test_line_ends(void **state)
{
	struct bench *b = *state;

	put_text(b, "f", "a\r\nb\r\nc\r\n");
	expect_success(patch(b, "f", "@@ -1,2 +1,3 @@\n a\n-b\n+B\n+BB\n"));
	assert_file(b, "f", "a\r\nB\r\nBB\r\nc\r\n");
	expect_success(patch(b, "f", "@@ -1,2 +1,2 @@\r\n a\r\n-B\r\n+b\r\n"));
	assert_file(b, "f", "a\r\nb\r\nBB\r\nc\r\n");
	put_text(b, "f", "a\nb\n");
	expect_success(patch(b, "f", "@@ -1,2 +1,2 @@\r\n a\r\n-b\r\n+c\r\n"));
	assert_file(b, "f", "a\nc\n");
	/* Mixed ends are text like any other. */
	put_text(b, "f", "a\r\nb\n");
	expect_error(patch(b, "f", "@@ -1,1 +1,1 @@\n-a\n+x\n"), "no_match");
	expect_success(patch(b, "f", "@@ -1,2 +1,2 @@\n a\r\n-b\n+c\n"));
	assert_file(b, "f", "a\r\nc\n");
	/* No newline at the end of the file. */
	put_text(b, "f", "a\nb");
	expect_success(patch(b, "f", "@@ -1,2 +1,2 @@\n-a\n+A\n b\n\\ No newline at end of file\n"));
	assert_file(b, "f", "A\nb");
	expect_success(patch(b, "f", "@@ -2,1 +2,2 @@\n b\n+c\n\\ No newline at end of file\n"));
	assert_file(b, "f", "A\nb\nc");
	expect_success(patch(b, "f", "@@ -3,1 +3,1 @@\n-c\n\\ No newline at end of file\n+C\n"));
	assert_file(b, "f", "A\nb\nC\n");
}

static void test_new_file(void **state)
{
	struct bench *b = *state;

	expect_success(patch(b, "new/f", "--- /dev/null\n+++ b/new/f\n@@ -0,0 +1,2 @@\n+a\n+b\n"));
	assert_file(b, "new/f", "a\nb\n");
	expect_error(patch(b, "new/f", "--- /dev/null\n+++ b/new/f\n@@ -0,0 +1,1 @@\n+a\n"), "already_exists");
	expect_success(patch(b, NULL, "*** Begin Patch\n*** Add File: new/g\n+x\n+\n+y\n*** End Patch\n"));
	assert_file(b, "new/g", "x\n\ny\n");
	expect_success(patch(b, NULL, "*** Begin Patch\n*** Add File: new/empty\n*** End Patch"));
	assert_file(b, "new/empty", "");
	expect_error(patch(b, NULL, "*** Begin Patch\n*** Add File: /etc/bullpen-test\n+x\n*** End Patch"),
	    "path_outside_workspace");
}

static void test_envelope(void **state)
{
	struct bench *b = *state;

	put_text(b, "f.py",
	    "class A:\n    def x(self):\n        return 1\n\nclass B:\n    def x(self):\n        return 1\n");
	expect_error(
	    patch(b, "f.py",
		"*** Begin Patch\n*** Update File: f.py\n@@\n-        return 1\n+        return 2\n*** End Patch"),
	    "not_unique");
	expect_error(patch(b, "f.py",
			 "*** Begin Patch\n*** Update File: f.py\n@@     def x(self):\n-        return 1\n+        "
			 "return 2\n*** End Patch"),
	    "not_unique");
	expect_error(patch(b, "f.py",
			 "*** Begin Patch\n*** Update File: f.py\n@@ class C:\n-        return 1\n+        return "
			 "2\n*** End Patch"),
	    "no_match");
	expect_success(call(b, "apply_patch",
	    "{\"input\":\"*** Begin Patch\\n*** Update File: f.py\\n@@ class B:\\n@@     def x(self):\\n-        "
	    "return "
	    "1\\n+        return 2\\n*** End Patch\\n\"}"));
	assert_file(b, "f.py",
	    "class A:\n    def x(self):\n        return 1\n\nclass B:\n    def x(self):\n        return 2\n");
	expect_success(patch(b, "f.py",
	    "*** Begin Patch\n*** Update File: f.py\n@@ class A:\n     def x(self):\n-        return 1\n+        "
	    "return 3\n"
	    "@@\n     def x(self):\n         return 2\n+\n+    def y(self):\n+        pass\n*** End of File\n*** End "
	    "Patch\n"));
	assert_file(b, "f.py",
	    "class A:\n    def x(self):\n        return 3\n\nclass B:\n    def x(self):\n        return 2\n\n    def "
	    "y(self):\n"
	    "        pass\n");
	/* Without "@@"; at the end only; behind an anchor. */
	put_text(b, "g", "a\nb\na\n");
	expect_success(patch(b, "g", "*** Begin Patch\n*** Update File: g\n b\n-a\n+c\n*** End Patch"));
	assert_file(b, "g", "a\nb\nc\n");
	put_text(b, "g", "a\nb\na\n");
	expect_success(
	    patch(b, "g", "*** Begin Patch\n*** Update File: g\n@@\n-a\n+c\n*** End of File\n*** End Patch"));
	assert_file(b, "g", "a\nb\nc\n");
	expect_success(patch(b, "g", "*** Begin Patch\n*** Update File: ./g\n@@ b\n+bb\n*** End Patch"));
	assert_file(b, "g", "a\nb\nbb\nc\n");
	expect_success(patch(b, "g", "*** Begin Patch\n*** Update File: g\n@@\n+end\n*** End Patch"));
	assert_file(b, "g", "a\nb\nbb\nc\nend\n");
}

/* A file of equal lines and a hunk that nearly fits everywhere must not take for ever. */
static void test_work_is_bounded(void **state)
{
	struct strbuf text = STRBUF(1 << 24), diff = STRBUF(1 << 24);
	struct patch p;
	struct refusal r;
	char *out;

	for (int i = 0; i < 200000; i++)
		strbuf_adds(&text, "x\n");
	strbuf_adds(&diff, "@@ -1,1 +1,1 @@\n");
	for (int i = 0; i < 100000; i++)
		strbuf_adds(&diff, " x\n");
	strbuf_adds(&diff, "-y\n+z\n");
	assert_int_equal(patch_parse(strbuf_str(&diff), &p, &r), OK);
	assert_int_equal(patch_apply(&p, strbuf_str(&text), 1 << 24, &out, &r), ERR_INVALID);
	assert_string_equal(r.code, "too_large");
	patch_fini(&p);
	assert_int_equal(patch_parse("@@ -0,0 +1,1 @@\n+123456789\n", &p, &r), OK);
	assert_int_equal(patch_apply(&p, "", 9, &out, &r), ERR_INVALID);
	assert_string_equal(r.code, "too_large");
	patch_fini(&p);
	strbuf_fini(&text);
	strbuf_fini(&diff);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_bench, teardown_bench)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_unified), T(test_numbers_may_be_off),
	    T(test_mismatch_changes_nothing), T(test_malformed), T(test_line_ends), T(test_new_file), T(test_envelope),
	    cmocka_unit_test(test_work_is_bounded)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
