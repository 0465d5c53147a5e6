#include "base/terminal.h"
#include "base/errors.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

static bool is_dangerous(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} ranges[] = {{0, 0x1f}, {0x7f, 0x9f}, {0x61c, 0x61c}, {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2066, 0x2069},
	    {0xfeff, 0xfeff}, {0xfff9, 0xfffb}};

	for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	return false;
}

size_t terminal_control_len(const char *s)
{
	uint32_t c = 0;
	size_t n = text_utf8_decode(s, strnlen(s, 4), &c);

	return n > 0 && is_dangerous(c) ? n : 0;
}

static void terminal_add(struct strbuf *b, uint32_t c, char next, enum terminal_form form)
{
	static const char unknown[] = "\xef\xbf\xbd";

	if (form == TERMINAL_JSON)
		strbuf_addf(b, "\\u%04x", (unsigned)c);
	else if (c == '\n' || c == '\t')
		strbuf_addc(b, form == TERMINAL_LINE ? ' ' : (char)c);
	else if (c == '\r' && next != '\n')
		strbuf_addc(b, ' '); /* a bar of progress that is drawn again */
	else if (c != '\r')
		strbuf_adds(b, unknown);
}

char *terminal_clean(const char *text, enum terminal_form form)
{
	size_t len = strlen(text), n;
	struct strbuf b = STRBUF(len * 6 + 1);

	for (size_t i = 0; i < len; i += n) {
		uint32_t c = 0xfffd;

		n = text_utf8_decode(text + i, len - i, &c);
		if (n == 0) {
			strbuf_adds(&b, "\xef\xbf\xbd");
			n = 1;
		} else if (is_dangerous(c)) {
			terminal_add(&b, c, text[i + 1], form);
		} else {
			strbuf_add(&b, text + i, n);
		}
	}
	return strbuf_take(&b);
}

bool terminal_has_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && (no == NULL || no[0] == '\0') && (term == NULL || strcmp(term, "dumb") != 0);
}

size_t terminal_columns(void)
{
	const char *given = getenv("COLUMNS");
	struct winsize size;
	int64_t n = 0;

	if (!isatty(STDOUT_FILENO))
		return 0;
	if (given != NULL && text_parse_int(given, 1, 10000, &n) == OK)
		return (size_t)n;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* As many as the character fills on most terminals; the table is the C library's. */
static size_t columns_of(uint32_t c)
{
	int n = wcwidth((wchar_t)c);

	return n > 0 ? (size_t)n : n == 0 ? 0 : 1;
}

/* Where the line is cut, with one column left for the mark; its length if it fits. */
static size_t fit_bytes(const char *text, size_t columns)
{
	size_t len = strlen(text), used = 0, keep = 0, n;

	for (size_t i = 0; i < len; i += n) {
		uint32_t c = 0xfffd;

		n = MAX(text_utf8_decode(text + i, len - i, &c), (size_t)1);
		used += columns_of(c);
		if (used > columns)
			return keep;
		if (used < columns)
			keep = i + n;
	}
	return len;
}

void terminal_fit(char **text, size_t columns)
{
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), before;
	AUTO_STR whole = NULL;
	size_t keep;

	if (columns == 0 || utf8 == (locale_t)0)
		return;
	before = uselocale(utf8);
	keep = fit_bytes(*text, columns);
	uselocale(before);
	freelocale(utf8);
	if (keep == strlen(*text))
		return;
	whole = TAKE(*text);
	*text = str_printf("%.*s\xe2\x80\xa6", (int)keep, whole);
}
