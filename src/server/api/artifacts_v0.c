#include "server/api/artifacts_v0.h"
#include "base/artifact_path.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>
#include <time.h>

char *v0_artifact_path(const char *path)
{
	return str_printf("%s%s", V0_ARTIFACTS, path + strlen(ARTIFACT_FOLDER "/"));
}

char *v0_artifact_rel(const char *absolute)
{
	return text_has_prefix(absolute, V0_ARTIFACTS)
		   ? str_printf("%s/%s", ARTIFACT_FOLDER, absolute + strlen(V0_ARTIFACTS))
		   : NULL;
}

/* timegm makes a day of the next month of one that the sixth month does not have. */
bool v0_artifacts_are_over(int64_t created_at_ms, int64_t now_ms)
{
	time_t at = (time_t)(created_at_ms / 1000);
	struct tm tm;

	if (gmtime_r(&at, &tm) == NULL)
		return true;
	tm.tm_mon += 6;
	return now_ms > (int64_t)timegm(&tm) * 1000 + created_at_ms % 1000;
}
