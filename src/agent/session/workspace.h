/* agent/session/workspace.h: paths that a model gives, held inside the roots and the scratch folder of the session.
 * Thread: any.
 *
 * A path is never checked first and used later: it is opened beneath the root in one step (openat2 RESOLVE_BENEATH),
 * and changes are made relative to an open parent folder. What openat2 refuses, an absolute symlink above all, is
 * resolved by realpath; the result is opened without following any link, so a link swapped in between only makes the
 * open fail.
 *
 * What a .cursorignore hides (ignore.h), under its own name or through a link, is refused as "ignored" by all of these,
 * whether it exists or not. */
#pragma once
#include "base/errors.h"
#include <sys/types.h>

struct ignore;
struct session;

/* Why a path cannot be used: a code for tool_error and a sentence. */
struct refusal {
	const char *code; /* "not_found", "path_outside_workspace", … */
	struct why why;
};
/* Sets both and returns ERR_INVALID. */
int refuse(struct refusal *r, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* By errno, about `path`. */
int refuse_errno(struct refusal *r, int errnum, const char *path);

struct place {
	const char *root; /* borrowed from the session */
	char *rel; /* relative to the root, normalised; "." is the root itself */
	char *abs; /* for results and messages */
};
/* Where `path` (absolute, or relative to the primary root) leads, by its text; nothing is opened. */
int place_find(const struct session *s, const char *path, struct place *ret, struct refusal *r) MUST_USE;
void place_fini(struct place *p);

/* What is hidden below an open folder that place_open gave: for ignore_find. NULL: nothing is. The caller frees it. */
struct ignore *place_ignore(const struct session *s, const struct place *p, int dir_fd);

/* Opens what is there. O_CLOEXEC, O_NOCTTY and O_NONBLOCK are added, so that neither FIFO nor device can block. */
int place_open(const struct session *s, const struct place *p, int flags, int *ret_fd, struct refusal *r) MUST_USE;
/* The same for a regular file to be read ("is_directory", "not_a_file" otherwise); *ret_size is its size. */
int place_open_file(
    const struct session *s, const struct place *p, int *ret_fd, off_t *ret_size, struct refusal *r) MUST_USE;
/* Reads a whole regular file; more than `max` bytes is "too_large". *ret is malloc'ed, NUL-terminated. */
int place_read(const struct session *s, const struct place *p, size_t max, char **ret, size_t *ret_len,
    struct refusal *r) MUST_USE;

/* A name in an open parent folder: what changes need. */
struct spot {
	int dir_fd;
	char *name;
};
/* Opens the parent, creating missing folders if `make`. A link as the last component is followed if `follow`. */
int place_spot(const struct session *s, const struct place *p, bool make, bool follow, struct spot *ret,
    struct refusal *r) MUST_USE;
void spot_fini(struct spot *s);

/* Puts the content there in one step (a new file renamed over the old), keeping the mode of what was there. */
int place_write(
    const struct session *s, const struct place *p, const char *bytes, size_t len, struct refusal *r) MUST_USE;

/* workspace.c, for workspace_write.c: by the path as given, and by where an open folder and a name in it (NULL: the
 * folder itself) really are. */
int place_check_ignored(const struct session *s, const struct place *p, bool is_dir, struct refusal *r) MUST_USE;
int place_check_real(
    const struct session *s, const struct place *p, int fd, const char *name, bool is_dir, struct refusal *r) MUST_USE;
