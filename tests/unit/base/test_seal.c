/* Sealed texts: what opens them, and what does not. */
#include "base/seal.h"
#include "base/mem.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[96];

static int make_folder(void **state)
{
	snprintf(folder, sizeof folder, "/tmp/bullpen-seal-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(path, sizeof path, "%s/secret.key", folder);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(path);
	return rmdir(folder);
}

static void write_file(const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	assert_int_equal(chmod(path, mode), 0);
}

static void opens_with_the_same_key_and_place(void **state)
{
	struct seal *one = NULL, *again = NULL;
	struct why why = {0};
	struct stat st;
	char *sealed, *second, *plain = NULL;

	assert_int_equal(seal_load(path, true, &one, &why), OK);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	sealed = seal_text(one, "env/bc-1/", "{\"A\":\"secret\"}");
	second = seal_text(one, "env/bc-1/", "{\"A\":\"secret\"}");
	assert_string_not_equal(sealed, second);
	assert_null(strstr(sealed, "secret"));
	assert_int_equal(seal_load(path, false, &again, &why), OK);
	assert_int_equal(seal_open(again, "env/bc-1/", sealed, &plain), OK);
	assert_string_equal(plain, "{\"A\":\"secret\"}");
	str_wipe(&plain);
	assert_null(plain);
	free(sealed);
	free(second);
	seal_free(&one);
	seal_free(&again);
}

static void does_not_open_elsewhere_or_changed(void **state)
{
	struct seal *s = NULL, *other = NULL;
	struct why why = {0};
	char *sealed, *plain = NULL;

	assert_int_equal(seal_load(path, true, &s, &why), OK);
	unlink(path);
	assert_int_equal(seal_load(path, true, &other, &why), OK);
	sealed = seal_text(s, "env/bc-1/", "x");
	assert_int_equal(seal_open(s, "env/bc-2/", sealed, &plain), ERR_INTERNAL);
	assert_int_equal(seal_open(other, "env/bc-1/", sealed, &plain), ERR_INTERNAL);
	for (size_t i = 0; i < strlen(sealed); i++) {
		char was = sealed[i];

		sealed[i] = was == 'A' ? 'B' : 'A';
		assert_int_equal(seal_open(s, "env/bc-1/", sealed, &plain), ERR_INTERNAL);
		sealed[i] = '*';
		assert_int_equal(seal_open(s, "env/bc-1/", sealed, &plain), ERR_INTERNAL);
		sealed[i] = was;
	}
	assert_int_equal(seal_open(s, "env/bc-1/", "", &plain), ERR_INTERNAL);
	assert_null(plain);
	free(sealed);
	seal_free(&s);
	seal_free(&other);
}

static void refuses_a_file_that_is_no_key(void **state)
{
	static const char good[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
	struct seal *s = NULL;
	struct why why = {0};

	assert_int_equal(seal_load(path, false, &s, &why), ERR_IO);
	assert_non_null(strstr(why.text, path));
	write_file("short\n", 0600);
	assert_int_equal(seal_load(path, true, &s, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "64 hexadecimal digits"));
	write_file(good, 0640);
	assert_int_equal(seal_load(path, true, &s, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "chmod 600"));
	write_file(good, 0400);
	assert_int_equal(seal_load(path, true, &s, &why), OK);
	seal_free(&s);
	assert_null(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(opens_with_the_same_key_and_place, make_folder, remove_folder),
	    cmocka_unit_test_setup_teardown(does_not_open_elsewhere_or_changed, make_folder, remove_folder),
	    cmocka_unit_test_setup_teardown(refuses_a_file_that_is_no_key, make_folder, remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
