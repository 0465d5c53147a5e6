/* Copying a folder. Names are used one component at a time below open descriptors, so nothing leads out of it. */
#include "agent/session/tree_priv.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 120
/* Caches up to this size are worth copying. */
#define DEAR_FILES 20000
#define DEAR_BYTES ((int64_t)512 * 1024 * 1024)
#define COPY_CHUNK ((size_t)64 * 1024 * 1024)

struct copying {
	struct tree_copy *c;
	struct tree_cost *cost;
	struct why *why;
	char *rel; /* of the folder at hand, for messages and `dear`; "" at the top */
	int depth;
	bool known; /* whether c->reflink has been tried */
	size_t dear_files;
	int64_t dear_bytes;
};

static int fail(struct copying *k, const char *name, const char *what)
{
	int err = errno;

	return why_set(k->why, err_from_errno(err), "cannot %s '%.200s%s%.200s': %s", what, k->rel,
	    k->rel[0] ? "/" : "", name, strerror(err));
}

static bool copy_is_cancelled(const struct copying *k)
{
	struct pollfd p = {k->c->cancel_fd, POLLIN, 0};

	return k->c->cancel_fd > 0 && poll(&p, 1, 0) > 0;
}

static int copy_bytes(struct copying *k, int from, int to, int64_t size)
{
	if (k->c->reflink && size > 0) {
		if (ioctl(to, FICLONE, from) == 0) {
			k->known = true;
			return OK;
		}
		/* Once it worked it works for every file of the file system; others are copied. */
		if (!k->known)
			k->c->reflink = false;
	}
	for (;;) {
		ssize_t n = copy_file_range(from, NULL, to, NULL, COPY_CHUNK, 0);

		if (n == 0)
			return OK;
		if (n > 0) {
			k->cost->bytes += n;
			continue;
		}
		if (errno == EINTR)
			continue;
		break;
	}
	/* Not every pair of file systems can. */
	if (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS) {
		AUTO_STR buf = mem_alloc(256 * 1024);
		ssize_t n;

		while ((n = read(from, buf, 256 * 1024)) > 0) {
			if (write(to, buf, (size_t)n) != n)
				return ERR_IO;
			k->cost->bytes += n;
		}
		return n == 0 ? OK : ERR_IO;
	}
	return ERR_IO;
}

static void copy_owner(int fd, const struct stat *st)
{
	if (geteuid() == 0)
		IGNORE(fchown(fd, st->st_uid, st->st_gid));
}

static int copy_file(struct copying *k, int from_dir, int to_dir, const char *name, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	int from, to, rc;

	if (k->c->link_files && linkat(from_dir, name, to_dir, name, 0) == 0) {
		struct stat now;

		/* Whoever owns it may have put a link in its place. */
		if (fstatat(to_dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(now.st_mode))
			return OK;
		unlinkat(to_dir, name, 0);
		errno = EINVAL;
		return fail(k, name, "link");
	}
	from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
	if (from < 0 && errno == EPERM)
		from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (from < 0)
		return fail(k, name, "read");
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0) {
		int saved = errno;

		close(from);
		errno = saved;
		return errno == EEXIST ? OK : fail(k, name, "make");
	}
	rc = copy_bytes(k, from, to, st->st_size);
	if (rc != OK)
		rc = fail(k, name, "copy");
	copy_owner(to, st);
	IGNORE(fchmod(to, st->st_mode & 07777));
	IGNORE(futimens(to, times)); /* git tells by it that the file is what the index says */
	close(from);
	close(to);
	k->cost->files++;
	return rc;
}

static int copy_link(struct copying *k, int from_dir, int to_dir, const char *name, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	char target[4097];
	ssize_t n = readlinkat(from_dir, name, target, sizeof target - 1);

	if (n < 0)
		return fail(k, name, "read the link");
	target[n] = '\0';
	if (symlinkat(target, to_dir, name) != 0 && errno != EEXIST)
		return fail(k, name, "make the link");
	if (geteuid() == 0)
		IGNORE(fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW));
	IGNORE(utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW));
	k->cost->files++;
	return OK;
}

/* Whether the folder or file is within what is left for caches; ends as soon as it is known that it is not. */
static bool measure(int dir, const char *name, const struct stat *st, size_t *files, int64_t *bytes, int depth)
{
	int fd;
	DIR *d;
	struct dirent *e;
	bool fits = true;

	++*files;
	*bytes += S_ISREG(st->st_mode) ? st->st_size : 0;
	if (*files > DEAR_FILES || *bytes > DEAR_BYTES || depth > MAX_DEPTH)
		return false;
	if (!S_ISDIR(st->st_mode))
		return true;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd >= 0 ? fdopendir(fd) : NULL;
	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return true; /* copying it says why not */
	}
	while (fits && (e = readdir(d)) != NULL) {
		struct stat sub;

		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    fstatat(dirfd(d), e->d_name, &sub, AT_SYMLINK_NOFOLLOW) == 0)
			fits = measure(dirfd(d), e->d_name, &sub, files, bytes, depth + 1);
	}
	closedir(d);
	return fits;
}

static bool is_too_dear(struct copying *k, int from_dir, const char *name, const struct stat *st)
{
	AUTO_STR path = str_printf("%s%s%s", k->rel, k->rel[0] ? "/" : "", name);
	size_t files = k->dear_files;
	int64_t bytes = k->dear_bytes;

	if (k->c->reflink && k->known)
		return false;
	for (size_t i = 0; k->c->dear != NULL && k->c->dear[i] != NULL; i++) {
		if (strcmp(k->c->dear[i], path) != 0)
			continue;
		if (!measure(from_dir, name, st, &files, &bytes, k->depth)) {
			k->cost->dear_left_out = true;
			return true;
		}
		k->dear_files = files;
		k->dear_bytes = bytes;
		return false;
	}
	return false;
}

static int copy_folder(struct copying *k, int from, int to);

static int copy_subfolder(struct copying *k, int from_dir, int to_dir, const char *name, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	AUTO_STR outer = NULL;
	int from, to, rc;

	if (k->depth >= MAX_DEPTH)
		return why_set(k->why, ERR_TOO_LARGE, "'%.300s' is nested too deeply", k->rel);
	from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return fail(k, name, "read");
	if (mkdirat(to_dir, name, 0700) != 0 && errno != EEXIST) {
		rc = fail(k, name, "make");
		close(from);
		return rc;
	}
	to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0) {
		rc = fail(k, name, "open");
		close(from);
		return rc;
	}
	outer = TAKE(k->rel);
	k->rel = str_printf("%s%s%s", outer, outer[0] ? "/" : "", name);
	k->depth++;
	rc = copy_folder(k, from, to);
	k->depth--;
	free(k->rel);
	k->rel = TAKE(outer);
	copy_owner(to, st);
	IGNORE(fchmod(to, st->st_mode & 07777));
	IGNORE(futimens(to, times));
	close(from);
	close(to);
	return rc;
}

/* Beside a HEAD, objects are a repository's. */
static bool is_object_store(const struct copying *k, int dir, const char *name)
{
	return k->c->borrow_objects && strcmp(name, "objects") == 0 && faccessat(dir, "HEAD", F_OK, 0) == 0;
}

static int borrow_objects(struct copying *k, int to)
{
	AUTO_STR line = str_printf("%s/%s/objects\n", k->c->from, k->rel);
	size_t len = strlen(line);
	int fd, rc = OK;

	if (mkdirat(to, "objects", 0755) != 0 || mkdirat(to, "objects/info", 0755) != 0 ||
	    mkdirat(to, "objects/pack", 0755) != 0)
		return fail(k, "objects", "make");
	fd = openat(to, "objects/info/alternates", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, len) != (ssize_t)len)
		rc = fail(k, "objects/info/alternates", "write");
	if (fd >= 0)
		close(fd);
	return rc;
}

static int copy_entry(struct copying *k, int from, int to, const char *name)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? OK : fail(k, name, "look at");
	if (is_too_dear(k, from, name, &st) || (k->c->link_files && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)))
		return OK;
	switch (st.st_mode & S_IFMT) {
	case S_IFDIR:
		if (is_object_store(k, from, name))
			return borrow_objects(k, to);
		return copy_subfolder(k, from, to, name, &st);
	case S_IFREG:
		return copy_file(k, from, to, name, &st);
	case S_IFLNK:
		return copy_link(k, from, to, name, &st);
	case S_IFIFO:
		IGNORE(mkfifoat(to, name, st.st_mode & 07777));
		return OK;
	default:
		return OK; /* a socket without its server, a device */
	}
}

static int copy_folder(struct copying *k, int from, int to)
{
	int fd = fcntl(from, F_DUPFD_CLOEXEC, 3), rc = OK;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (d == NULL) {
		rc = fail(k, "", "read");
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == OK && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (k->depth == 0 && k->c->leave_out != NULL && strcmp(e->d_name, k->c->leave_out) == 0)
			continue;
		rc = copy_entry(k, from, to, e->d_name);
	}
	closedir(d);
	if (rc == OK && copy_is_cancelled(k))
		rc = why_set(k->why, ERR_CANCELLED, "cancelled");
	return rc;
}

int tree_copy(struct tree_copy *c, struct tree_cost *cost, struct why *why)
{
	struct copying k = {.c = c, .cost = cost, .why = why, .rel = str_dup("")};
	int from = c->from_fd > 0 ? fcntl(c->from_fd, F_DUPFD_CLOEXEC, 3)
				  : open(c->from, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	    to = open(c->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (from < 0 || to < 0)
		rc = why_set(why, err_from_errno(errno), "cannot open '%.300s': %s", from < 0 ? c->from : c->to,
		    strerror(errno));
	else
		rc = copy_folder(&k, from, to);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	free(k.rel);
	return rc;
}

/* Without leave to write a folder its names cannot be removed. */
static void open_up(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		IGNORE(fchmodat(dir, name, 0700, 0));
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd >= 0) {
		IGNORE(fchmod(fd, 0700));
		close(fd);
	}
}

/* Deeper than any stack: a folder that is nested too deeply is moved up and dealt with there. */
static void delete_below(int dir, const char *name, int depth, int top)
{
	int fd;
	DIR *d;
	struct dirent *e;

	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return;
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
		return;
	if (depth > MAX_DEPTH) {
		char up[64], hex[17];

		id_hex(hex, 8);
		snprintf(up, sizeof up, ".deep-%s", hex);
		IGNORE(renameat(dir, name, top, up));
		return;
	}
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		open_up(dir, name);
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	} else if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) != 0) {
		IGNORE(fchmod(fd, 0700));
	}
	d = fd >= 0 ? fdopendir(fd) : NULL;
	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			delete_below(dirfd(d), e->d_name, depth + 1, top);
	closedir(d);
	IGNORE(unlinkat(dir, name, AT_REMOVEDIR));
}

void tree_delete(const char *path)
{
	AUTO_STR parent = str_dup(path);
	char *slash = strrchr(parent, '/');
	int dir, again = 0;

	if (slash == NULL || slash[1] == '\0')
		return;
	*slash = '\0';
	dir = open(parent[0] != '\0' ? parent : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return;
	/* Each round takes away up to MAX_DEPTH levels of what is left. */
	while (again++ < 64) {
		int top = openat(dir, slash + 1, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		delete_below(dir, slash + 1, 0, top >= 0 ? top : dir);
		if (top < 0)
			break;
		close(top);
	}
	close(dir);
}
