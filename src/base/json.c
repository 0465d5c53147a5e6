#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define MAX_DEPTH 64
#define MAX_MARKS 100000

void json_drop(json_t **j)
{
	json_decref(*j);
	*j = NULL;
}

/* jansson limits depth only to 2048 and the number of values not at all, and three bytes of text, "{},", become more
 * than two hundred of memory: both are counted on the text, strings skipped. Each value but the first comes behind a
 * mark. */
bool json_is_bomb(const char *s, size_t len)
{
	bool in_string = false;
	int depth = 0;
	size_t marks = 0;

	for (size_t i = 0; i < len; i++) {
		if (in_string) {
			if (s[i] == '\\')
				i++;
			else if (s[i] == '"')
				in_string = false;
		} else if (s[i] == '"') {
			in_string = true;
		} else if (s[i] == '{' || s[i] == '[') {
			if (++depth > MAX_DEPTH || ++marks > MAX_MARKS)
				return true;
		} else if (s[i] == '}' || s[i] == ']') {
			depth--;
		} else if (s[i] == ',' && ++marks > MAX_MARKS) {
			return true;
		}
	}
	return false;
}

/* The place of the first text with a NUL below v, as "a.b[2]"; false if there is none. */
static bool json_find_nul(json_t *v, struct strbuf *where)
{
	size_t before = where->len, i;
	const char *key;
	json_t *member;

	if (json_is_string(v))
		return strlen(json_string_value(v)) != json_string_length(v);
	json_object_foreach(v, key, member)
	{
		strbuf_addf(where, "%s%.64s", before > 0 ? "." : "", key);
		if (json_find_nul(member, where))
			return true;
		strbuf_cut(where, before);
	}
	json_array_foreach(v, i, member)
	{
		strbuf_addf(where, "[%zu]", i);
		if (json_find_nul(member, where))
			return true;
		strbuf_cut(where, before);
	}
	return false;
}

static int refuse_nul(const char *text, size_t len, struct why *why)
{
	AUTO_JSON lenient = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	AUTO_FINI(strbuf) where = STRBUF(400);

	if (lenient == NULL || !json_find_nul(lenient, &where) || where.len == 0)
		return why_set(why, ERR_INVALID, "text must not hold the character U+0000");
	return why_set(why, ERR_INVALID, "text must not hold the character U+0000: field '%s'", strbuf_str(&where));
}

/* jansson stops behind the second key; its quotes are on this side of `at`. */
static int refuse_duplicate(const char *text, size_t at, struct why *why)
{
	size_t end = at, start;

	while (end > 0 && text[end - 1] != '"')
		end--;
	for (start = end > 0 ? end - 1 : 0; start > 0; start--) {
		size_t slashes = 0;

		while (slashes < start - 1 && text[start - 2 - slashes] == '\\')
			slashes++;
		if (text[start - 1] == '"' && slashes % 2 == 0)
			break;
	}
	if (end == 0 || start == 0)
		return why_set(why, ERR_INVALID, "a field is given twice");
	return why_set(why, ERR_INVALID, "the field '%.*s' is given twice",
	    (int)text_utf8_cut(text + start, end - 1 - start, 100), text + start);
}

static int json_load(const char *text, size_t len, size_t flags, json_t **ret, struct why *why)
{
	json_error_t err;
	json_t *j;

	if (json_is_bomb(text, len))
		return why_set(
		    why, ERR_INVALID, "JSON is nested deeper than %d levels or holds too many values", MAX_DEPTH);
	j = json_loadb(text, len, JSON_DECODE_ANY | flags, &err);
	if (j != NULL) {
		*ret = j;
		return OK;
	}
	switch (json_error_code(&err)) {
	case json_error_null_character:
		return refuse_nul(text, len, why);
	case json_error_null_byte_in_key:
		return why_set(why, ERR_INVALID, "the name of a field must not hold the character U+0000");
	case json_error_duplicate_key:
		return refuse_duplicate(text, (size_t)err.position, why);
	default:
		return why_set(
		    why, ERR_INVALID, "malformed JSON at line %d column %d: %s", err.line, err.column, err.text);
	}
}

int json_parse(const char *text, size_t len, json_t **ret, struct why *why)
{
	return json_load(text, len, 0, ret, why);
}

int json_parse_strict(const char *text, size_t len, json_t **ret, struct why *why)
{
	return json_load(text, len, JSON_REJECT_DUPLICATES, ret, why);
}

char *json_text(const json_t *j)
{
	char *s = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);

	ENSURE(s != NULL);
	return s;
}

int json_only_keys(const json_t *obj, const char *const *keys, const char *where, struct why *why)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)obj, key, v)
	{
		size_t i = 0;

		while (keys[i] != NULL && strcmp(keys[i], key) != 0)
			i++;
		if (keys[i] == NULL)
			return why_set(why, ERR_INVALID, "Unrecognized key(s) in %s: '%.100s'",
			    where[0] ? where : "the request body", key);
	}
	return OK;
}

static int wrong_type(struct why *why, const char *key, const char *want)
{
	return why_set(why, ERR_INVALID, "'%s' must be %s", key, want);
}

const char *json_word(const json_t *obj, const char *key)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s != NULL ? s : "";
}

int json_get_string(const json_t *obj, const char *key, const char **ret, struct why *why)
{
	json_t *v = json_object_get(obj, key);

	if (v == NULL)
		return OK;
	if (!json_is_string(v))
		return wrong_type(why, key, "a string");
	if (strlen(json_string_value(v)) != json_string_length(v))
		return wrong_type(why, key, "a string without NUL characters");
	*ret = json_string_value(v);
	return OK;
}

int json_need_string(const json_t *obj, const char *key, const char **ret, struct why *why)
{
	const char *s = NULL;
	int rc = json_get_string(obj, key, &s, why);

	if (rc != OK)
		return rc;
	if (s == NULL)
		return why_set(why, ERR_INVALID, "'%s' is required", key);
	if (s[0] == '\0')
		return wrong_type(why, key, "a non-empty string");
	*ret = s;
	return OK;
}

int json_get_bool(const json_t *obj, const char *key, bool *ret, struct why *why)
{
	json_t *v = json_object_get(obj, key);

	if (v == NULL)
		return OK;
	if (!json_is_boolean(v))
		return wrong_type(why, key, "true or false");
	*ret = json_is_true(v);
	return OK;
}

int json_get_array(const json_t *obj, const char *key, json_t **ret, struct why *why)
{
	json_t *v = json_object_get(obj, key);

	if (v == NULL)
		return OK;
	if (!json_is_array(v))
		return wrong_type(why, key, "an array");
	*ret = v;
	return OK;
}

void json_put(json_t *obj, const char *key, const char *v)
{
	if (v != NULL)
		json_put_new(obj, key, json_lossy(v, strlen(v)));
}

void json_put_int(json_t *obj, const char *key, int64_t v)
{
	json_put_new(obj, key, json_integer(v));
}

void json_put_bool(json_t *obj, const char *key, bool v)
{
	json_put_new(obj, key, json_boolean(v));
}

void json_put_new(json_t *obj, const char *key, json_t *v)
{
	ENSURE(v != NULL && json_object_set_new(obj, key, v) == 0);
}

json_t *json_lossy(const char *s, size_t len)
{
	json_t *j = memchr(s, '\0', len) == NULL ? json_stringn(s, len) : NULL;

	if (j == NULL) {
		AUTO_STR clean = text_to_utf8(s, len);

		j = json_string(clean);
	}
	ENSURE(j != NULL);
	return j;
}

static bool needs_escape(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

static void escape(struct strbuf *b, unsigned char c)
{
	if (c == '"')
		strbuf_add(b, "\\\"", 2);
	else if (c == '\\')
		strbuf_add(b, "\\\\", 2);
	else if (c == '\n')
		strbuf_add(b, "\\n", 2);
	else if (c == '\t')
		strbuf_add(b, "\\t", 2);
	else
		strbuf_addf(b, "\\u%04x", c);
}

void json_add_escaped(struct strbuf *b, const char *s)
{
	const char *at = s;

	for (; *at != '\0'; at++) {
		if (!needs_escape((unsigned char)*at))
			continue;
		strbuf_add(b, s, (size_t)(at - s));
		escape(b, (unsigned char)*at);
		s = at + 1;
	}
	strbuf_add(b, s, (size_t)(at - s));
}

void json_add_string(struct strbuf *b, const char *s)
{
	strbuf_addc(b, '"');
	json_add_escaped(b, s);
	strbuf_addc(b, '"');
}
