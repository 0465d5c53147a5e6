/* mcp: a tool of an MCP server that the control plane asks itself. Models see each under a name of its own
 * (runs/mcp_tools.h); here comes what is meant. */
#include "base/mem.h"
#include "mcp/result.h"
#include "server/runs/control_tool.h"
#include "server/runs/remote_side.h"
#include <string.h>

#define IMAGES_MAX ((size_t)2 * 1024 * 1024) /* of base64, as of a worker's */

static void tell_remote_progress(void *ctx, double done, double total, const char *message)
{
	struct control_call *c = ctx;
	const char *between = message != NULL ? ": " : "", *said = message != NULL ? message : "";
	AUTO_STR text = total >= 0 ? str_printf("progress %g of %g%s%s\n", done, total, between, said)
				   : str_printf("progress %g%s%s\n", done, between, said);

	c->output(c, text);
}

static void call_remote(struct control_call *c)
{
	const char *server = json_string_value(json_object_get(c->args, "providerIdentifier"));
	const char *tool = json_string_value(json_object_get(c->args, "toolName"));
	const json_t *given = json_object_get(c->args, "args");
	AUTO_JSON none = json_object();
	const struct remote_call call = {.server = server != NULL ? server : "",
	    .tool = tool != NULL ? tool : "",
	    .arguments = given != NULL ? given : none,
	    .deadline_mono_ms = c->deadline_ms,
	    .stop = c->stop,
	    .image_max = IMAGES_MAX,
	    .progress = tell_remote_progress,
	    .ctx = c};
	struct mcp_outcome o = {0};
	struct why why = {0};
	const char *code;
	int rc = remote_side_perform(c->remote, &call, &o, &code, &why);

	if (rc != OK) {
		control_call_fail(c, code, "%s", why.text);
		return;
	}
	if (o.warning != NULL)
		json_put(o.result, "warning", o.warning);
	if (json_object_get(o.result, "error") != NULL)
		control_call_fail(c, "mcp_error", "%s", o.text);
	else if (o.failed)
		control_call_report_failure(c, TAKE(o.result), o.text);
	else
		control_call_succeed(c, TAKE(o.result), o.text);
	mcp_outcome_fini(&o);
}

static const struct control_tool mcp_tool = {
    .name = "mcp",
    .internal = true,
    .description = "Calls a tool of an MCP server.",
    .parameters = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"args\":{\"type\":\"object\"},"
		  "\"providerIdentifier\":{\"type\":\"string\"},\"toolName\":{\"type\":\"string\"}},"
		  "\"required\":[\"providerIdentifier\",\"toolName\"]}",
    .class = "mutating",
    .sdk_type = "mcp",
    .run = call_remote,
};
CONTROL_TOOL(mcp_tool);
