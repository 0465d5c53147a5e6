/* Tool calls as a model sends them, up to the check: an unknown agent has no tool that could run, so only names and
 * arguments are read. The first line is the tool, the rest the arguments. */
#include "agent/tools/schema.h"
#include "agent/tools/tool.h"
#include "base/mem.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR text = str_ndup((const char *)data, size);
	char *arguments = strchr(text, '\n');
	struct tool_call call = {.call_id = "fuzz", .cancel_fd = -1};
	const struct tool *t;

	if (arguments == NULL)
		return 0;
	*arguments++ = '\0';
	t = tool_find(text);
	if (t == NULL) {
		tool_run(&call, text, arguments);
		ENSURE(call.outcome == TOOL_ERROR);
		tool_call_fini(&call);
		return 0;
	}
	AUTO_JSON schema = NULL;
	AUTO_JSON args = NULL;
	struct why why;

	ENSURE(json_parse(t->parameters, strlen(t->parameters), &schema, NULL) == OK);
	if (json_parse(arguments, strlen(arguments), &args, NULL) == OK && json_is_object(args))
		IGNORE(schema_check(schema, args, &why));
	return 0;
}
