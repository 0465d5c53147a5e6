#include "agent/worker/labels.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/toml.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define MAX_FILE ((size_t)256 * 1024)

static int check_key(const char *key, struct why *why)
{
	if (isalnum((unsigned char)key[0]) && text_is_token(key, "._/-", LABEL_KEY_MAX))
		return OK;
	return why_set(why, ERR_INVALID,
	    "the label key %.80s is not valid: letters, digits, '.', '_', '/' and '-', at most %d, the first a letter "
	    "or digit",
	    key, LABEL_KEY_MAX);
}

static int check_value(const char *key, const char *value, struct why *why)
{
	size_t len = strlen(value);

	if (len == 0)
		return why_set(why, ERR_INVALID, "the label %.80s has an empty value", key);
	if (len > LABEL_VALUE_MAX)
		return why_set(
		    why, ERR_INVALID, "the value of the label %.80s has more than %d bytes", key, LABEL_VALUE_MAX);
	if (!text_is_utf8(value, len))
		return why_set(why, ERR_INVALID, "the value of the label %.80s is not UTF-8", key);
	for (const char *p = value; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p))
			return why_set(why, ERR_INVALID, "the value of the label %.80s has control characters", key);
	return OK;
}

/* Both are trimmed; the same pair twice is one. */
static int add_pair(struct labels *l, const char *given_key, const char *given_value, struct why *why)
{
	AUTO_STR key = text_trim(given_key);
	AUTO_STR value = text_trim(given_value);

	if (key[0] == '\0')
		return why_set(why, ERR_INVALID, "a label has an empty key");
	if (check_key(key, why) != OK || check_value(key, value, why) != OK)
		return ERR_INVALID;
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->v[i].key, key) == 0 && strcmp(l->v[i].value, value) == 0)
			return OK;
	if (l->n == LABELS_MAX)
		return why_set(why, ERR_INVALID, "at most %d labels are possible", LABELS_MAX);
	l->v[l->n++] = (struct label_pair){.key = TAKE(key), .value = TAKE(value)};
	return OK;
}

int labels_add_text(struct labels *l, const char *text, struct why *why)
{
	const char *equals = strchr(text, '=');
	AUTO_STR key = equals != NULL ? str_ndup(text, (size_t)(equals - text)) : NULL;
	struct why inner = {""};

	if (key == NULL)
		return why_set(why, ERR_INVALID, "the label '%.100s' must be KEY=VALUE, such as os=linux", text);
	if (add_pair(l, key, equals + 1, &inner) != OK)
		return why_set(why, ERR_INVALID, "--label '%.100s': %s", text, inner.text);
	return OK;
}

/* A string of the file that holds U+0000 would be read as a shorter one. */
static const char *whole_text(const json_t *v)
{
	const char *s = json_string_value(v);

	return s != NULL && strlen(s) == json_string_length(v) ? s : NULL;
}

static int add_values(struct labels *l, const char *key, const json_t *value, struct why *why)
{
	const json_t *item;
	size_t i;

	if (json_is_string(value) && whole_text(value) != NULL)
		return add_pair(l, key, whole_text(value), why);
	if (!json_is_array(value))
		return why_set(why, ERR_INVALID, "the value of '%.80s' must be a string or an array of strings", key);
	if (json_array_size(value) == 0)
		return why_set(why, ERR_INVALID, "the value of '%.80s' is an empty array", key);
	json_array_foreach(value, i, item)
	{
		if (whole_text(item) == NULL)
			return why_set(why, ERR_INVALID, "item %zu of '%.80s' is not a string", i, key);
		if (add_pair(l, key, whole_text(item), why) != OK)
			return ERR_INVALID;
	}
	return OK;
}

static int add_object(struct labels *l, const json_t *object, struct why *why)
{
	const char *key;
	json_t *value;
	int rc = OK;

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		if (rc == OK)
			rc = add_values(l, key, value, why);
	}
	return rc;
}

static int add_list(struct labels *l, const json_t *list, struct why *why)
{
	static const char *const keys[] = {"key", "value", NULL};
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *key = whole_text(json_object_get(item, "key"));
		const char *value = whole_text(json_object_get(item, "value"));

		if (!json_is_object(item) || key == NULL || value == NULL || json_only_keys(item, keys, "", NULL) != OK)
			return why_set(
			    why, ERR_INVALID, "item %zu must be an object with the texts \"key\" and \"value\"", i);
		if (add_pair(l, key, value, why) != OK)
			return ERR_INVALID;
	}
	return OK;
}

static int add_json(struct labels *l, const json_t *doc, struct why *why)
{
	if (json_is_object(doc))
		return add_object(l, doc, why);
	if (json_is_array(doc))
		return add_list(l, doc, why);
	return why_set(why, ERR_INVALID, "it must hold an object or a list of objects");
}

static bool has_ending(const char *path, const char *ending)
{
	size_t n = strlen(path), m = strlen(ending);

	return n >= m && strcasecmp(path + n - m, ending) == 0;
}

/* The text as JSON. toml_parse makes texts of dates, which are no labels. */
static int parse_file(const char *path, const char *text, size_t len, json_t **ret, struct why *why)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	struct why as_json = {""}, as_toml = {""};
	char date[LABEL_KEY_MAX + 1];
	int rc = ERR_INVALID;

	if (!has_ending(path, ".toml"))
		rc = json_parse_strict(text, len, ret, &as_json);
	if (rc == OK || has_ending(path, ".json"))
		return rc == OK ? OK : why_set(why, rc, "it is not JSON: %s", as_json.text);
	rc = toml_parse(text, len, name, ret, &as_toml);
	if (rc != OK && has_ending(path, ".toml"))
		return why_set(why, rc, "it is not TOML: %s", as_toml.text);
	if (rc != OK)
		return why_set(why, rc, "it is neither JSON (%s) nor TOML (%s)", as_json.text, as_toml.text);
	if (toml_finds_date(text, len, date, sizeof date)) {
		json_drop(ret);
		return why_set(
		    why, ERR_INVALID, "the value of '%s' must be a string or an array of strings, not a date", date);
	}
	return OK;
}

int labels_add_file(struct labels *l, const char *path, struct why *why)
{
	AUTO_STR text = NULL;
	AUTO_JSON doc = NULL;
	struct why inner = {""};
	size_t len = 0;
	int rc = text_read_file(path, MAX_FILE, &text, &len);

	if (rc == ERR_TOO_LARGE)
		return why_set(why, ERR_INVALID, "the labels file %.200s has more than %zu bytes", path, MAX_FILE);
	if (rc != OK)
		return why_set(why, ERR_INVALID, "the labels file %.200s cannot be read: %s", path, err_text(rc));
	rc = parse_file(path, text, len, &doc, &inner);
	if (rc == OK)
		rc = add_json(l, doc, &inner);
	return rc == OK ? OK : why_set(why, ERR_INVALID, "the labels file %.200s: %s", path, inner.text);
}

int labels_check_reserved(const struct labels *l, const char *source, struct why *why)
{
	for (size_t i = 0; i < l->n; i++) {
		if (strcmp(l->v[i].key, "pool") == 0)
			return why_set(why, ERR_INVALID,
			    "%.200s sets the label 'pool', which is reserved: name the pool with --pool %.63s", source,
			    l->v[i].value);
		if (strcmp(l->v[i].key, "repo") == 0)
			return why_set(why, ERR_INVALID,
			    "%.200s sets the label 'repo', which is reserved: it is derived from the git remote "
			    "'origin' "
			    "of each --worker-dir",
			    source);
	}
	return OK;
}

void labels_fini(struct labels *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].key);
		free(l->v[i].value);
	}
	l->n = 0;
}
