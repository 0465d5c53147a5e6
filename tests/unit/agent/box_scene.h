/* What the tests of boxes share. A test forks, so that it has one thread, may give up its user and may be given a mount
 * namespace; in the fork CHECK ends it, where cmocka's asserts would go on in the wrong process. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "agent/box/box.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define SKIPPED 77

#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: not so: %s (errno %s)\n", __FILE__, __LINE__, #cond, strerror(errno)); \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)
#define CHECK_OK(call, why)                                                                                            \
	do {                                                                                                           \
		if ((call) != OK) {                                                                                    \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, (why).text);                     \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)
/* Looks until the condition holds or 20 s passed. */
#define CHECK_SOON(cond)                                                                                               \
	do {                                                                                                           \
		int64_t end_ = clock_mono_ms() + 20000;                                                                \
		while (!(cond) && clock_mono_ms() < end_)                                                              \
			poll(NULL, 0, 5);                                                                              \
		CHECK(cond);                                                                                           \
	} while (0)

/* Who plays besides root. */
static uid_t scene_other = NOBODY;

struct scene {
	char dir[PATH_MAX]; /* all of this test; /scratch and /home are in it */
	char scratch[PATH_MAX + 16], home[PATH_MAX + 16];
	enum box_level level;
	struct boxes *boxes;
	struct box_config cfg;
	struct box *box;
	void (*before)(struct scene *, uid_t uid); /* in the fork, before the user is given up */
};

/* Counts processes of the whole machine whose command line has the word. */
static inline int scene_count(const char *word)
{
	AUTO_STR command = str_printf("pgrep -fc -- '[%c]%s' 2>/dev/null", word[0], word + 1);
	FILE *f = popen(command, "r");
	int n = -1;

	CHECK(f != NULL && fscanf(f, "%d", &n) == 1);
	pclose(f);
	return n;
}

static inline int scene_wait(int status_fd)
{
	struct pollfd p = {status_fd, POLLIN, 0};
	int status = -1;

	CHECK(poll(&p, 1, 30000) == 1);
	CHECK(box_status(status_fd, &status) == OK);
	close(status_fd);
	return status;
}

/* Runs a command of the shell in the box; its outputs, malloc'ed. */
static inline char *scene_sh(struct scene *s, int *ret_status, const char *command)
{
	const char *argv[] = {"sh", "-c", command, NULL};
	struct strbuf out = STRBUF(4 * 1024 * 1024);
	char buf[4096];
	struct why why;
	int p[2], status_fd, status;
	pid_t pid;
	ssize_t n;

	CHECK(pipe2(p, O_CLOEXEC) == 0);
	CHECK_OK(box_spawn(s->box, &(struct box_spawn){.argv = argv, .env = environ, .out_fd = p[1], .err_fd = p[1]},
		     &pid, &status_fd, &why),
	    why);
	close(p[1]);
	while ((n = read(p[0], buf, sizeof buf)) > 0)
		IGNORE(strbuf_add(&out, buf, (size_t)n));
	close(p[0]);
	status = scene_wait(status_fd);
	if (ret_status != NULL)
		*ret_status = status;
	return strbuf_take(&out);
}

/* It must succeed. */
static inline char *scene_must(struct scene *s, const char *command)
{
	int status;
	char *out = scene_sh(s, &status, command);

	if (status != 0) {
		fprintf(stderr, "'%s' ended with %#x: %s\n", command, (unsigned)status, out);
		_exit(1);
	}
	return out;
}
#define SCENE_MUST(s, command)                                                                                         \
	do {                                                                                                           \
		AUTO_STR out_ = scene_must(s, command);                                                                \
	} while (0)

static inline void scene_make(struct scene *s, uid_t uid)
{
	const char *tmp = getenv("TMPDIR");
	char made[PATH_MAX];

	snprintf(made, sizeof made, "%s/bullpen-box-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(made));
	assert_non_null(realpath(made, s->dir));
	snprintf(s->scratch, sizeof s->scratch, "%s/scratch", s->dir);
	snprintf(s->home, sizeof s->home, "%s/home", s->dir);
	assert_int_equal(mkdir(s->scratch, 0700), 0);
	assert_int_equal(mkdir(s->home, 0700), 0);
	if (uid != geteuid()) {
		assert_int_equal(chown(s->dir, uid, uid), 0);
		assert_int_equal(chown(s->scratch, uid, uid), 0);
		assert_int_equal(chown(s->home, uid, uid), 0);
	}
}

static inline void scene_open(struct scene *s)
{
	struct why why;

	CHECK_OK(box_open(s->boxes, &s->cfg, &s->box, &why), why);
	CHECK(s->box != NULL);
}

/* In the fork: another user if wanted, boxes of this level and one box. */
static inline _Noreturn void scene_play(struct scene *s, uid_t uid, void (*act)(struct scene *), bool open)
{
	AUTO_STR trial = str_printf("%s/trial", s->dir);
	struct why why;

	if (s->before != NULL)
		s->before(s, uid);
	if (uid != geteuid()) {
		CHECK(setgroups(0, NULL) == 0);
		CHECK(setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0);
		prctl(PR_SET_DUMPABLE, 0); /* as the worker is */
	}
	setenv("HOME", s->home, 1);
	CHECK_OK(boxes_start(s->level, false, trial, &s->boxes, &why), why);
	if (boxes_level(s->boxes) < s->level) {
		fprintf(stderr, "skipped: %s\n", boxes_missing(s->boxes));
		_exit(SKIPPED);
	}
	if (s->cfg.scratch == NULL)
		s->cfg = (struct box_config){.scratch = s->scratch, .own_tmp = true, .home = s->home};
	if (open)
		scene_open(s);
	act(s);
	box_close(&s->box, 1000, 10000);
	boxes_free(&s->boxes);
	_exit(0);
}

/* Plays it as this user; as root also as nobody. What the machine cannot do is said on stderr and passes: in cmocka's
 * TAP a skipped test would count as failed. */
static inline void scene_run_after(
    void (*before)(struct scene *, uid_t), enum box_level level, void (*act)(struct scene *), bool open)
{
	uid_t uids[] = {geteuid(), scene_other};

	for (size_t i = 0; i < (geteuid() == 0 ? 2 : 1); i++) {
		struct scene s = {.level = level, .before = before};
		AUTO_STR rm = NULL;
		int status = 0;
		pid_t pid;

		scene_make(&s, uids[i]);
		pid = fork();
		if (pid == 0)
			scene_play(&s, uids[i], act, open);
		assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
		rm = str_printf("rm -rf -- '%s'", s.dir);
		assert_int_equal(system(rm), 0);
		if (status != 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED))
			fail_msg("as user %u: status %#x", (unsigned)uids[i], (unsigned)status);
	}
}

static inline void scene_run(enum box_level level, void (*act)(struct scene *), bool open)
{
	scene_run_after(NULL, level, act, open);
}
