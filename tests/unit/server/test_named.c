/* What a prompt may name, and what is kept of the answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/mem.h"
#include "server/runs/named.h"
#include <string.h>

#define assert_named(prompt, want)                                                                                     \
	do {                                                                                                           \
		AUTO_JSON got_ = named_in_prompt(prompt);                                                              \
		AUTO_STR text_ = json_text(got_);                                                                      \
		assert_string_equal(text_, want);                                                                      \
	} while (0)

static void test_candidates(void **state)
{
	assert_named("", "[]");
	assert_named("/a", "[\"/a\"]");
	assert_named("/a\n/b-1 now\n/a again\r\n/c\r\n", "[\"/a\",\"/b-1\",\"/c\"]");
	assert_named("/usr/bin\n /a\nx /a\n/\n//a\n/-x\n/a:b\n/ a", "[]");
	assert_named("@style and (@sub/c.mdc), @a.", "[\"@style\",\"@sub/c.mdc\",\"@a\"]");
	assert_named("me@x.org @ @@ @- @/ \"@q\"", "[\"@q\"]");
	assert_named("```\n/a\n@b\n```\n/c\n~~~ sh\n/d\n```\n/e\n~~~\n/f", "[\"/c\",\"/f\"]");
	assert_named("````\n```\n/a\n````\n/b\n   ```\n/never closed", "[\"/b\"]");
	assert_named("@\xff/a\n/\xc3\xa4", "[]");
}

static void test_there_are_bounds(void **state)
{
	struct strbuf b = STRBUF(1 << 20);
	AUTO_JSON many = NULL;
	AUTO_STR prompt = NULL;

	for (int i = 0; i < 300; i++)
		strbuf_addf(&b, "/n%d\n@m%d\n", i, i);
	strbuf_addc(&b, '/');
	for (int i = 0; i < 300; i++)
		strbuf_addc(&b, 'x');
	prompt = strbuf_take(&b);
	many = named_in_prompt(prompt);
	assert_int_equal(json_array_size(many), 50);
	assert_named(strrchr(prompt, '/'), "[]");
}

static void test_what_is_kept(void **state)
{
	AUTO_JSON answer = json_pack("[{s:s, s:s, s:s, s:s, s:s}, i, {s:i}]", "name", "/a", "kind", "skill", "path",
	    "p/SKILL.md", "text", "Do it.", "more", "x", 7, "text", 3);
	AUTO_JSON huge = NULL;
	AUTO_STR kept = named_take(answer);
	AUTO_STR below = named_append("Prompt", kept);
	AUTO_STR plain = named_append("Prompt", NULL);
	AUTO_STR damaged = named_append("Prompt", "{");
	char *text = mem_alloc(600 * 1024);

	assert_true(strncmp(below, "Prompt\n\n# /a: the skill p/SKILL.md\nDo it.", 41) == 0);
	assert_null(strstr(kept, "more"));
	assert_string_equal(plain, "Prompt");
	assert_string_equal(damaged, "Prompt");
	assert_null(named_take(NULL));
	memset(text, 'x', 600 * 1024 - 1);
	text[600 * 1024 - 1] = '\0';
	huge = json_pack("[{s:s, s:s, s:s, s:s}]", "name", "/a", "kind", "skill", "path", "p", "text", text);
	assert_null(named_take(huge));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_candidates), cmocka_unit_test(test_there_are_bounds),
	    cmocka_unit_test(test_what_is_kept)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
