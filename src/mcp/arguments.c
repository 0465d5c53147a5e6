#include "base/mem.h"
#include "base/text.h"
#include "mcp/tools.h"
#include <math.h>
#include <string.h>

#define MAX_DEPTH 16

static bool is_type(const json_t *v, const char *type)
{
	if (strcmp(type, "integer") == 0)
		return json_is_integer(v) || (json_is_real(v) && json_real_value(v) == trunc(json_real_value(v)));
	return (strcmp(type, "object") == 0 && json_is_object(v)) || (strcmp(type, "array") == 0 && json_is_array(v)) ||
	       (strcmp(type, "string") == 0 && json_is_string(v)) ||
	       (strcmp(type, "number") == 0 && json_is_number(v)) ||
	       (strcmp(type, "boolean") == 0 && json_is_boolean(v)) || (strcmp(type, "null") == 0 && json_is_null(v));
}

/* A type that we do not know passes. */
static bool is_of_type(const json_t *v, const json_t *type)
{
	static const char *const known[] = {"object", "array", "string", "number", "integer", "boolean", "null"};
	const json_t *one;
	size_t i;

	if (json_is_string(type)) {
		for (i = 0; i < ARRAY_LEN(known); i++) {
			if (strcmp(known[i], json_string_value(type)) == 0)
				return is_type(v, known[i]);
		}
		return true;
	}
	json_array_foreach((json_t *)type, i, one)
	{
		if (json_is_string(one) && is_type(v, json_string_value(one)))
			return true;
	}
	return !json_is_array(type);
}

static int check(const json_t *schema, const json_t *v, const char *where, int depth, struct why *why);

static int check_object(const json_t *schema, const json_t *v, const char *where, int depth, struct why *why)
{
	const json_t *properties = json_object_get(schema, "properties"), *item;
	const char *key;
	size_t i;

	json_array_foreach(json_object_get(schema, "required"), i, item)
	{
		if (json_is_string(item) && json_object_get(v, json_string_value(item)) == NULL)
			return why_set(why, ERR_INVALID, "'%s%s' is required", where, json_string_value(item));
	}
	json_object_foreach((json_t *)v, key, item)
	{
		const json_t *sub = json_object_get(properties, key);
		AUTO_STR inner = str_printf("%s%s.", where, key);
		int rc;

		if (sub == NULL && json_is_false(json_object_get(schema, "additionalProperties")) &&
		    json_object_get(schema, "patternProperties") == NULL)
			return why_set(why, ERR_INVALID, "'%s%s' is not an argument of this tool", where, key);
		rc = check(sub, item, inner, depth + 1, why);
		if (rc != OK)
			return rc;
	}
	return OK;
}

/* `where` ends with a dot, or is "". */
static int check(const json_t *schema, const json_t *v, const char *where, int depth, struct why *why)
{
	const json_t *allowed = json_object_get(schema, "enum"), *type = json_object_get(schema, "type"), *item;
	int len = (int)strlen(where) - (where[0] != '\0'), rc = OK;
	bool found = false;
	size_t i;

	if (!json_is_object(schema) || depth > MAX_DEPTH)
		return OK;
	if (type != NULL && !is_of_type(v, type)) {
		AUTO_STR text = json_text(type);
		return why_set(why, ERR_INVALID, "'%.*s' must be of type %.100s", len, where, text);
	}
	json_array_foreach((json_t *)allowed, i, item) found = found || json_equal(item, v);
	if (json_is_array(allowed) && !found) {
		AUTO_STR text = json_text(allowed);
		return why_set(why, ERR_INVALID, "'%.*s' must be one of %.200s", len, where, text);
	}
	if (json_is_object(v))
		return check_object(schema, v, where, depth, why);
	json_array_foreach((json_t *)v, i, item)
	{
		AUTO_STR inner = str_printf("%.*s[%zu].", len, where, i);

		rc = check(json_object_get(schema, "items"), item, inner, depth + 1, why);
		if (rc != OK)
			break;
	}
	return rc;
}

int mcp_arguments_check(const json_t *schema, const json_t *arguments, struct why *why)
{
	if (!json_is_object(arguments))
		return why_set(why, ERR_INVALID, "the arguments must be an object");
	return check(schema, arguments, "", 0, why);
}
