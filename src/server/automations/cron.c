/* Schedules: reading them, and the next time of one. */
#include "server/automations/cron.h"
#include "base/mem.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define DAY ((int64_t)86400)
#define DAYS_AHEAD (9 * 366) /* from one 29 February to the next it may be eight years */
#define ALL_HOURS (((uint64_t)1 << 24) - 1)

static const struct field {
	const char *name;
	int min, max;
	const char *words; /* of three letters each; the first is `first` */
	int first;
} fields[] = {{"minute", 0, 59, "", 0}, {"hour", 0, 23, "", 0}, {"day", 1, 31, "", 0},
    {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec", 1}, {"weekday", 0, 7, "sunmontuewedthufrisat", 0}};

static const struct {
	const char *name, *fields;
} words[] = {{"@hourly", "0 * * * *"}, {"@daily", "0 0 * * *"}, {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
    {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}};

/* A number or a name at *s, which is moved on. */
static bool read_value(const char **s, const struct field *f, int *ret)
{
	int n = 0, digits = 0;

	for (; isdigit((unsigned char)**s) && digits < 4; (*s)++, digits++)
		n = n * 10 + (**s - '0');
	if (digits > 0) {
		*ret = n;
		return digits < 4 && n >= f->min && n <= f->max;
	}
	for (size_t i = 0; f->words[i] != '\0'; i += 3)
		if (strncasecmp(*s, f->words + i, 3) == 0) {
			*s += 3;
			*ret = f->first + (int)(i / 3);
			return true;
		}
	return false;
}

/* One of a list, "a-b/n". */
static bool read_part(const char **s, const struct field *f, uint64_t *set)
{
	int from = f->min, to = f->max, step = 1;
	bool range = **s == '*';

	if (range) {
		(*s)++;
	} else {
		if (!read_value(s, f, &from))
			return false;
		to = from;
		if (**s == '-') {
			(*s)++;
			range = true;
			if (!read_value(s, f, &to) || to < from)
				return false;
		}
	}
	if (**s == '/') {
		const struct field steps = {"step", 1, 999, "", 0};

		(*s)++;
		if (!read_value(s, &steps, &step))
			return false;
		if (!range)
			to = f->max; /* 5/15: from 5 on */
	}
	for (int v = from; v <= to; v += step)
		*set |= (uint64_t)1 << v;
	return true;
}

static bool read_field(const char *s, const struct field *f, uint64_t *set)
{
	while (read_part(&s, f, set)) {
		if (*s == '\0')
			return true;
		if (*s++ != ',')
			return false;
	}
	return false;
}

int cron_parse(const char *text, struct cron *ret, struct why *why)
{
	uint64_t *const sets[] = {&ret->minutes, &ret->hours, &ret->days, &ret->months, &ret->weekdays};
	size_t n = 0;

	*ret = (struct cron){0};
	if (strlen(text) > CRON_TEXT_MAX)
		return why_set(why, ERR_INVALID, "a schedule has at most %d characters", CRON_TEXT_MAX);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcasecmp(text, words[i].name) == 0)
			text = words[i].fields;
	if (text[0] == '@')
		return why_set(
		    why, ERR_INVALID, "'%.20s' is not known: @hourly, @daily, @weekly, @monthly and @yearly are", text);
	for (;; n++) {
		size_t len;

		text += strspn(text, " \t");
		len = strcspn(text, " \t");
		if (len == 0)
			break;
		if (n == ARRAY_LEN(fields))
			return why_set(why, ERR_INVALID,
			    "a schedule has five fields (minute hour day month weekday), and no more");
		AUTO_STR field = str_ndup(text, len);

		if (!read_field(field, &fields[n], sets[n]))
			return why_set(why, ERR_INVALID,
			    "the %s '%.40s' is none: *, %d-%d%s, a-b, these with /step, or a list with commas",
			    fields[n].name, field, fields[n].min, fields[n].max,
			    fields[n].words[0] != '\0' ? " or a name of three letters" : "");
		if (n == 2)
			ret->any_day = field[0] == '*';
		if (n == 4)
			ret->any_weekday = field[0] == '*';
		text += len;
	}
	if (n != ARRAY_LEN(fields))
		return why_set(why, ERR_INVALID,
		    "a schedule has five fields (minute hour day month weekday), this one has %zu", n);
	if (ret->weekdays & 1U << 7)
		ret->weekdays |= 1;
	return OK;
}

static bool has(uint64_t set, int64_t n)
{
	return (set >> n & 1) != 0;
}

static bool is_day(const struct cron *c, int64_t days)
{
	const struct date d = date_of_days(days);
	bool day = has(c->days, d.day), weekday = has(c->weekdays, d.weekday);

	if (!has(c->months, d.month))
		return false;
	return c->any_day || c->any_weekday ? day && weekday : day || weekday;
}

static int64_t day_of(int64_t seconds)
{
	return (seconds - ((seconds % DAY) + DAY) % DAY) / DAY;
}

/* No clock is put anywhere around that moment: the first minute that fits, if it comes within two days. */
static bool next_plain(const struct cron *c, int64_t offset, int64_t after, int64_t *ret)
{
	int64_t local = after + offset, from = local - ((local % 60) + 60) % 60 + 60;

	for (int64_t t = from; t < from + 2 * DAY;) {
		int64_t of_day = t - day_of(t) * DAY;

		if (!is_day(c, day_of(t)))
			t += DAY - of_day;
		else if (!has(c->hours, of_day / 3600))
			t += 3600 - of_day % 3600;
		else if (!has(c->minutes, of_day / 60 % 60))
			t += 60;
		else {
			*ret = t - offset;
			return true;
		}
	}
	return false;
}

/* Makes *best the earliest moment of that day that is after `after`. */
static void look_at_day(const struct cron *c, const struct zone *z, int64_t day, int64_t after, int64_t *best)
{
	bool every_hour = c->hours == ALL_HOURS;

	for (int64_t minute = 0; minute < 24 * 60; minute++) {
		int64_t at[2];
		int n;

		if (!has(c->hours, minute / 60) || !has(c->minutes, minute % 60))
			continue;
		n = zone_moments(z, day * DAY + minute * 60, at);
		if (!every_hour)
			n = 1;
		for (int i = 0; i < n; i++)
			if (at[i] > after && at[i] < *best)
				*best = at[i];
	}
}

int cron_next(const struct cron *c, const struct zone *z, int64_t after_ms, int64_t *ret_ms)
{
	int64_t after = after_ms / 1000, offset = zone_offset(z, after), best = INT64_MAX;
	int64_t first = day_of(after + offset) - 1, found = first + DAYS_AHEAD;

	if (offset == zone_offset(z, after - 2 * DAY) && offset == zone_offset(z, after + 3 * DAY) &&
	    next_plain(c, offset, after, &best)) {
		*ret_ms = best * 1000;
		return OK;
	}
	/* A clock that is put back at midnight makes moments of the next day come before the last ones of this. */
	for (int64_t day = first; day <= found + 1; day++) {
		if (!is_day(c, day))
			continue;
		look_at_day(c, z, day, after, &best);
		if (best != INT64_MAX && found == first + DAYS_AHEAD)
			found = day;
	}
	if (best == INT64_MAX)
		return ERR_EMPTY;
	*ret_ms = best * 1000;
	return OK;
}
