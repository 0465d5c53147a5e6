/* Tools as their worker described them: [{name, aliases, argAliases, description, parameters, class,
 * sdkType}]. A worker is outside, so nothing is taken for granted. */
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/runs_priv.h"
#include <string.h>
#include <strings.h>

#define SDK_STRING_MAX 4096

static bool is_name(const json_t *v, const char *name)
{
	return json_is_string(v) && strcasecmp(json_string_value(v), name) == 0;
}

static bool answers_to(const json_t *tool, const char *name)
{
	json_t *alias;
	size_t i;

	if (is_name(json_object_get(tool, "name"), name))
		return true;
	json_array_foreach(json_object_get(tool, "aliases"), i, alias)
	{
		if (is_name(alias, name))
			return true;
	}
	return false;
}

const json_t *tool_described(const json_t *tools, const char *name)
{
	json_t *tool;
	size_t i;

	json_array_foreach((json_t *)tools, i, tool)
	{
		if (answers_to(tool, name))
			return tool;
	}
	return NULL;
}

const char *tool_word(const json_t *tool, const char *field)
{
	const char *s = json_string_value(json_object_get(tool, field));

	return s != NULL ? s : "";
}

/* If both names are given the worker refuses the call in words, so both stay. */
json_t *tool_own_args(const json_t *tool, const json_t *args)
{
	json_t *out = json_copy((json_t *)args), *own;
	const char *alias;

	json_object_foreach(json_object_get(tool, "argAliases"), alias, own)
	{
		json_t *v = json_object_get(out, alias);
		const char *name = json_string_value(own);

		if (v == NULL || json_is_null(v) || name == NULL || json_object_get(out, name) != NULL)
			continue;
		json_object_set(out, name, v);
		json_object_del(out, alias);
	}
	return out;
}

static void cut_long_strings(json_t *args)
{
	const char *key;
	json_t *v;
	void *next;

	json_object_foreach_safe(args, next, key, v)
	{
		const char *s = json_string_value(v);
		size_t len = json_string_length(v);

		if (len > SDK_STRING_MAX)
			json_object_set_new(args, key, json_stringn(s, text_utf8_cut(s, len, SDK_STRING_MAX)));
	}
}

char *tool_sdk_args(const json_t *tool, const json_t *args, size_t max)
{
	AUTO_JSON out = json_copy((json_t *)args);
	json_t *properties = json_object_get(json_object_get(tool, "parameters"), "properties"), *rule, *v;
	AUTO_STR whole = NULL;
	AUTO_STR cut = NULL;
	const char *key;
	void *next;

	json_object_foreach_safe(out, next, key, v)
	{
		if (json_is_null(v))
			json_object_del(out, key);
	}
	json_object_foreach(properties, key, rule)
	{
		json_t *def = json_object_get(rule, "default");

		if (def != NULL && json_object_get(out, key) == NULL)
			json_object_set(out, key, def);
	}
	whole = json_text(out);
	if (strlen(whole) <= max)
		return TAKE(whole);
	cut_long_strings(out);
	cut = json_text(out);
	return strlen(cut) <= max ? TAKE(cut) : str_dup("{}");
}
