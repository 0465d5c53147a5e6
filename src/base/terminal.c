#include "base/terminal.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

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
