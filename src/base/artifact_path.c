#include "base/artifact_path.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

static bool has_bad_segment(const char *path)
{
	for (const char *at = path;; at += strcspn(at, "/") + 1) {
		size_t n = strcspn(at, "/");

		if (n == 0 || (n == 1 && at[0] == '.') || (n == 2 && memcmp(at, "..", 2) == 0))
			return true;
		if (at[n] == '\0')
			return false;
	}
}

/* text_line makes a blank of what a terminal would obey, and cuts nothing shorter than its limit. */
static bool has_control(const char *path)
{
	AUTO_STR line = text_line(path, ARTIFACT_PATH_MAX);

	return strcmp(line, path) != 0;
}

int artifact_path_check(const char *path, struct why *why)
{
	size_t len = strlen(path);

	if (len == 0)
		return why_set(why, ERR_INVALID, "a path is missing");
	if (len > ARTIFACT_PATH_MAX)
		return why_set(why, ERR_INVALID, "the path is longer than %d bytes", ARTIFACT_PATH_MAX);
	if (!text_is_utf8(path, len))
		return why_set(why, ERR_INVALID, "the path is not UTF-8");
	if (strchr(path, '\\') != NULL || has_control(path))
		return why_set(why, ERR_INVALID, "the path has a backslash or a control character");
	if (!text_has_prefix(path, ARTIFACT_FOLDER "/") || has_bad_segment(path))
		return why_set(
		    why, ERR_INVALID, "the path must be relative, below artifacts/, without '.', '..' and empty parts");
	return OK;
}
