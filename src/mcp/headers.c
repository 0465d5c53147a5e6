#include "mcp/headers.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include <math.h>
#include <string.h>
#include <strings.h>

#define ANNOTATION "x-mcp-header"
#define DEPTH_MAX 32
#define HEADERS_MAX 32
#define NAME_MAX_BYTES 100
#define EXACT_MAX 9007199254740992.0 /* whole numbers up to here are exact in every JSON reader */

static bool looks_encoded(const char *s)
{
	return strncasecmp(s, "=?base64?", 9) == 0 && text_has_suffix(s, "?=");
}

static bool is_plain(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] > 0x7e)
			return false;
	return n == 0 || (s[0] != ' ' && s[n - 1] != ' ');
}

char *mcp_header_value(const char *text)
{
	AUTO_STR encoded = NULL;

	if (is_plain(text) && !looks_encoded(text))
		return str_dup(text);
	encoded = base64_encode(text, strlen(text));
	return str_printf("=?base64?%s?=", encoded);
}

/* The walk over a schema. */
struct walk {
	json_t *names; /* in small letters, those that were seen */
	const char *fault;
};

static bool is_scalar_type(const json_t *schema)
{
	const char *type = json_string_value(json_object_get(schema, "type"));

	return type != NULL &&
	       (strcmp(type, "string") == 0 || strcmp(type, "integer") == 0 || strcmp(type, "boolean") == 0);
}

static void note_annotation(struct walk *w, const json_t *schema, bool reachable)
{
	const json_t *v = json_object_get(schema, ANNOTATION);
	const char *name = json_string_value(v);
	AUTO_STR small = NULL;

	if (v == NULL)
		return;
	if (name == NULL || strlen(name) != json_string_length(v) ||
	    !text_is_token(name, "!#$%&'*+-.^_`|~", NAME_MAX_BYTES)) {
		w->fault = "has an x-mcp-header that is no name of a header";
		return;
	}
	if (!reachable || !is_scalar_type(schema)) {
		w->fault = "has an x-mcp-header somewhere else than at a property that is a string, an integer or a "
			   "boolean";
		return;
	}
	small = str_dup(name);
	for (char *c = small; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	if (json_object_get(w->names, small) != NULL)
		w->fault = "has the same x-mcp-header twice";
	else if (json_object_size(w->names) == HEADERS_MAX)
		w->fault = "has more than 32 x-mcp-header";
	json_put_bool(w->names, small, true);
}

static void walk_schema(struct walk *w, const json_t *schema, bool reachable, int depth);

/* Keywords whose value is data, not a schema. */
static bool is_data(const char *key)
{
	static const char *const data[] = {"default", "const", "enum", "examples", "required", "dependentRequired"};

	for (size_t i = 0; i < ARRAY_LEN(data); i++)
		if (strcmp(key, data[i]) == 0)
			return true;
	return false;
}

/* Keywords whose value is an object of schemas by names, which are no keywords. */
static bool is_map(const char *key)
{
	static const char *const maps[] = {
	    "properties", "patternProperties", "dependentSchemas", "$defs", "definitions"};

	for (size_t i = 0; i < ARRAY_LEN(maps); i++)
		if (strcmp(key, maps[i]) == 0)
			return true;
	return false;
}

static void walk_keyword(struct walk *w, const char *key, const json_t *value, bool reachable, int depth)
{
	const char *name;
	json_t *item;
	size_t i;

	json_array_foreach((json_t *)value, i, item) walk_schema(w, item, false, depth + 1);
	if (json_is_object(value) && !is_map(key))
		walk_schema(w, value, false, depth + 1);
	else
		json_object_foreach((json_t *)value, name, item)
		    walk_schema(w, item, reachable && strcmp(key, "properties") == 0, depth + 1);
}

/* `reachable`: by "properties" alone. */
static void walk_schema(struct walk *w, const json_t *schema, bool reachable, int depth)
{
	const char *key;
	json_t *value;

	if (!json_is_object(schema) || w->fault != NULL)
		return;
	if (depth > DEPTH_MAX) {
		w->fault = "is too deep to look for x-mcp-header in it";
		return;
	}
	note_annotation(w, schema, reachable && depth > 0);
	json_object_foreach((json_t *)schema, key, value)
	{
		if (!is_data(key))
			walk_keyword(w, key, value, reachable, depth);
	}
}

const char *mcp_param_headers_fault(const json_t *schema)
{
	AUTO_JSON names = json_object();
	struct walk w = {.names = names};

	walk_schema(&w, schema, true, 0);
	return w.fault;
}

/* malloc'ed; NULL: it is nothing that a header can be. */
static char *plain_value(const json_t *v)
{
	if (json_is_string(v))
		return mcp_header_value(json_string_value(v));
	if (json_is_integer(v))
		return str_printf("%lld", (long long)json_integer_value(v));
	if (json_is_boolean(v))
		return str_dup(json_is_true(v) ? "true" : "false");
	/* 5.0 is an integer, too. */
	if (json_is_real(v) && json_real_value(v) == trunc(json_real_value(v)) && fabs(json_real_value(v)) <= EXACT_MAX)
		return str_printf("%lld", (long long)json_real_value(v));
	return NULL;
}

static int add_params(const json_t *schema, const json_t *arguments, json_t *to, int depth, struct why *why)
{
	const json_t *properties = json_object_get(schema, "properties");
	const char *name;
	json_t *v;
	int rc = OK;

	if (depth > DEPTH_MAX)
		return OK;
	json_object_foreach((json_t *)arguments, name, v)
	{
		const json_t *sub = json_object_get(properties, name);
		const char *header = json_string_value(json_object_get(sub, ANNOTATION));
		AUTO_STR value = header != NULL ? plain_value(v) : NULL;
		AUTO_STR key = header != NULL ? str_printf("Mcp-Param-%s", header) : NULL;

		if (value != NULL && strlen(value) > MCP_HEADER_VALUE_MAX)
			return why_set(why, ERR_TOO_LARGE,
			    "the argument '%.100s' has at most %zu bytes: it is sent as a header, too", name,
			    MCP_HEADER_VALUE_MAX);
		if (value != NULL)
			json_put(to, key, value);
		if (json_is_object(v))
			rc = add_params(sub, v, to, depth + 1, why);
		if (rc != OK)
			return rc;
	}
	return OK;
}

int mcp_param_headers(const json_t *schema, const json_t *arguments, json_t **ret, struct why *why)
{
	AUTO_JSON all = json_object();
	int rc;

	*ret = NULL;
	/* A tool that was taken by another rule must not bring names that are none. */
	if (mcp_param_headers_fault(schema) != NULL)
		return OK;
	rc = add_params(schema, arguments, all, 0, why);
	if (rc == OK && json_object_size(all) > 0)
		*ret = TAKE(all);
	return rc;
}
