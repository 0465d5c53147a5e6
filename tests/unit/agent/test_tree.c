/* Private copies of folders. Overlays need a mount namespace: those tests run in a child that has one, and say so where
 * none is to be had. */
#include "workbench.h"
#include "agent/session/tree.h"
#include "agent/box/box.h"
#include "as_nobody.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

static int setup(void **state)
{
	struct bench *b = NEW(struct bench);

	bench_open(b);
	SH(b, "cd work && mkdir -p a/b .git cache && echo 1 > a/b/f && ln -s ../.. a/up && echo x > cache/big && "
	      "mkfifo p && chmod "
	      "500 a/b && echo ref > .git/HEAD && touch -d 2020-01-01 a/b/f && echo run > exe && chmod 755 exe");
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	SH(b, "chmod -R u+w . 2>/dev/null || true");
	return teardown_bench(state);
}

static char *look(struct bench *b, const char *dir)
{
	return sh(b,
	    "cd '%s' && find . -path ./.git -prune -o -printf '%%P %%y %%m %%s %%l\\n' | sort; cat a/b/f exe; stat -c "
	    "%%Y "
	    "a/b/f",
	    dir);
}

static struct tree *must_raise(struct tree_config *cfg)
{
	struct why why;
	struct tree *t;

	if (tree_new(cfg, &t, &why) != OK || tree_raise(t, -1, &why) != OK)
		fail_msg("%s", why.text);
	return t;
}

static void check_private(struct bench *b, struct tree_config *cfg, enum tree_method want)
{
	AUTO_STR before = look(b, cfg->seed);
	AUTO_STR copy = NULL;
	AUTO_STR after = NULL;
	struct why why;
	struct tree *t;

	if (tree_new(cfg, &t, &why) != OK)
		fail_msg("%s", why.text);
	SH(b, "echo own > '%s/.git/HEAD'", tree_stage(t));
	if (tree_raise(t, -1, &why) != OK)
		fail_msg("%s", why.text);
	if (want == TREE_OVERLAY)
		assert_int_equal(tree_method(t), TREE_OVERLAY);
	copy = look(b, tree_path(t));
	if (strcmp(before, copy) != 0)
		fail_msg("before %s, copy %s", before, copy);
	SH(b,
	    "cd '%s' && test \"$(cat .git/HEAD)\" = own && test \"$(ls .git)\" = HEAD && chmod 700 a/b && rm -rf a/b "
	    "&& echo 2 > a/b "
	    "&& mkdir cache/new && mv cache moved && echo y >> moved/big && rm exe && chmod 000 moved",
	    tree_path(t));
	if (cfg->at == NULL) {
		after = look(b, cfg->seed);
		assert_string_equal(before, after);
	}
	tree_remove(&t);
	str_free(&after);
	after = look(b, b->seed);
	assert_string_equal(before, after);
	SH(b, "test ! -e '%s' && test \"$(cat work/.git/HEAD)\" = ref", cfg->dir);
}

static void test_copy(void **state)
{
	struct bench *b = *state;
	AUTO_STR dir = str_printf("%s/deep/er/tree", b->dir);

	check_private(b, &(struct tree_config){.seed = b->seed, .dir = dir, .leave_out = ".git"}, TREE_COPY);
}

static void test_large_caches_are_left_out_of_a_copy(void **state)
{
	struct bench *b = *state;
	AUTO_STR dir = str_printf("%s/t", b->dir);
	static const char *const dear[] = {"cache", "small", NULL};
	struct tree *t;

	SH(b, "cd work && mkdir small && echo s > small/s && truncate -s 600M cache/sparse");
	t = must_raise(&(struct tree_config){.seed = b->seed, .dir = dir, .best = TREE_COPY, .dear = dear});
	assert_true(tree_cost(t)->dear_left_out);
	SH(b, "cd '%s' && test ! -e cache && test -e small/s", tree_path(t));
	tree_remove(&t);
}

static void test_nothing_leads_out(void **state)
{
	struct bench *b = *state;
	AUTO_STR dir = str_printf("%s/t", b->dir);
	AUTO_STR long_name = NULL;
	struct tree *t;

	SH(b, "echo secret > secret && cd work && ln -s ../secret link && ln -s .. dots");
	t = must_raise(&(struct tree_config){.seed = b->seed, .dir = dir, .best = TREE_COPY});
	SH(b, "cd '%s' && test -L link && test -L dots", tree_path(t));
	/* Deeper than any path can name. */
	SH(b,
	    "cd '%s' && for i in $(seq 60); do mkdir -p d/d/d/d/d/d/d/d/d/d && cd d/d/d/d/d/d/d/d/d/d; done; echo x > "
	    "x",
	    tree_path(t));
	tree_remove(&t);
	SH(b, "test ! -e t && test -e secret");
}

static void test_cancel(void **state)
{
	struct bench *b = *state;
	AUTO_STR dir = str_printf("%s/t", b->dir);
	struct why why;
	struct tree *t;

	assert_int_equal(write(b->cancel[1], "x", 1), 1);
	assert_int_equal(tree_new(&(struct tree_config){.seed = b->seed, .dir = dir, .best = TREE_COPY}, &t, &why), OK);
	assert_int_equal(tree_raise(t, b->cancel[0], &why), ERR_CANCELLED);
	tree_remove(&t);
}

static bool has_own_mounts(struct bench *b)
{
	AUTO_STR trial = str_printf("%s/trial", b->dir);
	struct boxes *boxes; /* they end with this process */
	struct why why = {""};

	if (geteuid() == 0)
		return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	if (boxes_start(BOX_NAMESPACE, false, trial, &boxes, &why) != OK)
		fail_msg("%s", why.text);
	if (!boxes_may_mount(boxes))
		fprintf(stderr, "no mounts: %s\n", boxes_no_mounts(boxes));
	return boxes_may_mount(boxes);
}

/* In a child with a mount namespace of its own. */
static void in_namespace(void **state, void (*fn)(struct bench *b))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (!has_own_mounts(*state))
			_exit(77);
		fn(*state);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void overlay(struct bench *b)
{
	AUTO_STR dir = str_printf("%s/with,comma:and colon/t", b->dir);

	check_private(b, &(struct tree_config){.seed = b->seed, .dir = dir, .may_mount = true, .leave_out = ".git"},
	    TREE_OVERLAY);
}

/* The session is where the seed was, which is found under another name. */
static void cover(struct bench *b)
{
	AUTO_STR dir = str_printf("%s/t", b->dir);
	AUTO_STR other = str_printf("%s/other", b->dir);

	for (int i = 0; i < 2; i++) {
		AUTO_STR before = NULL;
		AUTO_STR after = NULL;
		struct tree *t;

		SH(b, "mkdir -p other");
		if (mount(b->seed, other, NULL, MS_BIND | MS_REC, NULL) != 0 ||
		    mount(NULL, other, NULL, MS_PRIVATE, NULL) != 0)
			fail();
		before = look(b, other);
		t = must_raise(&(struct tree_config){.seed = other,
		    .dir = dir,
		    .at = b->seed,
		    .may_mount = true,
		    .best = i == 0 ? TREE_OVERLAY : TREE_COPY});
		assert_string_equal(tree_path(t), b->seed);
		SH(b, "echo mine > work/exe && test \"$(cat other/exe)\" = run");
		tree_remove(&t);
		after = look(b, b->seed);
		assert_string_equal(before, after);
		umount2(other, MNT_DETACH);
	}
}

/* What a process that was killed left. */
static void found_again(struct bench *b)
{
	AUTO_STR dir = str_printf("%s/t", b->dir);
	struct why why;
	struct tree *t = must_raise(&(struct tree_config){.seed = b->seed, .dir = dir, .may_mount = true});

	SH(b, "echo mine > '%s/exe'", tree_path(t));
	tree_free(&t);
	if (tree_find(b->seed, dir, &t, &why) != OK)
		fail_msg("%s", why.text);
	SH(b, "test \"$(cat '%s/exe')\" = mine && test -e '%s/a/b/f'", tree_path(t), tree_path(t));
	tree_remove(&t);
	assert_int_equal(tree_find(b->seed, dir, &t, &why), ERR_NOT_FOUND);
}

/* Folders of the seed cannot be renamed there without trusted attributes (EXDEV), which mv copes with. */
static void renames(struct bench *b)
{
	AUTO_STR dir = str_printf("%s/t", b->dir);
	struct tree *t = must_raise(&(struct tree_config){.seed = b->seed, .dir = dir, .may_mount = true});
	AUTO_STR from = str_printf("%s/cache", tree_path(t));
	AUTO_STR to = str_printf("%s/renamed", tree_path(t));

	assert_int_equal(tree_method(t), TREE_OVERLAY);
	if (geteuid() == 0)
		assert_int_equal(rename(from, to), 0);
	else
		assert_true(rename(from, to) != 0 && errno == EXDEV);
	SH(b,
	    "cd '%s' && { test ! -e cache || mv cache renamed; } && test ! -e cache && test \"$(cat renamed/big)\" = x "
	    "&& mkdir cache && test -z \"$(ls cache)\" && mv exe exe2 && test ! -e exe && test -x exe2 && mkdir new && "
	    "mv new newer && test -e '%s/cache/big'",
	    tree_path(t), b->seed);
	tree_remove(&t);
}

/* In the fork: a user without rights; what it does not own in the seed cannot be changed in an overlay. */
static _Noreturn void play_foreign(struct bench *b, uid_t uid, uid_t owner, gid_t group)
{
	AUTO_STR file = str_printf("%s/exe", b->seed);
	AUTO_STR dir = str_printf("%s/t", b->dir);
	AUTO_STR chown_all = str_printf("chown -R %u:%u '%s'", (unsigned)uid, (unsigned)uid, b->dir);
	bool own = owner == uid && group == uid;
	struct tree *t;

	if (system(chown_all) != 0 || chown(file, owner, group) != 0 || setgroups(0, NULL) != 0 ||
	    setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
		_exit(1);
	if (!has_own_mounts(b))
		_exit(77);
	t = must_raise(&(struct tree_config){.seed = b->seed, .dir = dir, .may_mount = true});
	if ((tree_method(t) == TREE_OVERLAY) != own)
		_exit(2);
	SH(b, "echo more >> '%s/exe' && chmod 700 '%s/a/b' && echo more >> '%s/a/b/f' && test \"$(cat '%s')\" = run",
	    tree_path(t), tree_path(t), tree_path(t), file);
	tree_remove(&t);
	_exit(0);
}

static void test_foreign_files_are_copied(void **state)
{
	static const struct {
		uid_t uid, owner;
		gid_t group;
	} cases[] = {{1234, 1234, 1234}, {1234, 0, 1234}, {1234, 1234, 7}, {65534, 65534, 65534}, {65534, 0, 65534}};
	struct bench *b = *state;
	AUTO_STR rm = str_printf("rm -rf -- '%s/trial'", b->dir);

	for (size_t i = 0; geteuid() == 0 && i < ARRAY_LEN(cases); i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			play_foreign(b, cases[i].uid, cases[i].owner, cases[i].group);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(system(rm), 0);
		if (status != 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 77))
			fail_msg("case %zu: %#x", i, (unsigned)status);
	}
}

static void test_renames(void **state)
{
	in_namespace(state, renames);
}

static void test_overlay(void **state)
{
	in_namespace(state, overlay);
}

static void test_cover(void **state)
{
	in_namespace(state, cover);
}

static void test_found_again(void **state)
{
	in_namespace(state, found_again);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {T(test_copy), T(test_large_caches_are_left_out_of_a_copy),
	    T(test_nothing_leads_out), T(test_cancel), T(test_overlay), T(test_cover), T(test_found_again),
	    T(test_renames), T(test_foreign_files_are_copied)};

	as_nobody(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
