/* A session whose programs run in a box, at the best level that this machine allows. */
#include "workbench.h"
#include "agent/box/box.h"

static struct boxes *boxes;

static int setup_boxed(void **state)
{
	struct bench *b = NEW(struct bench);

	bench_open(b);
	session_free(&b->session);
	b->session = session_new(
	    &(struct session_config){.roots = b->roots, .n_roots = 1, .state_dir = b->state, .boxes = boxes});
	bench_agent(b, "bc-test");
	*state = b;
	return 0;
}

static int close_boxed(void **state)
{
	struct bench *b = *state;

	bench_close(b);
	free(b);
	return 0;
}

static void test_commands(void **state)
{
	struct bench *b = *state;
	AUTO_STR want = str_printf("%s\n", b->root);
	struct tool_call c = call(b, "run_terminal_cmd", "{\"command\":\"pwd; echo err >&2; echo x > made\"}");

	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(field(&c, "stdout"), want);
	assert_string_equal(field(&c, "stderr"), "err\n");
	assert_file(b, "made", "x\n");
	tool_call_fini(&c);
	c = call(b, "run_terminal_cmd", "{\"command\":\"kill -TERM $$\"}");
	assert_string_equal(field(&c, "signal"), "SIGTERM");
	tool_call_fini(&c);
	c = call(b, "run_terminal_cmd", "{\"command\":\"env\"}");
	assert_non_null(strstr(field(&c, "stdout"), "CURSOR_CONVERSATION_ID=bc-test\n"));
	tool_call_fini(&c);
	put_text(b, "text", "needle\n");
	c = call(b, "grep_search", "{\"query\":\"needle\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_non_null(strstr(c.model_text, "needle"));
	tool_call_fini(&c);
}

/* A folder that only the session has is one for later calls too. */
static void test_folder_of_its_own(void **state)
{
	struct bench *b = *state;
	AUTO_STR dir = str_printf("/tmp/own-%d", (int)getpid());
	struct tool_call c = call(b, "run_terminal_cmd", "{\"command\":\"mkdir %s\"}", dir);
	AUTO_STR want = str_printf("%s\n", dir);

	assert_outcome(&c, TOOL_SUCCESS);
	tool_call_fini(&c);
	c = call(b, "run_terminal_cmd", "{\"command\":\"pwd\",\"workingDirectory\":\"%s\"}", dir);
	assert_string_equal(field(&c, "stdout"), want);
	tool_call_fini(&c);
	if (session_has_own_view(b->session))
		assert_int_not_equal(access(dir, F_OK), 0);
	else
		rmdir(dir);
	expect_error(call(b, "run_terminal_cmd", "{\"command\":\"pwd\",\"cwd\":\"/nowhere\"}"), "not_found");
	expect_error(call(b, "run_terminal_cmd", "{\"command\":\"pwd\",\"cwd\":\"/nowhere\",\"isBackground\":true}"),
	    "not_found");
}

/* Its pid is one that the session's programs can use. */
static void test_background(void **state)
{
	struct bench *b = *state;
	struct tool_call c = call(b, "run_terminal_cmd", "{\"command\":\"exec sleep 300\",\"isBackground\":true}");
	int pid = (int)number(&c, "pid");

	assert_outcome(&c, TOOL_SUCCESS);
	tool_call_fini(&c);
	c = call(b, "run_terminal_cmd",
	    "{\"command\":\"until grep -q sleep /proc/%d/comm; do sleep 0.01; done; kill %d\"}", pid, pid);
	assert_outcome(&c, TOOL_SUCCESS);
	tool_call_fini(&c);
}

static void test_timeout(void **state)
{
	struct bench *b = *state;
	struct tool_call c = call(b, "run_terminal_cmd",
	    "{\"command\":\"sleep 300 & (setsid sleep 300 &); env -i setsid sh -c 'trap \\\"\\\" TERM; echo > ready; "
	    "while :; do /bin/sleep 1; done' & while ! [ -e ready ]; do sleep 0.01; done; wait\",\"timeout\":1500}");

	assert_outcome(&c, TOOL_FAILURE);
	assert_true(json_is_true(json_object_get(c.result, "timedOut")));
	tool_call_fini(&c);
	c = call(b, "run_terminal_cmd",
	    "{\"command\":\"ps -eo args | grep -c '^sleep 30[0]'; ps -eo args | grep -c 'trap  *[T]ERM'\"}");
	if (session_has_own_view(b->session))
		assert_string_equal(field(&c, "stdout"), "0\n0\n");
	tool_call_fini(&c);
}

/* 300 KiB, which no argument can have; the file of it is gone afterwards. */
static void test_long_command(void **state)
{
	struct bench *b = *state;
	size_t len = 300 * 1024;
	AUTO_STR filler = mem_alloc(len + 1);
	struct tool_call c;

	memset(filler, 'x', len);
	filler[len] = '\0';
	c = call(b, "run_terminal_cmd",
	    "{\"command\":\"v=%s; echo ${#v}; ls $CURSOR_AGENT_SCRATCH | grep -c command; exit 3\"}", filler);
	assert_outcome(&c, TOOL_FAILURE);
	assert_int_equal(number(&c, "exitCode"), 3);
	assert_string_equal(field(&c, "stdout"), "307200\n1\n");
	tool_call_fini(&c);
	c = call(b, "run_terminal_cmd", "{\"command\":\"ls $CURSOR_AGENT_SCRATCH | grep -c command; true\"}");
	assert_string_equal(field(&c, "stdout"), "0\n");
	tool_call_fini(&c);
}

static void test_resources(void **state)
{
	struct bench *b = *state;
	struct session_publish want = {.message = "m", .author_name = "n", .author_email = "e@x"};
	struct tool_call c =
	    call(b, "run_terminal_cmd", "{\"command\":\"i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done\"}");
	json_t *info = NULL, *resources;
	struct why why;

	tool_call_fini(&c);
	assert_int_equal(session_publish(b->session, &want, -1, INT64_MAX, &info, &why), OK);
	resources = json_object_get(info, "resources");
	assert_true(json_integer_value(json_object_get(resources, "cpuMs")) > 0);
	assert_true(json_integer_value(json_object_get(resources, "peakMemoryBytes")) > 0);
	assert_true(json_is_integer(json_object_get(resources, "writtenBytes")));
	json_decref(info);
	/* A new run of the same agent counts from its beginning. */
	bench_agent(b, "bc-test");
	assert_int_equal(session_publish(b->session, &want, -1, INT64_MAX, &info, &why), OK);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(info, "resources"), "cpuMs")), 0);
	json_decref(info);
}

static void test_info(void **state)
{
	struct bench *b = *state;
	struct session_open want = {.agent_id = "bc-test", .repo_url = "", .starting_ref = "", .branch = ""};
	json_t *info = NULL;
	struct why why;

	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &why), OK);
	assert_string_equal(json_string_value(json_object_get(info, "isolation")), box_level_name(boxes_level(boxes)));
	json_decref(info);
	assert_int_equal(box_level(session_box(b->session)), boxes_level(boxes));
	session_close(b->session);
	assert_null(session_box(b->session));
}

#define B(f) cmocka_unit_test_setup_teardown(f, setup_boxed, close_boxed)

int main(void)
{
	const struct CMUnitTest tests[] = {B(test_commands), B(test_folder_of_its_own), B(test_background),
	    B(test_timeout), B(test_long_command), B(test_resources), B(test_info)};
	struct why why = {""};
	int failed;

	if (boxes_start(BOX_NAMESPACE, false, &boxes, &why) != OK) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	boxes_free(&boxes);
	return failed;
}
