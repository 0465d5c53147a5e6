#include "base/folder.h"
#include "base/mem.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

int folder_make(const char *path, struct why *why)
{
	AUTO_STR p = str_dup(path);

	for (char *c = p + 1;; c++) {
		char was = *c;

		if (was != '/' && was != '\0')
			continue;
		*c = '\0';
		if (mkdir(p, 0700) != 0 && errno != EEXIST)
			return why_set(
			    why, err_from_errno(errno), "cannot make the folder '%.300s': %s", p, strerror(errno));
		*c = was;
		if (was == '\0')
			return OK;
	}
}
