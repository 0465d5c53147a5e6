#include "base/clock.h"
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
	/* A time may come from a damaged row; what has no four-digit year has no form here either. */
	int64_t ms = MIN(MAX(wall_ms, 0), 253402300799999);
	time_t s = (time_t)(ms / 1000);
	struct tm tm;
	char date[20];

	gmtime_r(&s, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, CLOCK_ISO_LEN, "%s.%03uZ", date, (unsigned)(ms % 1000) % 1000u);
}
