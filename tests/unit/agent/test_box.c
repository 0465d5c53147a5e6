/* Boxes at every level: what runs in them, how it ends, and that nothing is left. */
#include "box_scene.h"
#include <linux/capability.h>
#include <sched.h>
#include <sys/syscall.h>

static void act_statuses(struct scene *s)
{
	AUTO_STR out = scene_must(s, "echo out; echo err >&2; pwd; ls -l /proc/self/fd | wc -l");
	const char *argv[] = {"/no-such-program-anywhere", NULL};
	struct why why;
	int status, fd;
	pid_t pid;

	CHECK(text_has_prefix(out, "out\nerr\n/"));
	AUTO_STR seven = scene_sh(s, &status, "exit 7");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	AUTO_STR segv = scene_sh(s, &status, "kill -SEGV $$");
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	AUTO_STR pipe_ = scene_sh(s, &status, "kill -PIPE $$");
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
	CHECK(box_spawn(s->box, &(struct box_spawn){.argv = argv, .env = environ, .out_fd = 1, .err_fd = 2}, &pid, &fd,
		  &why) == ERR_NOT_FOUND);
	CHECK(strstr(why.text, "no-such-program-anywhere") != NULL && strstr(why.text, "No such file") != NULL);
	argv[0] = "/etc/passwd";
	CHECK(box_spawn(s->box, &(struct box_spawn){.argv = argv, .env = environ, .out_fd = 1, .err_fd = 2}, &pid, &fd,
		  &why) == ERR_DENIED);
	SCENE_MUST(s, "true");
}

static void act_descriptors(struct scene *s)
{
	int leak = open("/etc/passwd", O_RDONLY);
	AUTO_STR out = scene_must(s, "ls -l /proc/self/fd");

	CHECK(leak > 2 && strstr(out, "passwd") == NULL && strstr(out, "socket") == NULL);
	CHECK(strstr(out, "memfd") == NULL && strstr(out, "anon_inode") == NULL);
	CHECK(strstr(out, "/dev/null") != NULL);
	AUTO_STR sid = scene_must(s, "ps -o sid= -p $$; echo $$");
	CHECK(atol(sid) == atol(strchr(sid, '\n')));
}

static void act_pid_and_cwd(struct scene *s)
{
	const char *argv[] = {"sh", "-c", "pwd -P; read line; echo $line", NULL};
	AUTO_STR sub = str_printf("%s/sub", s->scratch);
	AUTO_STR want = str_printf("%s\nhello\n", sub);
	char got[PATH_MAX] = "";
	int in[2], out[2], fd, status_fd;
	struct why why;
	size_t n = 0;
	pid_t pid;

	CHECK(mkdir(sub, 0755) == 0 && pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
	fd = open(sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_OK(
	    box_spawn(s->box,
		&(struct box_spawn){
		    .argv = argv, .env = environ, .cwd_fd = fd, .stdin_fd = in[0], .out_fd = out[1], .err_fd = out[1]},
		&pid, &status_fd, &why),
	    why);
	close(out[1]);
	close(in[0]);
	CHECK(pid > 1 && kill(pid, 0) == 0 && getsid(pid) == pid);
	int unused;
	CHECK(box_status(status_fd, &unused) == ERR_EMPTY);
	CHECK(write(in[1], "hello\n", 6) == 6);
	for (ssize_t k; (k = read(out[0], got + n, sizeof got - n - 1)) > 0;)
		n += (size_t)k;
	CHECK(strcmp(got, want) == 0);
	CHECK(scene_wait(status_fd) == 0);
}

/* 1 MiB of arguments and environment, which no packet could carry. */
static void act_large(struct scene *s)
{
	enum { N = 10 };
	const char *argv[N + 5] = {"sh", "-c", "echo ${#1} $# ${#LARGE}", "sh"};
	AUTO_STR word = mem_alloc(100001);
	AUTO_STR large = NULL;
	char *env[] = {NULL, (char *)"PATH=/usr/bin:/bin", NULL};
	char got[64] = "";
	int out[2], status_fd;
	struct why why;
	pid_t pid;

	memset(word, 'x', 100000);
	word[100000] = '\0';
	large = str_printf("LARGE=%s", word);
	env[0] = large;
	for (int i = 0; i < N; i++)
		argv[4 + i] = word;
	CHECK(pipe2(out, O_CLOEXEC) == 0);
	CHECK_OK(box_spawn(s->box, &(struct box_spawn){.argv = argv, .env = env, .out_fd = out[1], .err_fd = out[1]},
		     &pid, &status_fd, &why),
	    why);
	close(out[1]);
	CHECK(scene_wait(status_fd) == 0);
	CHECK(read(out[0], got, sizeof got - 1) > 0);
	CHECK(strcmp(got, "100000 10 100000\n") == 0);
}

static void *spawn_25(void *arg)
{
	struct scene *s = arg;

	for (int i = 0; i < 25; i++) {
		AUTO_STR command = str_printf("exit %d", i);
		int status;
		AUTO_STR out = scene_sh(s, &status, command);

		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == i);
	}
	return NULL;
}

static void act_threads(struct scene *s)
{
	pthread_t t[8];

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		CHECK(pthread_create(&t[i], NULL, spawn_25, s) == 0);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		pthread_join(t[i], NULL);
}

static void act_runaways(struct scene *s)
{
	const char *word = strrchr(s->dir, '-') + 1;
	AUTO_STR start =
	    str_printf("for i in 1 2 3; do"
		       " (env -i /usr/bin/setsid /bin/sh -c 'trap \"\" TERM; while :; do /bin/sleep 300; done' %s "
		       ">/dev/null 2>&1 &) ; done; "
		       "(env -i /usr/bin/setsid /bin/sh -c '/bin/sh -c \"/bin/sleep 4000; :\" %s & exit' %s "
		       ">/dev/null 2>&1 &)",
		word, word, word);

	SCENE_MUST(s, start);
	CHECK_SOON(scene_count(word) >= 4);
	CHECK(box_close(&s->box, 100, 20000) == OK);
	CHECK(scene_count(word) == 0);
	CHECK(s->box == NULL);
}

static void act_bomb(struct scene *s)
{
	const char *word = strrchr(s->dir, '-') + 1;
	AUTO_STR start =
	    str_printf("(sh -c 'i=0; while [ $i -lt 300 ]; do (setsid sh -c \"while :; do sleep 1; done\" %s &); "
		       "i=$((i+1)); done; while :; do sleep 1; done' %s >/dev/null 2>&1 &)",
		word, word);

	SCENE_MUST(s, start);
	CHECK_SOON(scene_count(word) >= 100); /* it goes on while the box is closed */
	CHECK(box_close(&s->box, 0, 20000) == OK);
	CHECK(scene_count(word) == 0);
}

static void act_term_first(struct scene *s)
{
	AUTO_STR start = str_printf("(setsid sh -c 'trap \"echo ended > %s/ended; exit\" TERM; echo > %s/ready; "
				    "while :; do sleep 0.01; done' >/dev/null 2>&1 &)",
	    s->scratch, s->scratch);
	AUTO_STR ready = str_printf("%s/ready", s->scratch);
	AUTO_STR ended = str_printf("%s/ended", s->scratch);

	SCENE_MUST(s, start);
	CHECK_SOON(access(ready, F_OK) == 0);
	CHECK(box_close(&s->box, 10000, 20000) == OK);
	CHECK(access(ended, F_OK) == 0);
}

static void act_usage(struct scene *s)
{
	struct box_usage u = {0};

	SCENE_MUST(s, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
	CHECK(box_usage(s->box, &u) == OK);
	CHECK(u.cpu_ms > 0 && u.peak_memory_bytes > 100 * 1024);
	int64_t before = u.cpu_ms;
	/* What still runs counts too. */
	SCENE_MUST(
	    s, "(setsid sh -c 'i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; sleep 100' >/dev/null 2>&1 &)");
	CHECK_SOON(box_usage(s->box, &u) == OK && u.cpu_ms > before + 50);
}

/* Two boxes do not end each other. */
static void act_two(struct scene *s)
{
	struct box *first = TAKE(s->box);

	scene_open(s);
	SCENE_MUST(s, "true");
	CHECK(box_close(&first, 0, 10000) == OK);
	SCENE_MUST(s, "true");
}

/* The worker is killed: its boxes end with it, and so does the keeper. */
static void act_worker_killed(struct scene *s)
{
	const char *word = strrchr(s->dir, '-') + 1;
	AUTO_STR start = str_printf("(env -i /usr/bin/setsid /bin/sh -c 'while :; do /bin/sleep 300; done' %s "
				    ">/dev/null 2>&1 &)",
	    word);
	int p[2];
	pid_t pid;
	char c;

	CHECK(pipe2(p, O_CLOEXEC) == 0);
	pid = fork();
	if (pid == 0) {
		struct why why;

		boxes_free(&s->boxes); /* only this side's ends; the keeper is not a child */
		CHECK_OK(boxes_start(s->level, true, NULL, &s->boxes, &why), why);
		scene_open(s);
		SCENE_MUST(s, start);
		CHECK_SOON(scene_count(word) == 1);
		CHECK(write(p[1], "x", 1) == 1);
		for (;;)
			pause();
	}
	close(p[1]);
	CHECK(read(p[0], &c, 1) == 1);
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	CHECK_SOON(scene_count(word) == 0);
}

/* A program can kill the init of a BOX_PROCESS. */
static void act_init_killed(struct scene *s)
{
	const char *word = strrchr(s->dir, '-') + 1;
	AUTO_STR start =
	    str_printf("(setsid sh -c 'while :; do sleep 300; done' %s >/dev/null 2>&1 &);"
		       "(while ! [ -e %s/go ]; do sleep 0.01; done; kill -9 $PPID; echo > %s/gone) >/dev/null 2>&1 &",
		word, s->scratch, s->scratch);
	AUTO_STR go = str_printf("%s/go", s->scratch);
	AUTO_STR gone = str_printf("%s/gone", s->scratch);

	SCENE_MUST(s, start);
	CHECK_SOON(scene_count(word) >= 1);
	CHECK(mkdir(go, 0700) == 0);
	if (s->level == BOX_PROCESS) {
		CHECK_SOON(scene_count(word) == 0);
	} else {
		CHECK_SOON(access(gone, F_OK) == 0);
		SCENE_MUST(s, "true"); /* process 1 does not hear it */
	}
	CHECK(box_close(&s->box, 0, 10000) == OK);
	CHECK_SOON(scene_count(word) == 0);
}

static void act_required(struct scene *s)
{
	struct boxes *none = NULL;
	struct box *x = (struct box *)s;
	struct why why;

	CHECK_OK(boxes_start(BOX_NONE, true, NULL, &none, &why), why);
	CHECK(boxes_level(none) == BOX_NONE && !boxes_may_mount(none));
	CHECK_OK(box_open(none, &s->cfg, &x, &why), why);
	CHECK(x == NULL && box_close(&x, 0, 0) == OK);
	boxes_free(&none);
	CHECK(none == NULL);
	/* Limits are kept or refused, never forgotten. */
	s->cfg.pids = 20;
	if (boxes_may_limit(s->boxes, &why) != OK) {
		CHECK(why.text[0] != '\0');
		CHECK(box_open(s->boxes, &s->cfg, &x, &why) == ERR_DENIED && x == NULL);
	}
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* A kernel that gives no namespaces, made of one that does: in a user namespace its limit can be set to none. */
static void forbid_namespaces(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	AUTO_STR map = str_printf("1000 %u 1", (unsigned)geteuid());

	if (unshare(CLONE_NEWUSER) != 0) {
		fprintf(stderr, "skipped: no user namespaces here\n");
		_exit(SKIPPED);
	}
	put("/proc/self/setgroups", "deny");
	put("/proc/self/uid_map", map);
	put("/proc/sys/user/max_user_namespaces", "0");
	CHECK(syscall(SYS_capset, &h, none) == 0);
}

static void play_forbidden(void)
{
	struct boxes *b = NULL;
	struct why why = {""};

	forbid_namespaces();
	CHECK(boxes_start(BOX_NAMESPACE, true, NULL, &b, &why) == ERR_DENIED && b == NULL);
	CHECK(text_has_prefix(why.text, "isolation namespace is not possible: "));
	CHECK(strstr(why.text, "sysctl -w user.max_user_namespaces=") != NULL);
	CHECK_OK(boxes_start(BOX_NAMESPACE, false, "/tmp/no-trial", &b, &why), why);
	CHECK(boxes_level(b) == BOX_PROCESS && !boxes_may_mount(b));
	CHECK(strstr(boxes_no_mounts(b), "user namespace") != NULL);
	CHECK(strstr(boxes_missing(b), "user.max_user_namespaces") != NULL);
	boxes_free(&b);
	/* Nobody misses what was not wanted. */
	CHECK_OK(boxes_start(BOX_PROCESS, true, NULL, &b, &why), why);
	CHECK(boxes_level(b) == BOX_PROCESS && boxes_missing(b)[0] == '\0');
	boxes_free(&b);
	_exit(0);
}

static void test_no_namespaces(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		play_forbidden();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != SKIPPED)
		assert_int_equal(status, 0);
}

static void play_root_of_a_container(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	struct boxes *b = NULL;
	struct why why = {""};

	CHECK(syscall(SYS_capset, &h, none) == 0);
	CHECK(boxes_start(BOX_NAMESPACE, true, NULL, &b, &why) == ERR_DENIED);
	CHECK(strstr(why.text, "CAP_SYS_ADMIN") != NULL);
	CHECK_OK(boxes_start(BOX_NAMESPACE, false, NULL, &b, &why), why);
	CHECK(boxes_level(b) == BOX_PROCESS);
	boxes_free(&b);
	_exit(0);
}

static void test_root_of_a_container(void **state)
{
	int status;
	pid_t pid = geteuid() == 0 ? fork() : -1;

	if (pid == 0)
		play_root_of_a_container();
	if (pid > 0) {
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

static void close_standard(struct scene *s, uid_t uid)
{
	close(0);
	close(1);
}

/* A worker that was started with nothing open: its sockets get the numbers that programs have for theirs. */
static void test_closed_descriptors(void **state)
{
	scene_run_after(close_standard, BOX_PROCESS, act_statuses, true);
	scene_run_after(close_standard, BOX_NAMESPACE, act_statuses, true);
}

static void *wait_for_end(void *arg)
{
	char c;

	IGNORE(read(*(int *)arg, &c, 1));
	return NULL;
}

static void test_not_with_threads(void **state)
{
	struct boxes *b = NULL;
	struct why why = {""};
	pthread_t t;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&t, NULL, wait_for_end, &p[0]), 0);
	assert_int_equal(boxes_start(BOX_PROCESS, false, NULL, &b, &why), ERR_INVALID);
	assert_null(b);
	close(p[1]);
	pthread_join(t, NULL);
	close(p[0]);
}

static int64_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : 0;
}

/* Also of what forks all the time. What is started in between runs. */
static void act_pause(struct scene *s)
{
	AUTO_STR file = str_printf("%s/lines", s->scratch);
	AUTO_STR start = str_printf("(setsid sh -c 'while :; do (echo x >> \"%s\"); done' >/dev/null 2>&1 &)", file);

	CHECK(!box_pause(NULL));
	SCENE_MUST(s, start);
	SCENE_MUST(s, start);
	for (int i = 0; i < 5; i++) {
		int64_t before = size_of(file);

		CHECK_SOON(size_of(file) > before);
		CHECK(box_pause(s->box));
		before = size_of(file);
		/* Enough for hundreds of lines, if anything ran. */
		for (int k = 0; k < 3; k++)
			SCENE_MUST(s, "true");
		CHECK(size_of(file) == before);
		box_resume(s->box);
	}
}

/* The parent in vfork does not stand still until its child has become a program, so the child must not be stopped for
 * good before that. */
static void act_pause_vfork(struct scene *s)
{
	for (int i = 0; i < 4; i++)
		SCENE_MUST(s, "(setsid sh -c 'while :; do /bin/true; done' >/dev/null 2>&1 &)");
	for (int i = 0; i < 60; i++) {
		CHECK(box_pause(s->box));
		box_resume(s->box);
	}
}

#define AT_BOTH_LEVELS(name)                                                                                           \
	static void test_##name##_process(void **state)                                                                \
	{                                                                                                              \
		scene_run(BOX_PROCESS, act_##name, true);                                                              \
	}                                                                                                              \
	static void test_##name##_namespace(void **state)                                                              \
	{                                                                                                              \
		scene_run(BOX_NAMESPACE, act_##name, true);                                                            \
	}
AT_BOTH_LEVELS(statuses)
AT_BOTH_LEVELS(descriptors)
AT_BOTH_LEVELS(pid_and_cwd)
AT_BOTH_LEVELS(large)
AT_BOTH_LEVELS(threads)
AT_BOTH_LEVELS(runaways)
AT_BOTH_LEVELS(bomb)
AT_BOTH_LEVELS(term_first)
AT_BOTH_LEVELS(usage)
AT_BOTH_LEVELS(two)
AT_BOTH_LEVELS(worker_killed)
AT_BOTH_LEVELS(init_killed)
AT_BOTH_LEVELS(required)
AT_BOTH_LEVELS(pause)
AT_BOTH_LEVELS(pause_vfork)

#define BOTH(name) cmocka_unit_test(test_##name##_process), cmocka_unit_test(test_##name##_namespace)

int main(void)
{
	const struct CMUnitTest tests[] = {BOTH(statuses), BOTH(descriptors), BOTH(pid_and_cwd), BOTH(large),
	    BOTH(threads), BOTH(runaways), BOTH(bomb), BOTH(term_first), BOTH(usage), BOTH(two), BOTH(worker_killed),
	    BOTH(init_killed), BOTH(required), cmocka_unit_test(test_no_namespaces),
	    cmocka_unit_test(test_root_of_a_container), cmocka_unit_test(test_closed_descriptors),
	    cmocka_unit_test(test_not_with_threads), BOTH(pause), BOTH(pause_vfork)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
