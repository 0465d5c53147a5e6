/* A box of root's: the files of the machine. Root can write them all, so it gets an overlay of the whole root file
 * system for its root: what a session installs or breaks ends with it. */
#include "agent/box/mountinfo.h"
#include "agent/box/mounts_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_MOUNTINFO (4 * 1024 * 1024)

/* "36 35 98:0 /mnt1 /mnt2 …": id, parent, device, root, place. The last mount at a place is the one that is seen. */
static char *mount_place_of(const char *line, long *ret_id, long *ret_parent)
{
	int at = 0;
	char *path;

	if (sscanf(line, "%ld %ld %*s %*s %n", ret_id, ret_parent, &at) < 2 || at == 0)
		return NULL;
	path = str_ndup(line + at, strcspn(line + at, " \n"));
	mountinfo_unescape(path);
	return path;
}

static long id_of_root(const char *text)
{
	long found = -1;

	for (const char *line = text; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
		long id, parent;
		AUTO_STR path = mount_place_of(line, &id, &parent);

		if (path != NULL && strcmp(path, "/") == 0)
			found = id;
	}
	return found;
}

/* What is mounted on the old root, with all that is mounted on that, at the same place of the new one. */
static int carry_mounts(const char *new_root)
{
	AUTO_STR text = NULL;
	size_t len;
	long root;

	if (text_read_file("/proc/self/mountinfo", MAX_MOUNTINFO, &text, &len) != OK)
		return ERR_IO;
	root = id_of_root(text);
	for (const char *line = text; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
		long id = -1, parent = -1;
		AUTO_STR path = mount_place_of(line, &id, &parent);
		AUTO_STR to = NULL;

		if (path == NULL || parent != root || id == root || strcmp(path, new_root) == 0)
			continue;
		to = str_printf("%s%s", new_root, path);
		if (mount(path, to, NULL, MS_BIND | MS_REC, NULL) != 0 && errno != ENOENT)
			return err_from_errno(errno);
	}
	return OK;
}

static int mount_new_root(const char *scratch, const char *new_root)
{
	AUTO_STR upper = str_printf("%s/machine-upper", scratch);
	AUTO_STR work = str_printf("%s/machine-work", scratch);
	int fd[3] = {-1, -1, -1}, rc;

	IGNORE(mkdir(new_root, 0700));
	IGNORE(mkdir(upper, 0755));
	IGNORE(mkdir(work, 0700));
	fd[0] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd[1] = open(upper, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	fd[2] = open(work, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_STR options = str_printf("lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d,"
				      "redirect_dir=on,index=off,metacopy=off,xino=auto",
	    fd[0], fd[1], fd[2]);

	rc = mount("overlay", new_root, "overlay", 0, options) == 0 ? OK : err_from_errno(errno);
	for (int i = 0; i < 3; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return rc;
}

int mounts_machine_begin(const char *scratch, char **ret_root)
{
	AUTO_STR new_root = str_printf("%s/machine", scratch);
	int rc = mount_new_root(scratch, new_root);

	if (rc != OK)
		return rc;
	rc = carry_mounts(new_root);
	if (rc == OK)
		*ret_root = TAKE(new_root);
	else
		IGNORE(umount2(new_root, MNT_DETACH));
	return rc;
}

/* The old root lies on top of the new one for a moment (pivot_root(2), "pivot_root(".", ".")"). */
int mounts_machine_enter(const char *new_root)
{
	if (chdir(new_root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 ||
	    chdir("/") != 0)
		return err_from_errno(errno);
	return OK;
}
