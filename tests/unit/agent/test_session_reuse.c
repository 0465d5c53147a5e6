/* What one session leaves to the next to be opened sooner, and what it must not: files of a person in the seed. Once
 * with overlays and boxes, where this machine has them, and once with copies. */
#include "workbench.h"
#include "agent/box/box.h"
#include "agent/session/depot.h"
#include "base/strbuf.h"
#include <dirent.h>
#include <sys/stat.h>

static struct boxes *boxes;

#define assert_sh(b, want, ...)                                                                                        \
	do {                                                                                                           \
		AUTO_STR out_ = sh(b, __VA_ARGS__);                                                                    \
		assert_string_equal(out_, want);                                                                       \
	} while (0)

static void start_worker(struct bench *b, bool boxed)
{
	session_free(&b->session);
	b->session = session_new(&(struct session_config){
	    .roots = b->roots, .n_roots = 1, .state_dir = b->state, .boxes = boxed ? boxes : NULL});
}

static struct bench *repo(bool boxed)
{
	struct bench *b = NEW(struct bench);

	bench_open(b);
	SH(b,
	    "git init -q --bare -b main acme/web.git && git init -q -b main first && cd first && echo tracked > f && "
	    "mkdir sub && echo deep > sub/g && echo 'cache/' > .gitignore && git add . && git commit -qm one && git "
	    "remote add origin ../acme/web.git && git push -q origin main && cd .. && git clone -q '%s/acme/web.git' "
	    "work && mkdir work/cache && echo cached > work/cache/c",
	    b->dir);
	start_worker(b, boxed);
	return b;
}

static int setup_copied(void **state)
{
	*state = repo(false);
	return 0;
}

static int setup_boxed(void **state)
{
	*state = repo(true);
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	bench_close(b);
	free(b);
	return 0;
}

static json_t *open_agent(struct bench *b, const char *agent)
{
	AUTO_STR url = str_printf("%s/acme/web.git", b->dir);
	AUTO_STR branch = str_printf("work/%s", agent);
	AUTO_FINI(session_failure) fail = {0};
	json_t *info = NULL;

	if (session_open(b->session,
		&(struct session_open){.agent_id = agent, .repo_url = url, .starting_ref = "", .branch = branch},
		b->cancel[0], clock_mono_ms() + 60000, &info, &fail) != OK)
		fail_msg("%s", fail.why.text);
	bench_follow(b);
	return info;
}

static void open_and_close(struct bench *b, const char *agent)
{
	json_decref(open_agent(b, agent));
	session_close(b->session, NULL);
}

/* The session is as a clone of the commit is, with the caches. */
static void assert_as_committed(struct bench *b, const char *agent)
{
	AUTO_JSON info = open_agent(b, agent);
	AUTO_STR want = str_printf("## work/%s", agent);
	AUTO_STR files = sh(b, "cd '%s' && find . -path ./.git -prune -o -type f -print | sort", b->root);

	assert_non_null(strstr(json_string_value(json_object_get(info, "gitStatus")), want));
	assert_null(strchr(json_string_value(json_object_get(info, "gitStatus")), '\n'));
	assert_string_equal(files, "./.gitignore\n./cache/c\n./f\n./sub/g");
	assert_file(b, "f", "tracked\n");
	assert_file(b, "sub/g", "deep\n");
	session_close(b->session, NULL);
}

static void test_again_and_again(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 3; i++) {
		AUTO_STR agent = str_printf("bc-%d", i);

		assert_as_committed(b, agent);
	}
}

/* Each of them after sessions that found nothing: what was remembered then must not hide it. */
static void test_private_files_stay_in_the_seed(void **state)
{
	static const struct {
		const char *make, *undo;
	} cases[] = {
	    {"echo secret > private", "rm private"},
	    {"echo secret > sub/private", "rm sub/private"},
	    {"mkdir -p a/b && echo secret > a/b/private", "rm -r a"},
	    {"echo secret > private && git add private", "git rm -qf private"},
	    {"echo changed > f", "git checkout -q f"},
	    /* As long as before, and as old. */
	    {"touch -r f ../time && echo TRACKED > f && touch -r ../time f", "git checkout -q f"},
	    {"git update-index --assume-unchanged f && echo secret > f",
		"git update-index --no-assume-unchanged f && git checkout -q f"},
	    {"git update-index --skip-worktree f && echo secret > f",
		"git update-index --no-skip-worktree f && git checkout -q f"},
	    {"echo secret > later && git add -N later", "git rm -qf --cached later && rm later"},
	    {"rm sub/g", "git checkout -q sub/g"},
	    {"echo mine > f && git commit -qam private", "git reset -q --hard origin/main"},
	    {"git config status.showUntrackedFiles no && echo secret > private",
		"rm private && git config --unset status.showUntrackedFiles"},
	    {"git update-index --index-version 4 && echo secret > private", "rm private"},
	    {"git config core.untrackedCache true && git status -s && echo secret > sub/private", "rm sub/private"},
	};

	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_STR before = str_printf("bc-before-%zu", i);
		AUTO_STR agent = str_printf("bc-%zu", i);

		open_and_close(b, before);
		SH(b, "cd work && %s", cases[i].make);
		assert_as_committed(b, agent);
		SH(b, "cd work && %s", cases[i].undo);
	}
}

/* An answer of the remote that is known already is not fetched; one that is new is. */
static void test_a_remote_that_moves(void **state)
{
	struct bench *b = *state;

	open_and_close(b, "bc-1");
	SH(b, "cd first && echo newer > f && echo 'more/' >> .gitignore && git commit -qam two && git push -q origin "
	      "main");
	for (int i = 2; i < 4; i++) {
		AUTO_STR agent = str_printf("bc-%d", i);
		AUTO_JSON info = open_agent(b, agent);

		assert_file(b, "f", "newer\n");
		assert_null(strchr(json_string_value(json_object_get(info, "gitStatus")), '\n'));
		session_close(b->session, NULL);
	}
	/* Back again: a branch that was rewritten. */
	SH(b, "cd first && git reset -q --hard HEAD^ && git push -qf origin main");
	assert_as_committed(b, "bc-4");
}

/* Commits that the seed held for the depot can be gone from it. */
static void test_a_seed_that_lost_what_is_known(void **state)
{
	struct bench *b = *state;

	SH(b, "cd first && echo newer > f && git commit -qam two && git push -q origin main && cd ../work && git fetch "
	      "-q");
	open_and_close(b, "bc-1");
	SH(b, "cd work && git update-ref -d refs/remotes/origin/main && git reflog expire --expire=now --all && rm -f "
	      ".git/FETCH_HEAD && git gc -q --prune=now");
	json_decref(open_agent(b, "bc-2"));
	assert_file(b, "f", "newer\n");
}

/* Folders go on a thread, and with the session object they are gone. */
static void test_nothing_is_left(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 5; i++) {
		AUTO_STR agent = str_printf("bc-%d", i);

		json_decref(open_agent(b, agent));
		SH(b, "mkdir -p '%s/made/deep' && echo x > '%s/made/deep/file'", b->root, b->root);
		session_close(b->session, NULL);
		AUTO_STR dir = str_printf("%s/%s", b->state, agent);

		assert_int_not_equal(access(dir, F_OK), 0);
	}
	session_free(&b->session);
	assert_sh(b, "no", "test -e '%s/.gone' && echo yes || echo no", b->state);
	/* What a killed worker had begun to remove. */
	SH(b, "mkdir -p '%s/.gone/0123/x' && echo x > '%s/.gone/0123/x/y'", b->state, b->state);
	session_end_leftovers(&(struct session_config){.roots = b->roots, .n_roots = 1, .state_dir = b->state},
	    &(struct session_leftovers){0});
	assert_sh(b, "no", "test -e '%s/.gone' && echo yes || echo no", b->state);
}

/* Refs as git sees them: in files, packed, both, and tags that are objects of their own. */
static void test_refs_are_what_git_says(void **state)
{
	static const char *const all[] = {"refs/remotes/origin", "refs/tags", NULL};
	struct bench *b = *state;
	struct strbuf list = STRBUF(1024 * 1024);
	AUTO_STR dir = str_printf("%s/first/.git", b->dir);
	AUTO_STR none = depot_read_ref(dir, "refs/tags/none");

	SH(b, "cd first && git tag v1 && git tag -am note v2 && git update-ref refs/remotes/origin/a/b HEAD && git "
	      "pack-refs "
	      "--all && echo 2 > f && git commit -qam two && git update-ref refs/remotes/origin/a/b HEAD && git tag v3 "
	      "&& git "
	      "update-ref refs/tags-not/x HEAD && git tag -d v1");
	depot_list_refs(dir, all, &list);
	AUTO_STR want =
	    sh(b, "git -C first for-each-ref --format='%%(objectname) %%(refname)' refs/remotes/origin refs/tags");
	AUTO_STR got = text_trim(strbuf_str(&list));
	AUTO_STR moved = sh(b, "git -C first rev-parse refs/remotes/origin/a/b");
	AUTO_STR read = depot_read_ref(dir, "refs/remotes/origin/a/b");

	strbuf_fini(&list);
	assert_string_equal(got, want);
	assert_string_equal(read, moved);
	assert_string_equal(none, "");
	assert_int_equal(depot_write_ref(dir, "refs/bullpen/agents/bc-1/base", moved), OK);
	assert_sh(b, moved, "git -C first rev-parse refs/bullpen/agents/bc-1/base");
	assert_int_equal(depot_write_ref(dir, "refs/bullpen/agents/x.lock/base", moved), ERR_INVALID);
	assert_int_equal(depot_write_ref(dir, "refs/../../x", moved), ERR_INVALID);
	assert_int_equal(depot_write_ref(dir, "refs/bullpen/x", "not a commit"), ERR_INVALID);
}

#define BOTH(f)                                                                                                        \
	{#f " (copied)", f, setup_copied, teardown, NULL},                                                             \
	{                                                                                                              \
#f " (boxed)", f, setup_boxed, teardown, NULL                                                          \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {BOTH(test_again_and_again), BOTH(test_private_files_stay_in_the_seed),
	    BOTH(test_a_remote_that_moves), BOTH(test_a_seed_that_lost_what_is_known), BOTH(test_nothing_is_left),
	    cmocka_unit_test_setup_teardown(test_refs_are_what_git_says, setup_copied, teardown)};
	struct why why;
	int failed;

	if (boxes_start(BOX_NAMESPACE, false, NULL, &boxes, &why) != OK) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	boxes_free(&boxes);
	return failed;
}
