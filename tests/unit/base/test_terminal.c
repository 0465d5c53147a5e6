/* Text on its way to a terminal: a corpus of what must not get there. */
#include "base/mem.h"
#include "base/terminal.h"
#include "base/text.h"
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#define BAD "\xef\xbf\xbd"

static const struct sample {
	const char *in, *text, *line, *json;
} corpus[] = {
    {"plain", "plain", "plain", "plain"},
    {"a\tb\nc", "a\tb\nc", "a b c", "a\\u0009b\\u000ac"},
    {"dos\r\nend", "dos\nend", "dos end", "dos\\u000d\\u000aend"},
    {"10%\r20%", "10% 20%", "10% 20%", "10%\\u000d20%"},
    {"\x1b[2J\x1b]0;title\x07", BAD "[2J" BAD "]0;title" BAD, BAD "[2J" BAD "]0;title" BAD,
	"\\u001b[2J\\u001b]0;title\\u0007"},
    {"\x7f\x08", BAD BAD, BAD BAD, "\\u007f\\u0008"},
    {"\xc2\x9b"
     "2J\xc2\x85\xc2\x90",
	BAD "2J" BAD BAD, BAD "2J" BAD BAD, "\\u009b2J\\u0085\\u0090"},
    {"user\u202etxt.exe", "user" BAD "txt.exe", "user" BAD "txt.exe", "user\\u202etxt.exe"},
    {"\u202a\u202b\u202c\u202d", BAD BAD BAD BAD, BAD BAD BAD BAD, "\\u202a\\u202b\\u202c\\u202d"},
    {"\u2066\u2067\u2068\u2069", BAD BAD BAD BAD, BAD BAD BAD BAD, "\\u2066\\u2067\\u2068\\u2069"},
    {"\u061c\u200e\u200f", BAD BAD BAD, BAD BAD BAD, "\\u061c\\u200e\\u200f"},
    {"\u2028\u2029\ufeff\ufff9", BAD BAD BAD BAD, BAD BAD BAD BAD, "\\u2028\\u2029\\ufeff\\ufff9"},
    {"\x9b"
     "2J \xc3",
	BAD "2J " BAD, BAD "2J " BAD, BAD "2J " BAD},
    {"\xed\xa0\x80", BAD BAD BAD, BAD BAD BAD, BAD BAD BAD},
    {"größe € 😀 \u200d\u0301 العربية עברית", "größe € 😀 \u200d\u0301 العربية עברית",
	"größe € 😀 \u200d\u0301 العربية עברית", "größe € 😀 \u200d\u0301 العربية עברית"},
    {"", "", "", ""},
};

static void the_corpus_is_harmless(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
		AUTO_STR text = terminal_clean(corpus[i].in, TERMINAL_TEXT);
		AUTO_STR line = terminal_clean(corpus[i].in, TERMINAL_LINE);
		AUTO_STR json = terminal_clean(corpus[i].in, TERMINAL_JSON);

		assert_string_equal(text, corpus[i].text);
		assert_string_equal(line, corpus[i].line);
		assert_string_equal(json, corpus[i].json);
	}
}

/* Every two bytes: no control gets through, and what comes out is UTF-8. */
static void every_pair_of_bytes(void **state)
{
	for (unsigned a = 1; a < 256; a++) {
		for (unsigned b = 1; b < 256; b++) {
			const char in[] = {(char)a, (char)b, '\0'};
			AUTO_STR out = terminal_clean(in, TERMINAL_TEXT);

			assert_true(text_is_utf8(out, strlen(out)));
			for (const unsigned char *p = (const unsigned char *)out; *p != '\0'; p++) {
				assert_true(*p >= 0x20 || *p == '\n' || *p == '\t');
				assert_true(*p != 0x7f);
				assert_false(p[0] == 0xc2 && p[1] < 0xa0);
			}
		}
	}
}

static void what_is_clean_stays(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(corpus); i++) {
		AUTO_STR once = terminal_clean(corpus[i].in, TERMINAL_TEXT);
		AUTO_STR twice = terminal_clean(once, TERMINAL_TEXT);

		assert_string_equal(once, twice);
	}
}

static void a_line_fits_its_columns(void **state)
{
	static const struct {
		const char *in;
		size_t columns;
		const char *want;
	} t[] = {{"abcdef", 6, "abcdef"}, {"abcdefg", 6, "abcde\u2026"}, {"abcdef", 0, "abcdef"}, {"", 5, ""},
	    {"\u65e5\u672c\u8a9e", 6, "\u65e5\u672c\u8a9e"}, {"\u65e5\u672c\u8a9ex", 6, "\u65e5\u672c\u2026"},
	    {"\u65e5\u672c\u8a9e\u65e5", 7, "\u65e5\u672c\u8a9e\u2026"}, {"e\u0301\u0301abc", 4, "e\u0301\u0301abc"},
	    {"abcdefgh", 1, "\u2026"}};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		AUTO_STR text = str_dup(t[i].in);

		terminal_fit(&text, t[i].columns);
		assert_string_equal(text, t[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_line_fits_its_columns),
	    cmocka_unit_test(the_corpus_is_harmless), cmocka_unit_test(every_pair_of_bytes),
	    cmocka_unit_test(what_is_clean_stays)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
