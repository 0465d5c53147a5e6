#include "agent/hooks/tool_types.h"
#include "agent/session/session.h"
#include "agent/session/workspace.h"
#include "base/mem.h"
#include <string.h>

/* own name, name that hooks know; ended by NULL. */
struct renamed {
	const char *own, *shown;
	bool path;
};

static const struct tool_type {
	const char *tool, *type;
	struct renamed args[5]; /* empty: the tool's own arguments */
} types[] = {
    {"run_terminal_cmd", "Shell", {{"command", "command"}, {"workingDirectory", "working_directory"}}},
    {"read_file", "Read", {{"path", "file_path", true}}},
    {"write_file", "Write", {{"path", "file_path", true}, {"fileText", "content"}}},
    {"edit_file", "Write", {{"path", "file_path", true}}},
    {"delete_file", "Delete", {{"path", "file_path", true}}},
    {"grep_search", "Grep", {{"pattern", "pattern"}, {"path", "path"}, {"glob", "glob"}}},
    {"file_search", "Glob", {{0}}},
    {"list_dir", "LS", {{0}}},
    {"todo_write", "TodoWrite", {{0}}},
    {"web_search", "WebSearch", {{0}}},
    {"web_fetch", "WebFetch", {{0}}},
    {"codebase_search", "SemanticSearch", {{0}}},
    {"computer_use", "ComputerUse", {{0}}},
};

static const struct tool_type *find_type(const char *tool)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcmp(types[i].tool, tool) == 0)
			return &types[i];
	return NULL;
}

static bool is_mcp(const char *tool)
{
	return strcmp(tool, "mcp") == 0;
}

char *hook_tool_type(const char *tool, const json_t *args)
{
	const struct tool_type *t = find_type(tool);
	const char *name = json_string_value(json_object_get(args, "toolName"));

	if (is_mcp(tool))
		return str_printf("MCP:%s", name != NULL ? name : "");
	return str_dup(t != NULL ? t->type : tool);
}

static char *absolute(const struct tool_call *call, const char *path)
{
	struct place p = {0};
	struct refusal r;
	char *abs = NULL;

	if (place_find(call->session, path, &p, &r) == OK)
		abs = str_dup(p.abs);
	place_fini(&p);
	return abs != NULL ? abs : str_dup(path);
}

json_t *hook_tool_input(const struct tool_call *call, const json_t *args)
{
	const struct tool_type *t = find_type(call->tool->name);
	json_t *input;

	if (is_mcp(call->tool->name)) {
		const json_t *inner = json_object_get(args, "args");

		return json_is_object(inner) ? json_deep_copy(inner) : json_object();
	}
	if (t == NULL || t->args[0].own == NULL)
		return json_deep_copy(args);
	input = json_object();
	for (const struct renamed *a = t->args; a->own != NULL; a++) {
		json_t *v = json_object_get(args, a->own);

		if (v != NULL && a->path && json_is_string(v)) {
			AUTO_STR abs = absolute(call, json_string_value(v));

			json_put_new(input, a->shown, json_lossy(abs, strlen(abs)));
		} else if (v != NULL) {
			json_object_set(input, a->shown, v);
		}
	}
	return input;
}

json_t *hook_tool_args(const char *tool, const json_t *args, const json_t *input)
{
	const struct tool_type *t = find_type(tool);
	json_t *changed = json_copy((json_t *)(uintptr_t)args), *v;
	const char *name;

	if (is_mcp(tool)) {
		json_object_set(changed, "args", (json_t *)(uintptr_t)input);
		return changed;
	}
	if (t == NULL || t->args[0].own == NULL) {
		json_decref(changed);
		return json_deep_copy(input);
	}
	for (const struct renamed *a = t->args; a->own != NULL; a++)
		json_object_del(changed, a->own);
	json_object_foreach((json_t *)(uintptr_t)input, name, v)
	{
		const char *own = name;

		for (const struct renamed *a = t->args; a->own != NULL; a++)
			if (strcmp(a->shown, name) == 0)
				own = a->own;
		json_object_set(changed, own, v);
	}
	return changed;
}

char *hook_tool_path(const struct tool_call *call, const json_t *args)
{
	const struct tool_type *t = find_type(call->tool->name);
	const char *root = session_primary_root(call->session);
	const char *dir = json_string_value(json_object_get(args, "workingDirectory"));
	const char *path = json_string_value(json_object_get(args, "path"));

	if (t == NULL)
		return NULL;
	if (strcmp(t->type, "Shell") == 0) {
		if (dir == NULL || dir[0] == '\0')
			return str_dup(root);
		return dir[0] == '/' ? str_dup(dir) : str_printf("%s/%s", root, dir);
	}
	return path != NULL && t->args[0].path ? absolute(call, path) : NULL;
}
