#include "server/runs/named.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <ctype.h>
#include <string.h>

#define NAMES_MAX 50
#define NAME_LEN_MAX 200
#define TEXT_MAX ((size_t)512 * 1024)
#define WORD_MAX 1024 /* of a kind or a path */

static const char word_bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";

static void add_name(json_t *list, const char *s, size_t len)
{
	AUTO_STR name = str_ndup(s, len);
	size_t i;
	json_t *known;

	json_array_foreach(list, i, known)
	{
		if (strcmp(json_string_value(known), name) == 0)
			return;
	}
	if (json_array_size(list) < NAMES_MAX && len <= NAME_LEN_MAX)
		json_array_append_new(list, json_string(name));
}

/* "/name", and behind it a blank or the end of the line: a path goes on. */
static void look_for_command(json_t *list, const char *line, size_t len)
{
	size_t n;

	if (len < 2 || line[0] != '/' || !isalnum((unsigned char)line[1]))
		return;
	n = MIN(1 + strspn(line + 1, word_bytes), len);
	if (n == len || isspace((unsigned char)line[n]))
		add_name(list, line, n);
}

/* "@name" or "@folder/name"; an address of mail has something before the '@'. */
static void look_for_rules(json_t *list, const char *line, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++) {
		size_t n = 1;

		if (line[i] != '@' || (i > 0 && strchr(" \t([\"'`*,:", line[i - 1]) == NULL))
			continue;
		while (i + n < len && (strchr(word_bytes, line[i + n]) != NULL || line[i + n] == '/'))
			n++;
		while (n > 1 && strchr(".-/", line[i + n - 1]) != NULL)
			n--;
		if (n > 1)
			add_name(list, line + i, n);
	}
}

/* Of a fence as in CommonMark: how many, 0 if the line is none. */
static size_t fence_of(const char *line, size_t len, char *ret_kind)
{
	size_t at = 0, n = 0;

	while (at < len && at < 3 && line[at] == ' ')
		at++;
	if (at == len || (line[at] != '`' && line[at] != '~'))
		return 0;
	*ret_kind = line[at];
	while (at + n < len && line[at + n] == *ret_kind)
		n++;
	return n >= 3 ? n : 0;
}

json_t *named_in_prompt(const char *prompt)
{
	json_t *list = json_array();
	size_t open = 0;
	char open_kind = 0;

	for (const char *line = prompt; *line != '\0';) {
		size_t len = strcspn(line, "\n");
		char kind = 0;
		size_t fence = fence_of(line, len, &kind);

		if (open == 0 && fence > 0) {
			open = fence;
			open_kind = kind;
		} else if (open > 0) {
			if (fence >= open && kind == open_kind)
				open = 0;
		} else {
			look_for_command(list, line, len);
			look_for_rules(list, line, len);
		}
		line += len + (line[len] == '\n');
	}
	return list;
}

char *named_take(const json_t *answer)
{
	AUTO_JSON kept = json_array();
	size_t i, bytes = 0;
	json_t *o;

	if (!json_is_array(answer))
		return NULL;
	json_array_foreach((json_t *)answer, i, o)
	{
		const char *name = json_word(o, "name"), *kind = json_word(o, "kind"), *path = json_word(o, "path"),
			   *text = json_word(o, "text");

		if (name[0] == '\0' || kind[0] == '\0')
			continue;
		bytes += strlen(text);
		if (json_array_size(kept) == NAMES_MAX || bytes > TEXT_MAX || strlen(name) > NAME_LEN_MAX ||
		    strlen(kind) > WORD_MAX || strlen(path) > WORD_MAX) {
			log_warn("run.named.left_out", "index=%zu bytes=%zu", i, bytes);
			break;
		}
		json_array_append_new(
		    kept, json_pack("{s:s, s:s, s:s, s:s}", "name", name, "kind", kind, "path", path, "text", text));
	}
	return json_array_size(kept) > 0 ? json_text(kept) : NULL;
}

char *named_append(const char *prompt, const char *kept)
{
	struct strbuf b = STRBUF(SIZE_MAX / 2);
	AUTO_JSON list = NULL;
	size_t i;
	json_t *o;

	strbuf_adds(&b, prompt);
	if (kept != NULL)
		IGNORE(json_parse(kept, strlen(kept), &list, NULL));
	if (json_is_array(list))
		json_array_foreach(list, i, o) strbuf_addf(&b, "\n\n# %s: the %s %s\n%s", json_word(o, "name"),
		    json_word(o, "kind"), json_word(o, "path"), json_word(o, "text"));
	return strbuf_take(&b);
}
