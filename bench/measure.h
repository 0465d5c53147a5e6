/* bench/measure.h: what the programs of the bench share: time, cores, and figures as JSON on stdout.
 * Thread: any. Samples are nanoseconds. */
#pragma once
#include "base/macros.h"

int64_t bench_now_ns(void);
/* Pins the calling process (and what it starts) to one core; -1 leaves it free. Ends the program on failure. */
void bench_pin(int core);
/* CPU time of this process, all threads. */
int64_t bench_cpu_ns(void);
/* Sorts `samples` and prints "name":{"n":…,"p50":…,"p99":…,"min":…,"max":…} in microseconds. */
void bench_print(const char *name, int64_t *samples, size_t n);
/* The whole number in `text`; ends the program with a sentence when it is none. */
int64_t bench_number(const char *what, const char *text);
/* A whole file as a string, at most 16 MiB; ends the program when it cannot be read. */
char *bench_slurp(const char *path);
_Noreturn void bench_die(const char *fmt, ...) PRINTF_LIKE(1, 2);
