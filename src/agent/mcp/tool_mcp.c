/* mcp: a tool of an MCP server of the session. The control plane knows which there are and shows each to the model
 * under a name of its own; here comes what is meant. */
#include "agent/mcp/keep.h"
#include "agent/mcp/servers.h"
#include "agent/session/session.h"
#include "agent/tools/tool.h"
#include "base/mem.h"
#include "mcp/result.h"
#include "mcp/tools.h"
#include <string.h>

#define IMAGES_MAX ((size_t)2 * 1024 * 1024) /* of base64: a result has at most 4 MiB */

static void tell_progress(void *ctx, double done, double total, const char *message)
{
	struct tool_call *call = ctx;
	AUTO_STR text = total >= 0 ? str_printf("progress %g of %g%s%s\n", done, total, message != NULL ? ": " : "",
					 message != NULL ? message : "")
				   : str_printf("progress %g%s%s\n", done, message != NULL ? ": " : "",
					 message != NULL ? message : "");

	if (call->on_output != NULL)
		call->on_output(call->on_output_ctx, 1, text, strlen(text));
}

static void take_answer(struct tool_call *call, const json_t *tool, struct mcp_answer *a)
{
	struct mcp_outcome o;

	if (a->error != NULL) {
		AUTO_STR text = mcp_error_text(a->error);
		tool_error(call, "mcp_error", "%s", text);
		return;
	}
	mcp_outcome_from(a->result, tool, IMAGES_MAX, &(struct mcp_keeper){mcp_keep_bytes, call->session}, &o);
	if (o.warning != NULL)
		json_put(o.result, "warning", o.warning);
	if (o.failed)
		tool_fail(call, TAKE(o.result), NULL, o.text);
	else
		tool_succeed(call, TAKE(o.result), NULL, o.text);
	mcp_outcome_fini(&o);
}

static void call_failed(struct tool_call *call, int rc, const struct why *why)
{
	const char *code = rc == ERR_CANCELLED	 ? "cancelled"
			   : rc == ERR_TIMEOUT	 ? "timeout"
			   : rc == ERR_INVALID	 ? "invalid_arguments"
			   : rc == ERR_NOT_FOUND ? "unknown_tool"
			   : rc == ERR_PROTOCOL	 ? "mcp_error"
						 : "mcp_unavailable";

	tool_error(call, code, "%s", why->text);
}

static void run_mcp(struct tool_call *call)
{
	struct mcp_servers *m = session_attached(call->session, GUEST_MCP);
	const char *server = json_string_value(json_object_get(call->args, "providerIdentifier"));
	const char *name = json_string_value(json_object_get(call->args, "toolName"));
	AUTO_JSON none = json_object();
	const json_t *given = json_object_get(call->args, "args"), *args = given != NULL ? given : none;
	AUTO_JSON tool = NULL;
	struct mcp_answer answer = {0};
	struct why why = {""};
	int rc = m == NULL ? why_set(&why, ERR_NOT_FOUND, "this session has no MCP servers") : OK;

	if (rc == OK && (tool = mcp_servers_tool(m, server, name, &why)) == NULL)
		rc = ERR_NOT_FOUND;
	if (rc == OK)
		rc = mcp_arguments_check(json_object_get(tool, "inputSchema"), args, &why);
	if (rc == OK)
		rc = mcp_servers_call(m, server,
		    &(struct mcp_call){.tool = name,
			.arguments = args,
			.stop_fd = call->cancel_fd,
			.deadline_mono_ms = call->deadline_mono_ms,
			.progress = tell_progress,
			.ctx = call},
		    &answer, &why);
	/* A server may have changed anything. */
	session_touch(call->session);
	if (rc != OK)
		call_failed(call, rc, &why);
	else
		take_answer(call, tool, &answer);
	mcp_answer_fini(&answer);
}

static char *command_of(const struct tool_call *call)
{
	struct mcp_servers *m = session_attached(call->session, GUEST_MCP);

	return m != NULL
		   ? mcp_servers_command_line(m, json_string_value(json_object_get(call->args, "providerIdentifier")))
		   : NULL;
}

static const struct tool mcp_tool = {
    .name = "mcp",
    .description = "Calls a tool of an MCP server.",
    .parameters = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"args\":{\"type\":\"object\"},"
		  "\"providerIdentifier\":{\"type\":\"string\"},\"toolName\":{\"type\":\"string\"}},"
		  "\"required\":[\"providerIdentifier\",\"toolName\"]}",
    .class = TOOL_MUTATING,
    .sdk_type = "mcp",
    .internal = true,
    .run = run_mcp,
    .command = command_of,
};
TOOL(mcp_tool);
