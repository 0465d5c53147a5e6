/* agent/session/ignore.h: .cursorignore files (gitignore's syntax, at a root and in folders below it): what the agent's
 * file tools leave alone. No border: the shell is not restrained by it.
 * Thread: one; it keeps the files it has read, so it is made for one call. */
#pragma once
#include "base/macros.h"

struct ignore;

/* For paths relative to the folder `base` (relative to `root`, normalised, "." for the root itself). */
struct ignore *ignore_new(const char *root, const char *base);
void ignore_free(struct ignore **ig);
/* The ignore file that hides the path, relative to the root; NULL if none does, or without `ig`. What is in a hidden
 * folder is hidden. `path` may begin with "./", and is "." for the base itself. Borrowed until the next call. Files are
 * read as far as 256 KiB and 2000 patterns; patterns too wild to be tried within bounds hide nothing. */
const char *ignore_find(struct ignore *ig, const char *path, bool is_dir);
