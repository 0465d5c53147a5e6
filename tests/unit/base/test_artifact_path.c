/* What the path of an artifact may be: at each limit and one over it. */
#include "base/artifact_path.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void good_ones(void **state)
{
	static const char *const good[] = {"artifacts/a", "artifacts/a/b/c.txt", "artifacts/...", "artifacts/..a/b..",
	    "artifacts/ ", "artifacts/\"';--<b>", "artifacts/za\xc5\xbc\xc3\xb3\xc5\x82\xc4\x87 \xf0\x9f\xa6\x86"};
	struct why why;

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(artifact_path_check(good[i], &why), OK);
}

static void bad_ones(void **state)
{
	static const char *const bad[] = {"", "a", "artifacts", "artifacts/", "/artifacts/a", "artifactsx/a",
	    "artifacts/../a", "artifacts/..", "artifacts/./a", "artifacts/a/.", "artifacts//a", "artifacts/a/",
	    "artifacts/a\\b", "artifacts/a\nb", "artifacts/a\x1b[2J", "artifacts/a\x7f", "artifacts/\xff",
	    "artifacts/\xc0\xaf", "../artifacts/a", "/opt/cursor/artifacts/a"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct why why = {""};

		assert_int_equal(artifact_path_check(bad[i], &why), ERR_INVALID);
		assert_true(why.text[0] != '\0');
	}
}

static void the_length(void **state)
{
	char path[ARTIFACT_PATH_MAX + 2];
	struct why why;

	memset(path, 'x', sizeof path);
	memcpy(path, "artifacts/", 10);
	path[ARTIFACT_PATH_MAX] = '\0';
	assert_int_equal(artifact_path_check(path, &why), OK);
	path[ARTIFACT_PATH_MAX] = 'x';
	path[ARTIFACT_PATH_MAX + 1] = '\0';
	assert_int_equal(artifact_path_check(path, &why), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(good_ones), cmocka_unit_test(bad_ones), cmocka_unit_test(the_length)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
