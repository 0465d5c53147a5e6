/* agent/tools/text_lines.h: line ends, and the line that was probably meant.
 * Thread: any. */
#pragma once
#include "base/macros.h"

/* Whether there are line ends, and all of them are CRLF. */
bool text_is_crlf(const char *s);
/* Copies with the other line ends; malloc'ed. */
char *text_to_lf(const char *s);
char *text_to_crlf(const char *s);

/* The line of `text` most like the first line of `wanted` that is not blank. False if nothing is like it; *ret_line is
 * borrowed, without white space at its ends. */
bool text_nearest_line(
    const char *text, const char *wanted, size_t *ret_number, const char **ret_line, size_t *ret_len);
