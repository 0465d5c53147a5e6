#include "base/clock.h"
#include "base/errors.h"
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

static bool read_digits(const char **at, int n, int *ret)
{
	*ret = 0;
	for (int i = 0; i < n; i++, (*at)++) {
		if (**at < '0' || **at > '9')
			return false;
		*ret = *ret * 10 + (**at - '0');
	}
	return true;
}

/* ".5", ".123456": what is finer than a millisecond is left out. */
static bool read_fraction(const char **at, int *ret_ms)
{
	int scale = 100;

	*ret_ms = 0;
	if (**at != '.')
		return true;
	(*at)++;
	if (**at < '0' || **at > '9')
		return false;
	for (; **at >= '0' && **at <= '9'; (*at)++, scale /= 10)
		*ret_ms += (**at - '0') * scale;
	return true;
}

/* "Z", "+02:00", "-0530". */
static bool read_zone(const char **at, int *ret_minutes)
{
	int hours, minutes, sign = **at == '-' ? -1 : 1;

	*ret_minutes = 0;
	if (**at == 'Z' || **at == 'z') {
		(*at)++;
		return true;
	}
	if (**at != '+' && **at != '-')
		return false;
	(*at)++;
	if (!read_digits(at, 2, &hours))
		return false;
	*at += **at == ':';
	if (!read_digits(at, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_minutes = sign * (hours * 60 + minutes);
	return true;
}

static bool read_time(const char **at, struct tm *t, int *ret_ms, int *ret_minutes)
{
	if (**at == '\0')
		return true;
	if (**at != 'T' && **at != 't')
		return false;
	(*at)++;
	if (!read_digits(at, 2, &t->tm_hour) || *(*at)++ != ':' || !read_digits(at, 2, &t->tm_min) || *(*at)++ != ':' ||
	    !read_digits(at, 2, &t->tm_sec))
		return false;
	return t->tm_hour < 24 && t->tm_min < 60 && t->tm_sec < 60 && read_fraction(at, ret_ms) &&
	       read_zone(at, ret_minutes) && **at == '\0';
}

int clock_read_iso8601(const char *text, int64_t *ret_wall_ms)
{
	struct tm t = {0};
	int year, month, day, ms = 0, minutes = 0;
	const char *at = text;
	int64_t s;

	if (!read_digits(&at, 4, &year) || *at++ != '-' || !read_digits(&at, 2, &month) || *at++ != '-' ||
	    !read_digits(&at, 2, &t.tm_mday) || !read_time(&at, &t, &ms, &minutes))
		return ERR_INVALID;
	t.tm_year = year - 1900;
	t.tm_mon = month - 1;
	day = t.tm_mday;
	s = timegm(&t);

	/* timegm takes the 31st of April for the 1st of May. */
	if (t.tm_mon != month - 1 || t.tm_mday != day)
		return ERR_INVALID;
	*ret_wall_ms = (s - (int64_t)minutes * 60) * 1000 + ms;
	return OK;
}
