/* Sessions on real repositories with a bare remote, all in a folder of the test. */
#include "session_scene.h"
#include "agent/session/frontmatter.h"
#include <signal.h>
#include <sys/wait.h>

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
}

static void test_wrong_repository(void **state)
{
	struct bench *b = *state;
	struct session_open want = {
	    .agent_id = "bc-1", .repo_url = "https://github.com/acme/other", .starting_ref = "", .branch = "b"};
	struct session_failure fail = {0};
	json_t *info;

	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &fail), ERR_INVALID);
	assert_non_null(strstr(fail.why.text, "belongs to"));
	assert_false(fail.machine);
	/* A folder is not the repository of some host that happens to have the same name. */
	want.repo_url = "https://github.com/acme/web";
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &fail), ERR_INVALID);
	SH(b,
	    "git -C work config remote.origin.url https://u:p@github.com/ACME/Web.git && "
	    "git -C work config url.'%s'.insteadOf https://u:p@github.com/ACME/Web.git",
	    url_of(b));
	want.repo_url = "https://user:secret@github.com/ACME/Web.git";
	if (session_open(b->session, &want, -1, INT64_MAX, &info, &fail) != OK)
		fail_msg("%s", fail.why.text);
	assert_string_equal(text_of(info, "repoUrl"), "https://github.com/ACME/Web.git");
	json_decref(info);
	session_close(b->session, NULL);
	SH(b, "git -C work remote remove origin");
	want.agent_id = "bc-2";
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &fail), ERR_INVALID);
	assert_non_null(strstr(fail.why.text, "no remote named origin"));
	SH(b, "rm -rf work/.git");
	bench_session(b);
	/* A worker whose folders belong to no repository serves any, as they are. */
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &fail), OK);
	assert_string_equal(text_of(info, "repoUrl"), "");
	assert_non_null(
	    strstr(json_string_value(json_array_get(json_object_get(info, "warnings"), 0)), "was not cloned"));
	json_decref(info);
	session_close(b->session, NULL);
	want.agent_id = "../x";
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &fail), ERR_INVALID);
	session_failure_fini(&fail);
}

static void test_an_open_session_is_left_as_it_is(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON first = must_open(b, "bc-1", "v1", "work/b", false);

	put_text(b, "f", "uncommitted");
	SH(b, "mv acme hidden");
	UNUSED AUTO_JSON second = must_open(b, "bc-1", "v1", "work/b", false);
	SH(b, "mv hidden acme");
	assert_true(flag_of(second, "resumed"));
	assert_file(b, "f", "uncommitted");
	assert_string_equal(text_of(first, "baseCommit"), text_of(second, "baseCommit"));
}

static void test_work_of_a_killed_worker_is_put_back(void **state)
{
	struct bench *b = *state;
	struct session *killed = b->session;
	UNUSED AUTO_JSON first = must_open(b, "bc-1", "v1", "work/b", false);
	AUTO_JSON done = NULL;

	put_text(b, "f", "uncommitted\n");
	put_text(b, "new", "too\n");
	SH(b, "cd '%s' && git add f && git commit -qm mine && echo more >> f", b->root);
	kill_worker(b);
	UNUSED AUTO_JSON second = must_open(b, "bc-1", "v1", "work/b", false);
	assert_false(flag_of(second, "resumed"));
	assert_file(b, "f", "uncommitted\nmore\n");
	assert_file(b, "new", "too\n");
	assert_sh(b, "M f\n?? new", "git -C '%s' status --short | sed 's/^ //'", b->root);
	assert_sh(b, "mine", "git -C '%s' log -1 --format=%%s", b->root);
	assert_string_equal(text_of(first, "baseCommit"), text_of(second, "baseCommit"));
	done = must_publish(b);
	assert_int_equal(number_of(done, "linesRemoved"), 1);
	assert_int_equal(number_of(done, "linesAdded"), 3);
	/* Published, so there is nothing to put back any more. */
	session_close(b->session, NULL);
	assert_sh(b, "", "git --git-dir=\"$(echo '%s'/.repos/*-own.git)\" for-each-ref 'refs/bullpen/agents/bc-1/work'",
	    b->state);
	/* The object that stood for the killed process. */
	session_free(&killed);
}

static void test_the_seed_is_never_touched(void **state)
{
	struct bench *b = *state;
	AUTO_STR before = NULL;
	AUTO_STR after = NULL;

	SH(b, "cd work && echo precious > f && echo also > untracked && echo '*.o' >> .git/info/exclude && echo built "
	      "> x.o "
	      "&& mkdir private && echo key > private/key && git config status.showUntrackedFiles no && touch "
	      ".git/index.lock "
	      "&& mkdir .git/rebase-merge");
	before = sh(b,
	    "cd work && find . -type f -o -type l | sort | xargs sha1sum; find . -printf '%%p %%m %%s %%T@ %%y\n' | "
	    "grep -v '^\\./\\.git ' | sort");
	for (int i = 0; i < 2; i++) {
		AUTO_STR agent = str_printf("bc-%d", i);
		AUTO_STR branch = str_printf("cursor/b%d", i);
		UNUSED AUTO_JSON info = must_open(b, agent, "", branch, false);

		assert_int_equal(n_warnings(info), 0);
		assert_file(b, "f", "2\n");
		assert_file(b, "x.o", "built\n"); /* a cache comes along */
		SH(b, "cd '%s' && test ! -e untracked && test ! -e private", b->root);
		SH(b,
		    "cd '%s' && echo evil > x.o && git config core.hooksPath /tmp/evil && git config "
		    "remote.origin.pushurl "
		    "/elsewhere && rm -f f && echo '[' >> .git/config; chmod 000 x.o; rm -rf .git/objects/pack",
		    b->root);
		session_touch(b->session);
		session_close(b->session, NULL);
	}
	after = sh(b,
	    "cd work && find . -type f -o -type l | sort | xargs sha1sum; find . -printf '%%p %%m %%s %%T@ %%y\n' | "
	    "grep -v '^\\./\\.git ' | sort");
	assert_string_equal(before, after);
	UNUSED AUTO_JSON info = must_open(b, "bc-9", "", "cursor/b9", false);
	assert_file(b, "x.o", "built\n");
	put_text(b, "f", "mine\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_sh(b, "f", "git -C acme/web.git ls-tree --name-only cursor/b9");
}

static void test_work_of_another_agent_waits_for_it(void **state)
{
	struct bench *b = *state;
	json_t *kept;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	put_text(b, "f", "agent one\n");
	session_touch(b->session);
	/* As after a cancel. */
	session_close(b->session, &kept);
	assert_non_null(kept);
	assert_string_equal(text_of(kept, "ref"), "refs/bullpen/agents/bc-1/work");
	json_decref(kept);
	UNUSED AUTO_JSON other = must_open(b, "bc-2", "", "b2", false);
	assert_file(b, "f", "2\n");
	UNUSED AUTO_JSON nothing = must_publish(b);
	assert_false(flag_of(nothing, "pushed"));
	UNUSED AUTO_JSON back = must_open(b, "bc-1", "", "b", false);
	assert_file(b, "f", "agent one\n");
	assert_int_equal(n_warnings(back), 1);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_sh(b, "agent one", "git -C acme/web.git show b:f");
}

static void test_an_unfinished_merge_is_said(void **state)
{
	struct bench *b = *state;
	AUTO_JSON kept = NULL;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "v1", "b", false);
	SH(b, "cd '%s' && echo x > f && git commit -qam x && ! git merge -q origin/main", b->root);
	refuse_publish_and_keep(b, "a merge is not finished: 1 file has unresolved conflicts, such as 'f'", &kept);
	assert_non_null(kept);
	assert_sh(b, "main", "git -C acme/web.git branch --format='%%(refname:short)'");
	SH(b, "cd '%s' && echo both > f && git add f", b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_sh(b, "2", "git -C acme/web.git log -1 --format=%%p b | wc -w");
	SH(b, "cd '%s' && git checkout -q -b side HEAD~1 && echo y > f && git commit -qam y && ! git rebase -q b",
	    b->root);
	refuse_publish(b, "a rebase is not finished");
}

static void test_commits_are_found_wherever_they_are(void **state)
{
	struct bench *b = *state;
	size_t n;

	/* On the agent's branch, with another one checked out. */
	UNUSED AUTO_JSON i1 = must_open(b, "bc-1", "", "b1", false);
	SH(b, "cd '%s' && echo 1 > one && git add one && git commit -qm one && git checkout -q main", b->root);
	UNUSED AUTO_JSON d1 = must_publish(b);
	assert_true(flag_of(d1, "pushed"));
	assert_sh(b, "1", "git -C acme/web.git show b1:one");
	/* On another branch only: that is the work. */
	UNUSED AUTO_JSON i2 = must_open(b, "bc-2", "", "b2", false);
	SH(b, "cd '%s' && git checkout -q main && echo 2 > two && git add two && git commit -qm two", b->root);
	UNUSED AUTO_JSON d2 = must_publish(b);
	assert_sh(b, "2", "git -C acme/web.git show b2:two");
	assert_sh(b, "2", "git -C acme/web.git show main:f");
	assert_int_equal(n_warnings(d2), 1);
	/* On no branch. */
	UNUSED AUTO_JSON i3 = must_open(b, "bc-3", "", "b3", false);
	SH(b, "cd '%s' && git checkout -q --detach && echo 3 > three && git add three && git commit -qm three",
	    b->root);
	UNUSED AUTO_JSON d3 = must_publish(b);
	assert_sh(b, "3", "git -C acme/web.git show b3:three");
	/* On two that do not contain each other. */
	UNUSED AUTO_JSON i4 = must_open(b, "bc-4", "", "b4", false);
	SH(b,
	    "cd '%s' && echo 4 > four && git add four && git commit -qm four && git checkout -q -b try/this "
	    "origin/main && echo 5 > "
	    "five && git add five && git commit -qm five && echo 6 > six",
	    b->root);
	UNUSED AUTO_JSON d4 = must_publish(b);
	n = json_array_size(json_object_get(d4, "branches"));
	assert_int_equal(n, 2);
	assert_sh(b, "4", "git -C acme/web.git show b4:four");
	assert_sh(b, "6", "git -C acme/web.git show b4-try-this:six");
}

static void test_repositories_inside_are_said(void **state)
{
	struct bench *b = *state;
	json_t *left;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b,
	    "cd '%s' && mkdir app lib && (cd app && git init -q && echo 1 > m) && (cd lib && git init -q && echo 1 > m "
	    "&& git add "
	    "m && git commit -qm m) && echo x > x",
	    b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_sh(b, "f\nx", "git -C acme/web.git ls-tree --name-only b");
	left = json_object_get(done, "notPublished");
	assert_int_equal(json_array_size(left), 2);
	assert_string_equal(text_of(json_array_get(left, 0), "path"), "app");
	assert_non_null(strstr(text_of(json_array_get(left, 1), "reason"), "remove its .git folder"));
	/* One that the agent has committed as a link itself. */
	SH(b, "cd '%s' && rm -rf app && git add lib 2>/dev/null && git commit -qm link", b->root);
	UNUSED AUTO_JSON linked = must_publish(b);
	left = json_object_get(linked, "notPublished");
	assert_int_equal(json_array_size(left), 1);
	assert_non_null(strstr(text_of(json_array_get(left, 0), "reason"), "only a link"));
}

static void test_a_session_cannot_say_where_to_push(void **state)
{
	struct bench *b = *state;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b,
	    "git init -q --bare elsewhere.git && mkdir evil && printf '#!/bin/sh\ntouch %s/pwned\n' > evil/pre-push && "
	    "cp "
	    "evil/pre-push evil/reference-transaction && chmod +x evil/*",
	    b->dir);
	SH(b,
	    "cd '%s' && git config remote.origin.pushurl %s/elsewhere.git && git config remote.origin.url "
	    "%s/elsewhere.git && git "
	    "config core.hooksPath %s/evil && git config core.fsmonitor %s/evil/pre-push && git config core.sshCommand "
	    "%s/evil/pre-push && git config uploadpack.packObjectsHook %s/evil/pre-push && git config "
	    "core.alternateRefsCommand "
	    "%s/evil/pre-push && echo mine > f",
	    b->root, b->dir, b->dir, b->dir, b->dir, b->dir, b->dir, b->dir);
	SH(b, "rm -f pwned");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_sh(b, "mine", "git -C acme/web.git show b:f");
	assert_sh(b, "", "git -C elsewhere.git for-each-ref; test ! -e pwned || echo pwned");
	session_close(b->session, NULL);
	/* Nothing of it is there for the next. */
	UNUSED AUTO_JSON next = must_open(b, "bc-2", "", "b2", false);
	assert_sh(
	    b, "", "git -C '%s' config core.hooksPath || git -C '%s' config core.fsmonitor || true", b->root, b->root);
}

static void test_a_destroyed_checkout_is_kept(void **state)
{
	struct bench *b = *state;
	AUTO_JSON kept = NULL;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b, "cd '%s' && echo mine > g && rm -rf .git", b->root);
	refuse_publish_and_keep(b, "not a git repository: the session removed '.git'", &kept);
	assert_non_null(kept);
	session_touch(b->session);
	session_close(b->session, NULL);
	UNUSED AUTO_JSON back = must_open(b, "bc-1", "", "b", false);
	assert_file(b, "g", "mine\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_sh(b, "mine", "git -C acme/web.git show b:g");
}

/* What would lead the worker elsewhere, or make it wait. */
static void test_a_damaged_git_folder_is_said(void **state)
{
	static const char *const damages[] = {"rm .git/index && mkfifo .git/index",
	    "rm -f .git/packed-refs && mkfifo .git/packed-refs",
	    "rm -rf .git/refs/heads; ln -s \"$(ls -d ../../../.repos/*-own.git)\"/refs/bullpen/agents .git/refs/heads",
	    "mkfifo .git/refs/heads/p", "readlink -f ../../../.repos/*-own.git > .git/commondir",
	    "mv .git .gone && ln -s .gone .git", "mv .git .gone && echo 'gitdir: .gone' > .git"};
	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
		AUTO_JSON kept = NULL;
		AUTO_STR agent = str_printf("bc-%zu", i);
		AUTO_STR branch = str_printf("b%zu", i);

		UNUSED AUTO_JSON info = must_open(b, agent, "", branch, false);
		SH(b, "cd '%s' && echo mine > g && %s", b->root, damages[i]);
		refuse_publish_and_keep(b, "the session's git folder was damaged", &kept);
		assert_non_null(kept);
		session_touch(b->session);
		session_close(b->session, NULL);
		UNUSED AUTO_JSON back = must_open(b, agent, "", branch, false);
		assert_file(b, "g", "mine\n");
		SH(b, "rm -rf '%s/.gone'", b->root);
		UNUSED AUTO_JSON done = must_publish(b);
		assert_int_equal(number_of(done, "filesChanged"), 1);
	}
}

/* Keeping happens outside of the session's box: nothing that the session named may run then. */
static void test_a_filter_of_a_repository_inside_does_not_run(void **state)
{
	struct bench *b = *state;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b,
	    "cd '%s' && git init -q sub && cd sub && echo '* filter=x' > .gitattributes && echo 1 > f && git add -A && "
	    "git "
	    "commit -qm x && cd .. && git add sub && git -C sub config filter.x.clean \"sh -c 'touch %s/pwned; cat'\" "
	    "&& "
	    "touch -d '2001-01-01' sub/f && echo mine > g",
	    b->root, b->dir);
	session_touch(b->session);
	session_close(b->session, NULL);
	assert_sh(b, "", "ls pwned 2>/dev/null || true");
	UNUSED AUTO_JSON back = must_open(b, "bc-1", "", "b", false);
	assert_file(b, "g", "mine\n");
}

static void test_history_ends_where_it_did(void **state)
{
	struct bench *b = *state;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b,
	    "cd '%s' && git rev-parse HEAD > .git/shallow && git fetch -q --depth=1 origin side 2>/dev/null; echo x > "
	    "f",
	    b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	session_close(b->session, NULL);
	UNUSED AUTO_JSON next = must_open(b, "bc-2", "", "b2", false);
	assert_sh(b, "0", "cat state/.repos/*-own.git/shallow 2>/dev/null | wc -l");
	assert_sh(b, "2", "git -C '%s' rev-list --count HEAD", b->root);
	put_text(b, "f", "y\n");
	UNUSED AUTO_JSON done2 = must_publish(b);
	assert_sh(b, "3", "git -C acme/web.git rev-list --count b2");
}

#define COMMIT_AS_NOBODY                                                                                               \
	"unset GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL EMAIL; cd '%s' && echo x > f "  \
	"&& git -c "                                                                                                   \
	"user.useConfigOnly=true commit -qam own && git log -1 --format='%%an <%%ae>'"

static void test_an_agent_can_commit_where_nobody_has_a_name(void **state)
{
	struct bench *b = *state;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	assert_sh(b, "Bullpen <bullpen@localhost>", COMMIT_AS_NOBODY, b->root);
	/* The seed's own stands above it. */
	SH(b, "git -C work config user.email ann@acme.io");
	UNUSED AUTO_JSON other = must_open(b, "bc-2", "", "b2", false);
	assert_sh(b, "Bullpen <ann@acme.io>", COMMIT_AS_NOBODY, b->root);
}

static void test_work_of_another_is_not_taken_for_its_own(void **state)
{
	struct bench *b = *state;

	/* A branch of one session that is nowhere else … */
	UNUSED AUTO_JSON first = must_open(b, "bc-1", "", "b1", false);
	SH(b, "cd '%s' && git checkout -q -b other && echo 1 > private && git add private && git commit -qm private",
	    b->root);
	session_touch(b->session);
	session_close(b->session, NULL);
	/* … is not kept for the next, which destroys its own git directory. */
	UNUSED AUTO_JSON second = must_open(b, "bc-2", "", "b2", false);
	SH(b, "cd '%s' && echo x > g && rm -rf .git", b->root);
	session_touch(b->session);
	session_close(b->session, NULL);
	assert_sh(b, "work",
	    "git --git-dir=\"$(echo '%s'/.repos/*-own.git)\" for-each-ref --format='%%(refname:lstrip=4)' "
	    "refs/bullpen/agents/bc-2 | "
	    "grep -v base",
	    b->state);
}

static void test_commits_beside_a_branch_without_any(void **state)
{
	struct bench *b = *state;

	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b,
	    "cd '%s' && echo 1 > one && git add one && git commit -qm one && git checkout -q --orphan empty && git rm "
	    "-rqf .",
	    b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_sh(b, "1", "git -C acme/web.git show b:one");
	/* Nothing of it is published, so all of it is kept. */
	UNUSED AUTO_JSON other = must_open(b, "bc-2", "", "b2", false);
	SH(b,
	    "cd '%s' && echo 2 > two && git add two && git commit -qm two && git checkout -q --orphan empty && git rm "
	    "-rqf .",
	    b->root);
	session_touch(b->session);
	session_close(b->session, NULL);
	UNUSED AUTO_JSON back = must_open(b, "bc-2", "", "b2", false);
	assert_sh(b, "two", "git -C '%s' log --branches --format=%%s -1 --grep=two", b->root);
}

static void test_refs_as_people_write_them(void **state)
{
	static const char *const refs[] = {"refs/heads/side", "origin/side", "refs/remotes/origin/side", "side"};
	struct bench *b = *state;
	AUTO_STR side = NULL;
	AUTO_STR one = sh(b, "git -C seed rev-parse v1");
	AUTO_STR main = sh(b, "git -C seed rev-parse main");

	SH(b, "cd seed && git checkout -qb side && echo s > s && git add s && git commit -qm side && git push -q "
	      "origin side");
	side = sh(b, "git -C seed rev-parse side");
	for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
		AUTO_STR branch = str_printf("b%zu", i);
		UNUSED AUTO_JSON info = must_open(b, branch, refs[i], branch, false);

		assert_string_equal(text_of(info, "headCommit"), side);
	}
	UNUSED AUTO_JSON tag = must_open(b, "bc-t", "refs/tags/v1", "bt", false);
	assert_string_equal(text_of(tag, "headCommit"), one);
	UNUSED AUTO_JSON head = must_open(b, "bc-h", "HEAD", "bh", false);
	assert_string_equal(text_of(head, "headCommit"), main);
}

static void test_a_branch_that_became_a_folder(void **state)
{
	struct bench *b = *state;

	SH(b, "cd seed && git push -q origin main:release");
	UNUSED AUTO_JSON one = must_open(b, "bc-1", "release", "b1", false);
	SH(b, "cd seed && git push -q origin :release main:release/1.0 main:cursor");
	UNUSED AUTO_JSON two = must_open(b, "bc-2", "release/1.0", "b2", false);
	/* A branch where the folder of ours should be. */
	UNUSED AUTO_JSON three = must_open(b, "bc-3", "", "cursor/fix", false);
	assert_string_equal(text_of(three, "branch"), "cursor-fix");
	put_text(b, "f", "x\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_string_equal(text_of(done, "branch"), "cursor-fix");
}

static void test_submodules(void **state)
{
	struct bench *b = *state;

	SH(b, "git init -q --bare -b main acme/lib.git && git init -q -b main libseed && cd libseed && echo 1 > l && "
	      "git add l && git "
	      "commit -qm l1 && git push -q ../acme/lib.git main && cd ../seed && git -c protocol.file.allow=always "
	      "submodule --quiet "
	      "add ../lib.git lib && git commit -qm sub && git push -q origin main && cd ../work && git pull -q && git "
	      "-c "
	      "protocol.file.allow=always submodule --quiet update --init && cd ../libseed && echo 2 > l && git commit "
	      "-qam l2 && git "
	      "push -q ../acme/lib.git main && cd ../seed/lib && git pull -q origin main && cd .. && git commit -qam "
	      "moved && git "
	      "push -q origin main");
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	assert_int_equal(n_warnings(info), 0);
	assert_file(b, "lib/l", "2\n");
	/* Whoever owns a file can write it, whatever its mode. */
	assert_sh(b, "", "find '%s/.git' -type f -links +1", b->root);
	put_text(b, "a", "a\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_int_equal(number_of(done, "filesChanged"), 1);
	/* One that cannot be had is a warning, and its pointer stays. */
	SH(b, "mv acme/lib.git acme/gone.git && cd libseed && echo 3 > l && git commit -qam l3 && cd ../seed/lib && "
	      "git pull -q "
	      "../../libseed main && cd .. && git commit -qam again && git push -q origin main");
	UNUSED AUTO_JSON second = must_open(b, "bc-2", "", "b2", false);
	assert_int_equal(n_warnings(second), 1);
	put_text(b, "a", "b\n");
	UNUSED AUTO_JSON done2 = must_publish(b);
	assert_int_equal(number_of(done2, "filesChanged"), 1);
	assert_sh(b, "1", "git -C work config --get-regexp 'submodule.*url' | wc -l");
}

static void test_seeds_of_every_kind(void **state)
{
	struct bench *b = *state;

	/* Sparse: a file outside of what is checked out. */
	SH(b, "cd seed && mkdir docs src && echo d > docs/d && echo s > src/s && git add . && git commit -qm dirs && "
	      "git push -q "
	      "origin main && cd ../work && git pull -q && git sparse-checkout set src && git config core.autocrlf "
	      "true && git "
	      "config core.safecrlf true");
	bench_session(b);
	UNUSED AUTO_JSON sparse = must_open(b, "bc-1", "", "b1", false);
	SH(b,
	    "cd '%s' && test -e src/s && test ! -e docs/d && mkdir -p docs && echo n > docs/new && printf 'a\r\nb\n' > "
	    "crlf",
	    b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_sh(b, "docs/d\ndocs/new", "git -C acme/web.git ls-tree --name-only b1 docs/");
	session_close(b->session, NULL);
	/* A worktree of another clone, and a folder below the top. */
	SH(b,
	    "git clone -q '%s' main && cd main && rm -rf ../work && git worktree add -q ../work -b wt && mkdir -p "
	    "../work/sub",
	    url_of(b));
	bench_session(b);
	UNUSED AUTO_JSON tree = must_open(b, "bc-2", "", "b2", false);
	put_text(b, "f", "tree\n");
	UNUSED AUTO_JSON done2 = must_publish(b);
	assert_sh(b, "tree", "git -C acme/web.git show b2:f");
	assert_sh(b, "wt", "git -C work symbolic-ref --short HEAD && git -C work status --short");
	session_close(b->session, NULL);
	snprintf(b->seed, sizeof b->seed, "%.3000s/work/src", b->dir);
	bench_session(b);
	UNUSED AUTO_JSON sub = must_open(b, "bc-3", "", "b3", false);
	assert_true(text_has_suffix(b->root, "/src"));
	assert_file(b, "s", "s\n");
	put_text(b, "s", "sub\n");
	UNUSED AUTO_JSON done3 = must_publish(b);
	assert_sh(b, "sub", "git -C acme/web.git show b3:src/s");
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
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "", true);
	assert_string_equal(text_of(info, "branch"), "main");
	assert_file(b, "f", "3\n");
	assert_int_equal(n_warnings(info), 0);
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
	AUTO_FINI(session_failure) fail = {0};
	json_t *none;
	assert_int_equal(open_with(b, "bc-3", "v1", "", true, &none, &fail), ERR_INVALID);
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
	assert_sh(b, "-m Work", "git -C '%s' log -1 --format=%%s", b->root);
	session_close(b->session, NULL);
	SH(b, "rm acme/web.git/hooks/pre-receive");
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "b", false);
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

static void test_commit_hook_of_the_seed_runs(void **state)
{
	struct bench *b = *state;
	AUTO_JSON kept = NULL;

	SH(b, "printf '#!/bin/sh\necho lint failed: tabs >&2\nexit 1\n' > work/.git/hooks/pre-commit && chmod +x "
	      "work/.git/hooks/pre-commit");
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b, "rm -f '%s/.git/hooks/pre-commit'", b->root); /* not the session's to decide */
	put_text(b, "f", "x\n");
	refuse_publish_and_keep(b, "lint failed: tabs", &kept);
	assert_non_null(kept);
	session_touch(b->session);
	session_close(b->session, NULL);
	SH(b, "rm work/.git/hooks/pre-commit");
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "b", false);
	assert_file(b, "f", "x\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_sh(b, "x", "git -C acme/web.git show b:f");
}

static void test_a_remote_that_is_away_is_the_machines_fault(void **state)
{
	struct bench *b = *state;

	SH(b, "mv acme hidden");
	assert_true(refuse_open(b, "", "b", "git ls-remote failed"));
	SH(b, "mv hidden acme");
	assert_false(refuse_open(b, "nowhere", "b", "not found"));
	SH(b, "rm -rf work");
	assert_true(refuse_open(b, "", "b", "work"));
}

static void test_cancel_and_deadline(void **state)
{
	struct bench *b = *state;
	struct session_open want = {.agent_id = "bc-1", .repo_url = url_of(b), .starting_ref = "", .branch = "b"};
	AUTO_FINI(session_failure) fail = {0};
	json_t *info;

	assert_int_equal(session_open(b->session, &want, -1, clock_mono_ms() - 1, &info, &fail), ERR_TIMEOUT);
	assert_int_equal(write(b->cancel[1], "x", 1), 1);
	assert_int_equal(session_open(b->session, &want, b->cancel[0], INT64_MAX, &info, &fail), ERR_CANCELLED);
}

static void test_no_repository(void **state)
{
	struct bench *b = *state;
	AUTO_JSON done = NULL;

	bench_agent(b, "bc-1");
	assert_true(text_has_suffix(session_scratch_dir(b->session), "/bc-1/scratch"));
	done = must_publish(b);
	assert_false(flag_of(done, "pushed"));
	session_close(b->session, NULL);
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
	struct session_config cfg = {.roots = b->roots, .n_roots = 1, .state_dir = b->state};
	struct session_leftovers left;
	pid_t doomed, spared;
	int status;

	session_end_leftovers(&cfg, &left); /* there is no such folder yet */
	assert_int_equal(left.processes + left.folders, 0);
	doomed = leave_running(b, ours);
	spared = leave_running(b, alike);
	session_end_leftovers(&cfg, &left);
	assert_int_equal(left.processes, 1);
	assert_int_equal(left.folders, 1);
	assert_false(left.alive);
	assert_int_equal(waitpid(doomed, &status, WNOHANG), doomed);
	assert_int_equal(waitpid(spared, &status, WNOHANG), 0);
	assert_int_not_equal(access(ours, F_OK), 0);
	assert_int_equal(access(alike, F_OK), 0);
	session_end_leftovers(&cfg, &left);
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
	      "| tr '\\0' x > .cursorrules && git add -A && git commit -qm rules && git push -q origin main");
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
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
	SH(b, "rm '%s/AGENTS.md'", b->root);
	UNUSED AUTO_JSON second = must_open(b, "bc-1", "", "b", false);
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
	    "---\na: [b\n---\n", "---\na: \"b\n---\n", "---\na: [{b: c}\n---\n",
	    "---\na: {b: {c: {d: {e: {f: {g: {h: {i: {j: 1}}}}}}}}}\n---\n", "---\na:\n  b: &x 1\n---\n",
	    "---\na: x\n- y\n---\n", "---\na: &x [1]\nb: 2\n---\n", "---\na: [&x b]\nc: [\n*x]\n---\n",
	    "---\na:\n- [b]\n---\n", "---\n? a\n: [[[[\n---\n", "---\na: b\n...\nc: d\n---\n",
	    "---\na: \"\\0\"\n---\n"};

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
	/* Texts over several lines, and what is read over: mappings below the first level. */
	check_meta("---\na: |-\n  - b: *c\n\n  d # e\nf: >\n  g\n  h\ni: j\n---\nx",
	    "{\"a\":\"- b: *c\\n\\nd # e\",\"f\":\"g h\\n\",\"i\":\"j\"}", "x");
	check_meta("---\nmetadata:\n  a: b\n  c:\n    - d\n    - e: {f: [g]}\nh: {i: j}\nk: [{l: m}, n]\no: p\n---\n",
	    "{\"k\":[\"{l: m}\",\"n\"],\"o\":\"p\"}", "");
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
	    T(test_unknown_and_hostile_refs), T(test_wrong_repository), T(test_an_open_session_is_left_as_it_is),
	    T(test_work_of_a_killed_worker_is_put_back), T(test_the_seed_is_never_touched),
	    T(test_work_of_another_agent_waits_for_it), T(test_an_unfinished_merge_is_said),
	    T(test_commits_are_found_wherever_they_are), T(test_repositories_inside_are_said),
	    T(test_a_session_cannot_say_where_to_push), T(test_a_damaged_git_folder_is_said),
	    T(test_a_filter_of_a_repository_inside_does_not_run), T(test_history_ends_where_it_did),
	    T(test_an_agent_can_commit_where_nobody_has_a_name), T(test_a_destroyed_checkout_is_kept),
	    T(test_refs_as_people_write_them), T(test_work_of_another_is_not_taken_for_its_own),
	    T(test_commits_beside_a_branch_without_any), T(test_a_branch_that_became_a_folder), T(test_submodules),
	    T(test_seeds_of_every_kind), T(test_branch_of_another_worker), T(test_single_branch_clone),
	    T(test_work_on_current_branch), T(test_empty_remote), T(test_nothing_to_publish),
	    T(test_refused_push_keeps_the_commit), T(test_moved_branch_is_not_overwritten),
	    T(test_commit_hook_of_the_seed_runs), T(test_a_remote_that_is_away_is_the_machines_fault),
	    T(test_cancel_and_deadline), T(test_no_repository), T(test_leftovers_of_a_killed_worker_are_ended),
	    T(test_agents_md_and_rules), cmocka_unit_test(test_frontmatter)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
