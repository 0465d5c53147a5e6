#include "agent/tools/edit_text.h"
#include "agent/tools/text_lines.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

static size_t count(const char *text, const char *piece)
{
	size_t n = 0, len = strlen(piece);

	for (; (text = strstr(text, piece)) != NULL; text += len)
		n++;
	return n;
}

static int refuse_no_match(const char *text, const char *old, struct refusal *r)
{
	size_t number, len;
	const char *line;

	if (!text_nearest_line(text, old, &number, &line, &len))
		return refuse(
		    r, "no_match", "oldText was not found in the file, nor anything like it; read the file again");
	return refuse(r, "no_match", "oldText was not found in the file; nearest is line %zu: %.*s", number,
	    (int)text_utf8_cut(line, len, 200), line);
}

/* Places of `old` (with LF) in a text, whatever the line ends there are. */
struct loose {
	size_t n; /* how many there are */
	const char *at; /* the first, and its length */
	size_t len;
	bool crlf, lf; /* the line ends in it */
};

/* A text and a piece can be made such that each place fits nearly to its end. */
#define LOOSE_STEPS_MAX ((int64_t)200 * 1000 * 1000)

static size_t loose_length(const char *text, const char *old, bool *crlf, bool *lf, int64_t *steps)
{
	const char *t = text;

	for (; *old != '\0'; old++, t++) {
		if (--*steps < 0)
			return 0;
		if (*old == '\n' && t[0] == '\r' && t[1] == '\n') {
			t++;
			*crlf = true;
		} else if (*t != *old) {
			return 0;
		} else if (*old == '\n') {
			*lf = true;
		}
	}
	return (size_t)(t - text);
}

static struct loose loose_find(const char *text, const char *old)
{
	struct loose l = {0};
	int64_t steps = LOOSE_STEPS_MAX;

	if (strchr(old, '\n') == NULL)
		return l;
	for (size_t step = 1; *text != '\0' && steps > 0; text += step) {
		bool crlf = false, lf = false;
		size_t len = loose_length(text, old, &crlf, &lf, &steps);

		step = MAX(len, (size_t)1);
		if (len > 0 && l.n++ == 0) {
			l.at = text;
			l.len = len;
			l.crlf = crlf;
			l.lf = lf;
		}
	}
	/* What was not looked at may hold it again. */
	return steps > 0 ? l : (struct loose){0};
}

/* The file has the text but for its line ends: they stay what they are. */
static int replace_loosely(char **text, const char *old, const char *new, size_t max, struct refusal *r)
{
	AUTO_STR old_lf = text_to_lf(old);
	AUTO_STR new_lf = text_to_lf(new);
	struct loose l = loose_find(*text, old_lf);
	AUTO_STR with = l.crlf ? text_to_crlf(new_lf) : TAKE(new_lf);
	struct strbuf b = STRBUF(max);

	if (l.n == 0)
		return refuse_no_match(*text, old, r);
	if (l.n > 1)
		return refuse(r, "not_unique",
		    "oldText occurs %zu times, with line ends (CRLF, LF) that differ from the file's; give more lines "
		    "around it, with the line ends of the file",
		    l.n);
	if (l.crlf && l.lf)
		return refuse(r, "no_match",
		    "oldText differs from the file only in its line ends: the file has both CRLF and LF there; change "
		    "fewer lines at once, or write the line ends as they are");
	strbuf_add(&b, *text, (size_t)(l.at - *text));
	strbuf_adds(&b, with);
	strbuf_adds(&b, l.at + l.len);
	if (b.overflowed) {
		strbuf_fini(&b);
		return refuse(r, "too_large", "the file would have more than %zu bytes", max);
	}
	free(*text);
	*text = strbuf_take(&b);
	return OK;
}

static int edit_text_replace(char **text, const char *old, const char *new, bool all, size_t max, struct refusal *r)
{
	struct strbuf b = STRBUF(max);
	const char *at = *text, *hit;
	size_t n;

	if (strcmp(old, new) == 0)
		return refuse(r, "invalid_arguments", "oldText and newText are the same");
	if (old[0] == '\0' && (*text)[0] != '\0')
		return refuse(r, "invalid_arguments", "oldText is empty, but the file is not");
	n = old[0] == '\0' ? 1 : count(*text, old);
	if (n == 0)
		return replace_loosely(text, old, new, max, r);
	if (n > 1 && !all)
		return refuse(
		    r, "not_unique", "oldText occurs %zu times; give more lines around it, or set replaceAll", n);
	for (; n > 0; n--) {
		hit = strstr(at, old);
		strbuf_add(&b, at, (size_t)(hit - at));
		strbuf_adds(&b, new);
		at = hit + strlen(old);
	}
	strbuf_adds(&b, at);
	if (b.overflowed) {
		strbuf_fini(&b);
		return refuse(r, "too_large", "the file would have more than %zu bytes", max);
	}
	free(*text);
	*text = strbuf_take(&b);
	return OK;
}

int edit_text(const char *text, const json_t *edits, size_t max, char **ret, struct refusal *r)
{
	bool crlf = text_is_crlf(text);
	AUTO_STR now = crlf ? text_to_lf(text) : str_dup(text);
	json_t *e;
	size_t i;

	json_array_foreach((json_t *)edits, i, e)
	{
		const char *old = json_string_value(json_object_get(e, "oldText"));
		const char *new = json_string_value(json_object_get(e, "newText"));
		AUTO_STR old_lf = crlf ? text_to_lf(old) : str_dup(old);
		AUTO_STR new_lf = crlf ? text_to_lf(new) : str_dup(new);
		int rc =
		    edit_text_replace(&now, old_lf, new_lf, json_is_true(json_object_get(e, "replaceAll")), max, r);

		if (rc != OK) {
			if (json_array_size(edits) > 1) {
				AUTO_STR said = str_dup(r->why.text);

				refuse(r, r->code, "edit %zu: %s (no edit was made)", i + 1, said);
			}
			return rc;
		}
	}
	*ret = crlf ? text_to_crlf(now) : TAKE(now);
	return OK;
}
