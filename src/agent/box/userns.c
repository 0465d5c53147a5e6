/* A user namespace and mount namespace of the worker's own, for one that is not root: in there it may mount overlays,
 * for itself and its children only. What is entered cannot be left, so all of it is tried in a child first. */
#include "agent/box/box_priv.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* What the child has to say; the pipe takes it whole. */
struct verdict {
	int code;
	char text[400];
};

/* This process did, or the one that it is a fork of. */
static bool entered;

bool userns_entered(void)
{
	return entered;
}

int userns_leave(void)
{
	uid_t uid = getuid();
	gid_t gid = getgid();

	if (!entered)
		return OK;
	return unshare(CLONE_NEWUSER) == 0 ? privilege_map_ids(uid, gid) : err_from_errno(errno);
}

static int fail(struct why *why, const char *what)
{
	int e = errno;

	return why_set(why, ERR_DENIED, "the worker has no mounts of its own: cannot %s (%s)", what, strerror(e));
}

/* Every id stays what it is. A process that came by rights may not be dumped, whatever it was before. */
static int enter(struct why *why)
{
	uid_t uid = getuid();
	gid_t gid = getgid();
	int dumpable = prctl(PR_GET_DUMPABLE), rc;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
		return fail(why, "make a user namespace");
	rc = privilege_map_ids(uid, gid);
	if (rc != OK)
		return fail(why, "map the user into a user namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) != 0)
		return fail(why, "take part in no mounts of others");
	prctl(PR_SET_DUMPABLE, dumpable == 1 ? 1 : 0);
	entered = true;
	return OK;
}

static int make_folder(const char *dir, const char *name)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);

	return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -1;
}

static int make_file(const char *dir, const char *name)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	return close(fd);
}

/* What an overlay needs of the file system: a file that is gone, and a folder that took another's place. */
static int use_overlay(const char *dir, struct why *why)
{
	AUTO_STR file = str_printf("%s/at/file", dir);
	AUTO_STR folder = str_printf("%s/at/folder", dir);
	AUTO_STR upper = str_printf("%s/upper/folder", dir);
	char mark[8];

	if (unlink(file) != 0 || rmdir(folder) != 0 || mkdir(folder, 0700) != 0)
		return fail(why, "change files in an overlay");
	if (getxattr(upper, "user.overlay.opaque", mark, sizeof mark) <= 0)
		return fail(why, "find the attributes of an overlay");
	return OK;
}

static int try_overlay(const char *dir, struct why *why)
{
	static const char *const folders[] = {"lower", "lower/folder", "upper", "work", "at"};
	AUTO_STR at = str_printf("%s/at", dir);
	AUTO_STR made = str_printf("%s/work/work", dir);
	const char *names[] = {"lower", "upper", "work"};
	AUTO_STR options = NULL;
	int fd[3], rc = OK;

	IGNORE(mkdir(dir, 0700));
	for (size_t i = 0; i < ARRAY_LEN(folders); i++)
		if (make_folder(dir, folders[i]) != 0)
			return fail(why, "make a folder");
	if (make_file(dir, "lower/file") != 0)
		return fail(why, "make a file");
	for (size_t i = 0; i < ARRAY_LEN(fd); i++) {
		AUTO_STR path = str_printf("%s/%s", dir, names[i]);

		fd[i] = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	options = str_printf("lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d,userxattr",
	    fd[0], fd[1], fd[2]);
	if (mount("bullpen", at, "overlay", MS_NODEV, options) != 0)
		rc = fail(why, "mount an overlay");
	IGNORE(chmod(made, 0700)); /* the kernel's, without permissions */
	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return rc == OK ? use_overlay(dir, why) : rc;
}

static int try_all(const char *dir, struct why *why)
{
	int rc = enter(why);

	if (rc == OK)
		rc = try_overlay(dir, why);
	/* Better boxes without mounts than mounts without boxes. */
	if (rc == OK && !keeper_may_box(false, why))
		rc = ERR_DENIED;
	return rc;
}

static int trial(const char *dir, struct why *why)
{
	struct verdict said = {ERR_IO, "the worker has no mounts of its own: the trial of it ended"};
	struct why found = {""};
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) != 0)
		return fail(why, "make a pipe");
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		said.code = try_all(dir, &found);
		snprintf(said.text, sizeof said.text, "%s", found.text);
		IGNORE(write(p[1], &said, sizeof said));
		_exit(0);
	}
	close(p[1]);
	if (pid > 0) {
		ssize_t n;

		while ((n = read(p[0], &said, sizeof said)) < 0 && errno == EINTR)
			;
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(p[0]);
	said.text[sizeof said.text - 1] = '\0';
	return said.code == OK ? OK : why_set(why, ERR_DENIED, "%s", said.text);
}

/* ssh's files, in a tmpfs that is nowhere else and that nobody can write: the worker's own ssh reads them. */
static void own_ssh(const char *dir)
{
	AUTO_STR at = str_printf("%s/at", dir);

	if (mount("bullpen", at, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=24m") != 0)
		return;
	mounts_own_ssh(at);
	IGNORE(mount(NULL, at, NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL));
	IGNORE(umount2(at, MNT_DETACH));
}

int userns_enter(const char *dir, bool *ret_entered, struct why *why)
{
	int rc;

	*ret_entered = false;
	if (trial(dir, why) != OK)
		return OK;
	rc = enter(why);
	if (rc != OK)
		return rc;
	own_ssh(dir);
	rc = privilege_only_mount();
	*ret_entered = rc == OK;
	return rc == OK ? OK : why_set(why, rc, "cannot give up what a namespace of the worker's own brought");
}
