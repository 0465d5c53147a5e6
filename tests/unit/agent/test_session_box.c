/* A session whose programs run in a box, at the best level that this machine allows. */
#include "workbench.h"
#include "agent/box/box.h"
#include "as_nobody.h"

static struct boxes *boxes;
static const char *shared[2];

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

/* Who asks the manager of the user's services to start something is out of the box. */
static void test_services_are_out_of_reach(void **state)
{
	struct bench *b = *state;
	AUTO_STR runtime = str_printf("%s/runtime", b->dir);
	AUTO_STR agent = str_printf("%s/runtime/ssh/agent", b->dir);
	AUTO_STR list = NULL;
	struct tool_call c;

	SH(b, "mkdir -p runtime/ssh && touch runtime/bus runtime/ssh/agent");
	setenv("XDG_RUNTIME_DIR", runtime, 1);
	setenv("SSH_AUTH_SOCK", agent, 1);
	session_close(b->session, NULL);
	bench_agent(b, "bc-test");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("SSH_AUTH_SOCK");
	c = call(b, "run_terminal_cmd", "{\"command\":\"cd %s && find * | sort\"}", runtime);
	if (session_has_own_view(b->session))
		assert_string_equal(field(&c, "stdout"), "ssh\nssh/agent\n");
	tool_call_fini(&c);
}

/* A workspace that holds the home folder: what tools and commands write is the same. */
static void test_home_in_the_workspace(void **state)
{
	struct bench *b = *state;
	AUTO_STR home = str_printf("%s/me", b->seed);
	AUTO_STR was = str_dup(getenv("HOME"));
	struct tool_call c;

	session_close(b->session, NULL);
	SH(b, "mkdir work/me");
	setenv("HOME", home, 1);
	bench_agent(b, "bc-test");
	c = call(b, "run_terminal_cmd", "{\"command\":\"echo x > ~/file\"}");
	setenv("HOME", was != NULL ? was : "/", 1);
	assert_outcome(&c, TOOL_SUCCESS);
	tool_call_fini(&c);
	assert_file(b, "me/file", "x\n");
}

static void test_resources(void **state)
{
	struct bench *b = *state;
	struct session_publish want = {.message = "m", .author_name = "n", .author_email = "e@x"};
	struct tool_call c =
	    call(b, "run_terminal_cmd", "{\"command\":\"i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done\"}");
	json_t *info = NULL, *resources;
	AUTO_FINI(session_failure) fail = {0};

	tool_call_fini(&c);
	assert_int_equal(session_publish(b->session, &want, -1, INT64_MAX, &info, &fail), OK);
	resources = json_object_get(info, "resources");
	assert_true(json_integer_value(json_object_get(resources, "cpuMs")) > 0);
	assert_true(json_integer_value(json_object_get(resources, "peakMemoryBytes")) > 0);
	assert_true(json_is_integer(json_object_get(resources, "writtenBytes")));
	json_decref(info);
	/* A new run of the same agent counts from its beginning. */
	bench_agent(b, "bc-test");
	assert_int_equal(session_publish(b->session, &want, -1, INT64_MAX, &info, &fail), OK);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(info, "resources"), "cpuMs")), 0);
	json_decref(info);
}

static void test_info(void **state)
{
	struct bench *b = *state;
	struct session_open want = {.agent_id = "bc-test", .repo_url = "", .starting_ref = "", .branch = ""};
	json_t *info = NULL;
	AUTO_FINI(session_failure) fail = {0};

	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &fail), OK);
	assert_string_equal(json_string_value(json_object_get(info, "isolation")), box_level_name(boxes_level(boxes)));
	json_decref(info);
	assert_int_equal(box_level(session_box(b->session)), boxes_level(boxes));
	session_close(b->session, NULL);
	assert_null(session_box(b->session));
}

/* A seed that is a clone of a real remote. */
static int setup_repo(void **state)
{
	struct bench *b = NEW(struct bench);

	bench_open(b);
	session_free(&b->session);
	SH(b,
	    "git init -q --bare -b main acme/web.git && cd work && git init -q -b main && git config user.name t && "
	    "git config user.email t@t && echo 1 > f && mkdir -p deep/er && echo 2 > "
	    "deep/er/g && git add . && git commit -qm one && git remote add origin %s/acme/web.git && git push -q "
	    "origin main && "
	    "echo '*.o' >> .git/info/exclude && echo cache > c.o && echo mine > private",
	    b->dir);
	shared[0] = b->dir; /* for its remote */
	b->session = session_new(&(struct session_config){
	    .roots = b->roots, .n_roots = 1, .state_dir = b->state, .boxes = boxes, .shared = shared});
	*state = b;
	return 0;
}

static json_t *open_repo(struct bench *b, const char *agent)
{
	AUTO_STR url = str_printf("%s/acme/web.git", b->dir);
	AUTO_STR branch = str_printf("cursor/%s", agent);
	struct session_open want = {.agent_id = agent, .repo_url = url, .starting_ref = "", .branch = branch};
	AUTO_FINI(session_failure) fail = {0};
	json_t *info = NULL;

	if (session_open(b->session, &want, -1, INT64_MAX, &info, &fail) != OK)
		fail_msg("%s", fail.why.text);
	bench_follow(b);
	return info;
}

static void ok_command(struct bench *b, const char *command)
{
	struct tool_call c = call(b, "run_terminal_cmd", "{\"command\":\"%s\"}", command);

	if (c.outcome != TOOL_SUCCESS)
		fail_msg("%s: %s", command, c.model_text);
	tool_call_fini(&c);
}

static void test_a_checkout_of_its_own(void **state)
{
	struct bench *b = *state;
	struct session_publish want = {.message = "m", .author_name = "n", .author_email = "e@x"};
	AUTO_FINI(session_failure) fail = {0};
	AUTO_JSON info = open_repo(b, "bc-1");
	AUTO_JSON done = NULL;
	json_t *published = NULL;

	/* Where the worker may mount, paths are those of the seed: what was built there works here. */
	if (boxes_may_mount(boxes)) {
		assert_string_equal(json_string_value(json_object_get(info, "workspace")), "overlay");
		assert_string_equal(b->root, b->seed);
	}
	ok_command(b, "test -e c.o && test ! -e private && test -z \\\"$(git status --porcelain)\\\"");
	ok_command(b, "echo more >> f && mv deep moved && git log -1 && git fetch -q && git commit -qam mine && echo x "
		      "> x && echo evil "
		      "> c.o");
	/* What the worker was given, its other sessions and what it keeps are not to be reached. */
	if (session_has_own_view(b->session)) {
		AUTO_STR other =
		    str_printf("! ls %s/.repos/*-own.git && ! touch %s/.repos/*/objects/x && ls %s | grep -v bc-1 | "
			       "wc -l",
			b->state, b->state, b->state);

		ok_command(b, other);
	}
	if (session_publish(b->session, &want, -1, INT64_MAX, &published, &fail) != OK)
		fail_msg("%s", fail.why.text);
	done = published;
	assert_true(json_is_true(json_object_get(done, "pushed")));
	AUTO_STR files = sh(b, "git -C acme/web.git ls-tree -r --name-only cursor/bc-1 | xargs");
	assert_string_equal(files, "f moved/er/g x");
	session_close(b->session, NULL);
	/* The seed is as it was. */
	AUTO_STR seed = sh(b,
	    "cd work && cat f c.o private deep/er/g && git status --porcelain && git log --format=%%s && git branch "
	    "--format='%%(refname)'");
	assert_string_equal(seed, "1\ncache\nmine\n2\n?? private\none\nrefs/heads/main");
	UNUSED AUTO_JSON next = open_repo(b, "bc-2");
	ok_command(b, "test $(cat c.o) = cache && test $(cat f) = 1 && test -e deep/er/g");
}

static void test_what_is_left_is_kept_and_put_back(void **state)
{
	struct bench *b = *state;
	json_t *kept = NULL;
	UNUSED AUTO_JSON info = open_repo(b, "bc-1");

	session_touch(b->session);
	ok_command(b, "echo half > f && git commit -qam half && echo done > f && rm -rf deep && (env -i setsid sh -c "
		      "'while :; do "
		      "/bin/sleep 0.1; echo late > late; done' &)");
	session_close(b->session, &kept);
	assert_non_null(kept);
	json_decref(kept);
	UNUSED AUTO_JSON other = open_repo(b, "bc-2");
	ok_command(b, "test $(cat f) = 1 && ! git cat-file -e bc-1 && test ! -e late");
	UNUSED AUTO_JSON back = open_repo(b, "bc-1");
	ok_command(b, "test $(cat f) = done && test ! -e deep && test $(git log -1 --format=%s) = half");
}

#define R(f) cmocka_unit_test_setup_teardown(f, setup_repo, close_boxed)
#define B(f) cmocka_unit_test_setup_teardown(f, setup_boxed, close_boxed)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {B(test_commands), B(test_folder_of_its_own), B(test_background),
	    B(test_timeout), B(test_long_command), B(test_services_are_out_of_reach), B(test_home_in_the_workspace),
	    B(test_resources), B(test_info), R(test_a_checkout_of_its_own), R(test_what_is_left_is_kept_and_put_back)};
	const char *tmp = getenv("TMPDIR");
	AUTO_STR trial = str_printf("%s/bullpen-trial-XXXXXX", tmp != NULL ? tmp : "/tmp");
	AUTO_STR rm = NULL;
	struct why why = {""};
	int failed;

	as_nobody(argc, argv);
	assert_non_null(mkdtemp(trial));
	failed = boxes_start(BOX_NAMESPACE, false, trial, &boxes, &why);
	rm = str_printf("rm -rf -- '%s'", trial);
	assert_int_equal(system(rm), 0);
	if (boxes != NULL && boxes_no_mounts(boxes)[0] != '\0')
		fprintf(stderr, "copies: %s\n", boxes_no_mounts(boxes));
	if (failed != OK) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	boxes_free(&boxes);
	return failed;
}
