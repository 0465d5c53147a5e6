/* In a user namespace an overlay can change only what belongs to a user and a group that the namespace knows: the
 * kernel refuses to copy anything else up (EOVERFLOW). A plain copy belongs to the copier. */
#include "agent/session/tree_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_DEPTH 120

struct looking {
	const char *leave_out;
	struct why *why;
	uid_t nobody; /* what unknown ones show as */
	gid_t nogroup;
	bool am_nobody;
	int depth;
};

bool tree_needs_userxattr(const char *dir)
{
	return removexattr(dir, "trusted.overlay.none") != 0 && errno == EPERM;
}

static uint32_t read_overflow(const char *path)
{
	AUTO_STR text = NULL;
	size_t len;

	return text_read_file(path, 32, &text, &len) == OK ? (uint32_t)strtoul(text, NULL, 10) : 65534;
}

/* The kernel lets only the owner of a file leave its time alone, and knows more of who that is than it shows. */
static bool is_denied_to_owner(int dir, const char *name, int flags)
{
	int fd = openat(dir, name, O_RDONLY | O_NOATIME | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags);
	bool denied = fd < 0 && errno == EPERM;

	if (fd >= 0)
		close(fd);
	return denied;
}

static bool is_foreign(const struct looking *k, int dir, const char *name, const struct stat *st)
{
	if (!k->am_nobody)
		return st->st_uid == k->nobody || st->st_gid == k->nogroup;
	return (st->st_uid != geteuid()) || (st->st_gid != getegid()) ||
	       ((S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) &&
		   is_denied_to_owner(dir, name, S_ISDIR(st->st_mode) ? O_DIRECTORY : 0));
}

static int look(struct looking *k, int dir, const char *name);

static int look_below(struct looking *k, int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc = OK;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (d == NULL) { /* it is ours, and closed to ourselves */
		if (fd >= 0)
			close(fd);
		return OK;
	}
	while (rc == OK && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (k->depth == 0 && k->leave_out != NULL && strcmp(e->d_name, k->leave_out) == 0)
			continue;
		k->depth++;
		rc = look(k, dirfd(d), e->d_name);
		k->depth--;
	}
	closedir(d);
	return rc;
}

static int look(struct looking *k, int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return OK;
	if (is_foreign(k, dir, name, &st) || k->depth > MAX_DEPTH)
		return why_set(k->why, ERR_DENIED, "'%.200s' in it is another user's or another group's", name);
	return S_ISDIR(st.st_mode) ? look_below(k, dir, name) : OK;
}

int tree_is_own(const char *seed, const char *leave_out, struct why *why)
{
	struct looking k = {.leave_out = leave_out,
	    .why = why,
	    .nobody = read_overflow("/proc/sys/kernel/overflowuid"),
	    .nogroup = read_overflow("/proc/sys/kernel/overflowgid")};

	k.am_nobody = geteuid() == k.nobody || getegid() == k.nogroup;
	return look(&k, AT_FDCWD, seed);
}
