#include "mcp/allow.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>
#include <strings.h>

/* The command of a rule is the program, or all of the command line. */
static bool is_command(const char *rule, const json_t *definition)
{
	const char *command = json_string_value(json_object_get(definition, "command"));
	const json_t *arg;
	struct strbuf line = STRBUF(64 * 1024);
	bool yes;
	size_t i;

	if (command == NULL)
		return false;
	strbuf_adds(&line, command);
	json_array_foreach(json_object_get(definition, "args"), i, arg)
	{
		if (json_is_string(arg))
			strbuf_addf(&line, " %s", json_string_value(arg));
	}
	yes = strcmp(rule, command) == 0 || strcmp(rule, strbuf_str(&line)) == 0;
	strbuf_fini(&line);
	return yes;
}

/* Without query and the slash at the end. */
static size_t url_len(const char *url)
{
	size_t len = strcspn(url, "?#");

	while (len > 0 && url[len - 1] == '/')
		len--;
	return len;
}

/* The URL of a rule is the server's, or ends with a star behind a slash of its path: then all below it are meant. */
static bool is_url(const char *rule, const char *url)
{
	size_t len = strlen(rule);
	const char *host = strstr(rule, "://"), *path = host != NULL ? strchrnul(host + 3, '/') : NULL;

	if (path == NULL)
		return false;
	if (text_has_suffix(rule, "/*") && strchr(path, '?') == NULL)
		return strncasecmp(rule, url, (size_t)(path - rule)) == 0 &&
		       strncmp(path, url + (path - rule), len - 1 - (size_t)(path - rule)) == 0;
	len = url_len(rule);
	return len == url_len(url) && strncasecmp(rule, url, (size_t)(path - rule)) == 0 &&
	       strncmp(path, url + (path - rule), len - MIN(len, (size_t)(path - rule))) == 0;
}

static bool is_meant(const json_t *rule, const json_t *definition)
{
	const char *command = json_string_value(json_object_get(rule, "command"));
	const char *rule_url = json_string_value(json_object_get(rule, "serverUrl"));
	const char *url = json_string_value(json_object_get(definition, "url"));

	if (command != NULL && rule_url == NULL)
		return url == NULL && is_command(command, definition);
	return command == NULL && rule_url != NULL && url != NULL && is_url(rule_url, url);
}

bool mcp_is_narrowed_away(const json_t *narrowing, const char *name, const json_t *definition, const json_t **ret_tools)
{
	const json_t *allow = json_object_get(narrowing, "allow"), *rule;
	size_t i;

	*ret_tools = NULL;
	if (json_is_true(json_object_get(narrowing, "none")))
		return true;
	if (allow == NULL)
		return false;
	json_array_foreach((json_t *)allow, i, rule)
	{
		const char *called = json_string_value(json_object_get(rule, "name"));

		if (!is_meant(rule, definition) || (called != NULL && (name == NULL || strcmp(called, name) != 0)))
			continue;
		*ret_tools = json_object_get(rule, "toolAllowlist");
		return false;
	}
	return true;
}

json_t *mcp_narrow(json_t *entry, const json_t *allowed)
{
	json_t *few, *tools, *tool, *name;
	size_t i, k;

	if (allowed == NULL)
		return json_incref(entry);
	few = json_copy(entry);
	tools = json_array();
	json_array_foreach(json_object_get(entry, "tools"), i, tool)
	{
		json_array_foreach((json_t *)allowed, k, name)
		{
			if (json_equal(name, json_object_get(tool, "name"))) {
				json_array_append(tools, tool);
				break;
			}
		}
	}
	json_put_new(few, "tools", tools);
	return few;
}

static int check_rule(const json_t *rule, size_t i, struct why *why)
{
	static const char *const keys[] = {"serverUrl", "command", "name", "toolAllowlist", NULL};
	const char *url = NULL, *command = NULL, *name = NULL;
	json_t *tools = NULL, *tool;
	size_t k;

	if (!json_is_object(rule))
		return why_set(why, ERR_INVALID, "rule %zu must be an object", i + 1);
	if (json_only_keys(rule, keys, "", why) != OK || json_get_string(rule, "serverUrl", &url, why) != OK ||
	    json_get_string(rule, "command", &command, why) != OK || json_get_string(rule, "name", &name, why) != OK ||
	    json_get_array(rule, "toolAllowlist", &tools, why) != OK) {
		struct why inner = *why;

		return why_set(why, ERR_INVALID, "rule %zu: %s", i + 1, inner.text);
	}
	if ((url == NULL) == (command == NULL))
		return why_set(why, ERR_INVALID, "rule %zu must have either 'serverUrl' or 'command'", i + 1);
	if (url != NULL && strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0)
		return why_set(why, ERR_INVALID, "rule %zu: 'serverUrl' must begin with https:// or http://", i + 1);
	json_array_foreach(tools, k, tool)
	{
		if (!json_is_string(tool))
			return why_set(why, ERR_INVALID, "rule %zu: 'toolAllowlist' must be a list of names", i + 1);
	}
	return OK;
}

int mcp_allow_check(const json_t *rules, struct why *why)
{
	const json_t *rule;
	size_t i;

	if (!json_is_array(rules))
		return why_set(why, ERR_INVALID, "must be a list of rules");
	if (json_array_size(rules) > MCP_RULES_MAX)
		return why_set(why, ERR_INVALID, "has more than %d rules", MCP_RULES_MAX);
	json_array_foreach((json_t *)rules, i, rule)
	{
		int rc = check_rule(rule, i, why);

		if (rc != OK)
			return rc;
	}
	return OK;
}
