/* Work that is not on the remote is never dropped: however it came to be there, and whatever stood in its way. */
#include "session_scene.h"
#include <sys/stat.h>

static void refuse_pushes(struct bench *b)
{
	SH(b, "printf '#!/bin/sh\\necho not today >&2\\nexit 1\\n' > acme/web.git/hooks/pre-receive && chmod +x "
	      "acme/web.git/hooks/pre-receive");
}

static void accept_pushes(struct bench *b)
{
	SH(b, "rm acme/web.git/hooks/pre-receive");
}

static void test_kept_commits_of_the_current_branch_are_published(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "", true);

	refuse_pushes(b);
	put_text(b, "f", "mine\n");
	refuse_publish(b, "not today");
	session_close(b->session, NULL);
	accept_pushes(b);
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "", true);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_int_equal(number_of(done, "filesChanged"), 1);
	assert_sh(b, "mine", "git -C acme/web.git show main:f");
}

static void test_more_branches_than_can_be_pushed_are_kept(void **state)
{
	struct bench *b = *state;
	AUTO_JSON kept = NULL;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "z/own", false);

	/* Many branches of origin's stand in nobody's way. */
	SH(b, "cd '%s' && for i in $(seq 150); do git branch a$i; done && echo mine > f && git commit -qam mine",
	    b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_sh(b, "mine", "git -C acme/web.git show z/own:f");
	SH(b, "cd '%s' && for i in $(seq 120); do git branch -f a$i $(git commit-tree -p v1 -m $i 'v1^{tree}'); done",
	    b->root);
	refuse_publish_and_keep(b, "more than 100 branches have new commits", &kept);
	assert_non_null(kept);
	session_close(b->session, NULL);
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "z/own", false);
	assert_sh(b, "120", "git -C '%s' log -1 --format=%%s a120", b->root);
}

static void test_kept_branches_beside_those_of_origin(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	SH(b, "cd '%s' && git checkout -q main && echo mine > m && git add m && git commit -qm on-main", b->root);
	session_touch(b->session);
	session_close(b->session, NULL);
	SH(b, "cd seed && echo theirs > t && git add t && git commit -qm theirs && git push -q origin main");
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "b", false);
	assert_sh(b, "on-main", "git -C '%s' log --branches --format=%%s --grep=on-main", b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_sh(b, "on-main", "git -C acme/web.git log --branches --format=%%s --grep=on-main");
}

static void test_what_origin_has_is_neither_published_nor_kept(void **state)
{
	struct bench *b = *state;
	AUTO_JSON kept = NULL;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	put_text(b, "g", "mine\n");
	UNUSED AUTO_JSON done = must_publish(b);
	session_close(b->session, NULL);
	SH(b, "cd seed && echo theirs > t && git add t && git commit -qm theirs && git push -q origin main");
	UNUSED AUTO_JSON fetched = must_open(b, "bc-2", "main", "c", false);
	session_close(b->session, NULL);
	/* The session has origin's main too, which is new to it. */
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "main", "b", false);
	put_text(b, "g", "mine again\n");
	UNUSED AUTO_JSON second = must_publish(b);
	assert_sh(b, "b\nmain", "git -C acme/web.git for-each-ref --format='%%(refname:short)' refs/heads");
	session_touch(b->session);
	session_close(b->session, &kept);
	assert_null(kept);
}

static void test_work_that_does_not_go_together_lies_aside(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	put_text(b, "f", "mine\n");
	session_touch(b->session);
	session_close(b->session, NULL);
	SH(b, "cd seed && echo theirs > f && git commit -qam theirs && git push -q origin main main:b");
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "b", false);
	assert_file(b, "f", "theirs\n");
	put_text(b, "g", "more\n");
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	session_close(b->session, NULL);
	assert_sh(b, "mine",
	    "cd '%s'/.repos/*-own.git && git show $(git for-each-ref --format='%%(refname)' "
	    "refs/bullpen/agents/bc-1/aside):f",
	    b->state);
}

static void test_what_cannot_be_kept_is_set_aside(void **state)
{
	struct bench *b = *state;
	AUTO_JSON kept = NULL;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	put_text(b, "f", "mine\n");
	session_touch(b->session);
	SH(b, "cd '%s'/.repos/*-own.git && touch HEAD.lock && mv objects gone && touch objects", b->state);
	session_close(b->session, &kept);
	assert_int_equal(json_object_size(kept), 0);
	assert_true(json_is_object(kept));
	assert_sh(b, "mine", "cat '%s'/.lost/bc-1-*/root-0/tree/f", b->state);
}

static void test_a_report_names_what_was_pushed(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	SH(b, "cd '%s' && git checkout -q -b other v1 && echo mine > m && git add m && git commit -qm m", b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_sh(b, text_of(done, "commit"), "git -C acme/web.git rev-parse '%s'", text_of(done, "branch"));
	assert_sh(b, "m", "git -C acme/web.git log -1 --format=%%s '%s'", text_of(done, "branch"));
}

static void test_names_that_are_no_text(void **state)
{
	struct bench *b = *state;
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);

	SH(b, "cd '%s' && d=$(printf 'n\\377') && mkdir $d && git -C $d init -q && echo 1 > $d/m && echo mine > f",
	    b->root);
	UNUSED AUTO_JSON done = must_publish(b);
	assert_true(flag_of(done, "pushed"));
	assert_sh(b, "mine", "git -C acme/web.git show b:f");
	put_text(b, "f", "kept\n");
	session_touch(b->session);
	session_close(b->session, NULL);
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "b", false);
	assert_file(b, "f", "kept\n");
}

static void test_branches_beside_nothing(void **state)
{
	struct bench *b = *state;

	SH(b, "rm -rf work acme/web.git && git init -q --bare -b main acme/web.git && git clone -q '%s' work",
	    url_of(b));
	session_free(&b->session);
	bench_session(b);
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b,
	    "cd '%s' && git checkout -q -b one && echo 1 > one && git add one && git commit -qm one && git checkout -q "
	    "--orphan two && git rm -rqf .",
	    b->root);
	session_touch(b->session);
	session_close(b->session, NULL);
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "b", false);
	assert_sh(b, "one", "git -C '%s' log -1 --format=%%s one", b->root);
}

static void test_filters_of_the_seed_do_not_run_when_work_is_kept(void **state)
{
	struct bench *b = *state;

	SH(b, "cd work && git config filter.own.clean './tool' && git config filter.own.smudge cat && git config "
	      "filter.own.required true");
	session_free(&b->session);
	bench_session(b);
	UNUSED AUTO_JSON info = must_open(b, "bc-1", "", "b", false);
	SH(b,
	    "cd '%s' && printf '#!/bin/sh\\ntouch %s/ran\\ncat\\n' > tool && chmod +x tool && echo '*.x filter=own' > "
	    ".gitattributes && echo 1 > a.x",
	    b->root, b->dir);
	session_touch(b->session);
	session_close(b->session, NULL);
	assert_sh(b, "", "ls ran 2>/dev/null || true");
	UNUSED AUTO_JSON again = must_open(b, "bc-1", "", "b", false);
	assert_file(b, "a.x", "1\n");
}

static void test_a_note_says_nothing_about_another_agent(void **state)
{
	struct bench *b = *state;
	struct session *killed = b->session;
	UNUSED AUTO_JSON first = must_open(b, "bc-2", "", "two", false);

	put_text(b, "f", "of two\n");
	session_touch(b->session);
	session_close(b->session, NULL);
	UNUSED AUTO_JSON second = must_open(b, "bc-1", "", "one", false);
	put_text(b, "f", "of one\n");
	SH(b, "sed -i s/bc-1/bc-2/ '%s'/bc-1/session.json", b->state);
	kill_worker(b);
	UNUSED AUTO_JSON again = must_open(b, "bc-2", "", "two", false);
	assert_file(b, "f", "of two\n");
	session_free(&killed);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_repo, teardown_bench)
int main(void)
{
	const struct CMUnitTest tests[] = {T(test_kept_commits_of_the_current_branch_are_published),
	    T(test_more_branches_than_can_be_pushed_are_kept), T(test_kept_branches_beside_those_of_origin),
	    T(test_what_origin_has_is_neither_published_nor_kept), T(test_work_that_does_not_go_together_lies_aside),
	    T(test_what_cannot_be_kept_is_set_aside), T(test_a_report_names_what_was_pushed),
	    T(test_names_that_are_no_text), T(test_branches_beside_nothing),
	    T(test_filters_of_the_seed_do_not_run_when_work_is_kept), T(test_a_note_says_nothing_about_another_agent)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
