#include "agent/worker/workspace.h"
#include "agent/worker/session.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_PATH_BYTES 4096
#define OPEN_FLAGS (O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
/* A link that changes under us makes an open fail; how often that is tried again before it is called an escape. */
#define SWAP_TRIES 3

int refuse(struct refusal *r, const char *code, const char *fmt, ...)
{
	va_list ap;
	AUTO_STR text = NULL;

	va_start(ap, fmt);
	text = str_vprintf(fmt, ap);
	va_end(ap);
	r->code = code;
	return why_set(&r->why, ERR_INVALID, "%s", text);
}

static int refuse_outside(struct refusal *r, const char *path)
{
	return refuse(r, "path_outside_workspace", "'%.300s' is outside the workspace", path);
}

int refuse_errno(struct refusal *r, int errnum, const char *path)
{
	switch (errnum) {
	case ENOENT:
		return refuse(r, "not_found", "'%.300s' does not exist", path);
	case ENOTDIR:
		return refuse(r, "not_found", "'%.300s': a part of the path is not a directory", path);
	case EACCES:
	case EPERM:
	case EROFS:
		return refuse(r, "permission_denied", "'%.300s': %s", path, strerror(errnum));
	case EISDIR:
		return refuse(r, "is_directory", "'%.300s' is a directory", path);
	case ENXIO:
	case ENODEV:
		return refuse(r, "not_a_file", "'%.300s' is not a regular file", path);
	case EXDEV:
	case ELOOP:
		return refuse_outside(r, path);
	case ENAMETOOLONG:
		return refuse(r, "invalid_arguments", "the path is too long");
	case ENOSPC:
	case EDQUOT:
		return refuse(r, "no_space", "'%.300s': no space left on the device", path);
	default:
		return refuse(r, "io_error", "'%.300s': %s", path, strerror(errnum));
	}
}

/* Absolute path without ".", ".." and double slashes, by its text alone. */
static char *normalise(const char *abs)
{
	struct strbuf b = STRBUF(2 * MAX_PATH_BYTES);

	while (*abs != '\0') {
		size_t n;

		abs += strspn(abs, "/");
		n = strcspn(abs, "/");
		if (n == 2 && memcmp(abs, "..", 2) == 0) {
			while (b.len > 0 && b.data[b.len - 1] != '/')
				b.data[--b.len] = '\0';
			if (b.len > 0)
				b.data[--b.len] = '\0';
		} else if (n > 0 && !(n == 1 && abs[0] == '.')) {
			strbuf_addc(&b, '/');
			strbuf_add(&b, abs, n);
		}
		abs += n;
	}
	if (b.len == 0)
		strbuf_addc(&b, '/');
	return strbuf_take(&b);
}

/* The part of `path` below `root`, or NULL. */
static const char *below(const char *path, const char *root)
{
	size_t n = strlen(root);

	if (n == 1 && root[0] == '/')
		return path[1] != '\0' ? path + 1 : ".";
	if (strncmp(path, root, n) != 0)
		return NULL;
	if (path[n] == '\0')
		return ".";
	return path[n] == '/' ? path + n + 1 : NULL;
}

static bool try_root(const char *abs, const char *root, struct place *ret)
{
	const char *rel = root[0] != '\0' ? below(abs, root) : NULL;

	if (rel == NULL || (ret->root != NULL && strlen(root) <= strlen(ret->root)))
		return false;
	ret->root = root;
	str_set(&ret->rel, rel);
	str_set(&ret->abs, abs);
	return true;
}

static bool find_root(const struct session *s, const char *abs, struct place *ret)
{
	const char *const *roots;
	size_t n = session_roots(s, &roots);
	bool found = false;

	for (size_t i = 0; i < n; i++)
		found |= try_root(abs, roots[i], ret);
	return try_root(abs, session_scratch_dir(s), ret) || found;
}

/* The real path of the longest part that exists, with the rest behind it. NULL if a link leads nowhere. */
static char *real_part(const char *abs)
{
	AUTO_STR head = str_dup(abs);

	for (;;) {
		char *real = realpath(head, NULL);
		size_t n = strlen(head);
		struct stat st;
		char *whole;

		if (real != NULL) {
			whole = str_printf("%s%s", strcmp(real, "/") == 0 ? "" : real, abs + n);
			free(real);
			return whole;
		}
		if (lstat(head, &st) == 0 || n <= 1)
			return NULL;
		while (n > 0 && head[n - 1] != '/')
			n--;
		head[n > 1 ? n - 1 : n] = '\0';
		if (head[0] == '\0')
			return NULL;
	}
}

int place_find(const struct session *s, const char *path, struct place *ret, struct refusal *r)
{
	AUTO_STR whole = NULL;
	AUTO_STR abs = NULL;
	AUTO_STR real = NULL;
	struct place p = {0};

	if (path[0] == '\0' || strlen(path) > MAX_PATH_BYTES)
		return refuse(r, "invalid_arguments", "the path is %s", path[0] == '\0' ? "empty" : "too long");
	whole = path[0] == '/' ? str_dup(path) : str_printf("%s/%s", session_primary_root(s), path);
	abs = normalise(whole);
	if (!find_root(s, abs, &p)) {
		/* A root may be reached under another name. */
		real = real_part(abs);
		if (real == NULL || !find_root(s, real, &p))
			return refuse_outside(r, path);
	}
	*ret = p;
	return OK;
}

void place_fini(struct place *p)
{
	str_free(&p->rel);
	str_free(&p->abs);
}

/* Component by component, following nothing. Needs no openat2. */
static int open_without_links(int root_fd, const char *rel, int flags)
{
	int dir = fcntl(root_fd, F_DUPFD_CLOEXEC, 3), next;

	while (dir >= 0) {
		size_t n = strcspn(rel, "/");
		bool last = rel[n] == '\0';
		AUTO_STR name = str_ndup(rel, n);
		int saved;

		if (strcmp(name, "..") == 0)
			next = (errno = EXDEV, -1);
		else
			next = openat(dir, name,
			    last ? flags | O_NOFOLLOW | OPEN_FLAGS : O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
		saved = errno;
		close(dir);
		errno = saved;
		if (last || next < 0)
			return next;
		dir = next;
		rel += n + 1;
	}
	return -1;
}

int open_beneath(const char *root, const char *rel, int flags)
{
	struct open_how how = {
	    .flags = (uint64_t)(flags | OPEN_FLAGS), .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, saved;

	if (root_fd < 0)
		return -1;
	fd = (int)syscall(SYS_openat2, root_fd, rel, &how, sizeof how);
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		fd = open_without_links(root_fd, rel, flags);
	saved = errno;
	close(root_fd);
	errno = saved;
	return fd;
}

static int open_real(const struct session *s, const struct place *p, int flags)
{
	AUTO_STR real = realpath(p->abs, NULL);
	struct place to = {0};
	int root_fd, fd = -1, saved;

	if (real == NULL)
		return -1;
	if (!find_root(s, real, &to)) {
		errno = EXDEV;
		return -1;
	}
	root_fd = open(to.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd >= 0)
		fd = open_without_links(root_fd, to.rel, flags);
	saved = errno;
	if (root_fd >= 0)
		close(root_fd);
	place_fini(&to);
	errno = saved;
	return fd;
}

int place_open(const struct session *s, const struct place *p, int flags, int *ret_fd, struct refusal *r)
{
	int fd = -1;

	for (int i = 0; fd < 0 && i < SWAP_TRIES; i++) {
		fd = open_beneath(p->root, p->rel, flags);
		if (fd < 0 && (errno == EXDEV || errno == ELOOP || errno == ENOTDIR))
			fd = open_real(s, p, flags);
		if (fd < 0 && errno != EXDEV && errno != ELOOP && errno != ENOTDIR && errno != EAGAIN)
			break;
	}
	if (fd < 0)
		return refuse_errno(r, errno, p->abs);
	*ret_fd = fd;
	return OK;
}

int place_open_file(const struct session *s, const struct place *p, int *ret_fd, off_t *ret_size, struct refusal *r)
{
	struct stat st;
	int fd, rc = place_open(s, p, O_RDONLY, &fd, r);

	if (rc != OK)
		return rc;
	if (fstat(fd, &st) != 0)
		rc = refuse_errno(r, errno, p->abs);
	else if (S_ISDIR(st.st_mode))
		rc = refuse_errno(r, EISDIR, p->abs);
	else if (!S_ISREG(st.st_mode))
		rc = refuse_errno(r, ENXIO, p->abs);
	if (rc != OK) {
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	*ret_size = st.st_size;
	return OK;
}

int place_read(
    const struct session *s, const struct place *p, size_t max, char **ret, size_t *ret_len, struct refusal *r)
{
	struct strbuf b = STRBUF(max);
	AUTO_STR chunk = NULL;
	off_t size;
	ssize_t n;
	int fd, rc = place_open_file(s, p, &fd, &size, r);

	if (rc != OK)
		return rc;
	chunk = mem_alloc(65536);
	while ((n = read(fd, chunk, 65536)) != 0 && rc == OK) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = refuse_errno(r, errno, p->abs);
		else if (strbuf_add(&b, chunk, (size_t)n) != OK)
			rc = refuse(r, "too_large", "'%.300s' is larger than %zu bytes", p->abs, max);
	}
	close(fd);
	if (rc == OK) {
		*ret_len = b.len;
		*ret = strbuf_take(&b);
	}
	strbuf_fini(&b);
	return rc;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

ssize_t names_read(int dir_fd, size_t max, char ***ret_names)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	char **names = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e;

	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while (n < max && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		names = mem_grow(names, &cap, n + 1, sizeof *names);
		names[n++] = str_dup(e->d_name);
	}
	closedir(d);
	if (n > 0)
		qsort(names, n, sizeof *names, by_bytes);
	*ret_names = names;
	return (ssize_t)n;
}

void names_free(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}
