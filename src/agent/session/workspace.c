#include "agent/session/workspace.h"
#include "agent/session/beneath.h"
#include "agent/session/ignore.h"
#include "agent/session/session.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_PATH_BYTES 4096
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

/* "~" and "~/x" mean what they mean to a shell, never a folder of that name ("./~" is one). malloc'ed. */
static char *place_text(const struct session *s, const char *path)
{
	const char *home = getenv("HOME");

	if (path[0] == '~' && (path[1] == '\0' || path[1] == '/'))
		return home != NULL && home[0] == '/' ? str_printf("%s%s", home, path + 1) : NULL;
	return path[0] == '/' ? str_dup(path) : str_printf("%s/%s", session_primary_root(s), path);
}

int place_find(const struct session *s, const char *path, struct place *ret, struct refusal *r)
{
	AUTO_STR whole = NULL;
	AUTO_STR abs = NULL;
	AUTO_STR real = NULL;
	struct place p = {0};

	if (path[0] == '\0' || strlen(path) > MAX_PATH_BYTES)
		return refuse(r, "invalid_arguments", "the path is %s", path[0] == '\0' ? "empty" : "too long");
	whole = place_text(s, path);
	abs = whole != NULL ? normalise(whole) : NULL;
	if (abs == NULL || !find_root(s, abs, &p)) {
		/* A root may be reached under another name. */
		real = abs != NULL ? real_part(abs) : NULL;
		if ((real == NULL || !find_root(s, real, &p)) &&
		    (strcmp(path, "~") == 0 || text_has_prefix(path, "~/")))
			return refuse(r, "path_outside_workspace",
			    "'%.300s' is in the home folder of the worker's user, which is outside the workspace: give "
			    "a "
			    "path "
			    "relative to the workspace ('./~' for a folder of that name)",
			    path);
		if (p.root == NULL)
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

static int open_real(const struct session *s, const struct place *p, int flags)
{
	AUTO_STR real = realpath(p->abs, NULL);
	struct place to = {0};
	int fd, saved;

	if (real == NULL)
		return -1;
	if (!find_root(s, real, &to)) {
		errno = EXDEV;
		return -1;
	}
	fd = open_without_links(to.root, to.rel, flags);
	saved = errno;
	place_fini(&to);
	errno = saved;
	return fd;
}

static int refuse_ignored(
    const struct session *s, const char *root, const char *rel, bool is_dir, const char *shown, struct refusal *r)
{
	AUTO(ignore) ig = NULL;
	const char *by;

	if (root == session_scratch_dir(s))
		return OK;
	ig = ignore_new(root, ".");
	by = ignore_find(ig, rel, is_dir);
	if (by == NULL)
		return OK;
	return refuse(r, "ignored", "'%.300s' is hidden from file tools by %.200s", shown, by);
}

int place_check_ignored(const struct session *s, const struct place *p, bool is_dir, struct refusal *r)
{
	return refuse_ignored(s, p->root, p->rel, is_dir, p->abs, r);
}

int place_check_real(
    const struct session *s, const struct place *p, int fd, const char *name, bool is_dir, struct refusal *r)
{
	AUTO_STR dir = fd_path(fd);
	AUTO_STR real = dir != NULL && name != NULL ? str_printf("%s/%s", dir, name) : TAKE(dir);
	AUTO_FINI(place) to = {0};

	/* Nothing new if the path led where it says. */
	if (real == NULL || strcmp(real, p->abs) == 0 || !find_root(s, real, &to))
		return OK;
	return refuse_ignored(s, to.root, to.rel, is_dir, p->abs, r);
}

static int open_anything(const struct session *s, const struct place *p, int flags, int *ret_fd, struct refusal *r)
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

int place_open(const struct session *s, const struct place *p, int flags, int *ret_fd, struct refusal *r)
{
	struct refusal hidden;
	struct stat st;
	int fd = -1, rc = open_anything(s, p, flags, &fd, r);
	bool is_dir = rc == OK && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);

	/* Hidden comes before missing: what is hidden is not told to be there or not. */
	if (place_check_ignored(s, p, is_dir, &hidden) != OK ||
	    (rc == OK && place_check_real(s, p, fd, NULL, is_dir, &hidden) != OK)) {
		if (rc == OK)
			close(fd);
		*r = hidden;
		return ERR_INVALID;
	}
	if (rc == OK)
		*ret_fd = fd;
	return rc;
}

struct ignore *place_ignore(const struct session *s, const struct place *p, int dir_fd)
{
	AUTO_STR real = fd_path(dir_fd);
	AUTO_FINI(place) to = {0};
	bool found = real != NULL && find_root(s, real, &to);

	if ((found ? to.root : p->root) == session_scratch_dir(s))
		return NULL;
	return found ? ignore_new(to.root, to.rel) : ignore_new(p->root, p->rel);
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
