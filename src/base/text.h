/* base/text.h: checks and small transformations of text from outside.
 * Thread: any. Nothing here allocates unless it says so. */
#pragma once
#include "base/macros.h"

/* Strict UTF-8 (RFC 3629): no overlong forms, no surrogates. */
bool text_is_utf8(const char *s, size_t len);
/* The first code point of s; its length in bytes, 0 if there is none or it is not valid. */
size_t text_utf8_decode(const char *s, size_t len, uint32_t *ret);
/* Code points of valid UTF-8. */
size_t text_code_points(const char *s);
/* Copies, replacing each byte that is not part of valid UTF-8 by U+FFFD; NUL bytes too. malloc'ed. */
char *text_to_utf8(const char *s, size_t len);
/* Length of the longest prefix of at most `max` bytes that does not cut a code point. */
size_t text_utf8_cut(const char *s, size_t len, size_t max);
/* The same, but only a sequence that the end cuts off is left out; other bad bytes stay. */
size_t text_utf8_whole(const char *s, size_t len);
/* What `git check-ref-format --branch` accepts, 1 to 255 bytes. */
bool text_is_git_ref(const char *s);
/* Replaces in place each byte that is not part of valid UTF-8 by '?'. */
void text_utf8_mend(char *s);
/* Text from outside as one line for people: valid UTF-8 of at most `max` bytes, every character that
 * a terminal obeys (terminal.h) a blank.
 * malloc'ed; NULL gives "". */
char *text_line(const char *s, size_t max);
bool text_is_blank(const char *s);
/* Decimal integer with nothing around it, in [min, max]. */
int text_parse_int(const char *s, int64_t min, int64_t max, int64_t *ret) MUST_USE;
/* True if every byte is alphanumeric or in `extra`, and 1 <= length <= max. */
bool text_is_token(const char *s, const char *extra, size_t max);
bool text_has_prefix(const char *s, const char *prefix);
bool text_has_suffix(const char *s, const char *suffix);
/* Trims ASCII white space at both ends; returns a malloc'ed copy. */
char *text_trim(const char *s);
/* Percent-decodes a URL path segment or query value ('+' is left alone). ERR_INVALID for bad escapes, NUL bytes
 * or bytes that are not UTF-8. *ret is malloc'ed. */
int text_percent_decode(const char *s, size_t len, char **ret) MUST_USE;
/* Reads a whole file of at most `max` bytes; *ret is malloc'ed and NUL-terminated. */
int text_read_file(const char *path, size_t max, char **ret, size_t *ret_len) MUST_USE;
/* text_cut_middle: at most `max` (48 or more) bytes: head and tail around "\n[... N bytes left out ...]\n". malloc'ed,
 * valid UTF-8 if the input is. Says through *ret_cut (may be NULL) whether anything was left out. */
char *text_cut_middle(const char *s, size_t len, size_t max, bool *ret_cut);
