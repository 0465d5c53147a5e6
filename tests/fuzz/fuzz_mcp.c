/* What an MCP server says: each line is an answer to the next thing that is sent, or comes by itself. */
#include "base/mem.h"
#include "base/text.h"
#include "mcp/result.h"
#include "mcp/session.h"
#include "mcp/tools.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct script {
	struct mcp_session *s;
	const char *at, *end;
};

static bool say_next(struct script *p)
{
	const char *line = p->at, *nl = memchr(line, '\n', (size_t)(p->end - line));
	struct why why = {""};

	if (line == p->end)
		return false;
	p->at = nl != NULL ? nl + 1 : p->end;
	IGNORE(mcp_session_receive(p->s, line, (size_t)((nl != NULL ? nl : p->end) - line), &why));
	ENSURE(text_is_utf8(why.text, strlen(why.text)));
	return true;
}

/* Whatever a schema says, a header stays one line of its own. */
static void check_headers(const json_t *headers)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)headers, name, value)
	{
		ENSURE(text_has_prefix(name, "Mcp-Param-") && text_is_token(name, "!#$%&'*+-.^_`|~", 256));
		for (const char *c = json_string_value(value); *c != '\0'; c++)
			ENSURE(*c >= 0x20 && *c < 0x7f);
	}
}

static int script_send(void *ctx, const struct mcp_out *m, struct why *why)
{
	ENSURE(m->len == strlen(m->text) && memchr(m->text, '\n', m->len) == NULL);
	check_headers(m->params_headers);
	/* Up to the first line that is for this request: what is behind it is for the next. */
	for (int i = 0; m->id != 0 && i < 4; i++) {
		int64_t until;

		if (!mcp_session_waits(((struct script *)ctx)->s, m->id, &until) && i > 0)
			break;
		if (!say_next(ctx))
			break;
	}
	return OK;
}

static void script_log(void *ctx, const char *level, const char *text)
{
	ENSURE(text_is_utf8(text, strlen(text)) && strlen(text) <= 1024);
}

static json_t *script_roots(void *ctx)
{
	return json_array();
}

static void check_tools(const json_t *tools)
{
	const json_t *tool;
	size_t i;

	ENSURE(json_array_size(tools) <= MCP_TOOLS_MAX);
	json_array_foreach((json_t *)tools, i, tool)
	{
		const char *name = json_string_value(json_object_get(tool, "name"));

		ENSURE(name != NULL && name[0] != '\0' && strlen(name) <= 128);
		ENSURE(json_is_object(json_object_get(tool, "inputSchema")));
	}
}

static void call(struct script *p, const json_t *tool)
{
	AUTO_JSON args = json_pack("{s:s, s:i, s:{s:b}}", "a", "x\r\ny", "b", 1, "c", "d", 1);
	struct mcp_answer a = {0};
	struct mcp_outcome o;
	struct why why = {""};

	if (tool != NULL)
		IGNORE(mcp_arguments_check(json_object_get(tool, "inputSchema"), args, &why));
	if (mcp_session_call(p->s,
		&(struct mcp_call){.tool = "t", .arguments = args, .schema = json_object_get(tool, "inputSchema")}, &a,
		&why) != OK)
		return;
	ENSURE((a.result == NULL) != (a.error == NULL));
	if (a.error != NULL) {
		AUTO_STR text = mcp_error_text(a.error);
		ENSURE(text_is_utf8(text, strlen(text)));
	} else {
		mcp_outcome_from(a.result, tool, 1000, NULL, &o);
		ENSURE(text_is_utf8(o.text, strlen(o.text)) && strlen(o.text) <= MCP_TEXT_MAX);
		ENSURE(json_is_array(json_object_get(o.result, "content")));
		mcp_outcome_fini(&o);
	}
	mcp_answer_fini(&a);
}

static void run(const uint8_t *data, size_t size, bool is_http, enum mcp_protocol protocol)
{
	struct script p = {.at = (const char *)data, .end = (const char *)data + size};
	AUTO_JSON tools = NULL;
	AUTO_JSON warnings = NULL;
	const struct mcp_times none = {0};

	p.s = mcp_session_new(&(struct mcp_transport){.send = script_send,
				  .log = script_log,
				  .roots = is_http ? NULL : script_roots,
				  .is_http = is_http,
				  .ctx = &p},
	    &none);
	mcp_session_prefer(p.s, protocol, false);
	if (is_http)
		IGNORE(mcp_session_refuse(p.s, 1, p.at, size));
	if (mcp_session_initialize(p.s, NULL, NULL) == OK && mcp_session_list(p.s, NULL, &tools, &warnings, NULL) == OK)
		check_tools(tools);
	call(&p, json_array_get(tools, 0));
	while (say_next(&p))
		;
	mcp_session_free(&p.s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	run(data, size, false, MCP_AUTO);
	run(data, size, true, MCP_MODERN);
	return 0;
}
