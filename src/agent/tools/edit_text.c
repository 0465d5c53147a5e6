#include "agent/tools/edit_text.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>

static bool is_crlf(const char *s)
{
	bool any = false;

	for (const char *nl = s; (nl = strchr(nl, '\n')) != NULL; nl++) {
		if (nl == s || nl[-1] != '\r')
			return false;
		any = true;
	}
	return any;
}

static char *to_lf(const char *s)
{
	char *out = mem_alloc(strlen(s) + 1);
	size_t n = 0;

	for (; *s != '\0'; s++)
		if (s[0] != '\r' || s[1] != '\n')
			out[n++] = *s;
	out[n] = '\0';
	return out;
}

static char *to_crlf(const char *s)
{
	struct strbuf b = STRBUF(2 * strlen(s) + 1);

	for (; *s != '\0'; s++) {
		if (*s == '\n')
			strbuf_addc(&b, '\r');
		strbuf_addc(&b, *s);
	}
	return strbuf_take(&b);
}

static size_t count(const char *text, const char *piece)
{
	size_t n = 0, len = strlen(piece);

	for (; (text = strstr(text, piece)) != NULL; text += len)
		n++;
	return n;
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

static int refuse_no_match(const char *text, const char *old, struct refusal *r)
{
	struct span wanted, best_line = {"", 0};
	size_t best = 0, best_number = 0, number = 1;

	while (trimmed(old).len == 0 && strchr(old, '\n') != NULL)
		old = strchr(old, '\n') + 1;
	wanted = trimmed(old);
	for (const char *at = text; at != NULL && *at != '\0'; number++) {
		size_t alike = likeness(wanted, trimmed(at));

		if (alike > best) {
			best = alike;
			best_number = number;
			best_line = trimmed(at);
		}
		at = strchr(at, '\n') != NULL ? strchr(at, '\n') + 1 : NULL;
	}
	if (best < 300)
		return refuse(
		    r, "no_match", "oldText was not found in the file, nor anything like it; read the file again");
	return refuse(r, "no_match", "oldText was not found in the file; nearest is line %zu: %.*s", best_number,
	    (int)text_utf8_cut(best_line.s, best_line.len, 200), best_line.s);
}

static int replace(char **text, const char *old, const char *new, bool all, size_t max, struct refusal *r)
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
	bool crlf = is_crlf(text);
	AUTO_STR now = crlf ? to_lf(text) : str_dup(text);
	json_t *e;
	size_t i;

	json_array_foreach((json_t *)edits, i, e)
	{
		const char *old = json_string_value(json_object_get(e, "oldText"));
		const char *new = json_string_value(json_object_get(e, "newText"));
		AUTO_STR old_lf = crlf ? to_lf(old) : str_dup(old);
		AUTO_STR new_lf = crlf ? to_lf(new) : str_dup(new);
		int rc = replace(&now, old_lf, new_lf, json_is_true(json_object_get(e, "replaceAll")), max, r);

		if (rc != OK) {
			if (json_array_size(edits) > 1) {
				AUTO_STR said = str_dup(r->why.text);

				refuse(r, r->code, "edit %zu: %s (no edit was made)", i + 1, said);
			}
			return rc;
		}
	}
	*ret = crlf ? to_crlf(now) : TAKE(now);
	return OK;
}
