/* base/log.h: one line an event on stderr: `time level event key=value`.
 * Thread: any; lines never mix. Never log credentials, prompts or header values. Only the edges log
 * (handlers, run threads, main loops), never libraries that return an error. */
#pragma once
#include "base/macros.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Opens /dev/null for each of stdin, stdout and stderr that is closed. First of all in main(): else the next file or
 * connection gets that number, and lines of the log go into it. */
void log_hold_standard_files(void);

/* May be called at any time; the default is LOG_INFO. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* `event` is a stable dotted name ("run.step.done"). `fmt` is "key=%s key=%d …"; a value that may hold spaces
 * or outside text goes through log_quote. */
void log_event(enum log_level level, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);
#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...) log_event(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_event(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_event(LOG_DEBUG, event, __VA_ARGS__)

/* Text from outside as one quoted word of UTF-8: control characters, separators of lines and marks of writing
 * direction escaped or replaced by '?',
 * cut at 200 bytes. The result lives in a per-thread ring of 4. NULL gives "". */
const char *log_quote(const char *text);
