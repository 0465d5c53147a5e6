/* .cursorignore: its syntax, held against git's own reading of it, and what the tools do with it. */
#include "workbench.h"
#include "agent/session/ignore.h"

/* What `git check-ignore` says when the same lines are in .gitignore files. */
static bool git_says(struct bench *b, const char *path)
{
	struct exec_result r;
	struct why why;
	int fd = open(b->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *argv[] = {"git", "check-ignore", "-q", "--no-index", "--", path, NULL};
	bool yes;

	assert_int_equal(exec_run(&EXEC_SPEC(.argv = argv, .cwd_fd = fd), &r, &why), OK);
	close(fd);
	assert_true(r.exit_code == 0 || r.exit_code == 1);
	yes = r.exit_code == 0;
	exec_result_fini(&r);
	return yes;
}

static void put_ignore(struct bench *b, const char *dir, const char *text)
{
	AUTO_STR ours = str_printf("%s.cursorignore", dir);
	AUTO_STR gits = str_printf("%s.gitignore", dir);

	put_text(b, ours, text);
	put_text(b, gits, text);
}

static void test_as_git(void **state)
{
	static const char *const paths[] = {"a.log", "keep.log", "d/a.log", "d/keep.log", "build/x", "d/build/x",
	    "out/x", "d/out/x", "doc/x", "doc/y/x", "doc/y/z/x", "doc/y", "d/doc/x", "#a", "!a", "sp ", "sp", "a{b,c}",
	    "ab", "star/a/b", "star/ab", "sta/q/r", "q1", "qx", "qq", "d/q1", "d/e/only", "d/e/f/only", "only",
	    "d/sub/x", "d/sub/keep", "d/x.tmp", "d/e/x.tmp", "x.tmp", "tail/in/a", "tail", "d/tail/a", "a\\b", "d/back",
	    "cr", "all/a", "all/b/c", "all/not", "deep/a/b/c/end", "deep/end", "deepend", "file", "d/file", "file/x"};
	struct bench *b = *state;
	AUTO(ignore) ig = NULL;

	SH(b, "cd work && git init -q . && mkdir -p build d/build out d/out doc/y/z d/doc star/a sta/q d/e/f d/sub "
	      "tail/in "
	      "d/tail all/b deep/a/b/c && mkdir file");
	put_ignore(b, "",
	    "# comment\n*.log\n!keep.log\nbuild/\n/out\ndoc/**/x\n\\#a\n\\!a\nsp\\ \na{b,c}\nstar**b\nq[0-9a-f]\n\n  "
	    "\nd/e/only\n"
	    "tail/**\na\\\\b\ncr\r\nall/*\n!all/not\ndeep/**/end\nfile\n");
	put_ignore(b, "d/", "keep.log\nsub/*\n!sub/keep\n/x.tmp\n!back\n");
	ig = ignore_new(b->root, ".");
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		AUTO_STR full = str_printf("%s/%s", b->root, paths[i]);
		struct stat st;
		bool is_dir = stat(full, &st) == 0 && S_ISDIR(st.st_mode), want = git_says(b, paths[i]);

		/* git keeps the CR, as a byte of the name; an editor on Windows did not mean that. */
		if (strcmp(paths[i], "cr") == 0)
			want = true;
		if ((ignore_find(ig, paths[i], is_dir) != NULL) != want)
			fail_msg("'%s' should%s be hidden", paths[i], want ? "" : " not");
	}
	assert_string_equal(ignore_find(ig, "./a.log", false), ".cursorignore");
	assert_string_equal(ignore_find(ig, "d/keep.log", false), "d/.cursorignore");
	assert_string_equal(ignore_find(ig, "build/deep/er", false), ".cursorignore");
	ignore_free(&ig);
	ig = ignore_new(b->root, "d");
	assert_string_equal(ignore_find(ig, "sub/x", false), "d/.cursorignore");
	assert_null(ignore_find(ig, ".", true));
	assert_null(ignore_find(NULL, "a.log", false));
	assert_string_equal(ignore_find(ig, "//a.log", false), ".cursorignore");
	assert_null(ignore_find(ig, "e//f/", true));
}

static void test_bounds(void **state)
{
	struct bench *b = *state;
	AUTO(ignore) ig = NULL;

	/* Patterns that would take for ever, a file too large, a link out of the workspace. */
	SH(b, "cd work && for i in $(seq 3000); do echo 'a*a*a*a*a*a*a*a*b'; done > .cursorignore && mkdir l big && "
	      "ln -s /etc/passwd l/.cursorignore && (echo x; head -c 1000000 /dev/zero | tr '\\0' y) > "
	      "big/.cursorignore");
	ig = ignore_new(b->root, ".");
	assert_null(ignore_find(ig, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false));
	assert_null(ignore_find(ig, "l/root", false));
	assert_non_null(ignore_find(ig, "big/x", false));
}

static void expect_ignored(struct tool_call c, const char *file)
{
	assert_outcome(&c, TOOL_ERROR);
	if (strstr(c.model_text, file) == NULL)
		fail_msg("'%s' is not named: %s", file, c.model_text);
	expect_error(c, "ignored");
}

static void test_file_tools_refuse(void **state)
{
	struct bench *b = *state;

	SH(b, "cd work && mkdir -p secret d && printf '*.key\\nsecret/\\n' > .cursorignore && echo /x > "
	      "d/.cursorignore && "
	      "echo k > a.key && echo s > secret/s && echo x > d/x && ln -s secret door && ln -s ../a.key d/link && "
	      "ln -s d/x.pub pub.key && echo p > d/x.pub");
	expect_ignored(call(b, "read_file", "{\"path\":\"a.key\"}"), "by .cursorignore");
	expect_ignored(call(b, "read_file", "{\"path\":\"none.key\"}"), "by .cursorignore");
	expect_ignored(call(b, "read_file", "{\"path\":\"secret/s\"}"), "by .cursorignore");
	expect_ignored(call(b, "read_file", "{\"path\":\"d/../secret/none\"}"), "by .cursorignore");
	expect_ignored(call(b, "read_file", "{\"path\":\"d/x\"}"), "by d/.cursorignore");
	/* Through links, and under a hidden name. */
	expect_ignored(call(b, "read_file", "{\"path\":\"door/s\"}"), "by .cursorignore");
	expect_ignored(call(b, "read_file", "{\"path\":\"d/link\"}"), "by .cursorignore");
	expect_ignored(call(b, "read_file", "{\"path\":\"pub.key\"}"), "by .cursorignore");
	expect_ignored(call(b, "write_file", "{\"path\":\"d/link\",\"fileText\":\"y\"}"), "by .cursorignore");
	expect_ignored(call(b, "write_file", "{\"path\":\"door/n/m\",\"fileText\":\"y\"}"), "by .cursorignore");
	expect_ignored(call(b, "write_file", "{\"path\":\"new/b.key\",\"fileText\":\"y\"}"), "by .cursorignore");
	expect_ignored(
	    call(b, "edit_file", "{\"path\":\"a.key\",\"oldText\":\"k\",\"newText\":\"y\"}"), "by .cursorignore");
	expect_ignored(
	    call(b, "edit_file", "{\"path\":\"e.key\",\"oldText\":\"\",\"newText\":\"y\"}"), "by .cursorignore");
	expect_ignored(call(b, "delete_file", "{\"path\":\"secret/s\"}"), "by .cursorignore");
	expect_ignored(call(b, "delete_file", "{\"path\":\"door/s\"}"), "by .cursorignore");
	expect_ignored(call(b, "list_dir", "{\"path\":\"secret\"}"), "by .cursorignore");
	expect_ignored(call(b, "list_dir", "{\"path\":\"door\"}"), "by .cursorignore");
	expect_ignored(
	    call(b, "file_search", "{\"globPattern\":\"*\",\"targetDirectory\":\"secret\"}"), "by .cursorignore");
	expect_ignored(call(b, "grep_search", "{\"pattern\":\"s\",\"path\":\"secret/s\"}"), "by .cursorignore");
	SH(b, "cd work && test ! -e new && test ! -e secret/n && test \"$(cat a.key secret/s d/x)\" = \"$(printf "
	      "'k\\ns\\nx')\"");
	/* The rest is as ever, and so is the scratch folder. */
	expect_success(call(b, "read_file", "{\"path\":\"d/x.pub\"}"));
	expect_success(call(b, "delete_file", "{\"path\":\"door\"}"));
	AUTO_STR scratch = str_printf("%s/a.key", session_scratch_dir(b->session));
	expect_success(call(b, "write_file", "{\"path\":\"%s\",\"fileText\":\"y\"}", scratch));
}

static void test_searches_skip_and_the_shell_does_not(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	SH(b, "cd work && mkdir -p secret d/sub && printf '*.key\\nsecret/\\n' > .cursorignore && printf "
	      "'/sub\\n!b.key\\n' > "
	      "d/.cursorignore && echo word > a.key && echo word > secret/s && echo word > d/sub/x && echo word > "
	      "d/b.key && "
	      "echo word > d/plain");
	c = call(b, "list_dir", "{}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_null(strstr(c.model_text, "secret"));
	assert_null(strstr(c.model_text, "a.key"));
	assert_non_null(strstr(c.model_text, "d/"));
	tool_call_fini(&c);
	c = call(b, "file_search", "{\"globPattern\":\"*\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_int_equal(number(&c, "totalFiles"), 4);
	assert_non_null(strstr(c.model_text, "d/plain\n"));
	assert_non_null(strstr(c.model_text, "d/b.key\n"));
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"word\"}");
	assert_string_equal(c.model_text, "d/b.key:1:word\nd/plain:1:word\n");
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"word\",\"path\":\"d\",\"outputMode\":\"files_with_matches\"}");
	assert_string_equal(c.model_text, "d/b.key\nd/plain\n");
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"word\",\"outputMode\":\"count\"}");
	assert_string_equal(c.model_text, "d/b.key: 1\nd/plain: 1\n");
	tool_call_fini(&c);
	/* What is skipped does not use up the limit. */
	c = call(b, "grep_search", "{\"pattern\":\"word\",\"headLimit\":1}");
	assert_non_null(strstr(c.model_text, "d/b.key:1:word\n"));
	tool_call_fini(&c);
	c = call(b, "run_terminal_cmd", "{\"command\":\"cat s ../a.key\",\"workingDirectory\":\"secret\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(field(&c, "stdout"), "word\nword\n");
	tool_call_fini(&c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_bench, teardown_bench)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_as_git), T(test_bounds), T(test_file_tools_refuse), T(test_searches_skip_and_the_shell_does_not)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
