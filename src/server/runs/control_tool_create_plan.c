/* The tool `create_plan`: how a run in plan mode ends. The plan is the run's result (loop.c takes it from the
 * arguments). */
#include "base/text.h"
#include "server/runs/control_tool.h"
#include <string.h>

#define PLAN_MAX ((size_t)256 * 1024)

static void create_plan_run(struct control_call *c)
{
	const char *plan = json_string_value(json_object_get(c->args, "plan"));

	if (plan == NULL || text_is_blank(plan))
		control_call_fail(c, "invalid_arguments", "create_plan: 'plan' must be the whole plan as a text");
	else if (strlen(plan) > PLAN_MAX)
		control_call_fail(c, "invalid_arguments", "create_plan: 'plan' must be at most 256 KiB");
	else
		control_call_succeed(c, json_object(), "The user has the plan.");
}

static void create_plan_sdk_args(json_t *args)
{
	if (!json_is_string(json_object_get(args, "plan")))
		json_put(args, "plan", "");
}

static const struct control_tool create_plan = {
    .name = "create_plan",
    .description = "Hands the finished plan to the user and ends the run. Nothing else is told to the user, so the "
		   "plan is complete.",
    .parameters = "{\"type\":\"object\",\"required\":[\"plan\"],\"properties\":{\"plan\":{\"type\":\"string\","
		  "\"description\":\"the whole plan in Markdown\"}}}",
    .class = "state",
    .sdk_type = "createPlan",
    .arg_aliases = "{\"body\":\"plan\",\"content\":\"plan\"}",
    .sdk_args = create_plan_sdk_args,
    .final_arg = "plan",
    .plan_only = true,
    .repeatable = true,
    .run = create_plan_run,
};
CONTROL_TOOL(create_plan);
