#include "agent/tools/schema.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <math.h>
#include <string.h>
#include <strings.h>

#define MAX_DEPTH 8

int schema_apply_aliases(json_t *args, const char *const *pairs, struct why *why)
{
	for (; pairs != NULL && pairs[0] != NULL; pairs += 2) {
		json_t *v = json_object_get(args, pairs[0]);

		if (v == NULL)
			continue;
		if (json_object_get(args, pairs[1]) != NULL && !json_is_null(v))
			return why_set(
			    why, ERR_INVALID, "'%s' and '%s' mean the same; give one of them", pairs[0], pairs[1]);
		if (!json_is_null(v))
			json_object_set(args, pairs[1], v);
		json_object_del(args, pairs[0]);
	}
	return OK;
}

static int check(const json_t *schema, json_t *v, const char *where, int depth, struct why *why);

static int check_enum(const json_t *allowed, const json_t *v, const char *where, struct why *why)
{
	struct strbuf list = STRBUF(256);
	json_t *item;
	size_t i;
	int rc;

	json_array_foreach((json_t *)allowed, i, item)
	{
		if (json_equal(item, v))
			return OK;
	}
	json_array_foreach((json_t *)allowed, i, item)
	    strbuf_addf(&list, "%s'%s'", i > 0 ? ", " : "", json_string_value(item));
	rc = why_set(why, ERR_INVALID, "'%s' must be one of %s", where, strbuf_str(&list));
	strbuf_fini(&list);
	return rc;
}

static int check_string(const json_t *schema, const json_t *v, const char *where, struct why *why)
{
	json_t *allowed = json_object_get(schema, "enum");

	if (!json_is_string(v))
		return why_set(why, ERR_INVALID, "'%s' must be a string", where);
	if (strlen(json_string_value(v)) != json_string_length(v))
		return why_set(why, ERR_INVALID, "'%s' must not contain NUL characters", where);
	if ((json_int_t)json_string_length(v) < json_integer_value(json_object_get(schema, "minLength")))
		return why_set(why, ERR_INVALID, "'%s' must not be empty", where);
	return allowed != NULL ? check_enum(allowed, v, where, why) : OK;
}

static int args_check_integer(const json_t *schema, const json_t *v, const char *where, struct why *why)
{
	json_t *min = json_object_get(schema, "minimum"), *max = json_object_get(schema, "maximum");
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v))
		return why_set(why, ERR_INVALID, "'%s' must be an integer", where);
	if (min != NULL && n < json_integer_value(min))
		return why_set(
		    why, ERR_INVALID, "'%s' must be at least %lld", where, (long long)json_integer_value(min));
	if (max != NULL && n > json_integer_value(max))
		return why_set(
		    why, ERR_INVALID, "'%s' must be at most %lld", where, (long long)json_integer_value(max));
	return OK;
}

static json_t *boolean_of(const char *text)
{
	if (strcasecmp(text, "true") == 0)
		return json_true();
	return strcasecmp(text, "false") == 0 ? json_false() : NULL;
}

/* A text that is the JSON of an object or array, as the schema wants one. */
static json_t *nested_of(const json_t *v, bool array)
{
	AUTO_JSON j = NULL;

	if (json_parse(json_string_value(v), json_string_length(v), &j, NULL) != OK)
		return NULL;
	return (array ? json_is_array(j) : json_is_object(j)) ? TAKE(j) : NULL;
}

/* Models write numbers, truth and whole structures as texts, and integers as reals. Where the schema leaves one meaning
 * only it is taken; NULL: the value stays. New reference. */
static json_t *coerced(const json_t *schema, const json_t *v)
{
	const char *type = json_word(schema, "type"), *text = json_string_value(v);
	double d = json_real_value(v);
	int64_t n;

	if (strcmp(type, "integer") == 0 && json_is_real(v) && fabs(d) < 9e15 && d == floor(d))
		return json_integer((json_int_t)d);
	if (text == NULL)
		return NULL;
	if (strcmp(type, "integer") == 0)
		return text_parse_int(text, INT64_MIN, INT64_MAX, &n) == OK ? json_integer(n) : NULL;
	if (strcmp(type, "boolean") == 0)
		return boolean_of(text);
	if (strcmp(type, "object") == 0 || strcmp(type, "array") == 0)
		return nested_of(v, type[0] == 'a');
	return NULL;
}

static void tidy_members(json_t *obj, const json_t *properties)
{
	const char *key;
	json_t *v;
	void *next;

	json_object_foreach_safe(obj, next, key, v)
	{
		json_t *better = coerced(json_object_get(properties, key), v);

		if (better != NULL)
			json_object_set_new(obj, key, better);
		else if (json_is_null(v))
			json_object_del(obj, key);
	}
}

static void tidy_items(json_t *list, const json_t *items)
{
	size_t i;
	json_t *v;

	json_array_foreach(list, i, v)
	{
		json_t *better = coerced(items, v);

		if (better != NULL)
			json_array_set_new(list, i, better);
	}
}

static int args_check_array(const json_t *schema, json_t *v, const char *where, int depth, struct why *why)
{
	json_t *items = json_object_get(schema, "items"), *item;
	size_t i;
	int rc = OK;

	if (!json_is_array(v))
		return why_set(why, ERR_INVALID, "'%s' must be an array", where);
	tidy_items(v, items);
	json_array_foreach(v, i, item)
	{
		AUTO_STR inner = str_printf("%s[%zu]", where, i);

		rc = items != NULL ? check(items, item, inner, depth + 1, why) : OK;
		if (rc != OK)
			break;
	}
	return rc;
}

static int unknown_member(const char *where, const char *key, const json_t *properties, struct why *why)
{
	struct strbuf known = STRBUF(256);
	const char *name;
	json_t *v;
	int rc;

	json_object_foreach((json_t *)properties, name, v) strbuf_addf(&known, "%s%s", known.len > 0 ? ", " : "", name);
	rc = why_set(why, ERR_INVALID, "'%s%s%.64s' is not an argument; known are: %s", where, where[0] ? "." : "", key,
	    strbuf_str(&known));
	strbuf_fini(&known);
	return rc;
}

static int args_check_object(const json_t *schema, json_t *v, const char *where, int depth, struct why *why)
{
	json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
	const char *key;
	json_t *member;
	size_t i;
	int rc = OK;

	if (!json_is_object(v))
		return why_set(why, ERR_INVALID, "%s%s%s must be an object", where[0] ? "'" : "the arguments", where,
		    where[0] ? "'" : "");
	tidy_members(v, properties);
	json_array_foreach(required, i, member)
	{
		if (json_object_get(v, json_string_value(member)) == NULL)
			return why_set(why, ERR_INVALID, "'%s%s%s' is required", where, where[0] ? "." : "",
			    json_string_value(member));
	}
	json_object_foreach(v, key, member)
	{
		json_t *rule = json_object_get(properties, key);
		AUTO_STR inner = str_printf("%s%s%.64s", where, where[0] ? "." : "", key);

		if (rule == NULL && json_is_false(json_object_get(schema, "additionalProperties")))
			return unknown_member(where, key, properties, why);
		rc = rule != NULL ? check(rule, member, inner, depth + 1, why) : OK;
		if (rc != OK)
			break;
	}
	return rc;
}

static int check(const json_t *schema, json_t *v, const char *where, int depth, struct why *why)
{
	const char *type = json_word(schema, "type");

	ENSURE(depth < MAX_DEPTH); /* schemas are ours */
	if (strcmp(type, "object") == 0)
		return args_check_object(schema, v, where, depth, why);
	if (strcmp(type, "array") == 0)
		return args_check_array(schema, v, where, depth, why);
	if (strcmp(type, "string") == 0)
		return check_string(schema, v, where, why);
	if (strcmp(type, "integer") == 0)
		return args_check_integer(schema, v, where, why);
	if (strcmp(type, "boolean") == 0 && !json_is_boolean(v))
		return why_set(why, ERR_INVALID, "'%s' must be true or false", where);
	return OK;
}

int schema_check(const json_t *schema, json_t *args, struct why *why)
{
	return check(schema, args, "", 0, why);
}
