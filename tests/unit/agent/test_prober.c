/* The thread that looks whether a worker can work: it sees what a person mends, and it ends when it is told. */
#include "workbench.h"
#include "agent/session/health.h"
#include "agent/worker/prober.h"

#define WAIT_MS 60000

struct scene {
	char dir[PATH_MAX];
	char *work, *state;
	const char *roots[1];
	struct session *session;
	struct health *health;
	struct prober *prober;
	int woken[2];
};

static void run(const char *dir, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void run(const char *dir, const char *fmt, ...)
{
	struct exec_result r;
	struct why why;
	va_list ap;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	va_start(ap, fmt);
	AUTO_STR cmd = str_vprintf(fmt, ap);
	va_end(ap);
	assert_int_equal(exec_run(&EXEC_SPEC(.command = cmd, .cwd_fd = fd), &r, &why), OK);
	close(fd);
	if (r.exit_code != 0)
		fail_msg("'%s' ended with %d: %s %s", cmd, r.exit_code, r.out, r.err);
	exec_result_fini(&r);
}

static void scene_wake(void *ctx)
{
	struct scene *s = ctx;

	IGNORE(write(s->woken[1], "", 1));
}

/* A checkout whose remote is `url`, read as a worker does when it starts. */
static void scene_init(struct scene *s, const char *url, const char *config)
{
	struct session_config cfg = {.n_roots = 1};

	*s = (struct scene){.dir = "/tmp/bullpen-prober-XXXXXX"};
	assert_non_null(mkdtemp(s->dir));
	s->work = str_printf("%s/work", s->dir);
	s->state = str_printf("%s/state", s->dir);
	assert_int_equal(mkdir(s->state, 0700), 0);
	run(s->dir, "git init -q work && git init -q --bare origin.git && cd work && git remote add origin '%s' && %s",
	    url, config);
	assert_int_equal(pipe2(s->woken, O_CLOEXEC), 0);
	s->roots[0] = s->work;
	cfg.roots = s->roots;
	cfg.state_dir = s->state;
	s->session = session_new(&cfg);
	s->health = health_new(s->session);
	s->prober = prober_new(&(struct prober_config){.health = s->health, .ctx = s, .wake = scene_wake});
	assert_non_null(s->prober);
}

static void scene_fini(struct scene *s)
{
	prober_free(&s->prober);
	health_free(&s->health);
	session_free(&s->session);
	run("/tmp", "rm -rf '%s'", s->dir);
	close(s->woken[0]);
	close(s->woken[1]);
	free(s->work);
	free(s->state);
}

static struct prober_news *next_news(struct scene *s)
{
	struct pollfd p = {s->woken[0], POLLIN, 0};
	char one;
	struct prober_news *n;

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(read(s->woken[0], &one, 1), 1);
	n = prober_take(s->prober);
	assert_non_null(n);
	return n;
}

/* No session is opened meanwhile, so nothing else reads the configuration again. */
static void a_mended_remote_is_seen(void **state)
{
	AUTO(prober_news) n = NULL;
	struct scene s;

	scene_init(&s, "file:///nowhere/acme/web.git", "true");
	prober_look(s.prober);
	n = next_news(&s);
	assert_string_equal(n->code, "remote_unreachable");
	assert_non_null(strstr(n->reason, "file:///nowhere/acme/web.git"));
	prober_news_free(&n);
	run(s.work, "git remote set-url origin 'file://%s/origin.git'", s.dir);
	n = next_news(&s);
	/* One look may have begun before that. */
	if (n->code[0] != '\0') {
		prober_news_free(&n);
		n = next_news(&s);
	}
	assert_string_equal(n->reason, "");
	scene_fini(&s);
}

/* A remote that never answers does not hold up the end, and the look that was cut off is not taken for an answer. */
static void a_look_under_way_is_cancelled(void **state)
{
	struct scene s;
	struct pollfd p;
	AUTO_STR marker = NULL;
	int64_t give_up = clock_mono_ms() + WAIT_MS;

	scene_init(&s, "ssh://host.invalid/acme/web.git",
	    "git config core.sshCommand 'touch \"$PWD/../asked\"; sleep 1000; :'");
	marker = str_printf("%s/asked", s.dir);
	prober_look(s.prober);
	while (access(marker, F_OK) != 0) {
		assert_true(clock_mono_ms() < give_up);
		poll(NULL, 0, 10); /* interval of polling */
	}
	prober_free(&s.prober);
	p = (struct pollfd){s.woken[0], POLLIN, 0};
	/* Without the cancel the look would have gone on to its limit, and told what it found. */
	assert_int_equal(poll(&p, 1, 0), 0);
	scene_fini(&s);
}

/* A configuration that cannot be read to its end does not hold it up either. */
static void reading_the_configuration_is_cancelled(void **state)
{
	struct scene s;
	struct pollfd p;
	AUTO_STR pipe = NULL;
	int64_t give_up = clock_mono_ms() + WAIT_MS, begun;
	int writer;

	scene_init(&s, "file:///nowhere/acme/web.git", "true");
	pipe = str_printf("%s/pipe", s.dir);
	assert_int_equal(mkfifo(pipe, 0600), 0);
	run(s.work, "printf '[include]\\n\\tpath = %s\\n' >> .git/config", pipe);
	prober_look(s.prober);
	/* There is a reader: git waits for what never comes. */
	while ((writer = open(pipe, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0) {
		assert_int_equal(errno, ENXIO);
		assert_true(clock_mono_ms() < give_up);
		poll(NULL, 0, 10); /* interval of polling */
	}
	begun = clock_mono_ms();
	prober_free(&s.prober);
	assert_true(clock_mono_ms() - begun < 15000); /* git itself would be given up after 20 s */
	p = (struct pollfd){s.woken[0], POLLIN, 0};
	assert_int_equal(poll(&p, 1, 0), 0);
	close(writer);
	scene_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_mended_remote_is_seen),
	    cmocka_unit_test(a_look_under_way_is_cancelled), cmocka_unit_test(reading_the_configuration_is_cancelled)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
