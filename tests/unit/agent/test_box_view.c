/* What a program in a namespace sees, and that the rest of the machine sees nothing of it. */
#include "box_scene.h"
#include <sched.h>
#include <sys/mount.h>

static char *read_text(const char *path)
{
	char *text = NULL;
	size_t len;

	CHECK(text_read_file(path, 8 * 1024 * 1024, &text, &len) == OK);
	return text;
}

static void write_text(const char *dir, const char *name, const char *text)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);
	FILE *f = fopen(path, "w");

	CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static bool has(const char *dir, const char *name)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);

	return access(path, F_OK) == 0;
}

static void act_tmp(struct scene *s)
{
	AUTO_STR name = str_printf("box-test-%s", strrchr(s->dir, '-') + 1);
	AUTO_STR make = str_printf("echo x > /tmp/%s && ls /var/tmp /tmp", name);

	SCENE_MUST(s, make);
	CHECK(!has("/tmp", name) && !has("/var/tmp", name));
	AUTO_STR tmp = str_printf("%s/tmp", s->scratch);
	CHECK(has(tmp, name));
	/* The sticky folder that everybody may write to. */
	AUTO_STR mode = scene_must(s, "stat -c %a /tmp /var/tmp");
	CHECK(strcmp(mode, "1777\n1777\n") == 0);
	/* Scratch is where it was, although it lies below a folder that was covered. */
	AUTO_STR reach = str_printf("echo y > %s/reached", s->scratch);
	SCENE_MUST(s, reach);
	CHECK(has(s->scratch, "reached"));
}

static void act_home(struct scene *s)
{
	AUTO_STR kept = str_printf("%s/kept", s->home);
	AUTO_STR config = str_printf("%s/.config", s->home);
	AUTO_STR keep_write = str_printf("echo new > %s/file", kept);
	const char *keep[] = {kept, NULL};

	write_text(s->home, "old", "old\n");
	CHECK(mkdir(config, 0755) == 0 && mkdir(kept, 0755) == 0);
	write_text(config, "tool", "real\n");
	s->cfg.keep = keep;
	scene_open(s);
	CHECK(box_warning(s->box)[0] == '\0');
	SCENE_MUST(
	    s, "grep -q old ~/old && echo changed > ~/.config/tool && rm ~/old && echo x > ~/fresh && mkdir ~/d");
	SCENE_MUST(s, "grep -q changed ~/.config/tool && ! [ -e ~/old ] && [ -d ~/d ]");
	SCENE_MUST(s, keep_write);
	CHECK(has(s->home, "old") && !has(s->home, "fresh") && !has(s->home, "d") && has(kept, "file"));
	AUTO_STR path = str_printf("%s/tool", config);
	AUTO_STR text = read_text(path);
	CHECK(strcmp(text, "real\n") == 0);
	/* git's and ssh's permissions work in the overlay. */
	SCENE_MUST(
	    s, "mkdir -m 700 ~/.ssh && touch ~/.ssh/k && chmod 600 ~/.ssh/k && stat -c %a ~/.ssh/k | grep -q 600");
	/* ".." of a working directory that was opened outside leads to the box's own home. */
	const char *argv[] = {"sh", "-c", "test -e ../fresh", NULL};
	struct why why;
	int fd = open(kept, O_RDONLY | O_DIRECTORY | O_CLOEXEC), status_fd;
	pid_t pid;
	CHECK_OK(
	    box_spawn(s->box, &(struct box_spawn){.argv = argv, .env = environ, .cwd_fd = fd, .out_fd = 1, .err_fd = 2},
		&pid, &status_fd, &why),
	    why);
	CHECK(scene_wait(status_fd) == 0);
	/* The session's folders can be removed by whoever runs the worker. */
	CHECK(box_close(&s->box, 0, 10000) == OK);
	AUTO_STR rm = str_printf("rm -rf %s", s->scratch);
	CHECK(system(rm) == 0 && access(s->scratch, F_OK) != 0);
}

static void act_folders(struct scene *s)
{
	AUTO_STR others = str_printf("%s/others", s->dir);
	AUTO_STR mine = str_printf("%s/others/mine", s->dir);
	AUTO_STR mirror = str_printf("%s/mirror", s->dir);
	AUTO_STR missing = str_printf("%s/missing", s->dir);
	const char *keep[] = {mine, NULL}, *read_only[] = {mirror, missing, NULL}, *hidden[] = {others, missing, NULL};
	AUTO_STR c1 = str_printf("ls %s | wc -l; ls %s", others, mine);
	AUTO_STR c2 = str_printf("echo x > %s/note", mine);
	AUTO_STR c3 = str_printf("echo x > %s/note", mirror);
	AUTO_STR c4 = str_printf("echo x > %s/note", others);
	AUTO_STR c5 = str_printf("grep -q m %s/file", mirror);
	AUTO_STR c6 = str_printf("umount %s || umount -l %s || mount -o remount,rw %s", others, others, mirror);
	int status;

	CHECK(mkdir(others, 0700) == 0 && mkdir(mine, 0700) == 0 && mkdir(mirror, 0700) == 0);
	write_text(others, "secret", "s\n");
	write_text(mine, "file", "f\n");
	write_text(mirror, "file", "m\n");
	s->cfg.keep = keep;
	s->cfg.read_only = read_only;
	s->cfg.hidden = hidden;
	scene_open(s);
	AUTO_STR list = scene_must(s, c1);
	CHECK(strcmp(list, "1\nfile\n") == 0);
	SCENE_MUST(s, c2);
	CHECK(has(mine, "note"));
	AUTO_STR o3 = scene_sh(s, &status, c3);
	CHECK(status != 0 && strstr(o3, "Read-only") != NULL && !has(mirror, "note"));
	AUTO_STR o4 = scene_sh(s, &status, c4);
	CHECK(status != 0 && !has(others, "note"));
	SCENE_MUST(s, c5);
	AUTO_STR o6 = scene_sh(s, &status, c6);
	CHECK(status != 0);
	AUTO_STR still = scene_must(s, c1);
	CHECK(strcmp(still, "1\nfile\nnote\n") == 0);
	/* Not by namespaces of its own either. */
	AUTO_STR c7 = str_printf("unshare -Urm sh -c 'umount -l %s || umount %s/mine; ls %s/secret %s/file'", others,
	    others, others, others);
	AUTO_STR o7 = scene_sh(s, &status, c7);
	CHECK(status != 0);
}

static void act_processes(struct scene *s)
{
	AUTO_STR list = scene_must(s, "ls /proc | grep -c '^[0-9]'; cat /proc/1/comm; echo $PPID");
	AUTO_STR look = str_printf("ls -d /proc/%d", (int)getpid());
	AUTO_STR stop = str_printf("kill -0 %d", (int)getpid());
	int status;

	CHECK(strtol(list, NULL, 10) < 8 && strstr(list, "\nagent-box\n1\n") != NULL);
	/* The pid means nothing there, or one of the box's own, which are small. */
	CHECK(getpid() > 100);
	AUTO_STR o1 = scene_sh(s, &status, look);
	CHECK(status != 0);
	AUTO_STR o2 = scene_sh(s, &status, stop);
	CHECK(status != 0);
	/* The init itself is closed to them: its memory is the worker's. */
	AUTO_STR o3 = scene_sh(s, &status, "cat /proc/1/environ || ls /proc/1/root/ || head -c1 /proc/1/mem");
	CHECK(status != 0);
	AUTO_STR o4 = scene_sh(s, &status, "kill -9 1; kill -0 1");
	SCENE_MUST(s, "true");
}

static void act_powers(struct scene *s)
{
	static const char *const forbidden[] = {"mount -t tmpfs none /mnt", "mount --bind / /mnt", "umount -l /proc",
	    "umount /tmp", "mknod /tmp/disk b 254 0", "nsenter -t 1 -m true", "chroot /proc/1/root true",
	    "echo 1 > /proc/sys/kernel/panic", "echo h > /proc/sysrq-trigger", "hostname other-name",
	    "for d in /dev/vda /dev/sda /dev/mem; do head -c1 $d >/dev/null && exit 0; done; exit 1"};
	AUTO_STR before = read_text("/proc/self/mountinfo");
	AUTO_STR after = NULL;

	for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
		int status;
		AUTO_STR out = scene_sh(s, &status, forbidden[i]);

		if (status == 0)
			fprintf(stderr, "possible in a box: %s\n", forbidden[i]);
		CHECK(status != 0);
	}
	after = read_text("/proc/self/mountinfo");
	CHECK(strcmp(before, after) == 0);
	AUTO_STR caps = scene_must(s, "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status");
	const char *eff = strstr(caps, "CapEff:");
	CHECK(eff != NULL && strstr(caps, "NoNewPrivs:") != NULL);
	unsigned long long bits = strtoull(eff + 7, NULL, 16), bound = strtoull(strstr(caps, "CapBnd:") + 7, NULL, 16);
	CHECK((bits & (1ull << 21)) == 0 && (bound & (1ull << 21)) == 0); /* SYS_ADMIN */
	CHECK((bound & (1ull << 19)) == 0); /* SYS_PTRACE */
	if (geteuid() == 0)
		CHECK((bits & 1) == 1 && strstr(caps, "NoNewPrivs:\t0") != NULL); /* CHOWN stays */
	else
		CHECK(bits == 0 && strstr(caps, "NoNewPrivs:\t1") != NULL);
}

/* What people do all day. */
static void act_everyday(struct scene *s)
{
	SCENE_MUST(s,
	    "cd ~ && git init -q w && cd w && echo a > a && git add a && "
	    "git -c user.name=t -c user.email=t@t commit -qm a && git log --oneline | grep -q a && git status");
	SCENE_MUST(s, "cd ~ && git clone -q w copy && git config --global user.name me && git config user.name");
	SCENE_MUST(s, "echo x > /dev/null && head -c 8 /dev/urandom | wc -c | grep -q 8 && : > /dev/stderr || exit 1");
	SCENE_MUST(s, "t=$(mktemp) && echo x > $t && sh -c 'sleep 0 & wait' && ps aux | grep -q agent-box");
	SCENE_MUST(s, "echo x > /dev/shm/x && [ $(id -u) = $(stat -c %u /dev/shm/x) ] && cat < /dev/fd/0 </dev/null");
	SCENE_MUST(s, "bash -c 'cat <(echo substituted)' | grep -q substituted");
	SCENE_MUST(s, "script -qc 'tty' /dev/null </dev/null | grep -q /dev/pts/");
}

/* What else is there on most machines. */
static void act_tools(struct scene *s)
{
	SCENE_MUST(s, "! command -v npm || npm --version");
	SCENE_MUST(s, "! command -v node || node -e 'require(\"child_process\").execSync(\"true\")'");
	SCENE_MUST(s, "! command -v apt-get || apt-get check -o Dir::State::lists=/tmp -o Debug::NoLocking=1");
	SCENE_MUST(s, "! command -v python3 || python3 -c 'import multiprocessing as m; m.Lock(); m.Value(\"i\")'");
	if (geteuid() == 0)
		SCENE_MUST(s,
		    "su -s /bin/sh daemon -c 'id -un' | grep -qx daemon && touch /tmp/f && chown 1:1 /tmp/f && "
		    "mkdir -p /tmp/r && chroot / true");
}

/* What the worker mounts later is seen in a box that is open; what the box mounts stays there; and with the worker ends
 * all of it. */
static void act_later_mount(struct scene *s)
{
	AUTO_STR at = str_printf("%s/later", s->scratch);
	AUTO_STR look = str_printf("cat %s/file", at);

	CHECK(mkdir(at, 0700) == 0);
	if (!boxes_may_mount(s->boxes))
		return;
	CHECK(mount("none", at, "tmpfs", 0, NULL) == 0);
	write_text(at, "file", "x\n");
	SCENE_MUST(s, look);
}

/* A file of root in the folder that ssh includes. The fork gets mounts of its own for it. */
static void put_ssh_config(struct scene *s, uid_t uid)
{
	if (geteuid() != 0 || access("/usr/bin/ssh", X_OK) != 0 || access("/etc/ssh/ssh_config.d", X_OK) != 0) {
		fprintf(stderr, "skipped: needs root and ssh\n");
		_exit(SKIPPED);
	}
	CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount("none", "/etc/ssh/ssh_config.d", "tmpfs", 0, "mode=0755") == 0);
	write_text("/etc/ssh/ssh_config.d", "probe.conf", "Host probe\n Port 2222\n");
}

static void act_ssh(struct scene *s)
{
	SCENE_MUST(s, "ssh -G probe | grep -qx 'port 2222'");
}

static void test_ssh(void **state)
{
	scene_other = 1; /* of somebody with a name, and not the one that stands for unknown owners */
	scene_run_after(put_ssh_config, BOX_NAMESPACE, act_ssh, true);
	scene_other = NOBODY;
}

static char *host_mounts;

static void make_list(void)
{
	str_free(&host_mounts);
	host_mounts = read_text("/proc/self/mountinfo");
}

static void play_at_namespace(void (*act)(struct scene *), bool open)
{
	AUTO_STR after = NULL;

	make_list();
	scene_run(BOX_NAMESPACE, act, open);
	after = read_text("/proc/self/mountinfo");
	assert_string_equal(after, host_mounts);
}

#define PLAY(name, open)                                                                                               \
	static void test_##name(void **state)                                                                          \
	{                                                                                                              \
		play_at_namespace(act_##name, open);                                                                   \
	}
PLAY(tmp, true)
PLAY(home, false)
PLAY(folders, false)
PLAY(processes, true)
PLAY(powers, true)
PLAY(everyday, true)
PLAY(later_mount, true)
PLAY(tools, true)

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_tmp), cmocka_unit_test(test_home),
	    cmocka_unit_test(test_folders), cmocka_unit_test(test_processes), cmocka_unit_test(test_powers),
	    cmocka_unit_test(test_everyday), cmocka_unit_test(test_later_mount), cmocka_unit_test(test_ssh),
	    cmocka_unit_test(test_tools)};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	str_free(&host_mounts);
	return failed;
}
