#include "bench/measure.h"
#include "base/errors.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define FILE_MAX ((size_t)16 * 1024 * 1024)

static int64_t clock_ns(clockid_t which)
{
	struct timespec ts;

	clock_gettime(which, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t bench_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t bench_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

void bench_pin(int core)
{
	cpu_set_t set;

	if (core < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (sched_setaffinity(0, sizeof set, &set) != 0)
		bench_die("cannot pin to core %d: %s", core, strerror(errno));
}

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static double us(int64_t ns)
{
	return (double)ns / 1000;
}

void bench_print(const char *name, int64_t *samples, size_t n)
{
	if (n == 0) {
		printf("\"%s\":{\"n\":0}", name);
		return;
	}
	qsort(samples, n, sizeof *samples, ascending);
	printf("\"%s\":{\"n\":%zu,\"p50\":%.3f,\"p99\":%.3f,\"min\":%.3f,\"max\":%.3f}", name, n, us(samples[n / 2]),
	    us(samples[n * 99 / 100]), us(samples[0]), us(samples[n - 1]));
}

int64_t bench_number(const char *what, const char *text)
{
	int64_t v = 0;

	if (text == NULL || text_parse_int(text, -1, INT64_MAX, &v) != OK)
		bench_die("%s must be a number, not '%s'", what, text != NULL ? text : "");
	return v;
}

char *bench_slurp(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text;
	size_t n;

	if (f == NULL)
		bench_die("cannot read %s: %s", path, strerror(errno));
	text = mem_alloc(FILE_MAX + 1);
	n = fread(text, 1, FILE_MAX, f);
	text[n] = '\0';
	fclose(f);
	return mem_realloc(text, n + 1);
}
