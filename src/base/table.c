#include "base/table.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define TEXT_MAX 2000
#define SECRET_FILE_MAX 16384

int table_wrong(const struct table *t, const char *key, const char *must)
{
	return why_set(t->why, ERR_INVALID, "%s.%s must be %s", t->where, key, must);
}

int table_text(const struct table *t, const char *key, const char **ret)
{
	const json_t *v = json_object_get(t->json, key);
	const char *s = json_string_value(v);

	if (v == NULL)
		return OK;
	if (s == NULL || s[0] == '\0' || json_string_length(v) > TEXT_MAX || strlen(s) != json_string_length(v))
		return table_wrong(t, key, "a text, not empty, of at most 2000 bytes");
	for (const char *c = s; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return table_wrong(t, key, "a text without control characters");
	*ret = s;
	return OK;
}

int table_need_text(const struct table *t, const char *key, const char **ret)
{
	if (json_object_get(t->json, key) == NULL)
		return why_set(t->why, ERR_INVALID, "%s.%s is missing", t->where, key);
	return table_text(t, key, ret);
}

int table_int(const struct table *t, const char *key, int64_t min, int64_t max, int64_t *ret)
{
	const json_t *v = json_object_get(t->json, key);

	if (v == NULL)
		return OK;
	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
		return why_set(t->why, ERR_INVALID, "%s.%s must be an integer from %lld to %lld", t->where, key,
		    (long long)min, (long long)max);
	*ret = json_integer_value(v);
	return OK;
}

int table_bool(const struct table *t, const char *key, bool *ret)
{
	const json_t *v = json_object_get(t->json, key);

	if (v != NULL && !json_is_boolean(v))
		return table_wrong(t, key, "true or false");
	if (v != NULL)
		*ret = json_is_true(v);
	return OK;
}

int table_array(const struct table *t, const char *key, json_t **ret)
{
	json_t *v = json_object_get(t->json, key);

	if (v != NULL && !json_is_array(v))
		return table_wrong(t, key, "an array");
	if (v != NULL)
		*ret = v;
	return OK;
}

int table_object(const struct table *t, const char *key, json_t **ret)
{
	json_t *v = json_object_get(t->json, key);

	if (v != NULL && !json_is_object(v))
		return table_wrong(t, key, "a table");
	if (v != NULL)
		*ret = v;
	return OK;
}

int table_keys(const struct table *t, const char *const *keys)
{
	const char *key;
	json_t *v;

	if (!json_is_object(t->json))
		return why_set(t->why, ERR_INVALID, "%s must be a table", t->where);
	json_object_foreach((json_t *)t->json, key, v)
	{
		size_t i = 0;

		while (keys[i] != NULL && strcmp(keys[i], key) != 0)
			i++;
		if (keys[i] == NULL)
			return why_set(t->why, ERR_INVALID, "unknown setting %s.%.60s", t->where, key);
	}
	return OK;
}

int table_secret_of(const struct table *t, const char *key, const char *text, char **ret)
{
	AUTO_STR secret = text_trim(text);

	if (secret[0] == '\0')
		return table_wrong(t, key, "a name of something that holds a key, and it is empty");
	for (const char *c = secret; *c != '\0'; c++)
		if (*c <= ' ' || *c >= 0x7f) {
			explicit_bzero(secret, strlen(secret));
			return table_wrong(t, key, "a name of something that holds one key of visible characters");
		}
	*ret = TAKE(secret);
	return OK;
}

int table_secret(const struct table *t, const char *key, char **ret)
{
	const char *file = NULL;
	AUTO_STR text = NULL;
	size_t len = 0;
	int rc = table_text(t, key, &file);

	if (rc != OK || file == NULL)
		return rc;
	rc = text_read_file(file, SECRET_FILE_MAX, &text, &len);
	if (rc != OK)
		return why_set(t->why, ERR_INVALID, "%s.%s: cannot read %s: %s", t->where, key, file, err_text(rc));
	rc = table_secret_of(t, key, text, ret);
	explicit_bzero(text, len);
	return rc;
}
