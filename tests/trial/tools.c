/* For tests/e2e/trial.test.mjs: control-plane tools that only the program bullpen-trial has. They show that a tool of
 * the control plane is one file, and that calls of all three executors keep the same promises. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/runs/control_tool.h"
#include <string.h>
#include <time.h>

static const char *text_of(const json_t *args, const char *key, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(args, key));

	return s != NULL ? s : otherwise;
}

static void trial_echo_run(struct control_call *c)
{
	const char *text = text_of(c->args, "text", NULL);

	if (text == NULL)
		control_call_fail(c, "invalid_arguments", "trial_echo: 'text' must be a string");
	else
		control_call_succeed(c, json_pack("{s:s}", "text", text), text);
}

static const struct control_tool trial_echo = {
    .name = "trial_echo",
    .description = "Returns its text.",
    .parameters = "{\"type\":\"object\",\"required\":[\"text\"],\"properties\":{\"text\":{\"type\":\"string\"}}}",
    .class = "read",
    .sdk_type = "",
    .repeatable = true,
    .run = trial_echo_run,
};
CONTROL_TOOL(trial_echo);

/* Goes on until somebody ends it: a cancel, a crash, its deadline. */
static void trial_wait_run(struct control_call *c)
{
	while (!control_call_is_over(c))
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000000L}, NULL); /* interval of polling */
	control_call_fail(c, "cancelled", "trial_wait was ended");
}

static const struct control_tool trial_wait = {
    .name = "trial_wait",
    .description = "Waits until it is ended.",
    .parameters = "{\"type\":\"object\",\"properties\":{}}",
    .class = "mutating",
    .sdk_type = "",
    .run = trial_wait_run,
};
CONTROL_TOOL(trial_wait);

/* A result over every limit. */
static void trial_flood_run(struct control_call *c)
{
	size_t n = 6 * 1024 * 1024;
	AUTO_STR text = mem_alloc(n + 1);

	memset(text, 'x', n);
	text[n] = '\0';
	control_call_succeed(c, json_pack("{s:s}", "text", text), text);
}

static const struct control_tool trial_flood = {
    .name = "trial_flood",
    .description = "Returns six megabytes.",
    .parameters = "{\"type\":\"object\",\"properties\":{}}",
    .class = "read",
    .sdk_type = "",
    .run = trial_flood_run,
};
CONTROL_TOOL(trial_flood);

static int trial_delegate_nest(const struct nest_call *c, struct loop_spec *ret, struct why *why)
{
	const char *prompt = text_of(c->args, "prompt", NULL);

	if (prompt == NULL)
		return why_set(why, ERR_INVALID, "trial_delegate: 'prompt' must be a string");
	ret->prompt = str_dup(prompt);
	ret->system = str_dup("You are a helper.");
	ret->read_only = json_is_true(json_object_get(c->args, "readOnly"));
	return OK;
}

static const struct control_tool trial_delegate = {
    .name = "trial_delegate",
    .description = "Gives a task to a nested loop.",
    .parameters = "{\"type\":\"object\",\"required\":[\"prompt\"],\"properties\":{\"prompt\":{\"type\":\"string\"},"
		  "\"readOnly\":{\"type\":\"boolean\"}}}",
    .class = "mutating",
    .sdk_type = "task",
    .nest = trial_delegate_nest,
};
CONTROL_TOOL(trial_delegate);
