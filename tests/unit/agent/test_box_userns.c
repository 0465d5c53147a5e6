/* A worker that is not root, in a user namespace and mount namespace of its own. */
#include "box_scene.h"
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* As root there is nothing to see; where the machine does not allow it, that is said. */
static void need_mounts(struct scene *s)
{
	if (geteuid() == 0 || !boxes_may_mount(s->boxes)) {
		fprintf(stderr, "skipped: %s\n", geteuid() == 0 ? "as root" : boxes_no_mounts(s->boxes));
		_exit(SKIPPED);
	}
}

/* It may mount, and is otherwise who it was. */
static void act_same_user(struct scene *s)
{
	AUTO_STR closed = str_printf("%s/closed", s->dir);
	struct stat st;

	need_mounts(s);
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
	put(closed, "x");
	CHECK(stat(closed, &st) == 0 && st.st_uid == getuid() && st.st_gid == getgid());
	CHECK(chmod(closed, 0400) == 0 && open(closed, O_WRONLY | O_CLOEXEC) < 0 && errno == EACCES);
	CHECK(chown(closed, 0, 0) != 0);
	CHECK(mount("none", s->home, "tmpfs", 0, NULL) == 0 && umount2(s->home, MNT_DETACH) == 0);
	/* What it starts has no rights at all, in a box or not. */
	CHECK(system("grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status && "
		     "grep -q '^CapPrm:[[:space:]]*0*$' /proc/self/status && ! mount -t tmpfs none /mnt 2>/dev/null") ==
	      0);
	SCENE_MUST(s, "grep -q '^CapBnd:[[:space:]]*0*$' /proc/self/status && ! mount -t tmpfs none /mnt");
	SCENE_MUST(s, "test \"$(cat /proc/self/uid_map | wc -l)\" = 1 && cat /etc/passwd >/dev/null");
}

static void keep_groups(struct scene *s, uid_t uid)
{
	const gid_t groups[] = {4242, 4243};
	AUTO_STR shared = str_printf("%s/shared", s->dir);

	if (geteuid() != 0 || uid == 0)
		_exit(SKIPPED);
	put(shared, "x");
	CHECK(chown(shared, 0, 4243) == 0 && chmod(shared, 0060) == 0);
	CHECK(setgroups(2, groups) == 0 && setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0);
}

static void act_groups(struct scene *s)
{
	AUTO_STR shared = str_printf("%s/shared", s->dir);
	AUTO_STR command = str_printf("echo y >> %s && grep -q y %s", shared, shared);

	need_mounts(s);
	CHECK(getgroups(0, NULL) == 2);
	CHECK(system(command) == 0);
	SCENE_MUST(s, command);
}

/* Root in a namespace of the session's own cannot look behind what the worker mounted, nor write what is read-only. */
static void act_no_way_behind(struct scene *s)
{
	AUTO_STR seed = str_printf("%s/seed", s->dir);
	AUTO_STR kept = str_printf("%s/kept", s->dir);
	AUTO_STR secret = str_printf("%s/secret", s->dir);
	AUTO_STR seed_file = str_printf("%s/file", seed);
	AUTO_STR kept_file = str_printf("%s/file", kept);
	AUTO_STR secret_file = str_printf("%s/file", secret);
	AUTO_STR command = NULL;
	const char *read_only[] = {kept, NULL}, *hidden[] = {secret, NULL};

	need_mounts(s);
	CHECK(mkdir(seed, 0700) == 0 && mkdir(kept, 0700) == 0 && mkdir(secret, 0700) == 0);
	put(seed_file, "seed");
	put(kept_file, "kept");
	put(secret_file, "secret");
	CHECK(mount("none", seed, "tmpfs", 0, NULL) == 0);
	s->cfg.read_only = read_only;
	s->cfg.hidden = hidden;
	scene_open(s);
	command =
	    str_printf("cat > %s/try <<'E'\nd=%s; umount $d/seed; umount -l $d/seed; umount -l $d/secret; umount "
		       "$d/kept; mount -o remount,bind,rw $d/kept; mount -o remount,rw $d/kept; mkdir "
		       "/tmp/look; mount --bind $d /tmp/look; ls /tmp/look/* $d/*; echo evil > $d/kept/file; "
		       "echo evil > /tmp/look/kept/file; echo evil > $d/seed/file; cat $d/s*/file "
		       "/tmp/look/s*/file\nE\nunshare -rm sh %s/try > %s/said 2>&1; nsenter --mount=/proc/1/ns/mnt "
		       "-U true; ! grep -x seed %s/said && ! grep -x secret %s/said && grep -qi 'umount' %s/said",
		s->scratch, s->dir, s->scratch, s->scratch, s->scratch, s->scratch, s->scratch);
	SCENE_MUST(s, command);
	CHECK(umount2(seed, MNT_DETACH) == 0);
	AUTO_STR look = str_printf("test \"$(cat %s %s %s)\" = seedkeptsecret", seed_file, kept_file, secret_file);
	CHECK(system(look) == 0);
}

/* The overlay of ~ goes over what the worker mounted below it: workspaces are often there. */
static void act_mounts_below_home(struct scene *s)
{
	AUTO_STR inner = str_printf("%s/inner", s->home);
	AUTO_STR file = str_printf("%s/inner/file", s->home);
	AUTO_STR fresh = str_printf("%s/fresh", s->home);
	const char *keep[] = {inner, NULL};

	need_mounts(s);
	CHECK(mkdir(inner, 0700) == 0 && mount("none", inner, "tmpfs", 0, NULL) == 0);
	put(file, "seen");
	s->cfg.keep = keep;
	scene_open(s);
	CHECK(strcmp(box_warning(s->box), "") == 0);
	SCENE_MUST(s, "test \"$(cat ~/inner/file)\" = seen && echo x > ~/fresh && echo more > ~/inner/file");
	CHECK(access(fresh, F_OK) != 0);
	AUTO_STR look = str_printf("grep -q more %s", file);
	CHECK(system(look) == 0);
}

/* Files of root, which ssh takes only from root or from its user. The fork gets mounts of its own for them. */
static void put_ssh_configs(struct scene *s, uid_t uid)
{
	const struct passwd *pw = getpwuid(uid);
	AUTO_STR folder = str_printf("%s/.ssh", pw != NULL ? pw->pw_dir : "");
	AUTO_STR file = str_printf("%s/config", folder);

	if (geteuid() != 0 || uid == 0 || pw == NULL || access(pw->pw_dir, F_OK) != 0 ||
	    access("/usr/bin/ssh", X_OK) != 0 || access("/etc/ssh/ssh_config.d", X_OK) != 0) {
		fprintf(stderr, "skipped: needs root, ssh and the user mail with a home\n");
		_exit(SKIPPED);
	}
	CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount("none", "/etc/ssh/ssh_config.d", "tmpfs", 0, "mode=0755") == 0);
	put("/etc/ssh/ssh_config.d/probe.conf", "Host probe\n Port 2222\n");
	CHECK(mount("none", pw->pw_dir, "tmpfs", 0, "mode=0755") == 0 && mkdir(folder, 0755) == 0);
	put(file, "Host probe\n User somebody\n");
}

static void act_ssh(struct scene *s)
{
	need_mounts(s);
	CHECK(system("ssh -G probe > /dev/null") == 0);
	CHECK(system("ssh -G probe | grep -qx 'port 2222'") == 0);
	CHECK(system("ssh -G probe | grep -qx 'user somebody'") == 0);
	/* What the worker's ssh reads nobody can change. */
	CHECK(system("! touch /etc/ssh/ssh_config.d/evil.conf 2>/dev/null && "
		     "! sh -c 'echo >> /etc/ssh/ssh_config.d/probe.conf' 2>/dev/null") == 0);
	SCENE_MUST(s, "ssh -G probe | grep -qx 'port 2222' && ssh -G probe | grep -qx 'user somebody'");
}

static void test_ssh(void **state)
{
	scene_other = 8; /* mail: not the one that stands for unknown owners */
	scene_run_after(put_ssh_configs, BOX_NAMESPACE, act_ssh, true);
	scene_other = NOBODY;
}

/* The trial's folder lies where files have no attributes: everything else is as ever. */
static void cover_trial(struct scene *s, uid_t uid)
{
	AUTO_STR trial = str_printf("%s/trial", s->dir);

	if (geteuid() != 0 || uid == 0)
		_exit(SKIPPED);
	CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mkdir(trial, 0700) == 0 && mount("none", trial, "ramfs", 0, NULL) == 0);
	CHECK(chown(trial, uid, uid) == 0);
}

static void act_without(struct scene *s)
{
	CHECK(!boxes_may_mount(s->boxes) && boxes_level(s->boxes) == BOX_NAMESPACE);
	CHECK(boxes_no_mounts(s->boxes)[0] != '\0');
	CHECK(mount("none", s->home, "tmpfs", 0, NULL) != 0);
	SCENE_MUST(s, "true");
}

/* Capabilities that systemd gave it would be gone for its programs. */
static void keep_a_capability(struct scene *s, uid_t uid)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{.effective = 1U << CAP_NET_BIND_SERVICE,
	    .permitted = 1U << CAP_NET_BIND_SERVICE,
	    .inheritable = 1U << CAP_NET_BIND_SERVICE}};

	if (geteuid() != 0 || uid == 0)
		_exit(SKIPPED);
	CHECK(setgroups(0, NULL) == 0 && prctl(PR_SET_KEEPCAPS, 1) == 0);
	CHECK(setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0);
	CHECK(syscall(SYS_capset, &h, d) == 0);
}

static char *mounts_of_host(void)
{
	char *text = NULL;
	size_t len;

	assert_int_equal(text_read_file("/proc/self/mountinfo", 8 * 1024 * 1024, &text, &len), OK);
	return text;
}

static void test_scenes(void **state)
{
	AUTO_STR before = mounts_of_host();
	AUTO_STR after = NULL;

	scene_run(BOX_NAMESPACE, act_same_user, true);
	scene_run(BOX_NAMESPACE, act_no_way_behind, false);
	scene_run(BOX_NAMESPACE, act_mounts_below_home, false);
	scene_run_after(keep_groups, BOX_NAMESPACE, act_groups, true);
	scene_run_after(cover_trial, BOX_NAMESPACE, act_without, true);
	scene_run_after(keep_a_capability, BOX_NAMESPACE, act_without, true);
	after = mounts_of_host();
	assert_string_equal(before, after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_scenes), cmocka_unit_test(test_ssh)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
