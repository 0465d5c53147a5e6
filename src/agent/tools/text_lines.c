#include "agent/tools/text_lines.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <ctype.h>
#include <string.h>

/* Of 1000, see likeness(). */
#define LIKE_ENOUGH 300

bool text_is_crlf(const char *s)
{
	bool any = false;

	for (const char *nl = s; (nl = strchr(nl, '\n')) != NULL; nl++) {
		if (nl == s || nl[-1] != '\r')
			return false;
		any = true;
	}
	return any;
}

char *text_to_lf(const char *s)
{
	char *out = mem_alloc(strlen(s) + 1);
	size_t n = 0;

	for (; *s != '\0'; s++)
		if (s[0] != '\r' || s[1] != '\n')
			out[n++] = *s;
	out[n] = '\0';
	return out;
}

char *text_to_crlf(const char *s)
{
	struct strbuf b = STRBUF(2 * strlen(s) + 1);

	for (; *s != '\0'; s++) {
		if (*s == '\n')
			strbuf_addc(&b, '\r');
		strbuf_addc(&b, *s);
	}
	return strbuf_take(&b);
}

struct span {
	const char *s;
	size_t len;
};

/* A line without the white space around it. */
static struct span trimmed(const char *s)
{
	size_t n = strcspn(s, "\n");

	while (n > 0 && isspace((unsigned char)*s)) {
		s++;
		n--;
	}
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		n--;
	return (struct span){s, n};
}

/* 0 to 1000: how much of the longer line is the same at both ends. */
static size_t likeness(struct span a, struct span b)
{
	size_t head = 0, tail = 0, shorter = MIN(a.len, b.len);

	while (head < shorter && a.s[head] == b.s[head])
		head++;
	while (tail < shorter - head && a.s[a.len - 1 - tail] == b.s[b.len - 1 - tail])
		tail++;
	return MAX(a.len, b.len) == 0 ? 0 : (head + tail) * 1000 / MAX(a.len, b.len);
}

bool text_nearest_line(
    const char *text, const char *wanted_text, size_t *ret_number, const char **ret_line, size_t *ret_len)
{
	struct span wanted, best_line = {"", 0};
	size_t best = 0, best_number = 0, number = 1;

	while (trimmed(wanted_text).len == 0 && strchr(wanted_text, '\n') != NULL)
		wanted_text = strchr(wanted_text, '\n') + 1;
	wanted = trimmed(wanted_text);
	for (const char *at = text; at != NULL && *at != '\0'; number++) {
		size_t alike = likeness(wanted, trimmed(at));

		if (alike > best) {
			best = alike;
			best_number = number;
			best_line = trimmed(at);
		}
		at = strchr(at, '\n') != NULL ? strchr(at, '\n') + 1 : NULL;
	}
	if (best < LIKE_ENOUGH)
		return false;
	*ret_number = best_number;
	*ret_line = best_line.s;
	*ret_len = best_line.len;
	return true;
}
