#include "base/log.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/strbuf.h"
#include "base/terminal.h"
#include "base/text.h"
#include <stdatomic.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define QUOTED_MAX 200

static _Atomic int threshold = LOG_INFO;
static const char *const level_names[] = {"error", "warn", "info", "debug"};
static __thread const char *thread_context;

void log_hold_standard_files(void)
{
	int fd;

	/* The lowest free number is given, so those that are closed are filled one after the other. */
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

void log_set_level(enum log_level level)
{
	atomic_store(&threshold, (int)level);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load(&threshold);
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	char line[2048], when[CLOCK_ISO_LEN];
	va_list ap;
	int n, m;

	if (!log_enabled(level))
		return;
	clock_iso8601(clock_wall_ms(), when);
	n = snprintf(line, sizeof line, "%s %s %s ", when, level_names[level], event);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	va_end(ap);
	n = MIN(n + MAX(m, 0), (int)sizeof line - 2);
	line[n++] = '\n';
	/* One write a line: the kernel keeps lines of several threads apart. */
	IGNORE(write(STDERR_FILENO, line, (size_t)n));
}

const char *log_quote(const char *outside)
{
	static __thread char ring[4][640];
	static __thread unsigned next;
	const char *given = outside != NULL ? outside : "";
	char text[QUOTED_MAX + 1], *out = ring[next++ % 4];
	size_t given_len = strlen(given), len = text_utf8_cut(given, given_len, QUOTED_MAX), o = 0;

	memcpy(text, given, len);
	text[len] = '\0';
	text_utf8_mend(text);
	out[o++] = '"';
	for (size_t i = 0; text[i] != '\0'; i++) {
		unsigned char c = (unsigned char)text[i];
		size_t control = terminal_control_len(text + i);

		if (c == '"' || c == '\\') {
			out[o++] = '\\';
			out[o++] = (char)c;
		} else if (c == '\n') {
			out[o++] = '\\';
			out[o++] = 'n';
		} else if (control > 0) {
			out[o++] = '?';
			i += control - 1;
		} else {
			out[o++] = (char)c;
		}
	}
	if (len < given_len) {
		out[o++] = '.';
		out[o++] = '.';
		out[o++] = '.';
	}
	out[o++] = '"';
	out[o] = '\0';
	return out;
}

void thread_context_set(const char *what)
{
	thread_context = what;
}

void ensure_failed(const char *expr, const char *file, int line, const char *func)
{
	fprintf(stderr, "fatal: check failed: %s at %s:%d in %s, thread context: %s\n", expr, file, line, func,
	    thread_context != NULL ? thread_context : "none");
	abort();
}
