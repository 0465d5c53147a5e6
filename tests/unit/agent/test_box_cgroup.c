/* Control groups: how the worker's own is found in the kernel's texts; and, where one was delegated, its limits. */
#include "agent/box/cgroup.h"
#include "box_scene.h"
#include <sys/xattr.h>

#define V2 "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define OTHERS                                                                                                         \
	"22 27 0:21 / /proc rw,relatime - proc proc rw\n27 1 254:0 / / rw - ext4 /dev/vda rw\n"                        \
	"32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"

static void test_find(void **state)
{
	static const struct {
		const char *self, *mounts, *dir;
	} cases[] = {
	    {"0::/user.slice/a.scope\n", OTHERS V2, "/sys/fs/cgroup/user.slice/a.scope"},
	    {"9:pids:/x\n1:cpu:/y\n0::/z\n", OTHERS V2, "/sys/fs/cgroup/z"},
	    {"0::/\n", V2, "/sys/fs/cgroup"},
	    {"0::/", V2, "/sys/fs/cgroup"},
	    /* A hybrid machine. */
	    {"4:memory:/m\n0::/w\n", "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
		"/sys/fs/cgroup/unified/w"},
	    /* Only a part of the tree is mounted. */
	    {"0::/docker/abc/in\n", "29 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
		"/sys/fs/cgroup/in"},
	    {"0::/docker/abc\n", "29 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "/sys/fs/cgroup"},
	    {"0::/docker/abcd\n", "29 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", NULL},
	    /* Blanks in the path of the mount. */
	    {"0::/a b\n", "29 23 0:26 / /my\\040groups\\134x rw - cgroup2 cgroup2 rw\n", "/my groups\\x/a b"},
	    {"0::/../other\n", V2, NULL},
	    {"9:pids:/x\n", V2, NULL},
	    {"0::/x\n", OTHERS, NULL},
	    {"0::/x\n", "29 23 0:26 / /x rw - cgroup2fake none rw\ncgroup2\n - cgroup2 \n", NULL},
	    {"", "", NULL},
	    {"0:", V2, NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_STR dir = NULL;
		int rc = cgroup_find(cases[i].self, cases[i].mounts, &dir);

		if (cases[i].dir == NULL)
			assert_true(rc == ERR_NOT_FOUND || rc == ERR_INVALID);
		else if (rc != OK || strcmp(dir, cases[i].dir) != 0)
			fail_msg("%s: %s instead of %s", cases[i].self, dir, cases[i].dir);
	}
}

static char *own_group(void)
{
	AUTO_STR self = NULL;
	AUTO_STR mounts = NULL;
	char *dir = NULL;
	size_t len;

	if (text_read_file("/proc/self/cgroup", 65536, &self, &len) != OK ||
	    text_read_file("/proc/self/mountinfo", 1024 * 1024, &mounts, &len) != OK ||
	    cgroup_find(self, mounts, &dir) != OK)
		return NULL;
	return dir;
}

static void put(const char *dir, const char *name, const char *text)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* A group for this process alone, as systemd delegates one. Needs root. */
static void enter_group(struct scene *s, uid_t uid)
{
	static const char *const handed[] = {"", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"};
	AUTO_STR parent = own_group();
	AUTO_STR dir = str_printf("%s/bullpen-test-%d", parent != NULL ? parent : "", (int)getpid());

	if (parent == NULL || geteuid() != 0 || mkdir(dir, 0755) != 0) {
		fprintf(stderr, "skipped: cannot make a control group below '%s'\n", parent != NULL ? parent : "");
		_exit(SKIPPED);
	}
	CHECK(setxattr(dir, "trusted.delegate", "1", 1, 0) == 0);
	for (size_t i = 0; i < ARRAY_LEN(handed); i++) {
		AUTO_STR path = str_printf("%s%s", dir, handed[i]);

		CHECK(chown(path, uid, uid) == 0);
	}
	put(dir, "cgroup.procs", "0");
}

static void test_group(enum box_level level, void (*act)(struct scene *))
{
	scene_run_after(enter_group, level, act, true);
}

static void remove_groups(void)
{
	AUTO_STR parent = own_group();
	AUTO_STR sweep = str_printf("find '%s' -mindepth 1 -depth -type d -path '*/bullpen-test-*' -exec rmdir {} +",
	    parent != NULL ? parent : "/nonexistent");

	if (parent != NULL && geteuid() == 0)
		IGNORE(system(sweep));
}

/* Both init and keeper are killed by a program of a BOX_PROCESS; the group still holds the rest. */
static void act_kill(struct scene *s)
{
	const char *word = strrchr(s->dir, '-') + 1;
	AUTO_STR start = str_printf(
	    "(env -i /usr/bin/setsid /bin/sh -c 'while :; do /bin/sleep 1; done' %s >/dev/null 2>&1 &)", word);
	struct box_usage u = {0};

	SCENE_MUST(s, start);
	CHECK_SOON(scene_count(word) == 1);
	AUTO_STR where = scene_must(s, "cat /proc/self/cgroup");
	CHECK(strstr(where, "/session-") != NULL);
	if (s->level == BOX_NAMESPACE) {
		AUTO_STR dir = own_group();
		AUTO_STR leave = str_printf("echo 0 > %s/cgroup.procs", dir);
		int status;
		AUTO_STR refused = scene_sh(s, &status, leave);

		CHECK(status != 0 && strstr(refused, "Read-only") != NULL);
	}
	AUTO_STR mine = own_group();
	CHECK(text_has_suffix(mine, "/worker"));
	CHECK(box_usage(s->box, &u) == OK);
	if (s->level == BOX_PROCESS) {
		AUTO_STR kill_keeper = str_printf("pkill -9 -P %d agent-keeper", (int)getpid());

		CHECK(system(kill_keeper) == 0);
		AUTO_STR kill_init = str_printf("(while ! [ -e %s/go ]; do sleep 0.01; done; "
						"while kill -9 $PPID; do sleep 0.01; done) >/dev/null 2>&1 &",
		    s->scratch);
		AUTO_STR go = str_printf("%s/go", s->scratch);

		SCENE_MUST(s, kill_init);
		CHECK(mkdir(go, 0700) == 0);
		CHECK_SOON(box_has_ended(s->box));
		CHECK(scene_count(word) >= 1);
	}
	CHECK(box_close(&s->box, 0, 5000) == OK);
	CHECK(scene_count(word) == 0);
}

static void act_limits(struct scene *s)
{
	struct box_usage u = {0};
	struct why why = {""};
	int status;

	if (boxes_may_limit(s->boxes, &why) != OK) {
		fprintf(stderr, "skipped: %s\n", why.text);
		CHECK(why.text[0] != '\0');
		box_close(&s->box, 0, 5000);
		boxes_free(&s->boxes); /* they are in the group, which is to be removed */
		_exit(SKIPPED);
	}
	box_close(&s->box, 0, 5000);
	s->cfg.memory_bytes = 64 * 1024 * 1024;
	s->cfg.pids = 16;
	s->cfg.cpu_milli = 500;
	scene_open(s);
	AUTO_STR many =
	    scene_sh(s, &status, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do sleep 5 & done");
	CHECK(status != 0 || strstr(many, "fork") != NULL);
	AUTO_STR much = scene_sh(s, &status, "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}");
	CHECK(status != 0);
	/* One command that was too large does not end the session. */
	SCENE_MUST(s, "true");
	CHECK(box_usage(s->box, &u) == OK && u.peak_memory_bytes > 32 * 1024 * 1024 && u.cpu_ms > 0);
}

static void test_kill_process(void **state)
{
	test_group(BOX_PROCESS, act_kill);
}

static void test_kill_namespace(void **state)
{
	test_group(BOX_NAMESPACE, act_kill);
}

static void test_limits(void **state)
{
	test_group(BOX_NAMESPACE, act_limits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_find), cmocka_unit_test(test_kill_process),
	    cmocka_unit_test(test_kill_namespace), cmocka_unit_test(test_limits)};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	remove_groups();
	return failed;
}
