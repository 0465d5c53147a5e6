/* Tools as they are described: [{name, aliases, argAliases, description, parameters, class, sdkType}]. A worker is
 * outside, so nothing is taken for granted. */
#include "server/runs/tools.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/call.h"
#include "server/runs/control_tool.h"
#include "server/runs/mcp_tools.h"
#include <string.h>
#include <strings.h>

#define SDK_STRING_MAX 4096
#define LEFT_OUT_TOLD 10 /* tools of a session, one by one */

static bool is_name(const json_t *v, const char *name)
{
	return json_is_string(v) && strcasecmp(json_string_value(v), name) == 0;
}

static bool tools_answers_to(const json_t *tool, const char *name)
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
		if (tools_answers_to(tool, name))
			return tool;
	}
	return NULL;
}

static const char name_bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

const json_t *tool_meant(const json_t *tools, const char *name)
{
	static const char *const spaces[] = {"functions.", "functions:", "functions/", "tools.", "tool."};
	const json_t *tool = tool_described(tools, name);
	AUTO_STR bare = NULL;

	if (tool != NULL)
		return tool;
	name += strspn(name, " \t\r\n");
	for (size_t i = 0; i < ARRAY_LEN(spaces); i++)
		if (text_has_prefix(name, spaces[i])) {
			name += strlen(spaces[i]);
			break;
		}
	/* What follows is no name's: "<|channel|>commentary", ":0", "()". */
	bare = str_ndup(name, strspn(name, name_bytes));
	return bare[0] != '\0' ? tool_described(tools, bare) : NULL;
}

#define MARKS_MAX 16 /* of one kind that are looked at: a text may be full of them */
#define JSON_WITHIN 2000 /* bytes behind a mark */

/* The name of a tool as one of the words. */
static bool names_a_tool(const json_t *tools, const char *s, size_t len)
{
	const char *end = s + strnlen(s, len);

	while (s < end) {
		size_t n = strspn(s, name_bytes);
		AUTO_STR word = str_ndup(s, n);

		if (n > 0 && tool_described(tools, word) != NULL)
			return true;
		s += MAX(n, (size_t)1);
	}
	return false;
}

/* What follows a mark is a call if it is JSON with a tool's name in it, or begins with the name: "read_file\n…",
 * "function=read_file>", "functions.read_file:0". A sentence about such a mark is none. */
static bool begins_call(const json_t *tools, const char *s)
{
	static const char *const before[] = {"function", "functions", "name", "invoke", "tool", "sep"};
	bool skipped = true;

	s += strspn(s, " \t\r\n");
	if (*s == '{' || *s == '[')
		return names_a_tool(tools, s, JSON_WITHIN);
	while (skipped) {
		size_t n;

		s += strcspn(s, name_bytes);
		n = strspn(s, name_bytes);
		skipped = false;
		for (size_t i = 0; i < ARRAY_LEN(before); i++)
			skipped = skipped || (strlen(before[i]) == n && strncmp(s, before[i], n) == 0);
		if (!skipped)
			return names_a_tool(tools, s, n);
		s += n;
	}
	return false;
}

/* Within a fence, or quoted in a line. */
static bool is_shown_code(const char *text, const char *at)
{
	size_t fences = 0;

	for (const char *p = text; (p = strstr(p, "```")) != NULL && p < at; p += 3)
		fences++;
	return fences % 2 == 1 || (at > text && at[-1] == '`');
}

/* In pieces, because a letter may follow an escape. */
#define DEEPSEEK_MARK                                                                                                  \
	"<\xef\xbd\x9ctool\xe2\x96\x81"                                                                                \
	"call\xe2\x96\x81"                                                                                             \
	"begin\xef\xbd\x9c>"

bool tools_called_in_text(const json_t *tools, const char *text)
{
	/* Hermes and Qwen, Qwen coder and Llama, Mistral, Kimi, DeepSeek, GLM and others, Anthropic's old one. */
	static const char *const marks[] = {"<tool_call>", "<function=", "[TOOL_CALLS]", "<|tool_call_begin|>",
	    DEEPSEEK_MARK, "<|tool_call|>", "<|python_tag|>", "<function_calls>", "<invoke name="};

	for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
		const char *at = text;

		for (int n = 0; n < MARKS_MAX && (at = strstr(at, marks[i])) != NULL; n++, at += strlen(marks[i]))
			if (!is_shown_code(text, at) && begins_call(tools, at + strlen(marks[i])))
				return true;
	}
	return false;
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
	const struct control_tool *own = control_tool_find(json_word(tool, "name"));
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
	if (own != NULL && own->sdk_args != NULL)
		own->sdk_args(out);
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

const struct executor *tool_executor(const json_t *tool, const char *name)
{
	const struct control_tool *t = control_tool_find(name);

	if (strcmp(name, MCP_TOOL) == 0)
		return tool_is_mcp_of_control(tool) ? &executor_control : &executor_worker;
	if (t == NULL)
		return &executor_worker;
	return t->nest != NULL ? &executor_loop : &executor_control;
}

/* A name of `tool` by which a tool of `others` is called as well; NULL if there is none. */
static const char *name_in_common(const json_t *tool, const json_t *others)
{
	json_t *alias;
	size_t i;

	if (tool_described(others, json_word(tool, "name")) != NULL)
		return json_word(tool, "name");
	json_array_foreach(json_object_get(tool, "aliases"), i, alias)
	{
		const char *name = json_string_value(alias);

		if (name != NULL && tool_described(others, name) != NULL)
			return name;
	}
	return NULL;
}

/* Whether the tool may be added to `all`; `why` is empty then. */
static bool is_addable(const json_t *all, json_t *tool, struct why *why)
{
	AUTO_JSON alone = json_pack("[O]", tool);
	const char *taken = NULL;

	if (json_array_size(all) >= TOOLS_MAX)
		why_set(why, ERR_FULL, "there are more than %d tools", TOOLS_MAX);
	else if (tool_list_check(alone, why) == OK && (taken = name_in_common(tool, all)) != NULL)
		why_set(why, ERR_CONFLICT, "there is a tool '%s' already", taken);
	return why->text[0] == '\0';
}

/* Tools that a session adds are checked like the worker's own: both come from outside. A list of nonsense may be as
 * long as a result can be, so few of its entries are told. */
static void add_session_tools(json_t *all, const json_t *session)
{
	size_t i, left_out = 0;
	json_t *tool;

	json_array_foreach((json_t *)session, i, tool)
	{
		struct why why = {0};

		if (is_addable(all, tool, &why))
			json_array_append(all, tool);
		else if (left_out++ < LEFT_OUT_TOLD)
			log_warn("run.session_tool.left_out", "index=%zu reason=%s", i, log_quote(why.text));
	}
	if (left_out > LEFT_OUT_TOLD)
		log_warn("run.session_tool.left_out", "more=%zu", left_out - LEFT_OUT_TOLD);
}

json_t *tools_of_run(const struct tool_set *worker, const json_t *session)
{
	const json_t *own = control_tools_described();
	json_t *all, *tool;
	size_t i;

	/* Mostly there is nothing to add: then all runs of a worker share one list. */
	if (json_array_size(own) == 0 && json_array_size(session) == 0)
		return worker != NULL ? json_incref(worker->list) : json_array();
	all = json_array();
	json_array_foreach(worker != NULL ? worker->list : NULL, i, tool)
	{
		if (name_in_common(tool, own) == NULL)
			json_array_append(all, tool);
	}
	json_array_extend(all, (json_t *)own);
	add_session_tools(all, session);
	return all;
}

bool tool_is_harmless(const json_t *tool)
{
	return strcmp(json_word(tool, "class"), "read") == 0 || strcmp(json_word(tool, "class"), "state") == 0;
}

static bool is_offered(const json_t *tool, const struct tool_offer *o)
{
	const struct control_tool *t = control_tool_find(json_word(tool, "name"));

	if (t != NULL && t->final_arg != NULL && (o->depth > 0 || (t->plan_only && !o->plan)))
		return false;
	if (t != NULL && t->own_loop_only && o->depth > 0)
		return false;
	if (t != NULL && t->nest != NULL && o->depth >= LOOP_DEPTH_MAX)
		return false;
	if (o->plan && !tool_is_harmless(tool))
		return false;
	return o->offers == NULL || o->offers(tool);
}

json_t *tools_offered(json_t *tools, const struct tool_offer *o)
{
	bool brief = mcp_tools_count(tools) > MCP_ON_DEMAND;
	json_t *few = json_array(), *tool;
	size_t i;

	json_array_foreach(tools, i, tool)
	{
		if (!is_offered(tool, o) || (!brief && strcmp(json_word(tool, "name"), GET_MCP_TOOLS_TOOL) == 0))
			continue;
		if (brief && tool_is_mcp(tool))
			json_array_append_new(few, mcp_tool_in_brief(tool));
		else
			json_array_append(few, tool);
	}
	return few;
}
