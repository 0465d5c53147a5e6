/* Sessions on real repositories with a bare remote, all in a folder of the test. */
#include "workbench.h"
#include "agent/worker/frontmatter.h"
#include <signal.h>
#include <sys/wait.h>

static const char *url_of(struct bench *b)
{
	static char url[PATH_MAX];

	snprintf(url, sizeof url, "%.3000s/acme/web.git", b->dir);
	return url;
}

/* A remote acme/web.git with main (two commits, tag v1 on the first), and its clone as the root. */
static int setup_repo(void **state)
{
	struct bench *b = NEW(struct bench);

	bench_open(b);
	SH(b,
	    "git init -q --bare -b main acme/web.git && git init -q -b main seed && cd seed && echo 1 > f && git add f "
	    "&& git commit -qm one "
	    "&& git tag v1 && git tag -am note v1-annotated && echo 2 > f && git commit -qam two && git remote add "
	    "origin ../acme/web.git && git "
	    "push -q origin main v1 v1-annotated && cd .. && git clone -q '%s' work",
	    url_of(b));
	*state = b;
	return 0;
}

static int open_with(struct bench *b, const char *agent, const char *ref, const char *branch, bool current,
    json_t **info, struct why *why)
{
	struct session_open want = {.agent_id = agent,
	    .repo_url = url_of(b),
	    .starting_ref = ref,
	    .branch = branch,
	    .work_on_current_branch = current};

	*info = NULL;
	return session_open(b->session, &want, b->cancel[0], clock_mono_ms() + 60000, info, why);
}

static json_t *must_open(struct bench *b, const char *agent, const char *ref, const char *branch, bool current)
{
	json_t *info;
	struct why why;

	if (open_with(b, agent, ref, branch, current, &info, &why) != OK)
		fail_msg("%s", why.text);
	return info;
}

static void refuse_open(struct bench *b, const char *ref, const char *branch, const char *part)
{
	json_t *info;
	struct why why = {{0}};

	assert_int_equal(open_with(b, "bc-1", ref, branch, false, &info, &why), ERR_INVALID);
	if (strstr(why.text, part) == NULL)
		fail_msg("no '%s' in: %s", part, why.text);
	assert_string_equal(session_agent_id(b->session), "");
}

static json_t *must_publish(struct bench *b)
{
	struct session_publish want = {.message = "Work", .author_name = "Ann", .author_email = "ann@acme.io"};
	json_t *info = NULL;
	struct why why;

	if (session_publish(b->session, &want, b->cancel[0], clock_mono_ms() + 60000, &info, &why) != OK)
		fail_msg("%s", why.text);
	return info;
}

static int refuse_publish(struct bench *b, const char *part)
{
	struct session_publish want = {.message = "-m Work", .author_name = "Ann", .author_email = "ann@acme.io"};
	json_t *info = NULL;
	struct why why = {{0}};
	int rc = session_publish(b->session, &want, b->cancel[0], clock_mono_ms() + 60000, &info, &why);

	assert_int_not_equal(rc, OK);
	if (strstr(why.text, part) == NULL)
		fail_msg("no '%s' in: %s", part, why.text);
	return rc;
}

static const char *text_of(const json_t *info, const char *key)
{
	const char *s = json_string_value(json_object_get(info, key));

	assert_non_null(s);
	return s;
}

static bool flag_of(const json_t *info, const char *key)
{
	assert_true(json_is_boolean(json_object_get(info, key)));
	return json_is_true(json_object_get(info, key));
}

static int64_t number_of(const json_t *info, const char *key)
{
	assert_true(json_is_integer(json_object_get(info, key)));
	return json_integer_value(json_object_get(info, key));
}

static size_t n_warnings(const json_t *info)
{
	return json_array_size(json_object_get(info, "warnings"));
}

#define assert_sh(b, want, ...)                                                                                        \
	do {                                                                                                           \
		AUTO_STR out_ = sh(b, __VA_ARGS__);                                                                    \
		assert_string_equal(out_, want);                                                                       \
	} while (0)

static void test_fresh_branch_and_publish(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "cursor/fix", false);
	AUTO_JSON done = NULL;
	AUTO_STR base = sh(b, "git -C work rev-parse origin/main");

	assert_false(flag_of(info, "resumed"));
	assert_string_equal(text_of(info, "branch"), "cursor/fix");
	assert_string_equal(text_of(info, "baseCommit"), base);
	assert_string_equal(text_of(info, "headCommit"), base);
	assert_string_equal(text_of(info, "os"), "linux");
	assert_true(strlen(text_of(info, "shell")) > 0);
	assert_string_equal(json_string_value(json_array_get(json_object_get(info, "workspaceRoots"), 0)), b->root);
	assert_non_null(strstr(text_of(info, "gitStatus"), "cursor/fix"));
	assert_int_equal(n_warnings(info), 0);
	put_text(b, "f", "2\n3\n");
	put_text(b, "-n\nasty $(x)", "new\n");
	done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_true(flag_of(done, "committed"));
	assert_int_equal(number_of(done, "filesChanged"), 2);
	assert_int_equal(number_of(done, "linesAdded"), 2);
	assert_int_equal(number_of(done, "linesRemoved"), 0);
	assert_string_equal(text_of(done, "branch"), "cursor/fix");
	assert_non_null(strstr(text_of(done, "diffStat"), "2 files changed"));
	assert_sh(b, text_of(done, "commit"), "git -C acme/web.git rev-parse cursor/fix");
	assert_sh(b, "Ann <ann@acme.io> Work", "git -C acme/web.git log -1 --format='%%an <%%ae> %%s' cursor/fix");
	/* Once more: nothing new, and still known as pushed. */
	UNUSED AUTO_JSON again = must_publish(b);
	assert_true(flag_of(again, "pushed"));
	assert_false(flag_of(again, "committed"));
}

static void test_starting_refs(void **state)
{
	struct bench *b = *state;
	AUTO_STR one = sh(b, "git -C seed rev-parse v1");
	AUTO_JSON a = NULL;
	AUTO_JSON c = NULL;
	AUTO_JSON d = NULL;
	AUTO_JSON e = NULL;

	a = must_open(b, "bc-1", "v1", "b1", false);
	assert_string_equal(text_of(a, "baseCommit"), one);
	c = must_open(b, "bc-2", "v1-annotated", "b2", false);
	assert_string_equal(text_of(c, "baseCommit"), one);
	d = must_open(b, "bc-3", one, "b3", false);
	assert_string_equal(text_of(d, "headCommit"), one);
	/* A branch and a commit that this clone has never seen. */
	SH(b, "cd seed && git checkout -qb side && echo s > s && git add s && git commit -qm side && git push -q "
	      "origin side && echo t > s && "
	      "git commit -qam more && git push -q origin side");
	AUTO_STR side = sh(b, "git -C seed rev-parse side~1");
	e = must_open(b, "bc-4", side, "b4", false);
	assert_string_equal(text_of(e, "headCommit"), side);
	UNUSED AUTO_JSON f = must_open(b, "bc-5", "side", "b5", false);
	assert_sh(b, text_of(f, "headCommit"), "git -C seed rev-parse side");
}

static void test_unknown_and_hostile_refs(void **state)
{
	struct bench *b = *state;

	refuse_open(b, "nowhere", "b", "branch or commit 'nowhere' was not found on origin");
	refuse_open(b, "0123456789012345678901234567890123456789", "b", "was not found on origin");
	refuse_open(b, "--upload-pack=touch pwned;", "b", "is not a name");
	refuse_open(b, "--upload-pack=x", "b", "is not a name");
	refuse_open(b, "", "--upload-pack=x", "is not a name");
	refuse_open(b, "", "-b", "is not a name");
	refuse_open(b, "", "a..b", "is not a name");
	refuse_open(b, "", "HEAD", "is not a name");
	refuse_open(b, "", "@{-1}", "is not a name");
	refuse_open(b, "", "a:b", "is not a name");
	refuse_open(b, "main:refs/heads/x", "b", "is not a name");
	refuse_open(b, "", "", "is not a name");
	assert_sh(b, "main", "test ! -e work/pwned; git -C work symbolic-ref --short HEAD");
	assert_sh(b, "* main", "git -C work branch");
	/* A dirty tree is not touched by a session that cannot open. */
	put_text(b, "f", "dirty");
	refuse_open(b, "nowhere", "b", "not found");
	assert_file(b, "f", "dirty");
}

static void test_wrong_repository(void **state)
{
	struct bench *b = *state;
	struct session_open want = {
	    .agent_id = "bc-1", .repo_url = "https://github.com/acme/other", .starting_ref = "", .branch = "b"};
	json_t *info;
	struct why why;

	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "belongs to"));
	want.repo_url = "https://user:secret@github.com/ACME/Web.git";
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &why), OK);
	assert_string_equal(text_of(info, "repoUrl"), "https://github.com/ACME/Web.git");
	json_decref(info);
	SH(b, "git -C work remote remove origin");
	want.agent_id = "bc-2";
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "no remote named origin"));
	SH(b, "rm -rf work/.git");
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "is not a checkout"));
	want.agent_id = "../x";
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &why), ERR_INVALID);
}

static void test_follow_up_leaves_everything(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON first = must_open(b, "bc-1", "v1", "work/b", false);
	AUTO_JSON done = NULL;

	put_text(b, "f", "uncommitted");
	/* A worker that was killed and started again: all it has is the checkout. */
	session_free(&b->session);
	b->session = session_new(&(struct session_config){.roots = b->roots, .n_roots = 1, .state_dir = b->state});
	SH(b, "mv acme hidden");
	UNUSED AUTO_JSON second = must_open(b, "bc-1", "v1", "work/b", false);
	SH(b, "mv hidden acme");
	assert_true(flag_of(second, "resumed"));
	assert_file(b, "f", "uncommitted");
	assert_string_equal(text_of(first, "baseCommit"), text_of(second, "baseCommit"));
	done = must_publish(b);
	assert_int_equal(number_of(done, "linesRemoved"), 1);
}

static void test_dirty_tree_is_kept_in_a_stash(void **state)
{
	struct bench *b = *state;
	const char *warning;

	put_text(b, "f", "precious");
	put_text(b, "untracked", "also");
	SH(b, "echo built > work/x.o; echo '*.o' >> work/.git/info/exclude");
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	assert_int_equal(n_warnings(info), 1);
	warning = json_string_value(json_array_get(json_object_get(info, "warnings"), 0));
	assert_non_null(strstr(warning, "bullpen: kept before bc-1"));
	assert_file(b, "f", "2\n");
	SH(b, "test ! -e work/untracked -a -e work/x.o");
	assert_sh(b, "precious", "git -C work show 'stash@{0}:f'");
	assert_sh(b, "also", "git -C work show 'stash@{0}^3:untracked'");
	/* Agent 2 comes before agent 1 published: its changes are kept too. */
	put_text(b, "f", "agent one");
	UNUSED AUTO_JSON other = must_open(b, "bc-2", "", "b2", false);
	assert_int_equal(n_warnings(other), 1);
	assert_sh(b, "agent one", "git -C work show 'stash@{0}:f'");
	UNUSED AUTO_JSON back = must_open(b, "bc-1", "", "b", false);
	assert_false(flag_of(back, "resumed"));
	assert_sh(b, "b", "git -C work symbolic-ref --short HEAD");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_false(flag_of(done, "pushed"));
}

static void test_merge_in_progress_is_left_alone(void **state)
{
	struct bench *b = *state;

	SH(b, "cd work && git checkout -q -b other v1 && echo x > f && git -c user.name=t -c user.email=t commit -qam "
	      "x && ! git merge -q main");
	refuse_open(b, "", "b", "a merge is in progress");
	assert_sh(b, "other", "test -e work/.git/MERGE_HEAD && git -C work symbolic-ref --short HEAD");
}

static void test_branch_of_another_worker(void **state)
{
	struct bench *b = *state;

	SH(b, "cd seed && git checkout -qb cursor/a && echo more > g && git add g && git commit -qm g && git push -q "
	      "origin cursor/a");
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "main", "cursor/a", false);
	AUTO_STR main = sh(b, "git -C seed rev-parse main");
	assert_string_equal(text_of(info, "baseCommit"), main);
	assert_file(b, "g", "more\n");
	put_text(b, "g", "more\nand more\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_int_equal(number_of(done, "linesAdded"), 2);
	/* It moves on elsewhere; coming back here catches up. */
	UNUSED AUTO_JSON away = must_open(b, "bc-2", "", "b2", false);
	SH(b, "cd seed && git pull -q origin cursor/a && echo h > h && git add h && git commit -qm h && git push -q "
	      "origin cursor/a");
	UNUSED AUTO_JSON back = must_open(b, "bc-1", "main", "cursor/a", false);
	assert_file(b, "h", "h\n");
	assert_int_equal(n_warnings(back), 0);
}

static void test_single_branch_clone(void **state)
{
	struct bench *b = *state;

	SH(b,
	    "cd seed && git checkout -qb side && echo s > s && git add s && git commit -qm s && git push -q origin "
	    "side && cd .. && rm -rf work && "
	    "git clone -q --depth 1 --single-branch 'file://%s' work",
	    url_of(b));
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "side", "b", false);
	assert_file(b, "s", "s\n");
	put_text(b, "s", "t\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
}

static void test_work_on_current_branch(void **state)
{
	struct bench *b = *state;

	SH(b, "cd seed && echo 3 > f && git commit -qam three && git push -q origin main");
	put_text(b, "f", "of another");
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "", true);
	assert_string_equal(text_of(info, "branch"), "main");
	assert_file(b, "f", "3\n");
	assert_int_equal(n_warnings(info), 1);
	UNUSED AUTO_JSON nothing = must_publish(b);
	assert_false(flag_of(nothing, "pushed"));
	put_text(b, "f", "4\n");
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "", true);
	assert_true(flag_of(again, "resumed"));
	assert_file(b, "f", "4\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_int_equal(number_of(done, "linesAdded"), 1);
	assert_sh(b, "4", "git -C acme/web.git show main:f");
	UNUSED AUTO_JSON other = must_open(b, "bc-2", "main", "", true);
	assert_false(flag_of(other, "resumed"));
	assert_sh(b, text_of(other, "baseCommit"), "git -C acme/web.git rev-parse main");
	struct why why;
	json_t *none;
	assert_int_equal(open_with(b, "bc-3", "v1", "", true, &none, &why), ERR_INVALID);
}

static void test_empty_remote(void **state)
{
	struct bench *b = *state;

	SH(b,
	    "rm -rf work acme/web.git && git init -q --bare -b main acme/web.git && git clone -q '%s' work 2>/dev/null",
	    url_of(b));
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "cursor/first", false);
	assert_string_equal(text_of(info, "headCommit"), "");
	UNUSED AUTO_JSON nothing = must_publish(b);
	assert_false(flag_of(nothing, "pushed"));
	assert_string_equal(text_of(nothing, "branch"), "");
	put_text(b, "f", "1\n2\n");
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "cursor/first", false);
	assert_true(flag_of(again, "resumed"));
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_int_equal(number_of(done, "linesAdded"), 2);
	assert_sh(b, "1 2", "git -C acme/web.git show cursor/first:f | xargs");
}

static void test_nothing_to_publish(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	UNUSED AUTO_JSON done = must_publish(b);

	assert_false(flag_of(done, "pushed"));
	assert_false(flag_of(done, "committed"));
	assert_string_equal(text_of(done, "branch"), "");
	assert_sh(b, "main", "git -C acme/web.git branch --format='%%(refname:short)'");
}

static void test_refused_push_keeps_the_commit(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	SH(b, "printf '#!/bin/sh\\necho not on fridays >&2\\nexit 1\\n' > acme/web.git/hooks/pre-receive && chmod +x "
	      "acme/web.git/hooks/pre-receive");
	put_text(b, "f", "x\n");
	refuse_publish(b, "not on fridays");
	assert_sh(b, "-m Work", "git -C work log -1 --format=%%s");
	SH(b, "rm acme/web.git/hooks/pre-receive");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_false(flag_of(done, "committed"));
}

static void test_moved_branch_is_not_overwritten(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	put_text(b, "f", "mine\n");
	UNUSED AUTO_JSON done = must_publish(b);
	SH(b, "cd seed && git fetch -q origin b && git checkout -q FETCH_HEAD && echo theirs > g && git add g && git "
	      "commit -qm theirs && git push -q "
	      "origin HEAD:b");
	put_text(b, "f", "mine again\n");
	assert_int_equal(refuse_publish(b, "has moved on origin and was not overwritten"), ERR_CONFLICT);
	assert_sh(b, "theirs", "git -C acme/web.git log -1 --format=%%s b");
}

static void test_commit_hook_of_the_repository_runs(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	SH(b, "printf '#!/bin/sh\\necho lint failed: tabs >&2\\nexit 1\\n' > work/.git/hooks/pre-commit && chmod +x "
	      "work/.git/hooks/pre-commit");
	put_text(b, "f", "x\n");
	refuse_publish(b, "lint failed: tabs");
}

static void test_cancel_and_deadline(void **state)
{
	struct bench *b = *state;
	struct session_open want = {.agent_id = "bc-1", .repo_url = url_of(b), .starting_ref = "", .branch = "b"};
	json_t *info;
	struct why why;

	assert_int_equal(session_open(b->session, &want, -1, clock_mono_ms() - 1, &info, &why), ERR_TIMEOUT);
	assert_int_equal(write(b->cancel[1], "x", 1), 1);
	assert_int_equal(session_open(b->session, &want, b->cancel[0], INT64_MAX, &info, &why), ERR_CANCELLED);
}

static void test_no_repository(void **state)
{
	struct bench *b = *state;
	AUTO_JSON done = NULL;

	bench_agent(b, "bc-1");
	assert_true(text_has_suffix(session_scratch_dir(b->session), "/bc-1/scratch"));
	done = must_publish(b);
	assert_false(flag_of(done, "pushed"));
	session_close(b->session);
	assert_string_equal(session_scratch_dir(b->session), "");
}

/* A program as an agent's session starts it. */
static pid_t leave_running(struct bench *b, const char *scratch)
{
	const char *argv[] = {"sleep", "300", NULL};
	int log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct why why;
	pid_t pid;

	SH(b, "mkdir -p '%s'", scratch);
	assert_int_equal(exec_background(&EXEC_SPEC(.argv = argv, .scratch_dir = scratch), log_fd, &pid, &why), OK);
	close(log_fd);
	return pid;
}

static void test_leftovers_of_a_killed_worker_are_ended(void **state)
{
	struct bench *b = *state;
	AUTO_STR ours = str_printf("%s/bc-old/scratch", b->state);
	AUTO_STR alike = str_printf("%s-2/bc-old/scratch", b->state); /* another worker's data folder */
	struct session_leftovers left;
	pid_t doomed, spared;
	int status;

	session_end_leftovers(b->state, &left); /* there is no such folder yet */
	assert_int_equal(left.processes + left.folders, 0);
	doomed = leave_running(b, ours);
	spared = leave_running(b, alike);
	session_end_leftovers(b->state, &left);
	assert_int_equal(left.processes, 1);
	assert_int_equal(left.folders, 1);
	assert_false(left.alive);
	assert_int_equal(waitpid(doomed, &status, WNOHANG), doomed);
	assert_int_equal(waitpid(spared, &status, WNOHANG), 0);
	assert_int_not_equal(access(ours, F_OK), 0);
	assert_int_equal(access(alike, F_OK), 0);
	session_end_leftovers(b->state, &left);
	assert_int_equal(left.processes + left.folders, 0);
	kill(spared, SIGKILL);
	assert_int_equal(waitpid(spared, &status, 0), spared);
}

static json_t *rule(const json_t *info, const char *path)
{
	json_t *r;
	size_t i;

	json_array_foreach(json_object_get(info, "rules"), i, r)
	{
		if (strcmp(text_of(r, "path"), path) == 0)
			return r;
	}
	fail_msg("no rule %s", path);
	return NULL;
}

static void test_agents_md_and_rules(void **state)
{
	struct bench *b = *state;
	json_t *r;

	SH(b, "cd work && mkdir -p .cursor/rules/sub && echo Build with make. > AGENTS.md && echo other > CLAUDE.md && "
	      "cd .cursor/rules && "
	      "printf -- '---\\nalwaysApply: true\\n---\\nBe kind.\\n' > a.mdc && "
	      "printf -- '\\357\\273\\277---\\r\\ndescription: \"For C\"\\r\\nglobs: *.c, "
	      "src/*.{h,hh}\\r\\nalwaysApply: false\\r\\n---\\r\\nC\\r\\n' > "
	      "sub/c.mdc && printf -- '---\\nglobs:\\n  - a\\n  - \"b c\"\\n---\\n' > list.mdc && printf -- "
	      "'---\\n{{{\\n---\\nx' > broken.mdc && echo no > "
	      "plain.md && ln -s /etc/passwd evil.mdc && printf none > bare.mdc && cd ../.. && head -c 70000 /dev/zero "
	      "| tr '\\0' x > .cursorrules");
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "main", false);
	json_t *agents = json_object_get(info, "agentsMd");
	assert_int_equal(json_array_size(agents), 1);
	assert_string_equal(text_of(json_array_get(agents, 0), "path"), "AGENTS.md");
	assert_string_equal(text_of(json_array_get(agents, 0), "text"), "Build with make.\n");
	assert_int_equal(json_array_size(json_object_get(info, "rules")), 6);
	r = rule(info, ".cursor/rules/a.mdc");
	assert_true(flag_of(r, "alwaysApply"));
	assert_string_equal(text_of(r, "text"), "Be kind.\n");
	r = rule(info, ".cursor/rules/sub/c.mdc");
	assert_false(flag_of(r, "alwaysApply"));
	assert_string_equal(text_of(r, "description"), "For C");
	assert_int_equal(json_array_size(json_object_get(r, "globs")), 2);
	assert_string_equal(json_string_value(json_array_get(json_object_get(r, "globs"), 1)), "src/*.{h,hh}");
	assert_null(json_object_get(r, "text"));
	assert_int_equal(json_array_size(json_object_get(rule(info, ".cursor/rules/list.mdc"), "globs")), 2);
	assert_false(flag_of(rule(info, ".cursor/rules/broken.mdc"), "alwaysApply"));
	assert_int_equal(json_string_length(json_object_get(rule(info, ".cursorrules"), "text")), 65536);
	assert_int_equal(n_warnings(info), 2);
	SH(b, "rm work/AGENTS.md");
	UNUSED AUTO_JSON second = must_open(b, "bc-1", "", "main", false);
	assert_string_equal(text_of(json_array_get(json_object_get(second, "agentsMd"), 0), "path"), "CLAUDE.md");
}

static void check_meta(const char *text, const char *want_json, const char *want_body)
{
	AUTO_JSON meta = NULL;
	AUTO_JSON want = json_loads(want_json, 0, NULL);
	const char *body;
	struct why why;

	if (frontmatter_parse(text, &meta, &body, &why) != OK)
		fail_msg("%s: %s", text, why.text);
	AUTO_STR got = json_text(meta);
	if (!json_equal(meta, want))
		fail_msg("%s gave %s", text, got);
	assert_string_equal(body, want_body);
}

static void test_frontmatter(void **state)
{
	static const char *const broken[] = {"---\na: b\n", "---\nno colon\n---\n", "---\n- item\n---\n",
	    "---\na: [b\n---\n", "---\na: \"b\n---\n", "---\na: |\n  b\n---\n", "---\na:\n  b: c\n---\n",
	    "---\na: {b: c}\n---\n", "---\na: x\n- y\n---\n", "---\na: &x [1]\nb: 2\n---\n",
	    "---\na: [&x b]\nc: [\n*x]\n---\n", "---\na:\n- [b]\n---\n", "---\n? a\n: [[[[\n---\n",
	    "---\na: b\n...\nc: d\n---\n", "---\na: \"\\0\"\n---\n"};

	check_meta("body", "{}", "body");
	check_meta("", "{}", "");
	check_meta("---\n---\nx", "{}", "x");
	check_meta("---\n# note\na: b # c\nd: 'it''s'\ne: \"q\\\"\\n\" # c\nf: true\ng: [x, \"y, z\", {a,b}.c]\nh:\n- "
		   "1\n- '2'\ni:\n---\nx\n---\n",
	    "{\"a\":\"b\",\"d\":\"it's\",\"e\":\"q\\\"\\n\",\"f\":true,\"g\":[\"x\",\"y, "
	    "z\",\"{a,b}.c\"],\"h\":[\"1\",\"2\"],\"i\":\"\"}",
	    "x\n---\n");
	/* No YAML, but what people write. */
	check_meta(
	    "---\nglobs: *.ts,*.tsx\ndescription: use this: always, @you & `me` # not\ng:\n  - **/*.c\n\t- !x\n---\n",
	    "{\"globs\":\"*.ts,*.tsx\",\"description\":\"use this: always, @you & `me`\",\"g\":[\"**/*.c\",\"!x\"]}",
	    "");
	check_meta("---\r\na: [*.c, 'it''s', \"]\"] # c\r\nb: [\r\n  x,\r\n  y\r\n  ]\r\nc: \"one\r\n  two\"\r\nd: "
		   "~\r\n---\r\nx",
	    "{\"a\":[\"*.c\",\"it's\",\"]\"],\"b\":[\"x\",\"y\"],\"c\":\"one two\",\"d\":\"\"}", "x");
	for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
		json_t *meta;
		const char *body;

		if (frontmatter_parse(broken[i], &meta, &body, NULL) != ERR_INVALID)
			fail_msg("accepted: %s", broken[i]);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_repo, teardown_bench)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_fresh_branch_and_publish), T(test_starting_refs),
	    T(test_unknown_and_hostile_refs), T(test_wrong_repository), T(test_follow_up_leaves_everything),
	    T(test_dirty_tree_is_kept_in_a_stash), T(test_merge_in_progress_is_left_alone),
	    T(test_branch_of_another_worker), T(test_single_branch_clone), T(test_work_on_current_branch),
	    T(test_empty_remote), T(test_nothing_to_publish), T(test_refused_push_keeps_the_commit),
	    T(test_moved_branch_is_not_overwritten), T(test_commit_hook_of_the_repository_runs),
	    T(test_cancel_and_deadline), T(test_no_repository), T(test_leftovers_of_a_killed_worker_are_ended),
	    T(test_agents_md_and_rules), cmocka_unit_test(test_frontmatter)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
