#include "agent/session/beneath.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Component by component, following nothing. Needs no openat2. */
static int open_plainly(int root_fd, const char *rel, int flags)
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
		fd = open_plainly(root_fd, rel, flags);
	saved = errno;
	close(root_fd);
	errno = saved;
	return fd;
}

int open_without_links(const char *root, const char *rel, int flags)
{
	int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, saved;

	if (root_fd < 0)
		return -1;
	fd = open_plainly(root_fd, rel, flags);
	saved = errno;
	close(root_fd);
	errno = saved;
	return fd;
}

char *read_beneath(const char *root, const char *rel, size_t max, size_t *ret_len)
{
	int fd = open_beneath(root, rel, O_RDONLY);
	struct strbuf b = STRBUF(max);
	char chunk[8192];
	struct stat st;
	ssize_t n = -1;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		while ((n = read(fd, chunk, MIN(sizeof chunk, max - b.len))) > 0)
			strbuf_add(&b, chunk, (size_t)n);
	close(fd);
	if (n < 0) {
		strbuf_fini(&b);
		return NULL;
	}
	if (ret_len != NULL)
		*ret_len = b.len;
	return strbuf_take(&b);
}

char *fd_path(int fd)
{
	char proc[64], path[4096];
	ssize_t n;

	snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
	n = readlink(proc, path, sizeof path);
	return n > 0 && n < (ssize_t)sizeof path && path[0] == '/' ? str_ndup(path, (size_t)n) : NULL;
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
