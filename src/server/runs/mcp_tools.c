#include "server/runs/mcp_tools.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/tools.h"
#include <string.h>

#define NAME_MAX_BYTES 64
#define NAME_CUT 55
#define SCHEMA_MAX ((size_t)32 * 1024)
#define DESCRIPTION_MAX ((size_t)2048)
#define SERVERS_MAX 100 /* 50 of each side */
#define INSTRUCTIONS_MAX ((size_t)16 * 1024)

bool tool_is_mcp(const json_t *tool)
{
	return json_object_get(tool, "mcp") != NULL;
}

bool tool_is_mcp_of_control(const json_t *tool)
{
	return strcmp(json_word(json_object_get(tool, "mcp"), "side"), "control") == 0;
}

size_t mcp_tools_count(const json_t *tools)
{
	json_t *tool;
	size_t i, n = 0;

	json_array_foreach((json_t *)tools, i, tool) n += tool_is_mcp(tool);
	return n;
}

static void add_part(struct strbuf *b, const char *s)
{
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		bool ok =
		    (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';

		strbuf_addc(b, ok ? *s : '_');
	}
}

/* mcp_SERVER_TOOL; one that is too long or taken ends with what only this server and tool have. malloc'ed. */
static char *exposed_name(const json_t *tools, const char *server, const char *tool)
{
	struct strbuf b = STRBUF(1024), both = STRBUF(1024);
	char hex[SHA256_HEX_LEN];

	strbuf_adds(&b, "mcp_");
	add_part(&b, server);
	strbuf_addc(&b, '_');
	add_part(&b, tool);
	if (b.len > NAME_MAX_BYTES || tool_described(tools, strbuf_str(&b)) != NULL) {
		strbuf_add(&both, server, strlen(server) + 1);
		strbuf_adds(&both, tool);
		sha256_hex(both.data, both.len, hex);
		strbuf_cut(&b, MIN(b.len, (size_t)NAME_CUT));
		strbuf_addf(&b, "_%.8s", hex);
	}
	strbuf_fini(&both);
	return strbuf_take(&b);
}

/* NULL: it is none. */
static json_t *describe(const json_t *tools, const char *server, const json_t *tool, const char *side)
{
	const char *name = json_word(tool, "name"), *said = json_word(tool, "description");
	json_t *schema = json_object_get(tool, "inputSchema"), *o;
	AUTO_STR exposed = NULL;
	AUTO_STR text = NULL;

	if (name[0] == '\0' || strlen(name) > 128 || strcmp(json_word(schema, "type"), "object") != 0 ||
	    json_dumpb(schema, NULL, 0, JSON_COMPACT) > SCHEMA_MAX)
		return NULL;
	exposed = exposed_name(tools, server, name);
	if (tool_described(tools, exposed) != NULL)
		return NULL;
	text = str_printf("[%s] %.*s", server, (int)text_utf8_cut(said, strlen(said), DESCRIPTION_MAX), said);
	o = json_object();
	json_put(o, "name", exposed);
	json_put(o, "description", text);
	json_put(o, "class", "mutating");
	json_put(o, "sdkType", "mcp");
	json_object_set(o, "parameters", schema);
	json_put_new(o, "mcp", json_pack("{s:s, s:s, s:s}", "server", server, "tool", name, "side", side));
	return o;
}

static bool is_among(const json_t *seen, const char *server)
{
	return json_object_get(seen, server) != NULL;
}

static void add_servers(json_t *all, json_t *seen, const json_t *servers, const char *side)
{
	const json_t *server, *tool;
	size_t i, k;

	json_array_foreach((json_t *)servers, i, server)
	{
		const char *name = json_word(server, "name");

		if (i >= SERVERS_MAX / 2)
			return;
		if (name[0] == '\0' || strlen(name) > 512 || is_among(seen, name))
			continue;
		json_object_set_new(seen, name, json_true());
		json_array_foreach(json_object_get(server, "tools"), k, tool)
		{
			json_t *o = json_array_size(all) < TOOLS_MAX ? describe(all, name, tool, side) : NULL;

			if (o != NULL)
				json_array_append_new(all, o);
		}
	}
}

json_t *mcp_tools_for_run(json_t *tools, const json_t *worker_servers, const json_t *control_servers)
{
	AUTO_JSON seen = NULL;
	json_t *all;

	if (json_array_size(worker_servers) == 0 && json_array_size(control_servers) == 0)
		return json_incref(tools);
	seen = json_object();
	all = json_copy(tools);
	add_servers(all, seen, worker_servers, "worker");
	add_servers(all, seen, control_servers, "control");
	return all;
}

json_t *mcp_tool_in_brief(const json_t *tool)
{
	json_t *brief = json_copy((json_t *)tool);
	AUTO_STR text =
	    str_printf("Of the MCP server %s: ask " GET_MCP_TOOLS_TOOL " for its description and arguments first.",
		json_word(json_object_get(tool, "mcp"), "server"));

	json_put(brief, "description", text);
	json_put_new(brief, "parameters", json_pack("{s:s}", "type", "object"));
	return brief;
}

json_t *mcp_call_args(const json_t *tool, const json_t *args)
{
	const json_t *mcp = json_object_get(tool, "mcp");

	return json_pack("{s:s, s:O, s:s, s:s}", "name", json_word(tool, "name"), "args", args, "providerIdentifier",
	    json_word(mcp, "server"), "toolName", json_word(mcp, "tool"));
}

const json_t *mcp_call_tool(const json_t *tools, const json_t *kept)
{
	const json_t *tool = tool_described(tools, json_word(kept, "name"));
	const json_t *mcp = json_object_get(tool, "mcp");

	return mcp != NULL && strcmp(json_word(mcp, "server"), json_word(kept, "providerIdentifier")) == 0 &&
		       strcmp(json_word(mcp, "tool"), json_word(kept, "toolName")) == 0
		   ? tool
		   : NULL;
}

static bool is_kept_call(const char *name, const json_t *args)
{
	return strcmp(name, MCP_TOOL) == 0 && json_word(args, "name")[0] != '\0';
}

const char *mcp_shown_name(const char *name, const json_t *args)
{
	return is_kept_call(name, args) ? json_word(args, "name") : name;
}

const json_t *mcp_shown_args(const char *name, const json_t *args)
{
	const json_t *inner = json_object_get(args, "args");

	return is_kept_call(name, args) && json_is_object(inner) ? inner : args;
}

static void add_instructions(struct strbuf *b, const json_t *servers)
{
	const json_t *server;
	size_t i;

	json_array_foreach((json_t *)servers, i, server)
	{
		if (json_word(server, "instructions")[0] != '\0')
			strbuf_addf(b, "\n## MCP server %s says\n%s\n", json_word(server, "name"),
			    json_word(server, "instructions"));
	}
}

char *mcp_instructions(const json_t *worker_servers, const json_t *control_servers)
{
	struct strbuf b = STRBUF(INSTRUCTIONS_MAX);

	add_instructions(&b, worker_servers);
	add_instructions(&b, control_servers);
	if (b.len == 0) {
		strbuf_fini(&b);
		return NULL;
	}
	return strbuf_take(&b);
}
