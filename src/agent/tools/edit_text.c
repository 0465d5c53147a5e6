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
		return refuse_no_match(*text, old, r);
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
