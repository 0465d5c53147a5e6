/* A tool that does nothing, for a worker whose own cost is measured. */
#include "agent/tools/tool.h"
#include "base/mem.h"

static void run(struct tool_call *call)
{
	tool_succeed(call, json_incref(call->args), NULL, "");
}

static const struct tool echo = {
    .name = "echo",
    .description = "Gives its arguments back.",
    .parameters = "{\"type\":\"object\",\"required\":[\"text\"],\"properties\":{\"text\":{\"type\":\"string\"}}}",
    .class = TOOL_READ,
    .sdk_type = "",
    .run = run,
};
TOOL(echo);
