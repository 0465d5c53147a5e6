#include "agent/artifacts/scan.h"
#include "agent/session/beneath.h"
#include "base/artifact_path.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 32
#define NAMES_MAX 10000

struct scan {
	void (*fn)(void *ctx, const char *path, const struct stat *st);
	void *ctx;
	size_t left;
	bool cut;
};

struct scan_stamp scan_stamp_of(const struct stat *st)
{
	return (struct scan_stamp){.size = st->st_size,
	    .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
	    .ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
	    .inode = st->st_ino};
}

bool scan_same(const struct scan_stamp *a, const struct scan_stamp *b)
{
	return a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns && a->inode == b->inode;
}

static void scan_folder(struct scan *s, int dir, const char *path, int depth);

static void scan_entry(struct scan *s, int dir, const char *name, const char *parent, int depth)
{
	AUTO_STR path = str_printf("%s/%s", parent, name);
	struct stat st;
	int fd;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	if (!S_ISDIR(st.st_mode)) {
		if (s->left == 0) {
			s->cut = true;
			return;
		}
		s->left--;
		s->fn(s->ctx, path, &st);
		return;
	}
	fd = depth < DEPTH_MAX ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | OPEN_FLAGS) : -1;
	s->cut |= depth >= DEPTH_MAX;
	if (fd < 0)
		return;
	scan_folder(s, fd, path, depth + 1);
	close(fd);
}

static void scan_folder(struct scan *s, int dir, const char *path, int depth)
{
	char **names = NULL;
	ssize_t n = names_read(dir, NAMES_MAX, &names);

	for (ssize_t i = 0; i < n && !s->cut; i++)
		scan_entry(s, dir, names[i], path, depth);
	s->cut |= n >= NAMES_MAX;
	if (n >= 0)
		names_free(names, (size_t)n);
}

bool scan_artifacts(const char *root, void (*fn)(void *ctx, const char *path, const struct stat *st), void *ctx)
{
	struct scan s = {.fn = fn, .ctx = ctx, .left = SCAN_FILES_MAX};
	int dir = open_without_links(root, ARTIFACT_FOLDER, O_RDONLY | O_DIRECTORY), top;
	struct stat st;

	if (dir >= 0) {
		scan_folder(&s, dir, ARTIFACT_FOLDER, 0);
		close(dir);
		return !s.cut;
	}
	if (errno == ENOENT)
		return true;
	top = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top >= 0 && fstatat(top, ARTIFACT_FOLDER, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
		fn(ctx, ARTIFACT_FOLDER, &st);
	if (top >= 0)
		close(top);
	return true;
}
