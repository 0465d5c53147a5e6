/* The box's own view of the files. All sources are opened before the first mount covers anything; then the places are
 * mounted from the outside in, so that the rule of an inner folder holds. */
#include "agent/box/box_priv.h"
#include "agent/box/mounts_priv.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int fail(struct why *why, const char *what, const char *path)
{
	int e = errno;

	return why_set(why, err_from_errno(e), "cannot %s '%.200s' in the session's box: %s", what, path, strerror(e));
}

static void fd_path(char buf[40], int fd)
{
	snprintf(buf, 40, "/proc/self/fd/%d", fd);
}

static int bind_fd(int fd, const char *to)
{
	char from[40];

	fd_path(from, fd);
	return mount(from, to, NULL, MS_BIND | MS_REC, NULL);
}

int box_make_read_only(const char *path)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY};
	struct statvfs st;
	unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY;

	if (mount_setattr(AT_FDCWD, path, AT_RECURSIVE, &a, sizeof a) == 0)
		return 0;
	/* Kernels before 5.12, and filters: the flags that are there must be said again. */
	if (statvfs(path, &st) != 0)
		return -1;
	flags |= (st.f_flag & ST_NOSUID ? MS_NOSUID : 0) | (st.f_flag & ST_NODEV ? MS_NODEV : 0) |
		 (st.f_flag & ST_NOEXEC ? MS_NOEXEC : 0) | (st.f_flag & ST_NOATIME ? MS_NOATIME : 0) |
		 (st.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0) | (st.f_flag & ST_RELATIME ? MS_RELATIME : 0);
	return mount(NULL, path, NULL, flags, NULL);
}

static int open_folder(const char *path)
{
	return open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* A folder of the session's scratch, made if it is not there. */
static int open_scratch(const struct view *v, const char *name, mode_t mode)
{
	AUTO_STR path = str_printf("%s/%s", v->scratch, name);

	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return -1;
	if (mode != 0700 && chmod(path, mode) != 0)
		return -1;
	return open_folder(path);
}

/* The folders above a place that a mount has covered. */
static void make_folders(const char *path)
{
	AUTO_STR p = str_dup(path);

	for (char *c = p + 1; *c != '\0'; c++)
		if (*c == '/') {
			*c = '\0';
			IGNORE(mkdir(p, 0755));
			*c = '/';
		}
	IGNORE(mkdir(p, 0755));
}

void mounts_add_place(struct view *v, const char *path, enum rule rule, int fd)
{
	if (fd < 0 || v->n >= MAX_PLACES) {
		if (fd >= 0)
			close(fd);
		return;
	}
	v->v = mem_grow(v->v, &v->cap, v->n + 1, sizeof *v->v);
	v->v[v->n++] = (struct place){path, rule, fd, -1, -1};
}

void mounts_add_overlay(struct view *v, const char *path, const char *name)
{
	AUTO_STR upper = str_printf("%s-upper", name);
	AUTO_STR work = str_printf("%s-work", name);
	size_t n = v->n;

	mounts_add_place(v, path, RULE_OVERLAY, open_folder(path));
	if (v->n == n)
		return;
	v->v[n].upper_fd = open_scratch(v, upper, 0700);
	v->v[n].work_fd = open_scratch(v, work, 0700);
}

static int by_path(const void *a, const void *b)
{
	const struct place *p = a, *q = b;
	int order = strcmp(p->path, q->path);

	return order != 0 ? order : (int)p->rule - (int)q->rule;
}

/* /var/tmp may be a link to /tmp. */
static void add_tmp(struct view *v, const char *path)
{
	int there = open_folder(path);

	if (there >= 0) {
		close(there);
		mounts_add_place(v, path, RULE_TMP, open_scratch(v, "tmp", 01777));
	}
}

static int collect(struct view *v, const struct packet *open, char **texts, struct why *why)
{
	static const enum rule rules[] = {RULE_KEEP, RULE_READ_ONLY, RULE_HIDDEN};
	size_t total = 0;

	for (size_t k = 0; k < ARRAY_LEN(rules); k++)
		total += open->count[k];
	if (total > MAX_PLACES - 8)
		return why_set(why, ERR_TOO_LARGE, "a box can have %d folders with rules, not %zu", MAX_PLACES, total);
	if (open->own_tmp) {
		add_tmp(v, "/tmp");
		add_tmp(v, "/var/tmp");
	}
	if (open->home)
		mounts_add_overlay(v, texts[1], "home");
	mounts_add_place(v, v->scratch, RULE_KEEP, open_folder(v->scratch));
	texts += 3;
	for (size_t k = 0; k < ARRAY_LEN(rules); k++)
		for (uint32_t i = 0; i < open->count[k]; i++, texts++)
			mounts_add_place(v, *texts, rules[k], open_folder(*texts));
	qsort(v->v, v->n, sizeof *v->v, by_path);
	return OK;
}

/* The paths of the layers go by descriptor: no characters to escape, and they may be covered already. The upper layer
 * gets the folder's own mode, which is what the mount shows. */
static int mount_overlay(struct view *v, const struct place *p, const char *to)
{
	AUTO_STR options = str_printf("lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d%s",
	    p->fd, p->upper_fd, p->work_fd, v->privileged ? "" : ",userxattr");
	char upper[40], work[48];
	struct stat st;

	fd_path(upper, p->upper_fd);
	if (fstat(p->fd, &st) == 0) {
		if (v->privileged)
			IGNORE(chown(upper, st.st_uid, st.st_gid));
		IGNORE(chmod(upper, st.st_mode & 07777));
	}
	if (mount("overlay", to, "overlay", v->privileged ? 0 : QUIET, options) != 0)
		return -1;
	/* The kernel makes a folder there with no permissions, which only root could remove later. */
	snprintf(work, sizeof work, "/proc/self/fd/%d/work", p->work_fd);
	IGNORE(chmod(work, 0700));
	return 0;
}

static int mount_place(struct view *v, const struct place *p, struct why *why)
{
	AUTO_STR to = str_printf("%s%s", v->root != NULL ? v->root : "", p->path);

	if (access(to, F_OK) != 0)
		make_folders(to);
	switch (p->rule) {
	case RULE_OVERLAY:
		if (mount_overlay(v, p, to) == 0)
			return OK;
		why_set(v->warning, OK,
		    "the session shares the folder '%.200s' with others: an overlay over it is refused (%s)", p->path,
		    strerror(errno));
		/* As it is, also where another mount has covered it. */
		return bind_fd(p->fd, to) == 0 ? OK : fail(why, "keep", p->path);
	case RULE_TMP:
	case RULE_KEEP:
		return bind_fd(p->fd, to) == 0 ? OK : fail(why, "mount", p->path);
	case RULE_READ_ONLY:
		if (bind_fd(p->fd, to) != 0 || box_make_read_only(to) != 0)
			return fail(why, "make read-only", p->path);
		return OK;
	case RULE_HIDDEN:
		return mount("tmpfs", to, "tmpfs", QUIET, "mode=0755,size=1m") == 0 ? OK : fail(why, "hide", p->path);
	}
	return ERR_INTERNAL;
}

static int mount_places(struct view *v, struct why *why)
{
	int rc = OK;

	for (size_t i = 0; i < v->n && rc == OK; i++)
		rc = mount_place(v, &v->v[i], why);
	/* Only now: places below them needed a folder there. */
	for (size_t i = 0; i < v->n && rc == OK; i++) {
		AUTO_STR to = str_printf("%s%s", v->root != NULL ? v->root : "", v->v[i].path);

		if (v->v[i].rule == RULE_HIDDEN &&
		    mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | QUIET, NULL) != 0)
			rc = fail(why, "hide", v->v[i].path);
	}
	return rc;
}

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty", "fuse", "kvm"};

static int bind_device(const char *name, int fd)
{
	AUTO_STR path = str_printf("/dev/%s", name);
	struct mount_attr a = {.attr_clr = MOUNT_ATTR_NODEV};
	int made = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);

	if (made >= 0)
		close(made);
	if (bind_fd(fd, path) != 0)
		return -1;
	IGNORE(mount_setattr(AT_FDCWD, path, 0, &a, sizeof a));
	return 0;
}

/* Root in the box can open every device node: it gets a /dev without disks, and nodes elsewhere lead nowhere. */
static int mount_dev(struct why *why)
{
	static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
	    {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"}};
	struct mount_attr a = {.attr_set = MOUNT_ATTR_NODEV};
	int fds[ARRAY_LEN(devices)], rc = OK;

	for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
		AUTO_STR path = str_printf("/dev/%s", devices[i]);

		fds[i] = open(path, O_PATH | O_CLOEXEC);
	}
	IGNORE(mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &a, sizeof a));
	if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=0755,size=64k") != 0)
		return fail(why, "mount", "/dev");
	for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
		if (fds[i] >= 0 && bind_device(devices[i], fds[i]) != 0 && rc == OK)
			rc = fail(why, "mount a device of /dev:", devices[i]);
		if (fds[i] >= 0)
			close(fds[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(links); i++)
		IGNORE(symlink(links[i][0], links[i][1]));
	IGNORE(mkdir("/dev/pts", 0755));
	IGNORE(mkdir("/dev/shm", 0755));
	IGNORE(mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
	return rc;
}

/* What else root could turn by writing. */
static void guard_kernel_files(void)
{
	static const char *const files[] = {
	    "/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi"};

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (mount(files[i], files[i], NULL, MS_BIND | MS_REC, NULL) == 0)
			IGNORE(box_make_read_only(files[i]));
}

/* Mounts that show something of the machine as it is for this box. */
static int mount_kernel(const char **ret_step)
{
	*ret_step = "take part in no mounts of others";
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
		return err_from_errno(errno);
	*ret_step = "mount /proc";
	if (mount("proc", "/proc", "proc", QUIET | MS_NOEXEC, NULL) != 0)
		return err_from_errno(errno);
	return OK;
}

int mounts_probe(bool privileged, const char **ret_step)
{
	int rc = mount_kernel(ret_step);

	if (rc != OK)
		return rc;
	*ret_step = "mount a /dev without disks";
	if (privileged && (rc = mount_dev(NULL)) != OK)
		return rc;
	*ret_step = "mount a tmpfs";
	if (mount("tmpfs", "/tmp", "tmpfs", QUIET, "mode=1777,size=64k") != 0)
		return err_from_errno(errno);
	*ret_step = "bind a folder";
	if (mount("/usr", "/tmp", NULL, MS_BIND | MS_REC, NULL) != 0)
		return err_from_errno(errno);
	*ret_step = "make a folder read-only";
	return box_make_read_only("/tmp") == 0 ? OK : err_from_errno(errno);
}

static void view_fini(struct view *v)
{
	for (size_t i = 0; i < v->n; i++) {
		close(v->v[i].fd);
		if (v->v[i].upper_fd >= 0)
			close(v->v[i].upper_fd);
		if (v->v[i].work_fd >= 0)
			close(v->v[i].work_fd);
	}
	free(v->v);
	free(v->root);
}

/* Without it the machine's files are shared, as they are for whoever is not root. */
static void begin_machine(struct view *v)
{
	int rc = mounts_machine_begin(v->scratch, &v->root);

	if (rc != OK)
		why_set(v->warning, OK,
		    "the session's programs share the machine's files with others: an overlay over them is refused "
		    "(%s)",
		    err_text(rc));
}

int mounts_make(const struct packet *open, char **texts, bool privileged, struct why *warning, struct why *why)
{
	struct view v = {.scratch = texts[0], .privileged = privileged, .warning = warning};
	const char *step;
	int rc = mount_kernel(&step);

	if (rc != OK)
		return fail(why, step, "/");
	if (privileged)
		rc = mount_dev(why);
	if (rc == OK)
		IGNORE(mount("tmpfs", "/dev/shm", "tmpfs", QUIET, "mode=1777"));
	if (rc == OK)
		rc = collect(&v, open, texts, why);
	if (rc == OK && privileged && open->home)
		begin_machine(&v);
	if (rc == OK)
		rc = mount_places(&v, why);
	if (rc == OK && v.root != NULL && (rc = mounts_machine_enter(v.root)) != OK)
		rc = why_set(why, rc, "cannot enter the session's view of the machine: %s", err_text(rc));
	view_fini(&v);
	if (rc == OK && !privileged)
		mounts_own_ssh(v.scratch);
	if (rc == OK && privileged)
		guard_kernel_files();
	/* With the control groups in it: a delegated one belongs to the session's user, limits and all. */
	if (rc == OK)
		IGNORE(box_make_read_only("/sys"));
	return rc;
}
