/* tests/fuzz/folder.h: a folder for a target's files. tools/fuzz.sh names a place for them in TMPDIR, and removes it.
 */
#pragma once
#include "base/macros.h"
#include <limits.h>

static inline const char *fuzz_folder(void)
{
	static char dir[PATH_MAX];
	const char *tmp = getenv("TMPDIR");

	if (dir[0] != '\0')
		return dir;
	snprintf(dir, sizeof dir, "%s/bullpen-fuzz-XXXXXX", tmp != NULL ? tmp : "/tmp");
	ENSURE(mkdtemp(dir) != NULL);
	return dir;
}
