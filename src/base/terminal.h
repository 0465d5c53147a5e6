/* base/terminal.h: text from outside on its way to a terminal, or to a file that a person opens in one.
 * Thread: any. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum terminal_form {
	TERMINAL_TEXT, /* newline and tab stay, a carriage return before a newline goes */
	TERMINAL_LINE, /* newline and tab become blanks */
	TERMINAL_JSON /* JSON text: what is dangerous inside its strings becomes \uXXXX, so no fact is lost */
};

/* A copy in which nothing moves the cursor, starts an escape sequence or turns the order of what is read: C0 and C1
 * controls, DEL, the bidirectional controls (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), the
 * separators U+2028 and U+2029, U+FEFF and the annotations U+FFF9 to U+FFFB become U+FFFD, and so does every byte that
 * is not UTF-8. malloc'ed. */
char *terminal_clean(const char *text, enum terminal_form form);
/* The bytes of the character at s if it is one of those, 0 otherwise. */
size_t terminal_control_len(const char *s);

/* Whether standard output may be coloured: a terminal that is not "dumb", and no NO_COLOR (no-color.org: any value that
 * is not empty). */
bool terminal_has_colour(void);
/* Columns of standard output: COLUMNS, else the terminal's; 0: not a terminal, do not cut. */
size_t terminal_columns(void);
/* Cuts a cleaned line so that it fills at most so many columns (a Chinese character fills two), with "…" for what is
 * missing. 0 columns: as it is. */
void terminal_fit(char **text, size_t columns);
