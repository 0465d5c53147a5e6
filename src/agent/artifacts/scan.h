/* agent/artifacts/scan.h: which files are below artifacts/ of a workspace. Follows no link, opens nothing but folders.
 * Thread: any. */
#pragma once
#include "base/macros.h"
#include <sys/stat.h>

#define SCAN_FILES_MAX 1000

/* What tells that a file is another than before. */
struct scan_stamp {
	int64_t size, mtime_ns, ctime_ns;
	uint64_t inode;
};
struct scan_stamp scan_stamp_of(const struct stat *st);
bool scan_same(const struct scan_stamp *a, const struct scan_stamp *b);

/* Calls fn for everything below artifacts/ that is no folder, at most SCAN_FILES_MAX times; `path` begins with
 * "artifacts/" and may hold any bytes. `artifacts` itself, if it is no folder, is told, too. True: that was all. */
bool scan_artifacts(const char *root, void (*fn)(void *ctx, const char *path, const struct stat *st), void *ctx);
