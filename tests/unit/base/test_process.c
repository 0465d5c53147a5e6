/* A signal goes to the process that was meant, not to another one with its number. */
#include "base/errors.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/text.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t start_of(pid_t pid)
{
	AUTO_STR path = str_printf("/proc/%d/stat", (int)pid);
	AUTO_STR text = NULL;
	size_t len;

	assert_int_equal(text_read_file(path, 4096, &text, &len), OK);
	return process_start_of(text);
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	assert_true(pid > 0);
	return pid;
}

static void the_one_that_was_meant(void **state)
{
	pid_t pid = sleeper();
	uint64_t start = start_of(pid);
	int status;

	assert_true(start > 0);
	/* As if the number had been another process's when it was looked at. */
	assert_false(process_signal(pid, start - 1, SIGKILL));
	assert_false(process_signal(pid, 0, SIGKILL));
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_true(process_signal(pid, start, 0));
	assert_true(process_signal(pid, start, SIGKILL));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_false(process_signal(pid, start, SIGKILL));
	/* Groups and everybody are not meant by a process. */
	assert_false(process_signal(0, start, 0));
	assert_false(process_signal(-1, start, 0));
}

static void what_stat_says(void **state)
{
	assert_int_equal(process_start_of("7 (sh) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9"), 4711);
	/* A program may be called as it likes. */
	assert_int_equal(process_start_of("7 (a) S 1 2 3) R 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12 9 9"), 12);
	assert_int_equal(process_start_of(""), 0);
	assert_int_equal(process_start_of("7 (sh) S 1 7"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_one_that_was_meant), cmocka_unit_test(what_stat_says)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
