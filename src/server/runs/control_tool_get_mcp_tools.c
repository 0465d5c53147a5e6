/* get_mcp_tools: descriptions and arguments of tools of MCP servers, where there are too many to tell each model all of
 * them. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "server/runs/control_tool.h"
#include "server/runs/mcp_tools.h"
#include <string.h>
#include <strings.h>

#define TOLD_MAX 30
#define TEXT_MAX ((size_t)28 * 1024)

static bool is_meant(const json_t *tool, const char *server, const char *pattern)
{
	const json_t *mcp = json_object_get(tool, "mcp");

	if (mcp == NULL || (server[0] != '\0' && strcmp(server, json_word(mcp, "server")) != 0))
		return false;
	return pattern[0] == '\0' || strcasestr(json_word(tool, "name"), pattern) != NULL ||
	       strcasestr(json_word(mcp, "tool"), pattern) != NULL ||
	       strcasestr(json_word(tool, "description"), pattern) != NULL;
}

static void get_mcp_tools(struct control_call *c)
{
	const char *server = json_word(c->args, "server"), *pattern = json_word(c->args, "pattern");
	json_t *list = json_array(), *tool;
	AUTO_STR text = NULL;
	size_t i, more = 0, bytes = 0;

	json_array_foreach((json_t *)c->tools, i, tool)
	{
		const json_t *mcp = json_object_get(tool, "mcp");
		json_t *one;
		size_t n;

		if (!is_meant(tool, server, pattern))
			continue;
		one = json_pack("{s:s, s:s, s:s, s:O}", "server", json_word(mcp, "server"), "name",
		    json_word(tool, "name"), "description", json_word(tool, "description"), "inputSchema",
		    json_object_get(tool, "parameters"));
		n = json_dumpb(one, NULL, 0, JSON_COMPACT);
		if (json_array_size(list) < TOLD_MAX && bytes + n <= TEXT_MAX) {
			bytes += n;
			json_array_append(list, one);
		} else {
			more++;
		}
		json_decref(one);
	}
	AUTO_STR shown = json_text(list);
	text = more > 0 ? str_printf("%s\n%zu more match: give a narrower pattern or a server.", shown, more)
			: str_dup(shown);
	control_call_succeed(c, json_pack("{s:o, s:I}", "tools", list, "more", (json_int_t)more), text);
}

static const struct control_tool get_mcp_tools_tool = {
    .name = GET_MCP_TOOLS_TOOL,
    .description =
	"Describes tools of MCP servers with their arguments, which are not told here because there are many. "
	"Call it before you call one of them.",
    .parameters =
	"{\"type\":\"object\",\"properties\":{\"server\":{\"type\":\"string\",\"description\":\"only those of "
	"this server\"},\"pattern\":{\"type\":\"string\",\"description\":\"only those with this text in their "
	"name or description\"}}}",
    .class = "read",
    .sdk_type = "getMcpTools",
    .repeatable = true,
    .run = get_mcp_tools,
};
CONTROL_TOOL(get_mcp_tools_tool);
