/* Sessions of several agents at once on one worker: each its own folder, one repository of the worker for all. Once
 * with overlays and boxes, where this machine has them, and once with copies. */
#include "workbench.h"
#include "agent/box/box.h"
#include "agent/session/depot_lock.h"

#define AT_ONCE 4
#define ROUNDS 3

static struct boxes *boxes;

/* A place of the worker, and whose turn it is there. */
struct guest {
	pthread_t thread;
	struct bench b; /* b.session is of the place; what else it has is the scene's */
	unsigned n, round;
	char agent[16];
	char failed[512]; /* "" if all went well; cmocka's assertions are the main thread's */
};

struct scene {
	struct bench b;
	struct depot_locks *locks;
	bool boxed;
	struct guest guest[AT_ONCE];
};

static struct session *place(struct scene *s, unsigned n)
{
	return session_new(&(struct session_config){.roots = s->b.roots,
	    .n_roots = 1,
	    .state_dir = s->b.state,
	    .boxes = s->boxed ? boxes : NULL,
	    .place = n,
	    .locks = s->locks});
}

static void start_worker(struct scene *s)
{
	for (unsigned i = 0; i < AT_ONCE; i++) {
		struct guest *g = &s->guest[i];

		g->b = s->b;
		g->n = i + 1;
		snprintf(g->agent, sizeof g->agent, "bc-%u", i + 1);
		g->b.session = place(s, i + 1);
	}
}

static void stop_worker(struct scene *s)
{
	for (unsigned i = 0; i < AT_ONCE; i++)
		session_free(&s->guest[i].b.session);
}

static int setup(void **state, bool boxed)
{
	struct scene *s = NEW(struct scene);

	bench_open(&s->b);
	session_free(&s->b.session);
	SH(&s->b,
	    "git init -q --bare -b main acme/web.git && git init -q -b main first && cd first && echo tracked > f && "
	    "echo 'cache/' > .gitignore && git add . && git commit -qm one && git remote add origin ../acme/web.git && "
	    "git push -q origin main && cd .. && git clone -q '%s/acme/web.git' work && mkdir work/cache && echo "
	    "cached > work/cache/c",
	    s->b.dir);
	s->boxed = boxed;
	s->locks = depot_locks_new();
	start_worker(s);
	*state = s;
	return 0;
}

static int setup_copied(void **state)
{
	return setup(state, false);
}

static int setup_boxed(void **state)
{
	return setup(state, true);
}

static int teardown(void **state)
{
	struct scene *s = *state;

	stop_worker(s);
	depot_locks_free(&s->locks);
	bench_close(&s->b);
	free(s);
	return 0;
}

static int open_guest(struct guest *g, int64_t limit_ms, struct session_failure *fail)
{
	AUTO_STR url = str_printf("%s/acme/web.git", g->b.dir);
	AUTO_STR branch = str_printf("work/%s", g->agent);
	json_t *info = NULL;
	int rc = session_open(g->b.session,
	    &(struct session_open){
		.agent_id = g->agent, .claim_id = g->agent, .repo_url = url, .starting_ref = "", .branch = branch},
	    g->b.cancel[0], clock_mono_ms() + limit_ms, &info, fail);

	json_decref(info);
	bench_follow(&g->b);
	return rc;
}

static bool say(struct guest *g, const char *what, const char *why)
{
	snprintf(g->failed, sizeof g->failed, "%s: %.100s: %.380s", g->agent, what, why);
	return false;
}

static bool opens(struct guest *g)
{
	AUTO_FINI(session_failure) fail = {0};

	return open_guest(g, 60000, &fail) == OK || say(g, "opening", fail.why.text);
}

/* As a tool does it: in the session's box. */
static bool runs(struct guest *g, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool runs(struct guest *g, const char *fmt, ...)
{
	struct exec_result r;
	struct why why = {""};
	va_list ap;
	bool ok;
	int fd = open(g->b.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	va_start(ap, fmt);
	AUTO_STR command = str_vprintf(fmt, ap);
	va_end(ap);
	session_touch(g->b.session);
	if (exec_run(&EXEC_SPEC(.command = command, .cwd_fd = fd, .box = session_box(g->b.session),
			 .agent_id = g->agent, .scratch_dir = session_program_mark(g->b.session)),
		&r, &why) != OK) {
		close(fd);
		return say(g, command, why.text);
	}
	close(fd);
	ok = r.exit_code == 0 || say(g, command, r.both);
	exec_result_fini(&r);
	return ok;
}

static bool publishes(struct guest *g)
{
	struct session_publish want = {.message = "Work"};
	AUTO_FINI(session_failure) fail = {0};
	json_t *info = NULL;

	if (session_publish(g->b.session, &want, g->b.cancel[0], clock_mono_ms() + 60000, &info, &fail) != OK)
		return say(g, "publishing", fail.why.text);
	json_decref(info);
	return true;
}

/* All at the same time, each on a thread of its own as calls are. */
static void all(struct scene *s, void *(*fn)(void *guest))
{
	for (unsigned i = 0; i < AT_ONCE; i++)
		assert_int_equal(pthread_create(&s->guest[i].thread, NULL, fn, &s->guest[i]), 0);
	for (unsigned i = 0; i < AT_ONCE; i++)
		pthread_join(s->guest[i].thread, NULL);
	for (unsigned i = 0; i < AT_ONCE; i++)
		if (s->guest[i].failed[0] != '\0')
			fail_msg("%s", s->guest[i].failed);
}

#define assert_sh(s, want, ...)                                                                                        \
	do {                                                                                                           \
		AUTO_STR out_ = sh(&(s)->b, __VA_ARGS__);                                                              \
		assert_string_equal(out_, want);                                                                       \
	} while (0)

static void *work(void *arg)
{
	struct guest *g = arg;

	if (opens(g) && runs(g, "test ! -e stranger && echo %u >> of-%s && cat cache/c", g->round, g->agent) &&
	    publishes(g))
		session_close(g->b.session, NULL);
	return NULL;
}

static void test_side_by_side(void **state)
{
	struct scene *s = *state;

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < AT_ONCE; i++)
			s->guest[i].round = round;
		all(s, work);
	}
	for (unsigned i = 0; i < AT_ONCE; i++) {
		const char *agent = s->guest[i].agent;
		AUTO_STR want = str_printf(".gitignore\nf\nof-%s", agent);

		/* Its own file and no other's, with all that was written over the rounds. */
		assert_sh(s, want, "git -C acme/web.git ls-tree --name-only work/%s", agent);
		assert_sh(s, "0\n1\n2", "git -C acme/web.git show work/%s:of-%s", agent, agent);
		assert_sh(s, "4", "git -C acme/web.git rev-list --count work/%s", agent);
	}
	assert_sh(s, "", "git -C work status --porcelain");
	assert_sh(s, "", "git -C state/.repos/*-own.git for-each-ref 'refs/bullpen/agents/*/work'");
}

static void *change(void *arg)
{
	struct guest *g = arg;

	if (opens(g) && runs(g,
			    "echo mine > of-%s && git checkout -q -b side && echo s > side && git add side && "
			    "git -c user.name=t -c user.email=t@t commit -qm side",
			    g->agent)) {
		json_t *kept = NULL;

		session_close(g->b.session, &kept);
		if (json_object_size(kept) == 0)
			IGNORE(say(g, "closing", "nothing was kept"));
		json_decref(kept);
	}
	return NULL;
}

static void *find_again(void *arg)
{
	struct guest *g = arg;

	if (opens(g) && runs(g, "test \"$(cat of-%s)\" = mine && test \"$(ls of-* | wc -l)\" = 1", g->agent))
		session_close(g->b.session, NULL);
	return NULL;
}

/* What each did not publish is its own, whichever place it has next. */
static void test_work_is_kept_for_each(void **state)
{
	struct scene *s = *state;

	all(s, change);
	for (unsigned i = 0; i < AT_ONCE; i++)
		snprintf(s->guest[i].agent, sizeof s->guest[i].agent, "bc-%u", (i + 1) % AT_ONCE + 1);
	all(s, find_again);
}

static void must(struct guest *g, bool ok)
{
	if (!ok)
		fail_msg("%s", g->failed);
}

/* The folder that a session has is not another's to read, and the end of one is not the end of the other. */
static void test_one_ends_while_the_other_goes_on(void **state)
{
	struct scene *s = *state;
	struct guest *one = &s->guest[0], *two = &s->guest[1];

	must(one, opens(one));
	must(two, opens(two));
	assert_string_not_equal(one->b.root, two->b.root);
	must(one, runs(one, "echo secret > mine"));
	must(two, runs(two, "test ! -e mine && echo two > mine"));
	if (s->boxed && session_has_own_view(two->b.session))
		must(two, runs(two, "test ! -e '%s/mine'", one->b.root));
	must(two, runs(two, "sleep 300 > /dev/null 2>&1 & echo $! > pid")); /* what is left running */
	session_close(one->b.session, NULL);
	must(two, runs(two, "kill -0 $(cat pid) && test \"$(cat mine)\" = two"));
	/* A third takes the place of the first. */
	snprintf(one->agent, sizeof one->agent, "bc-9");
	must(one, opens(one));
	must(one, runs(one, "test ! -e mine"));
	session_close(two->b.session, NULL);
	must(one, runs(one, "cat f"));
}

/* Whoever has the worker's repository is waited for, but not for ever, and not by one who was cancelled. */
static void test_waiting_for_the_other(void **state)
{
	struct scene *s = *state;
	struct guest *g = &s->guest[0];
	AUTO_FINI(session_failure) late = {0};
	AUTO_FINI(session_failure) cancelled = {0};
	AUTO_STR dir = NULL;
	struct why why;
	int held;

	must(g, opens(g));
	session_close(g->b.session, NULL);
	dir = sh(&s->b, "cd state/.repos && ls -d $PWD/*.git | grep -v own");
	assert_int_equal(depot_lock(s->locks, dir, -1, 0, &held, &why), OK);
	assert_int_equal(open_guest(g, 50, &late), ERR_TIMEOUT);
	assert_true(late.machine);
	assert_string_equal(session_agent_id(g->b.session), "");
	assert_int_equal(write(g->b.cancel[1], "", 1), 1);
	assert_int_equal(open_guest(g, 60000, &cancelled), ERR_CANCELLED);
	must(g, read(g->b.cancel[0], &(char){0}, 1) == 1);
	depot_unlock(&held);
	must(g, opens(g));
}

static void *publish_slowly(void *arg)
{
	struct guest *g = arg;

	if (opens(g) && runs(g, "echo slow > of-%s", g->agent) && publishes(g))
		session_close(g->b.session, NULL);
	return NULL;
}

/* A hook of the person's, or a remote, that takes its time holds up its own session and no other. */
static void test_a_slow_push_holds_up_nobody(void **state)
{
	struct scene *s = *state;
	struct guest *slow = &s->guest[0], *quick = &s->guest[1];
	AUTO_STR held = str_printf("%s/held", s->b.dir);
	int64_t give_up = clock_mono_ms() + 60000;

	SH(&s->b,
	    "printf '#!/bin/sh\\nif grep -q %s; then touch %s; while [ ! -e %s/go ]; do sleep 0.02; done; fi\\n' > "
	    "work/.git/hooks/pre-push && chmod 755 work/.git/hooks/pre-push",
	    slow->agent, held, s->b.dir);
	assert_int_equal(pthread_create(&slow->thread, NULL, publish_slowly, slow), 0);
	while (access(held, F_OK) != 0) {
		assert_true(clock_mono_ms() < give_up);
		poll(NULL, 0, 10); /* interval of polling */
	}
	quick->round = 7;
	work(quick);
	must(quick, quick->failed[0] == '\0');
	assert_sh(s, "7", "git -C acme/web.git show work/%s:of-%s", quick->agent, quick->agent);
	SH(&s->b, "touch go");
	pthread_join(slow->thread, NULL);
	must(slow, slow->failed[0] == '\0');
	/* What the other took over meanwhile was not what the first pushed. */
	assert_sh(s, ".gitignore\nf\nof-bc-1", "git -C acme/web.git ls-tree --name-only work/%s", slow->agent);
}

/* A worker that was killed with several sessions: the next one keeps what each had. */
static void test_killed_with_all(void **state)
{
	/* Volatile, so that the sanitizer finds them here. */
	static struct session *volatile left_open[2]
	    __attribute__((unused)); /* as in a process that is gone: nobody frees them */
	struct scene *s = *state;
	struct session_config cfg = {
	    .roots = s->b.roots, .n_roots = 1, .state_dir = s->b.state, .place = 1, .locks = s->locks};
	struct session_leftovers left;

	if (s->boxed)
		cfg.boxes = boxes;
	for (unsigned i = 0; i < 2; i++) {
		must(&s->guest[i], opens(&s->guest[i]));
		must(&s->guest[i], runs(&s->guest[i], "echo mine > of-%s", s->guest[i].agent));
		/* Nobody closes it. */
		left_open[i] = s->guest[i].b.session;
		s->guest[i].b.session = NULL;
	}
	stop_worker(s);
	session_end_leftovers(&cfg, &left);
	assert_int_equal(left.folders, 2);
	assert_int_equal(left.kept, 2);
	start_worker(s);
	for (unsigned i = 0; i < 2; i++) {
		must(&s->guest[i], opens(&s->guest[i]));
		must(&s->guest[i], runs(&s->guest[i], "test \"$(cat of-%s)\" = mine", s->guest[i].agent));
	}
}

#define BOTH(f)                                                                                                        \
	{#f " (copied)", f, setup_copied, teardown, NULL},                                                             \
	{                                                                                                              \
#f " (boxed)", f, setup_boxed, teardown, NULL                                                          \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {BOTH(test_side_by_side), BOTH(test_work_is_kept_for_each),
	    BOTH(test_one_ends_while_the_other_goes_on), BOTH(test_waiting_for_the_other),
	    BOTH(test_a_slow_push_holds_up_nobody),
	    cmocka_unit_test_setup_teardown(test_killed_with_all, setup_copied, teardown)};
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
