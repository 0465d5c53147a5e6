/* automations/zone.h: local time of a place, by its name in the IANA database (/usr/share/zoneinfo). A zone is read
 * when it is asked for, so that a machine's update of the database holds at once. Thread: any; a zone is constant. */
#pragma once
#include "base/errors.h"

#define ZONE_NAME_MAX 64

struct zone;

/* "Europe/Berlin". "UTC" needs no database. ERR_INVALID with `why`: there is none of that name, or its file is damaged.
 */
int zone_load(const char *name, struct zone **ret, struct why *why) MUST_USE;
void zone_free(struct zone **z); /* NULL is fine */

/* The same, of the bytes of such a file (RFC 8536). For tests and fuzzing. */
int zone_parse(const unsigned char *bytes, size_t len, struct zone **ret, struct why *why) MUST_USE;

/* Seconds east of UTC at that moment (seconds since 1970). */
int64_t zone_offset(const struct zone *z, int64_t at);

/* When clocks there show this (seconds since 1970, as if it were UTC). 2: twice, the earlier one first, when they are
 * put back. 0: never, because they are put forward; ret[0] is the moment at which they are. */
int zone_moments(const struct zone *z, int64_t local, int64_t ret[2]);

/* Days since 1970 and back. month from 1, day from 1; any day number is fine. */
int64_t days_of_date(int64_t year, int month, int day);
struct date {
	int64_t year;
	int month, day, weekday; /* 0: Sunday */
};
struct date date_of_days(int64_t days);
