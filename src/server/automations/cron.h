/* automations/cron.h: schedules of five fields, as cron has them.
 *
 * minute (0-59) hour (0-23) day (1-31) month (1-12, jan-dec) weekday (0-7, sun-sat; 0 and 7 are Sunday); each a list of
 * *, n, a-b, and these with /step. @hourly, @daily (@midnight), @weekly, @monthly, @yearly (@annually) stand for the
 * obvious ones. If both day and weekday say something (do not begin with *), either is enough, as in every cron.
 *
 * When clocks change: a schedule that names every hour goes by the time that passes: nothing in the hour that is left
 * out, and both in the hour that there is twice. Any other schedule has each of its times once: those that are left out
 * happen together at the moment the clocks are put forward, those that there are twice the first time only.
 *
 * Thread: any. */
#pragma once
#include "server/automations/zone.h"

#define CRON_TEXT_MAX 200

struct cron {
	uint64_t minutes, hours, days, months, weekdays; /* sets of bits */
	bool any_day, any_weekday; /* the field begins with * */
};

/* ERR_INVALID with `why`: which field, and what is wrong with it. */
int cron_parse(const char *text, struct cron *ret, struct why *why) MUST_USE;
/* The first moment after that one, in milliseconds. ERR_EMPTY: there is none within nine years. */
int cron_next(const struct cron *c, const struct zone *z, int64_t after_ms, int64_t *ret_ms) MUST_USE;
