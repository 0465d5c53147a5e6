/* agent/session/tree.h: a private copy of a folder for one session. The folder itself, the seed, is never written.
 *
 * Three ways, the best that works is taken:
 *   overlay  the kernel shows the seed and keeps what is changed in a folder of the session: no file is copied. Needs a
 *            mount namespace of the worker's own, so that the mount ends with the process, however that ends.
 *   reflink  every file is a copy that shares its blocks until one of both is written (btrfs, XFS).
 *   copy     every file is copied.
 * Thread: one at a time. */
#pragma once
#include "base/errors.h"

enum tree_method { TREE_OVERLAY, TREE_REFLINK, TREE_COPY };
const char *tree_method_name(enum tree_method m);

struct tree_config {
	const char *seed; /* what is shown or copied */
	const char *dir; /* the session's own folder for it; made with its parents */
	/* Where it shall be found. NULL: in `dir`, as tree_path says. Else an existing folder (the seed's own) that it
	 * covers for this process and its children; needs may_mount. */
	const char *at;
	bool may_mount;
	enum tree_method best; /* no better than this */
	const char
	    *leave_out; /* a name at the top that the session gets a new folder for, such as ".git"; NULL: none */
	/* Paths below the seed that a copy may do without when they are large: caches. NULL-terminated; NULL: none. */
	const char *const *dear;
};

/* What the copy cost. */
struct tree_cost {
	size_t files;
	int64_t bytes; /* that were written, not shared */
	bool dear_left_out;
};

struct tree;
/* Prepares the folders; nothing is to be seen yet. What is put into tree_stage() is there from the first moment, and
 * stands before the seed's. ERR_… with `why`. */
int tree_new(const struct tree_config *cfg, struct tree **ret, struct why *why) MUST_USE;
const char *tree_stage(const struct tree *t);
/* Shows it. ERR_NO_SPACE. ERR_CANCELLED: cancel_fd (0 or -1: none) became readable. */
int tree_raise(struct tree *t, int cancel_fd, struct why *why) MUST_USE;
/* Shows again what a process that was killed left in `dir`, there. ERR_NOT_FOUND: nothing was. */
int tree_find(const char *seed, const char *dir, struct tree **ret, struct why *why) MUST_USE;
const char *tree_path(const struct tree *t);
enum tree_method tree_method(const struct tree *t);
const struct tree_cost *tree_cost(const struct tree *t);
/* Takes it away with everything in it. No process may use it any more. */
void tree_remove(struct tree **t);
/* Takes it away but leaves the files of the session in `dir`. */
void tree_free(struct tree **t);
/* Removes a folder with everything in it, also what has no write permission. */
void tree_delete(const char *path);
