/* agent/session/tree_priv.h: copying folders, for those who make up a session. */
#pragma once
#include "agent/session/tree.h"

struct tree_copy {
	int from_fd; /* the folder `from`, open; borrowed; 0: by its path */
	const char *from, *to; /* `to` exists; what is in it already stays */
	const char *leave_out; /* at the top; may be NULL */
	const char *const *dear; /* paths below `from`, NULL-terminated */
	bool reflink; /* in: try; out: it works here */
	bool link_files; /* every file is a hard link where that is possible; nothing but files and folders is taken */
	bool borrow_objects; /* git's object stores are made anew, and look for their objects in those of `from` */
	int cancel_fd;
};
/* Folders, files, symbolic links and pipes, with mode, times and, for root, owner. Sockets and devices are left out. */
int tree_copy(struct tree_copy *c, struct tree_cost *cost, struct why *why) MUST_USE;

/* This process may not use trusted.* there: its overlays have their marks in user.overlay.*, and cannot rename folders
 * of the seed (EXDEV; mv and npm then copy, git mv does not). */
bool tree_needs_userxattr(const char *dir);
/* Every file below `seed` belongs to a user and group that this user namespace knows. ERR_DENIED with `why`. */
int tree_is_own(const char *seed, const char *leave_out, struct why *why) MUST_USE;
