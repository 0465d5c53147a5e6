#include "base/labels.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>

void labels_fini(struct labels *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct labels){0};
}

/* Where the pair is, or would be. */
static size_t find_place(const struct labels *l, const char *pair, bool *ret_there)
{
	size_t low = 0, high = l->n;

	*ret_there = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(l->v[middle], pair);

		if (order == 0) {
			*ret_there = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void insert_pair(struct labels *l, const char *pair)
{
	bool there;
	size_t at = find_place(l, pair, &there);

	if (there)
		return;
	l->v = mem_grow(l->v, &l->cap, l->n + 1, sizeof *l->v);
	memmove(l->v + at + 1, l->v + at, (l->n - at) * sizeof *l->v);
	l->v[at] = str_dup(pair);
	l->n++;
}

static bool is_value(const char *s)
{
	size_t len = strlen(s);

	for (const char *c = s; *c != '\0'; c++)
		if (iscntrl((unsigned char)*c))
			return false;
	return len >= 1 && len <= LABEL_VALUE_MAX && text_is_utf8(s, len);
}

int labels_add(struct labels *l, const char *key, const char *value, size_t max, struct why *why)
{
	AUTO_STR k = text_trim(key);
	AUTO_STR v = text_trim(value);
	AUTO_STR pair = str_printf("%s=%s", k, v);
	bool there;

	if (!isalnum((unsigned char)k[0]) || !text_is_token(k, "._/-", LABEL_KEY_MAX))
		return why_set(why, ERR_INVALID,
		    "the label key '%.80s' is not valid: letters, digits, '.', '_', '/' and '-', at most %d, the first "
		    "a letter or digit",
		    k, LABEL_KEY_MAX);
	if (!is_value(v))
		return why_set(why, ERR_INVALID,
		    "the value of label %s is not valid: 1 to %d bytes of UTF-8 text without control characters", k,
		    LABEL_VALUE_MAX);
	find_place(l, pair, &there);
	if (!there && l->n >= max)
		return why_set(why, ERR_FULL, "more than %zu labels", max);
	insert_pair(l, pair);
	return OK;
}

bool labels_have(const struct labels *l, const char *pair)
{
	bool there;

	find_place(l, pair, &there);
	return there;
}

const char *labels_lacking(const struct labels *have, const struct labels *want)
{
	for (size_t i = 0; i < want->n; i++)
		if (!labels_have(have, want->v[i]))
			return want->v[i];
	return NULL;
}

char *labels_text(const struct labels *l)
{
	AUTO_JSON list = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(list, json_string(l->v[i]));
	return json_text(list);
}

void labels_parse(const char *text, struct labels *ret)
{
	AUTO_JSON list = NULL;
	json_t *item;
	size_t i;

	if (json_parse(text, strlen(text), &list, NULL) != OK)
		return;
	json_array_foreach(list, i, item)
	{
		const char *pair = json_string_value(item);

		if (pair != NULL && strchr(pair, '=') != NULL)
			insert_pair(ret, pair);
	}
}
