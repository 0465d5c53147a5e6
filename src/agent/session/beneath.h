/* agent/session/beneath.h: files beneath a folder, links that leave it refused; knows no session.
 * Thread: any. */
#pragma once
#include "base/macros.h"
#include <sys/types.h>

/* What any open of a path from outside adds, so that neither FIFO nor device can block. */
#define OPEN_FLAGS (O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

/* -1 with errno (EXDEV or ELOOP: a link leaves `root`, or is absolute). */
int open_beneath(const char *root, const char *rel, int flags);
/* The same, following no link at all: for paths that are already resolved. */
int open_without_links(const char *root, const char *rel, int flags);
/* A regular file as far as `max` bytes (*ret_len, may be NULL), NUL-terminated and malloc'ed; NULL if there is none
 * that can be read. */
char *read_beneath(const char *root, const char *rel, size_t max, size_t *ret_len);

/* Where an open descriptor leads now; malloc'ed, NULL if that cannot be told. */
char *fd_path(int fd);

/* Names in an open folder in byte order, at most `max` of them, without "." and "..". -1 with errno; the caller frees
 * with names_free. */
ssize_t names_read(int dir_fd, size_t max, char ***ret_names);
void names_free(char **names, size_t n);
