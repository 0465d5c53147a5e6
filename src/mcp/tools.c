#include "mcp/tools.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/headers.h"
#include <string.h>

#define NAME_MAX_BYTES 128
#define TITLE_MAX 200
#define WARNINGS_MAX 10
#define REF_DEPTH 64

struct mcp_tools mcp_tools_begin(void)
{
	return (struct mcp_tools){.tools = json_array(), .warnings = json_array()};
}

void mcp_tools_fini(struct mcp_tools *t)
{
	json_drop(&t->tools);
	json_drop(&t->warnings);
}

void mcp_tools_warn(struct mcp_tools *t, const char *fmt, ...)
{
	va_list ap;

	if (json_array_size(t->warnings) >= WARNINGS_MAX)
		return;
	va_start(ap, fmt);
	AUTO_STR text = str_vprintf(fmt, ap);
	va_end(ap);
	AUTO_STR line = text_line(text, 400);
	json_array_append_new(t->warnings, json_string(line));
}

/* Whether a schema needs something from elsewhere: it is never fetched. */
static bool refers_outside(const json_t *v, int depth)
{
	const char *key;
	json_t *item;
	size_t i;

	if (depth > REF_DEPTH)
		return true;
	json_array_foreach((json_t *)v, i, item)
	{
		if (refers_outside(item, depth + 1))
			return true;
	}
	json_object_foreach((json_t *)v, key, item)
	{
		if ((strcmp(key, "$ref") == 0 || strcmp(key, "$dynamicRef") == 0) && json_is_string(item) &&
		    json_string_value(item)[0] != '#')
			return true;
		if (refers_outside(item, depth + 1))
			return true;
	}
	return false;
}

/* A copy without "$schema" of its own, or NULL with what is wrong with it. Descriptions inside are the server's words.
 */
static json_t *schema_take(const json_t *schema, const char **ret_fault)
{
	const char *type = json_string_value(json_object_get(schema, "type"));
	AUTO_JSON copy = NULL;
	AUTO_STR text = NULL;

	if (!json_is_object(schema) || type == NULL || strcmp(type, "object") != 0) {
		*ret_fault = "is no object of \"type\": \"object\"";
		return NULL;
	}
	if (refers_outside(schema, 0)) {
		*ret_fault = "refers to something outside of itself";
		return NULL;
	}
	copy = json_copy((json_t *)schema);
	json_object_del(copy, "$schema");
	text = json_text(copy);
	if (strlen(text) > MCP_SCHEMA_MAX) {
		*ret_fault = "is larger than 32 KiB";
		return NULL;
	}
	return TAKE(copy);
}

static void put_text(json_t *to, const char *key, const json_t *v, size_t max)
{
	const char *s = json_string_value(v);

	if (s != NULL)
		json_put_new(to, key, json_lossy(s, text_utf8_cut(s, strlen(s), max)));
}

static void put_annotations(json_t *to, const json_t *from)
{
	static const char *const hints[] = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"};
	json_t *a = json_object();

	for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
		if (json_is_boolean(json_object_get(from, hints[i])))
			json_object_set(a, hints[i], json_object_get(from, hints[i]));
	}
	json_put_new(to, "annotations", a);
}

/* NULL: left out, with a warning. */
static json_t *tool_take(struct mcp_tools *t, const json_t *from)
{
	const char *name = json_string_value(json_object_get(from, "name")), *fault = NULL;
	const char *task = json_string_value(json_object_get(json_object_get(from, "execution"), "taskSupport"));
	const json_t *hints = json_object_get(from, "annotations"), *title = json_object_get(from, "title");
	const json_t *out = json_object_get(from, "outputSchema");
	AUTO_JSON tool = json_object();
	json_t *schema;

	if (name == NULL || name[0] == '\0' || strlen(name) > NAME_MAX_BYTES ||
	    strlen(name) != json_string_length(json_object_get(from, "name"))) {
		mcp_tools_warn(t, "a tool was left out: its name is missing or has more than %d bytes", NAME_MAX_BYTES);
		return NULL;
	}
	if (task != NULL && strcmp(task, "required") == 0) {
		mcp_tools_warn(t, "the tool '%s' was left out: it can only be called as a task", name);
		return NULL;
	}
	schema = schema_take(json_object_get(from, "inputSchema"), &fault);
	if (schema != NULL && t->by_http && (fault = mcp_param_headers_fault(schema)) != NULL)
		json_drop(&schema);
	if (schema == NULL) {
		mcp_tools_warn(t, "the tool '%s' was left out: its inputSchema %s", name, fault);
		return NULL;
	}
	json_put(tool, "name", name);
	put_text(tool, "title", title != NULL ? title : json_object_get(hints, "title"), TITLE_MAX);
	put_text(tool, "description", json_object_get(from, "description"), MCP_DESCRIPTION_MAX);
	json_put_new(tool, "inputSchema", schema);
	schema = out != NULL ? schema_take(out, &fault) : NULL;
	if (schema != NULL)
		json_put_new(tool, "outputSchema", schema);
	if (json_is_object(hints))
		put_annotations(tool, hints);
	return TAKE(tool);
}

static bool has_name(const json_t *tools, const char *name)
{
	const json_t *o;
	size_t i;

	json_array_foreach((json_t *)tools, i, o)
	{
		if (strcmp(json_string_value(json_object_get(o, "name")), name) == 0)
			return true;
	}
	return false;
}

void mcp_tools_add(struct mcp_tools *t, const json_t *page)
{
	const json_t *item;
	size_t i;

	json_array_foreach((json_t *)page, i, item)
	{
		AUTO_JSON tool = t->full ? NULL : tool_take(t, item);
		AUTO_STR text = tool != NULL ? json_text(tool) : NULL;
		const char *name = json_string_value(json_object_get(tool, "name"));

		if (tool == NULL)
			continue;
		if (has_name(t->tools, name)) {
			mcp_tools_warn(t, "a second tool with the name '%s' was left out", name);
		} else if (json_array_size(t->tools) >= MCP_TOOLS_MAX || t->bytes + strlen(text) > MCP_TOOLS_BYTES) {
			t->full = true;
			mcp_tools_warn(t, "the list of tools was cut: more than %d, or more than 1 MiB", MCP_TOOLS_MAX);
		} else {
			t->bytes += strlen(text);
			json_array_append(t->tools, tool);
		}
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "name")),
	    json_string_value(json_object_get(*(json_t *const *)b, "name")));
}

void mcp_tools_end(struct mcp_tools *t, json_t **ret_tools, json_t **ret_warnings)
{
	size_t n = json_array_size(t->tools);
	json_t **list = mem_alloc((n + 1) * sizeof(*list));

	for (size_t i = 0; i < n; i++)
		list[i] = json_incref(json_array_get(t->tools, i));
	qsort(list, n, sizeof(*list), by_name);
	json_array_clear(t->tools);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(t->tools, list[i]);
	free(list);
	*ret_tools = TAKE(t->tools);
	*ret_warnings = TAKE(t->warnings);
}

json_t *mcp_entry_new(
    const char *name, const char *state, const char *reason, const char *instructions, json_t *tools, json_t *warnings)
{
	json_t *s = json_object();

	json_put(s, "name", name);
	json_put(s, "state", state);
	if (reason != NULL && reason[0] != '\0')
		json_put_new(s, "reason", json_lossy(reason, strlen(reason)));
	if (instructions != NULL && instructions[0] != '\0')
		json_put(s, "instructions", instructions);
	if (json_array_size(warnings) > 0)
		json_object_set(s, "warnings", warnings);
	if (tools != NULL)
		json_object_set(s, "tools", tools);
	else
		json_put_new(s, "tools", json_array());
	return s;
}
