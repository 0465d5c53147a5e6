#include "agent/worker/frontmatter.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>

#define MAX_ITEMS 500

/* Takes one line, without its end, off *text. NULL at the end. */
static char *next_line(const char **text)
{
	size_t n = strcspn(*text, "\n");
	char *line;

	if (**text == '\0')
		return NULL;
	line = str_ndup(*text, n > 0 && (*text)[n - 1] == '\r' ? n - 1 : n);
	*text += n + ((*text)[n] == '\n');
	return line;
}

static bool is_fence(const char *line)
{
	return strncmp(line, "---", 3) == 0 && text_is_blank(line + 3);
}

/* A quoted string at *s; moves behind the closing quote. NULL if there is none. */
static char *take_quoted(const char **s)
{
	char quote = **s, *out = mem_alloc(strlen(*s) + 1);
	size_t n = 0;
	const char *p;

	for (p = *s + 1; *p != '\0'; p++) {
		if (*p == quote && quote == '\'' && p[1] == '\'')
			p++;
		else if (*p == quote)
			break;
		else if (quote == '"' && *p == '\\' && p[1] != '\0') {
			p++;
			out[n++] = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
			continue;
		}
		out[n++] = *p;
	}
	out[n] = '\0';
	if (*p != quote) {
		free(out);
		return NULL;
	}
	*s = p + 1;
	return out;
}

static bool only_comment(const char *s)
{
	while (isspace((unsigned char)*s))
		s++;
	return *s == '\0' || *s == '#';
}

/* A plain scalar without its comment. */
static char *plain(const char *s, size_t len)
{
	AUTO_STR text = NULL;

	for (size_t i = 0; i + 1 < len; i++)
		if (isspace((unsigned char)s[i]) && s[i + 1] == '#')
			len = i;
	text = str_ndup(s, len);
	return text_trim(text);
}

static json_t *scalar(const char *s)
{
	AUTO_STR v = NULL;

	while (isspace((unsigned char)*s))
		s++;
	if (*s == '"' || *s == '\'') {
		v = take_quoted(&s);
		return v != NULL && only_comment(s) ? json_string(v) : NULL;
	}
	v = plain(s, strlen(s));
	if (strcmp(v, "true") == 0 || strcmp(v, "false") == 0)
		return json_boolean(v[0] == 't');
	if (strcmp(v, "|") == 0 || strcmp(v, ">") == 0 || v[0] == '{' || v[0] == '&')
		return NULL;
	return json_string(strcmp(v, "~") == 0 || strcmp(v, "null") == 0 ? "" : v);
}

static json_t *flow_list(const char *s)
{
	AUTO_JSON list = json_array();

	for (s++;;) {
		AUTO_STR item = NULL;

		while (isspace((unsigned char)*s) || *s == ',')
			s++;
		if (*s == ']')
			return only_comment(s + 1) ? TAKE(list) : NULL;
		if (*s == '\0' || json_array_size(list) == MAX_ITEMS)
			return NULL;
		if (*s == '"' || *s == '\'') {
			item = take_quoted(&s);
		} else {
			/* Braces of a glob keep their commas. */
			size_t n = 0, depth = 0;

			for (; s[n] != '\0' && (depth > 0 || (s[n] != ',' && s[n] != ']')); n++)
				depth += (s[n] == '{') - (size_t)(s[n] == '}' && depth > 0);
			item = plain(s, n);
			s += n;
		}
		if (item == NULL)
			return NULL;
		json_array_append_new(list, json_string(item));
	}
}

static bool add_block_item(json_t *meta, const char *key, const char *item)
{
	json_t *list = key != NULL ? json_object_get(meta, key) : NULL, *v = scalar(item);
	bool fits = v != NULL && json_is_string(v);

	/* "key:" alone gave an empty string, which the first item turns into a list. */
	if (fits && json_is_string(list) && json_string_length(list) == 0) {
		json_object_set_new(meta, key, json_array());
		list = json_object_get(meta, key);
	}
	fits = fits && json_is_array(list) && json_array_size(list) < MAX_ITEMS;
	if (fits)
		json_array_append(list, v);
	json_decref(v);
	return fits;
}

static bool add_line(json_t *meta, char **key, const char *line)
{
	const char *s = line, *colon;
	json_t *v;

	if (only_comment(line))
		return true;
	while (*s == ' ' || *s == '\t')
		s++;
	if (s[0] == '-' && (s[1] == ' ' || s[1] == '\0'))
		return add_block_item(meta, *key, s + 1);
	colon = strchr(line, ':');
	if (s != line || colon == NULL || colon == line || (colon[1] != '\0' && !isspace((unsigned char)colon[1])))
		return false;
	free(*key);
	*key = plain(line, (size_t)(colon - line));
	for (s = colon + 1; isspace((unsigned char)*s); s++)
		;
	v = *s == '[' ? flow_list(s) : scalar(s);
	if (v == NULL || !text_is_token(*key, "-_", 64)) {
		json_decref(v);
		return false;
	}
	json_put_new(meta, *key, v);
	return true;
}

int frontmatter_parse(const char *text, json_t **ret_meta, const char **ret_body, struct why *why)
{
	const char *at = text + (strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0);
	const char *start = at;
	AUTO_JSON meta = json_object();
	AUTO_STR key = NULL;
	AUTO_STR first = next_line(&at);

	if (first == NULL || !is_fence(first)) {
		*ret_meta = TAKE(meta);
		*ret_body = start;
		return OK;
	}
	for (int n = 2;; n++) {
		AUTO_STR line = next_line(&at);

		if (line == NULL)
			return why_set(why, ERR_INVALID, "the frontmatter has no closing '---'");
		if (is_fence(line))
			break;
		if (!add_line(meta, &key, line))
			return why_set(why, ERR_INVALID, "line %d of the frontmatter cannot be read", n);
	}
	*ret_meta = TAKE(meta);
	*ret_body = at;
	return OK;
}
