/* What models write, on its way to a forge. There "@name" calls a person or a whole team, "#12" links and "closes #12"
 * closes: none of that may come from a model. A zero-width joiner behind the sign keeps the text readable and dead.
 * Code is left as it is: forges do not look into it. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/pulls/pulls.h"
#include <ctype.h>
#include <string.h>

#define JOINER "\xe2\x80\x8d"
#define OUT_MAX ((size_t)1024 * 1024)

static size_t run_of(const char *s, char c)
{
	size_t n = 0;

	while (s[n] == c)
		n++;
	return n;
}

/* The end of a line that begins a fenced block, and of the block; NULL: it is none. A block without an end goes to the
 * end of the text. */
static const char *fence_end(const char *line)
{
	size_t indent = run_of(line, ' '), n;
	const char *at = line + indent;
	char mark = *at;

	if (indent > 3 || (mark != '`' && mark != '~') || (n = run_of(at, mark)) < 3)
		return NULL;
	at += strcspn(at, "\n");
	while (*at == '\n') {
		size_t in = run_of(at + 1, ' ');

		at++;
		if (in <= 3 && run_of(at + in, mark) >= n &&
		    strspn(at + in + run_of(at + in, mark), " \t\r") == strcspn(at + in + run_of(at + in, mark), "\n"))
			return at + strcspn(at, "\n");
		at += strcspn(at, "\n");
	}
	return at;
}

/* The end of inline code that begins here; NULL: these backticks have no partner. */
static const char *inline_end(const char *s)
{
	size_t n = run_of(s, '`');

	for (const char *at = s + n; *at != '\0' && !(at[0] == '\n' && at[1] == '\n');) {
		size_t m = run_of(at, '`');

		if (m == n)
			return at + m;
		at += m > 0 ? m : 1;
	}
	return NULL;
}

/* "@a", "#1", "GH-1", "!1": what forges turn into links and calls. */
static bool is_reference(const char *s, bool word_before)
{
	if (word_before && *s != '#')
		return false;
	if (*s == '@')
		return isalnum((unsigned char)s[1]) != 0;
	if (*s == '#' || *s == '!')
		return isdigit((unsigned char)s[1]) != 0;
	return false;
}

/* "https://host/owner/name/issues/12" behind "closes" closes, too. */
static size_t closing_word(const char *s)
{
	static const char *const words[] = {"close", "closes", "closed", "closing", "fix", "fixes", "fixed", "fixing",
	    "resolve", "resolves", "resolved", "resolving", "implement", "implements", "implemented", "implementing"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		size_t n = strlen(words[i]);
		const char *after = s + n;

		if (strncasecmp(s, words[i], n) != 0 || isalnum((unsigned char)*after))
			continue;
		after += strspn(after, ": \t");
		if (*after == '#' || strncasecmp(after, "gh-", 3) == 0 || text_has_prefix(after, "http") ||
		    strchr("!", *after) != NULL || after[strcspn(after, " \n\t#")] == '#')
			return n;
	}
	return 0;
}

char *pull_neutral_text(const char *text)
{
	struct strbuf b = STRBUF(OUT_MAX);
	bool at_line = true, word = false;

	for (const char *s = text; *s != '\0';) {
		const char *end = at_line ? fence_end(s) : NULL;
		size_t n;

		if (end == NULL && *s == '`')
			end = inline_end(s);
		if (end != NULL) {
			IGNORE(strbuf_add(&b, s, (size_t)(end - s)));
			s = end;
			at_line = word = false;
			continue;
		}
		/* A comment would hide what follows; ours are written by us. */
		if (text_has_prefix(s, "<!--")) {
			IGNORE(strbuf_adds(&b, "&lt;!--"));
			s += 4;
			at_line = word = false;
			continue;
		}
		n = !word ? closing_word(s) : 0;
		if (n > 0) {
			IGNORE(strbuf_addf(&b, "%.1s" JOINER "%.*s", s, (int)n - 1, s + 1));
			s += n;
			word = true;
			at_line = false;
			continue;
		}
		at_line = *s == '\n';
		IGNORE(strbuf_addc(&b, *s));
		if (is_reference(s, word))
			IGNORE(strbuf_adds(&b, JOINER));
		word = isalnum((unsigned char)*s) || (unsigned char)*s >= 0x80;
		s++;
	}
	return strbuf_take(&b);
}

char *pull_marker(const char *agent_id)
{
	return str_printf("<!-- bullpen agent=%s -->", agent_id);
}
