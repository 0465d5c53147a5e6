/* base/clock.h: time. Wall time is for people and the store, monotonic time for deadlines.
 * Thread: any. All values are milliseconds. */
#pragma once
#include "base/macros.h"

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);

#define CLOCK_ISO_LEN 25
/* "2026-04-13T18:30:00.000Z" into `out`. */
void clock_iso8601(int64_t wall_ms, char out[CLOCK_ISO_LEN]);
