#include "agent/mcp/files.h"
#include "agent/session/beneath.h"
#include "agent/session/session.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define FILE_MAX ((size_t)256 * 1024)

static void warn(json_t *warnings, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void warn(json_t *warnings, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	AUTO_STR text = str_vprintf(fmt, ap);
	va_end(ap);
	AUTO_STR line = text_line(text, 500);
	json_array_append_new(warnings, json_string(line));
}

/* NULL: there is none, or it is none. */
static json_t *read_json(const char *root, const char *rel, json_t *warnings)
{
	size_t len = 0;
	AUTO_STR text = read_beneath(root, rel, FILE_MAX, &len);
	AUTO_JSON j = NULL;
	struct why why = {""};

	if (text == NULL)
		return NULL;
	if (json_parse(text, len, &j, &why) != OK || !json_is_object(j)) {
		warn(warnings, "%s/%s: %s", root, rel, why.text[0] != '\0' ? why.text : "must be a JSON object");
		return NULL;
	}
	return TAKE(j);
}

json_t *mcp_file_read(struct session *s, int place, json_t *warnings)
{
	const char *root = place == 0 ? session_primary_root(s) : getenv("HOME");
	AUTO_JSON file = root != NULL ? read_json(root, ".cursor/mcp.json", warnings) : NULL;
	AUTO_JSON few = json_object();
	json_t *servers = json_object_get(file, "mcpServers"), *one;
	const char *name;

	if (file == NULL)
		return NULL;
	if (!json_is_object(servers)) {
		warn(warnings, "%s/.cursor/mcp.json: must have an object 'mcpServers'", root);
		return NULL;
	}
	json_object_foreach(servers, name, one)
	{
		if (!json_is_object(one))
			warn(warnings, "%s/.cursor/mcp.json: '%s' must be an object", root, name);
		else if (json_object_get(one, "url") != NULL)
			warn(warnings,
			    "%s/.cursor/mcp.json: '%s' was left out: a server with a 'url' is called by the control "
			    "plane, which takes none from files",
			    root, name);
		else
			json_object_set(few, name, one);
	}
	return TAKE(few);
}

json_t *mcp_narrowing_read(struct session *s, json_t *warnings)
{
	static const char rel[] = ".cursor/environment.json";
	AUTO_JSON file = read_json(session_primary_root(s), rel, warnings);
	json_t *off = json_object_get(file, "disableAllMcpServers"),
	       *list = json_object_get(file, "mcpServerAllowlist");
	json_t *few;

	if (off == NULL && list == NULL)
		return NULL;
	few = json_object();
	/* What cannot be understood narrows to nothing: it was meant to. */
	if (off != NULL && !json_is_boolean(off))
		warn(warnings, "%s: 'disableAllMcpServers' must be true or false; no MCP server is started", rel);
	if (list != NULL && !json_is_array(list))
		warn(warnings, "%s: 'mcpServerAllowlist' must be a list; no MCP server is started", rel);
	if (off != NULL && !json_is_false(off))
		json_put_bool(few, "none", true);
	if (list != NULL)
		json_put_new(few, "allow", json_is_array(list) ? json_incref(list) : json_array());
	return few;
}
