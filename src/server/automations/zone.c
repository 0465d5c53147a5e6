/* Reads TZif files (RFC 8536): the moments at which an offset changes, and the rule for the time behind the last one.
 */
#include "server/automations/zone.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define FOLDER "/usr/share/zoneinfo"
#define FILE_MAX ((size_t)256 * 1024)
#define CHANGES_MAX 4000
#define OFFSET_MAX (26 * 3600)
#define DAY ((int64_t)86400)

/* One day of a rule, and the time of it. */
struct rule_day {
	char kind; /* 'M': month, week, weekday; 'J': day from 1 without 29 February; 'D': day from 0 */
	int month, week, day;
	int64_t time; /* seconds after midnight; may be negative or more than a day */
};

struct zone {
	size_t n;
	int64_t *at; /* rising */
	int64_t *offset; /* from at[i] on */
	int64_t before; /* before the first change */
	bool has_rule; /* for what is behind the last change */
	bool changes; /* within a year */
	int64_t normal, summer;
	struct rule_day begin, end; /* of summer time */
};

void zone_free(struct zone **zp)
{
	struct zone *z = TAKE(*zp);

	if (z == NULL)
		return;
	free(z->at);
	free(z->offset);
	free(z);
}

int64_t days_of_date(int64_t year, int month, int day)
{
	/* Years that begin in March have the leap day at their end. */
	int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct date date_of_days(int64_t days)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, of_era = z - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100), march = (5 * of_year + 2) / 153;
	struct date d = {.day = (int)(of_year - (153 * march + 2) / 5 + 1),
	    .month = (int)(march < 10 ? march + 3 : march - 9),
	    .weekday = (int)((((days + 4) % 7) + 7) % 7)};

	d.year = year + era * 400 + (d.month <= 2 ? 1 : 0);
	return d;
}

static bool is_leap(int64_t y)
{
	return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
}

static int64_t rule_moment(const struct rule_day *r, int64_t year, int64_t offset)
{
	int64_t first = days_of_date(year, 1, 1), day;

	if (r->kind == 'J') {
		day = first + r->day - 1 + (is_leap(year) && r->day >= 60 ? 1 : 0);
	} else if (r->kind == 'D') {
		day = first + r->day;
	} else {
		int64_t month = days_of_date(year, r->month, 1);
		int64_t next = r->month == 12 ? days_of_date(year + 1, 1, 1) : days_of_date(year, r->month + 1, 1);

		day = month + (r->day - date_of_days(month).weekday + 7) % 7 + 7 * (r->week - 1);
		while (day >= next)
			day -= 7;
	}
	return day * DAY + r->time - offset;
}

static int64_t floor_day(int64_t seconds)
{
	return seconds >= 0 ? seconds / DAY : -((-seconds + DAY - 1) / DAY);
}

static int64_t rule_offset(const struct zone *z, int64_t at)
{
	int64_t year = date_of_days(floor_day(at + z->normal)).year, begin, end;

	if (!z->changes)
		return z->normal;
	begin = rule_moment(&z->begin, year, z->normal);
	end = rule_moment(&z->end, year, z->summer);
	if (begin < end)
		return at >= begin && at < end ? z->summer : z->normal;
	return at >= end && at < begin ? z->normal : z->summer;
}

int64_t zone_offset(const struct zone *z, int64_t at)
{
	size_t lo = 0, hi = z->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (z->at[mid] <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == z->n && z->has_rule)
		return rule_offset(z, at);
	return lo == 0 ? z->before : z->offset[lo - 1];
}

int zone_moments(const struct zone *z, int64_t local, int64_t ret[2])
{
	int64_t lo = local - DAY, hi = local + DAY, o[2] = {zone_offset(z, lo), zone_offset(z, hi)};
	int n = 0;

	for (int i = 0; i < 2; i++)
		if ((i == 0 || o[1] != o[0]) && zone_offset(z, local - o[i]) == o[i])
			ret[n++] = local - o[i];
	if (n == 2 && ret[0] > ret[1]) {
		int64_t later = ret[0];

		ret[0] = ret[1];
		ret[1] = later;
	}
	if (n > 0)
		return n;
	/* They are put forward somewhere here. */
	while (hi - lo > 1) {
		int64_t mid = lo + (hi - lo) / 2;

		if (zone_offset(z, mid) == o[0])
			lo = mid;
		else
			hi = mid;
	}
	ret[0] = hi;
	return 0;
}

/* The line behind the table: "CET-1CEST,M3.5.0,M10.5.0/3" (POSIX TZ). Each reader moves *s on. */
static bool read_digits(const char **s, int max, int *ret)
{
	int n = 0, digits = 0;

	for (; **s >= '0' && **s <= '9' && digits < 4; (*s)++, digits++)
		n = n * 10 + (**s - '0');
	*ret = n;
	return digits > 0 && n <= max;
}

static bool read_name(const char **s)
{
	const char *begin = *s;

	if (**s == '<') {
		*s += strcspn(*s, ">");
		if (**s != '>')
			return false;
		(*s)++;
		return true;
	}
	while ((**s >= 'A' && **s <= 'Z') || (**s >= 'a' && **s <= 'z'))
		(*s)++;
	return *s - begin >= 3;
}

/* "-3:30:15" as seconds. */
static bool read_time(const char **s, int64_t *ret)
{
	int sign = **s == '-' ? -1 : 1, h, m = 0, sec = 0;

	if (**s == '-' || **s == '+')
		(*s)++;
	if (!read_digits(s, 167, &h))
		return false;
	if (**s == ':') {
		(*s)++;
		if (!read_digits(s, 59, &m))
			return false;
		if (**s == ':') {
			(*s)++;
			if (!read_digits(s, 59, &sec))
				return false;
		}
	}
	*ret = sign * ((int64_t)h * 3600 + m * 60 + sec);
	return true;
}

static bool read_rule_day(const char **s, struct rule_day *r)
{
	if (*(*s)++ != ',')
		return false;
	r->kind = **s == 'M' || **s == 'J' ? **s : 'D';
	if (r->kind != 'D')
		(*s)++;
	if (r->kind == 'M') {
		if (!read_digits(s, 12, &r->month) || r->month < 1 || *(*s)++ != '.' || !read_digits(s, 5, &r->week) ||
		    r->week < 1 || *(*s)++ != '.' || !read_digits(s, 6, &r->day))
			return false;
	} else if (!read_digits(s, 365, &r->day) || (r->kind == 'J' && r->day < 1)) {
		return false;
	}
	r->time = 2 * 3600;
	if (**s != '/')
		return true;
	(*s)++;
	return read_time(s, &r->time);
}

static bool read_rule(const char *s, struct zone *z)
{
	int64_t west;

	if (*s == '\0')
		return true; /* the last offset holds for ever */
	if (!read_name(&s) || !read_time(&s, &west) || west < -OFFSET_MAX || west > OFFSET_MAX)
		return false;
	z->normal = -west;
	z->has_rule = true;
	if (*s == '\0')
		return true;
	z->changes = true;
	z->summer = z->normal + 3600;
	if (!read_name(&s))
		return false;
	if (*s != ',') {
		if (!read_time(&s, &west) || west < -OFFSET_MAX || west > OFFSET_MAX)
			return false;
		z->summer = -west;
	}
	return read_rule_day(&s, &z->begin) && read_rule_day(&s, &z->end) && *s == '\0';
}

static int64_t read_be(const unsigned char *b, size_t n)
{
	uint64_t v = b[0] & 0x80 ? ~(uint64_t)0 : 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | b[i];
	return (int64_t)v;
}

#define HEADER 44

/* The sizes of a header's block, in bytes; 0: it is no header, or says too much. */
static size_t block_size(const unsigned char *h, size_t time_size, int64_t *ret_n, int64_t *ret_types)
{
	int64_t count[6];

	if (memcmp(h, "TZif", 4) != 0)
		return 0;
	for (int i = 0; i < 6; i++) {
		count[i] = read_be(h + 20 + 4 * i, 4);
		if (count[i] < 0 || count[i] > CHANGES_MAX)
			return 0;
	}
	*ret_n = count[3];
	*ret_types = count[4];
	/* Two lists of flags, leap seconds, changes with their types, types, names. */
	return (size_t)(count[0] + count[1] + count[2] * (int64_t)(time_size + 4) +
			count[3] * (int64_t)(time_size + 1) + count[4] * 6 + count[5]);
}

static bool read_changes(const unsigned char *b, int64_t n, int64_t types, struct zone *z)
{
	const unsigned char *type_of = b + n * 8, *type = type_of + n;

	z->at = mem_alloc((size_t)(n + 1) * sizeof *z->at);
	z->offset = mem_alloc((size_t)(n + 1) * sizeof *z->offset);
	z->n = (size_t)n;
	z->before = read_be(type, 4);
	for (int64_t i = 0; i < n; i++) {
		if (type_of[i] >= types)
			return false;
		z->at[i] = read_be(b + i * 8, 8);
		z->offset[i] = read_be(type + type_of[i] * 6, 4);
		if ((i > 0 && z->at[i] <= z->at[i - 1]) || z->offset[i] < -OFFSET_MAX || z->offset[i] > OFFSET_MAX)
			return false;
	}
	return z->before >= -OFFSET_MAX && z->before <= OFFSET_MAX;
}

int zone_parse(const unsigned char *bytes, size_t len, struct zone **ret, struct why *why)
{
	AUTO(zone) z = NEW(struct zone);
	int64_t n = 0, types = 0;
	size_t first, second, at;
	const unsigned char *end;

	if (len < HEADER || (first = block_size(bytes, 4, &n, &types)) == 0 || bytes[4] < '2' ||
	    (at = HEADER + first) + HEADER > len || (second = block_size(bytes + at, 8, &n, &types)) == 0 ||
	    types == 0 || at + HEADER + second >= len || bytes[at + HEADER + second] != '\n')
		return why_set(why, ERR_INVALID, "the time zone's file is not of the form it should be");
	if (!read_changes(bytes + at + HEADER, n, types, z))
		return why_set(why, ERR_INVALID, "the time zone's file is damaged");
	at += HEADER + second + 1;
	end = memchr(bytes + at, '\n', len - at);
	if (end == NULL)
		return why_set(why, ERR_INVALID, "the time zone's file has no end");
	AUTO_STR rule = str_ndup((const char *)bytes + at, (size_t)(end - (bytes + at)));

	if (!read_rule(rule, z))
		return why_set(why, ERR_INVALID, "the time zone's rule is not one that is known");
	*ret = TAKE(z);
	return OK;
}

/* Words of letters, digits, _, + and -, with / between them. */
static bool is_zone_name(const char *name)
{
	if (!text_is_token(name, "_+-/", ZONE_NAME_MAX) || name[0] == '/')
		return false;
	return strstr(name, "//") == NULL && !text_has_suffix(name, "/");
}

int zone_load(const char *name, struct zone **ret, struct why *why)
{
	AUTO_STR path = NULL;
	AUTO_STR bytes = NULL;
	struct why reason = {0};
	size_t len = 0;

	if (strcmp(name, "UTC") == 0) {
		*ret = NEW(struct zone);
		return OK;
	}
	if (!is_zone_name(name))
		return why_set(why, ERR_INVALID, "a time zone has a name like Europe/Berlin or UTC");
	path = str_printf(FOLDER "/%s", name);
	if (text_read_file(path, FILE_MAX, &bytes, &len) != OK)
		return why_set(why, ERR_INVALID,
		    "there is no time zone '%s' here: names are those of the IANA database, like Europe/Berlin", name);
	if (zone_parse((const unsigned char *)bytes, len, ret, &reason) != OK)
		return why_set(why, ERR_INVALID, "the time zone '%s' cannot be used: %s", name, reason.text);
	return OK;
}
