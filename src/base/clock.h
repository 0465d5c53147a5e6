/* base/clock.h: time. Wall time is for people and the store, monotonic time for deadlines.
 * Thread: any. All values are milliseconds. */
#pragma once
#include "base/macros.h"

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);

#define CLOCK_ISO_LEN 25
/* "2026-04-13T18:30:00.000Z" into `out`. */
void clock_iso8601(int64_t wall_ms, char out[CLOCK_ISO_LEN]);
/* "2026-05-01T12:00:00Z", with fractions of a second or not; "+02:00" for Z; or "2026-05-01", its first moment (UTC).
 * ERR_INVALID. */
int clock_read_iso8601(const char *text, int64_t *ret_wall_ms) MUST_USE;
