/* Programs and what they leave behind: the shell tool and the end of a session. */
#include "workbench.h"
#include <signal.h>

/* Looks until the condition holds or 10 s passed. */
#define wait_until(cond)                                                                                               \
	do {                                                                                                           \
		int64_t end_ = clock_mono_ms() + 10000;                                                                \
		while (!(cond) && clock_mono_ms() < end_)                                                              \
			poll(NULL, 0, 5);                                                                              \
		assert_true(cond);                                                                                     \
	} while (0)

/* A process that is gone, or only waits to be reaped. */
static bool is_gone(pid_t pid)
{
	AUTO_STR path = str_printf("/proc/%d/stat", (int)pid);
	AUTO_STR text = NULL;
	size_t len;

	if (text_read_file(path, 4096, &text, &len) != OK)
		return true;
	return strrchr(text, ')') != NULL && strncmp(strrchr(text, ')'), ") Z", 3) == 0;
}

static bool file_has_lines(struct bench *b, const char *rel, int64_t n)
{
	AUTO_STR path = str_printf("%s/%s", b->root, rel);
	AUTO_STR text = NULL;
	size_t len;

	if (text_read_file(path, 65536, &text, &len) != OK)
		return false;
	for (size_t i = 0; i < len; i++)
		n -= text[i] == '\n';
	return n <= 0;
}

/* Every pid in the file must be gone. */
/* One id a line. */
static void assert_gone(const char *text)
{
	int n = 0;

	for (const char *at = text; *at != '\0'; at = strchr(at, '\n') + 1, n++)
		if (!is_gone((pid_t)strtol(at, NULL, 10)))
			fail_msg("process %.10s is still there", at);
	assert_true(n > 0);
}

static void assert_all_gone(struct bench *b, const char *rel)
{
	AUTO_STR text = get_text(b, rel);

	assert_gone(text);
}

static void test_exit_codes_and_output(void **state)
{
	struct tool_call c = call(*state, "run_terminal_cmd", "{\"command\":\"echo out; echo err >&2\"}");

	assert_outcome(&c, TOOL_SUCCESS);
	assert_int_equal(number(&c, "exitCode"), 0);
	assert_string_equal(field(&c, "stdout"), "out\n");
	assert_string_equal(field(&c, "stderr"), "err\n");
	assert_non_null(strstr(field(&c, "interleavedOutput"), "out\n"));
	assert_string_equal(field(&c, "workingDirectory"), ((struct bench *)*state)->root);
	assert_non_null(strstr(c.model_text, "Exit status: 0"));
	assert_string_equal(json_string_value(json_object_get(c.sdk_result, "signal")), "");
	assert_true(json_is_integer(json_object_get(c.sdk_result, "executionTime")));
	tool_call_fini(&c);
	c = call(*state, "Shell", "{\"command\":\"exit 7\"}");
	assert_outcome(&c, TOOL_FAILURE);
	assert_int_equal(number(&c, "exitCode"), 7);
	tool_call_fini(&c);
	c = call(*state, "bash", "{\"command\":\"kill -SEGV $$\"}");
	assert_outcome(&c, TOOL_FAILURE);
	assert_string_equal(field(&c, "signal"), "SIGSEGV");
	assert_int_equal(number(&c, "exitCode"), 128 + SIGSEGV);
	tool_call_fini(&c);
}

static void test_environment(void **state)
{
	struct tool_call c;

	setenv("CURSOR_API_KEY", "k", 1);
	setenv("CURSOR_AUTH_TOKEN", "k", 1);
	setenv("CI", "true", 1);
	setenv("OTHER_NAME", "s3cret-value", 1);
	setenv("HARMLESS", "yes", 1);
	exec_hide_secret("s3cret-value");
	c = call(*state, "run_terminal_cmd",
	    "{\"command\":\"env; ps -o tty= -p $$ 2>/dev/null; readlink /proc/self/fd/0; ls -l /proc/$$/fd | wc -l\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_null(strstr(field(&c, "stdout"), "CURSOR_API_KEY"));
	assert_null(strstr(field(&c, "stdout"), "CURSOR_AUTH_TOKEN"));
	assert_null(strstr(field(&c, "stdout"), "OTHER_NAME"));
	assert_null(strstr(field(&c, "stdout"), "\nCI="));
	assert_non_null(strstr(field(&c, "stdout"), "HARMLESS=yes\n"));
	assert_non_null(strstr(field(&c, "stdout"), "GIT_PAGER=cat\n"));
	assert_non_null(strstr(field(&c, "stdout"), "TERM=dumb\n"));
	assert_non_null(strstr(field(&c, "stdout"), "CURSOR_AGENT=1\n"));
	assert_non_null(strstr(field(&c, "stdout"), "CURSOR_CONVERSATION_ID=bc-test\n"));
	assert_non_null(strstr(field(&c, "stdout"), "/dev/null\n"));
	tool_call_fini(&c);
}

static void test_no_descriptor_leaks(void **state)
{
	/* Not even one that lacks O_CLOEXEC. */
	int fd = open("/etc/passwd", O_RDONLY);
	struct tool_call c = call(*state, "run_terminal_cmd", "{\"command\":\"ls -l /proc/self/fd\"}");

	close(fd);
	assert_outcome(&c, TOOL_SUCCESS);
	assert_null(strstr(field(&c, "stdout"), "passwd"));
	tool_call_fini(&c);
}

static void test_working_directory(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	SH(b, "mkdir -p work/sub");
	c = call(b, "run_terminal_cmd", "{\"command\":\"pwd\",\"working_directory\":\"sub\"}");
	AUTO_STR want = str_printf("%s/sub\n", b->root);

	assert_string_equal(field(&c, "stdout"), want);
	tool_call_fini(&c);
	c = call(b, "run_terminal_cmd", "{\"command\":\"pwd\",\"workingDirectory\":\"/\"}");
	assert_string_equal(field(&c, "stdout"), "/\n");
	tool_call_fini(&c);
	AUTO_STR home = str_dup(getenv("HOME"));

	setenv("HOME", b->root, 1);
	c = call(b, "run_terminal_cmd", "{\"command\":\"pwd\",\"workingDirectory\":\"~/sub\"}");
	assert_string_equal(field(&c, "stdout"), want);
	tool_call_fini(&c);
	if (home != NULL)
		setenv("HOME", home, 1);
	expect_error(call(b, "run_terminal_cmd", "{\"command\":\"pwd\",\"cwd\":\"nowhere\"}"), "not_found");
	expect_error(call(b, "run_terminal_cmd", "{\"command\":\"\"}"), "invalid_arguments");
	expect_error(call(b, "run_terminal_cmd", "{\"command\":\"true\",\"timeout\":0}"), "invalid_arguments");
	expect_error(call(b, "run_terminal_cmd", "{\"command\":\"true\",\"timeout\":\"soon\"}"), "invalid_arguments");
}

/* A plain child, one that called setsid, one forked twice, and one that ignores TERM. */
#define FAMILY                                                                                                         \
	"echo $$ >> pids; sleep 300 & echo $! >> pids; setsid sh -c 'echo $$ >> pids; exec sleep 300' & "              \
	"(setsid sh -c 'echo $$ >> pids; exec sleep 300' &) ; "                                                        \
	"(setsid sh -c 'trap \\\"\\\" TERM; echo $$ >> pids; while :; do sleep 300; done' &); "                        \
	"env -i PATH=\\\"$PATH\\\" setsid sh -c 'echo $$ >> pids; exec sleep 300' & "                                  \
	"while [ $(wc -l < pids) -lt 6 ]; do sleep 0.01; done; "

static void test_timeout_takes_the_family(void **state)
{
	struct bench *b = *state;
	struct tool_call c = call(b, "run_terminal_cmd", "{\"command\":\"" FAMILY " wait\",\"timeout\":1500}");

	assert_outcome(&c, TOOL_FAILURE);
	assert_true(json_is_true(json_object_get(c.result, "timedOut")));
	assert_true(number(&c, "executionTime") < 6000);
	assert_non_null(strstr(c.model_text, "Timed out"));
	assert_true(file_has_lines(b, "pids", 6));
	assert_all_gone(b, "pids");
	tool_call_fini(&c);
}

/* It wiped its environment, and TERM ends its parent but not itself. */
static void test_timeout_takes_who_outlives_its_parent(void **state)
{
	struct bench *b = *state;
	struct tool_call c = call(b, "run_terminal_cmd",
	    "{\"command\":\"env -i PATH=\\\"$PATH\\\" setsid sh -c 'trap \\\"\\\" TERM; echo $$ >> pids; while :; do "
	    "sleep 300; "
	    "done' & while ! [ -e pids ]; do sleep 0.01; done; wait\",\"timeout\":1000}");

	assert_true(json_is_true(json_object_get(c.result, "timedOut")));
	tool_call_fini(&c);
	wait_until(file_has_lines(b, "pids", 1));
	assert_all_gone(b, "pids");
}

/* 300 KiB, which no argument can have. */
static void test_long_command(void **state)
{
	size_t len = 300 * 1024;
	AUTO_STR filler = mem_alloc(len + 1);
	struct exec_result r;
	struct tool_call c;
	struct why why;

	memset(filler, 'x', len);
	filler[len] = '\0';
	c = call(*state, "run_terminal_cmd", "{\"command\":\"v=%s; echo ${#v}\"}", filler);
	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(field(&c, "stdout"), "307200\n");
	tool_call_fini(&c);
	c = call(*state, "run_terminal_cmd", "{\"command\":\"ls $CURSOR_AGENT_SCRATCH | wc -l\"}");
	assert_string_equal(field(&c, "stdout"), "0\n");
	tool_call_fini(&c);
	/* Nowhere to write it. */
	assert_int_equal(exec_run(&EXEC_SPEC(.command = filler), &r, &why), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "307200 bytes"));
}

struct canceller {
	struct bench *b;
	int64_t at_ms;
};

static void *cancel_when_ready(void *arg)
{
	struct canceller *k = arg;
	int64_t end = clock_mono_ms() + 10000;

	while (!file_has_lines(k->b, "ready", 1) && clock_mono_ms() < end)
		poll(NULL, 0, 5);
	k->at_ms = clock_mono_ms();
	IGNORE(write(k->b->cancel[1], "x", 1));
	return NULL;
}

static void test_cancel_takes_the_family_within_2s(void **state)
{
	struct bench *b = *state;
	struct canceller k = {.b = b};
	struct tool_call c;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, cancel_when_ready, &k), 0);
	c = call(b, "run_terminal_cmd", "{\"command\":\"echo begun; " FAMILY " echo x > ready; wait\"}");
	pthread_join(t, NULL);
	assert_true(clock_mono_ms() - k.at_ms < 2500);
	assert_all_gone(b, "pids");
	assert_string_equal(field(&c, "stdout"), "begun\n");
	assert_true(json_is_true(json_object_get(c.result, "aborted")));
	assert_non_null(strstr(c.model_text, "begun"));
	expect_error(c, "cancelled");
}

static void test_cancelled_before_it_began(void **state)
{
	struct bench *b = *state;

	assert_int_equal(write(b->cancel[1], "x", 1), 1);
	expect_error(call(b, "run_terminal_cmd", "{\"command\":\"touch it-ran\"}"), "cancelled");
	SH(b, "test ! -e work/it-ran");
}

static void test_child_that_keeps_the_pipe_does_not_hang(void **state)
{
	struct bench *b = *state;
	struct tool_call c = call(b, "run_terminal_cmd", "{\"command\":\"sleep 300 & echo $! > pid; echo done\"}");

	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(field(&c, "stdout"), "done\n");
	assert_true(number(&c, "executionTime") < 5000);
	tool_call_fini(&c);
	AUTO_STR pid = get_text(b, "pid");
	assert_false(is_gone((pid_t)strtol(pid, NULL, 10)));
	session_close(b->session, NULL);
	assert_true(is_gone((pid_t)strtol(pid, NULL, 10)));
}

static void test_noisy_child_does_not_hang(void **state)
{
	struct tool_call c = call(*state, "run_terminal_cmd", "{\"command\":\"yes & echo done\"}");

	assert_outcome(&c, TOOL_SUCCESS);
	assert_true(number(&c, "executionTime") < 10000);
	tool_call_fini(&c);
}

static void test_background_ends_with_the_session(void **state)
{
	struct bench *b = *state;
	struct tool_call c = call(b, "run_terminal_cmd",
	    "{\"command\":\"echo hello; (setsid sleep 300 & echo $! > pids); echo $$ >> pids; sleep "
	    "300\",\"is_background\":true}");
	AUTO_STR log = NULL;
	AUTO_STR scratch = str_dup(session_scratch_dir(b->session));
	struct stat st;

	assert_outcome(&c, TOOL_SUCCESS);
	assert_true(strlen(field(&c, "shellId")) > 0);
	assert_true(number(&c, "pid") > 1);
	log = str_dup(field(&c, "logPath"));
	assert_true(text_has_prefix(log, scratch));
	wait_until(stat(log, &st) == 0 && st.st_size == 6);
	wait_until(file_has_lines(b, "pids", 2));
	expect_success(call(b, "read_file", "{\"path\":\"%s\"}", log));
	assert_false(is_gone((pid_t)number(&c, "pid")));
	AUTO_STR pids = get_text(b, "pids");
	session_close(b->session, NULL);
	assert_true(is_gone((pid_t)number(&c, "pid")));
	assert_gone(pids);
	assert_int_not_equal(stat(scratch, &st), 0);
	assert_string_equal(session_agent_id(b->session), "");
	tool_call_fini(&c);
}

static void test_another_worker_with_the_same_agent_is_left_alone(void **state)
{
	struct bench *b = *state;
	AUTO_STR other_state = str_printf("%s/state2", b->dir);
	struct session *other =
	    session_new(&(struct session_config){.roots = b->roots, .n_roots = 1, .state_dir = other_state});
	struct session *mine = b->session;
	struct tool_call c;
	pid_t pid;

	b->session = other;
	bench_agent(b, "bc-test");
	c = call(b, "run_terminal_cmd", "{\"command\":\"sleep 300\",\"isBackground\":true}");
	assert_outcome(&c, TOOL_SUCCESS);
	pid = (pid_t)number(&c, "pid");
	tool_call_fini(&c);
	b->session = mine;
	session_close(mine, NULL);
	assert_false(is_gone(pid));
	session_free(&other);
	assert_true(is_gone(pid));
}

/* A worker that was killed leaves processes; its successor's session ends them. */
static void test_leftovers_of_a_killed_worker(void **state)
{
	struct bench *b = *state;
	struct session *next =
	    session_new(&(struct session_config){.roots = b->roots, .n_roots = 1, .state_dir = b->state});
	struct session *killed = b->session;
	struct tool_call c = call(b, "run_terminal_cmd", "{\"command\":\"sleep 300\",\"isBackground\":true}");
	pid_t pid = (pid_t)number(&c, "pid");

	tool_call_fini(&c);
	b->session = next;
	bench_agent(b, "bc-test");
	session_close(next, NULL);
	assert_true(is_gone(pid));
	session_free(&killed);
}

static void count_bytes(void *ctx, int stream, const void *data, size_t len)
{
	uint64_t *total = ctx;

	assert_int_equal(stream, 1);
	*total += len;
}

static void test_100_mib_stay_bounded(void **state)
{
	struct bench *b = *state;
	struct tool_call c;
	uint64_t total = 0;

	call_init(b, &c);
	c.on_output = count_bytes;
	c.on_output_ctx = &total;
	tool_run(&c, "run_terminal_cmd",
	    "{\"command\":\"echo first; head -c 104857600 /dev/zero | tr '\\\\0' a; echo; echo last\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_int_equal(total, 104857600 + 6 + 1 + 5);
	assert_true(json_is_true(json_object_get(c.result, "truncated")));
	assert_true(strlen(field(&c, "stdout")) <= EXEC_OUT_MAX + 200);
	assert_true(strlen(field(&c, "stdout")) >= EXEC_OUT_MAX);
	assert_true(text_has_prefix(field(&c, "stdout"), "first\naaa"));
	assert_true(text_has_suffix(field(&c, "stdout"), "a\nlast\n"));
	assert_non_null(strstr(field(&c, "stdout"), "bytes left out ...]"));
	assert_true(strlen(c.model_text) <= 32 * 1024);
	assert_non_null(strstr(c.model_text, "first"));
	assert_true(text_has_suffix(c.model_text, "last\n"));
	tool_call_fini(&c);
}

static void test_invalid_utf8_is_replaced(void **state)
{
	struct tool_call c =
	    call(*state, "run_terminal_cmd", "{\"command\":\"printf 'a\\\\377b\\\\0c\\\\303\\\\251'\"}");

	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(field(&c, "stdout"), "a\xef\xbf\xbd"
						 "b\xef\xbf\xbd"
						 "c\xc3\xa9");
	assert_true(text_is_utf8(c.model_text, strlen(c.model_text)));
	tool_call_fini(&c);
	c = call(*state, "run_terminal_cmd", "{\"command\":\"head -c 3000000 /dev/zero | tr '\\\\0' '\\\\377'\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_true(strlen(field(&c, "stdout")) <= EXEC_OUT_MAX + 400);
	assert_true(text_is_utf8(field(&c, "stdout"), strlen(field(&c, "stdout"))));
	tool_call_fini(&c);
}

static void test_missing_program(void **state)
{
	struct exec_result r;
	struct why why;
	const char *argv[] = {"no-such-program-here", NULL};

	assert_int_equal(exec_run(&EXEC_SPEC(.argv = argv), &r, &why), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, "no-such-program-here"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_bench, teardown_bench)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_exit_codes_and_output), T(test_environment),
	    T(test_no_descriptor_leaks), T(test_working_directory), T(test_timeout_takes_the_family),
	    T(test_timeout_takes_who_outlives_its_parent), T(test_long_command),
	    T(test_cancel_takes_the_family_within_2s), T(test_cancelled_before_it_began),
	    T(test_child_that_keeps_the_pipe_does_not_hang), T(test_noisy_child_does_not_hang),
	    T(test_background_ends_with_the_session), T(test_another_worker_with_the_same_agent_is_left_alone),
	    T(test_leftovers_of_a_killed_worker), T(test_100_mib_stay_bounded), T(test_invalid_utf8_is_replaced),
	    T(test_missing_program)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
