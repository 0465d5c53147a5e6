#include "server/api/schema.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define DEPTH_MAX 8

/* The member that is being checked: names of the objects around it, for the sentence. */
struct input_place {
	const struct input_place *in;
	const char *name; /* NULL: an entry of an array */
	size_t index;
};

/* "prompt.images[2].url". Only built when something is wrong: most requests are right. */
static void add_place(struct strbuf *b, const struct input_place *at)
{
	if (at->in != NULL)
		add_place(b, at->in);
	if (at->name == NULL)
		strbuf_addf(b, "[%zu]", at->index);
	else
		strbuf_addf(b, "%s%.100s", b->len > 0 ? "." : "", at->name);
}

static int wrong(struct why *why, const struct input_place *at, const char *want)
{
	struct strbuf b = STRBUF(4096);
	int rc;

	add_place(&b, at);
	rc = why_set(why, ERR_INVALID, "'%.300s' %s", strbuf_str(&b), want);
	strbuf_fini(&b);
	return rc;
}

/* "agent or plan". */
static int wrong_choice(struct why *why, const struct input_place *at, const json_t *allowed)
{
	struct strbuf b = STRBUF(1024);
	size_t i, n = json_array_size(allowed);
	json_t *item;
	int rc;

	strbuf_adds(&b, "must be ");
	json_array_foreach((json_t *)allowed, i, item) strbuf_addf(&b, "%s%s",
	    i == 0	 ? ""
	    : i + 1 == n ? " or "
			 : ", ",
	    json_string_value(item));
	rc = wrong(why, at, strbuf_str(&b));
	strbuf_fini(&b);
	return rc;
}

static bool input_is_listed(const json_t *list, const json_t *v)
{
	size_t i;
	json_t *item;

	json_array_foreach((json_t *)list, i, item)
	{
		if (json_equal(item, v))
			return true;
	}
	return false;
}

static int input_check_text(const json_t *schema, const json_t *v, const struct input_place *at, struct why *why)
{
	const json_t *allowed = json_object_get(schema, "enum");

	if (!json_is_string(v))
		return wrong(why, at, "must be a string");
	if (strlen(json_string_value(v)) != json_string_length(v))
		return wrong(why, at, "must be a string without NUL characters");
	if ((json_int_t)json_string_length(v) < json_integer_value(json_object_get(schema, "minLength")))
		return wrong(why, at, "must be a non-empty string");
	return allowed != NULL && !input_is_listed(allowed, v) ? wrong_choice(why, at, allowed) : OK;
}

static int input_check_integer(const json_t *schema, const json_t *v, const struct input_place *at, struct why *why)
{
	const json_t *min = json_object_get(schema, "minimum"), *max = json_object_get(schema, "maximum");
	json_int_t n = json_integer_value(v);
	AUTO_STR want = NULL;

	if (json_is_integer(v) && (min == NULL || n >= json_integer_value(min)) &&
	    (max == NULL || n <= json_integer_value(max)))
		return OK;
	if (min != NULL && max != NULL)
		want = str_printf("must be an integer from %lld to %lld", (long long)json_integer_value(min),
		    (long long)json_integer_value(max));
	else if (min != NULL)
		want = str_printf("must be an integer of at least %lld", (long long)json_integer_value(min));
	else
		want = str_dup("must be an integer");
	return wrong(why, at, want);
}

static int input_check_value(
    const json_t *schema, const json_t *v, const struct input_place *at, int depth, struct why *why);

static int input_check_array(
    const json_t *schema, const json_t *v, const struct input_place *at, int depth, struct why *why)
{
	const json_t *max = json_object_get(schema, "maxItems"), *items = json_object_get(schema, "items");
	json_t *item;
	size_t i;

	if (!json_is_array(v))
		return wrong(why, at, "must be an array");
	if (max != NULL && (json_int_t)json_array_size(v) > json_integer_value(max)) {
		AUTO_STR want = str_printf("may have at most %lld entries", (long long)json_integer_value(max));

		return wrong(why, at, want);
	}
	if (items == NULL)
		return OK;
	json_array_foreach((json_t *)v, i, item)
	{
		const struct input_place inner = {.in = at, .index = i};
		int rc = input_check_value(items, item, &inner, depth + 1, why);

		if (rc != OK)
			return rc;
	}
	return OK;
}

static int unknown_key(const struct input_place *at, const char *key, struct why *why)
{
	struct strbuf b = STRBUF(4096);
	int rc;

	if (at == NULL)
		return why_set(why, ERR_INVALID, "Unrecognized key(s) in the request body: '%.100s'", key);
	add_place(&b, at);
	rc = why_set(why, ERR_INVALID, "Unrecognized key(s) in '%.200s': '%.100s'", strbuf_str(&b), key);
	strbuf_fini(&b);
	return rc;
}

/* Members that the schema does not name: none are allowed, or each must fit `rest`. */
static int check_others(const json_t *properties, const json_t *rest, const json_t *v, const struct input_place *at,
    int depth, struct why *why)
{
	const char *key;
	json_t *member;

	if (rest == NULL)
		return OK;
	json_object_foreach((json_t *)v, key, member)
	{
		const struct input_place inner = {.in = at, .name = key};
		int rc = OK;

		if (json_object_get(properties, key) != NULL)
			continue;
		if (json_is_false(rest))
			return unknown_key(at, key, why);
		rc = input_check_value(rest, member, &inner, depth + 1, why);
		if (rc != OK)
			return rc;
	}
	return OK;
}

static bool is_required(const json_t *schema, const char *key)
{
	size_t i;
	json_t *name;

	json_array_foreach(json_object_get(schema, "required"), i, name)
	{
		if (strcmp(json_string_value(name), key) == 0)
			return true;
	}
	return false;
}

/* `at` is NULL for the body itself. */
static int input_check_object(
    const json_t *schema, const json_t *v, const struct input_place *at, int depth, struct why *why)
{
	const json_t *properties = json_object_get(schema, "properties"),
		     *max = json_object_get(schema, "maxProperties");
	const char *key;
	json_t *rule;
	int rc;

	if (!json_is_object(v))
		return at == NULL ? why_set(why, ERR_INVALID, "the body must be a JSON object")
				  : wrong(why, at, "must be an object");
	if (max != NULL && (json_int_t)json_object_size(v) > json_integer_value(max)) {
		AUTO_STR want = str_printf("may have at most %lld entries", (long long)json_integer_value(max));

		return wrong(why, at, want);
	}
	rc = check_others(properties, json_object_get(schema, "additionalProperties"), v, at, depth, why);
	if (rc != OK)
		return rc;
	json_object_foreach((json_t *)properties, key, rule)
	{
		const struct input_place inner = {.in = at, .name = key};
		const json_t *member = json_object_get(v, key);

		if (member != NULL)
			rc = input_check_value(rule, member, &inner, depth + 1, why);
		else if (is_required(schema, key))
			rc = wrong(why, &inner, "is required");
		if (rc != OK)
			return rc;
	}
	return OK;
}

static int input_check_value(
    const json_t *schema, const json_t *v, const struct input_place *at, int depth, struct why *why)
{
	const char *type = json_word(schema, "type");

	ENSURE(depth < DEPTH_MAX); /* schemas are ours */
	if (strcmp(type, "object") == 0)
		return input_check_object(schema, v, at, depth, why);
	if (strcmp(type, "array") == 0)
		return input_check_array(schema, v, at, depth, why);
	if (strcmp(type, "string") == 0)
		return input_check_text(schema, v, at, why);
	if (strcmp(type, "integer") == 0)
		return input_check_integer(schema, v, at, why);
	if (strcmp(type, "boolean") == 0 && !json_is_boolean(v))
		return wrong(why, at, "must be true or false");
	return OK;
}

int schema_check_body(const json_t *schema, const json_t *body, struct why *why)
{
	return input_check_object(schema, body, NULL, 0, why);
}

int schema_read_text(const json_t *schema, const char *name, const char *text, json_t **ret, struct why *why)
{
	const char *type = json_word(schema, "type");
	const struct input_place at = {.name = name};
	AUTO_JSON v = NULL;
	int64_t n;
	int rc;

	/* A text that is no number stays text, and fails below with the sentence for its type. */
	if (strcmp(type, "integer") == 0 && text_parse_int(text, INT64_MIN, INT64_MAX, &n) == OK)
		v = json_integer(n);
	else if (strcmp(type, "boolean") == 0 && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0))
		v = json_boolean(text[0] == 't');
	else
		v = json_string(text);
	rc = input_check_value(schema, v, &at, 0, why);
	if (rc == OK)
		*ret = TAKE(v);
	return rc;
}

void schema_fill(const json_t *schema, json_t *values)
{
	const char *key;
	json_t *rule;

	json_object_foreach(json_object_get(schema, "properties"), key, rule)
	{
		json_t *given = json_object_get(rule, "default");

		if (given != NULL && json_object_get(values, key) == NULL)
			json_put_new(values, key, json_deep_copy(given));
	}
}

static void ensure_known(const json_t *schema, int depth)
{
	static const char *const known[] = {"object", "array", "string", "integer", "boolean", ""};
	const char *type = json_word(schema, "type"), *key;
	const json_t *rest = json_object_get(schema, "additionalProperties"), *items = json_object_get(schema, "items");
	json_t *rule;
	size_t i = 0;

	ENSURE(json_is_object(schema) && depth < DEPTH_MAX);
	while (i < ARRAY_LEN(known) && strcmp(known[i], type) != 0)
		i++;
	ENSURE(i < ARRAY_LEN(known));
	json_object_foreach(json_object_get(schema, "properties"), key, rule) ensure_known(rule, depth + 1);
	if (items != NULL)
		ensure_known(items, depth + 1);
	if (json_is_object(rest))
		ensure_known(rest, depth + 1);
}

json_t *schema_parse(const char *text)
{
	json_t *schema = NULL;

	ENSURE(json_parse(text, strlen(text), &schema, NULL) == OK);
	ensure_known(schema, 0);
	return schema;
}
