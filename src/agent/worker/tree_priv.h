/* agent/worker/tree_priv.h: copying folders, for those who make up a session. */
#pragma once
#include "agent/worker/tree.h"

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
