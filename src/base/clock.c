#include "base/clock.h"
#include "base/errors.h"
#include <string.h>
#include <time.h>

static int64_t read_ms(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_wall_ms(void)
{
	return read_ms(CLOCK_REALTIME);
}

int64_t clock_mono_ms(void)
{
	return read_ms(CLOCK_MONOTONIC);
}

void clock_iso8601(int64_t wall_ms, char out[CLOCK_ISO_LEN])
{
	time_t s = (time_t)(wall_ms / 1000);
	struct tm tm;
	char date[20];

	gmtime_r(&s, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, CLOCK_ISO_LEN, "%s.%03uZ", date, (unsigned)(wall_ms % 1000) % 1000u);
}

int clock_parse_iso8601(const char *s, int64_t *ret_ms)
{
	struct tm tm = {0};
	const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int ms = 0;

	if (rest == NULL || strlen(rest) != 5 || rest[0] != '.' || rest[4] != 'Z')
		return ERR_INVALID;
	for (int i = 1; i <= 3; i++) {
		if (rest[i] < '0' || rest[i] > '9')
			return ERR_INVALID;
		ms = ms * 10 + (rest[i] - '0');
	}
	*ret_ms = (int64_t)timegm(&tm) * 1000 + ms;
	return OK;
}
