/* main/options.h: the command lines of `bullpen`. */
#pragma once
#include "base/errors.h"

struct option_spec {
	const char *flag; /* "--listen" */
	const char **value; /* borrowed from argv */
};
/* Reads "--flag value" and "--flag=value"; anything else is ERR_INVALID with `why`. The list ends with flag NULL. Other
 * words go to `words` (at most max_words). */
int options_parse(int argc, char **argv, const struct option_spec *specs, const char **words, size_t max_words,
    size_t *ret_words, struct why *why) MUST_USE;

int serve_main(int argc, char **argv);
int admin_main(int argc, char **argv);
/* One line on stderr; returns the exit status for usage errors. */
int usage_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
