/* The tool `ask_question`: nobody waits in front of a run, so a question ends it, and the answer is a follow-up. The
 * question is the run's result (loop.c takes it from the arguments). */
#include "base/text.h"
#include "server/runs/control_tool.h"
#include <string.h>

#define QUESTION_MAX ((size_t)32 * 1024)

static void ask_question_run(struct control_call *c)
{
	const char *question = json_string_value(json_object_get(c->args, "question"));

	if (question == NULL || text_is_blank(question))
		control_call_fail(
		    c, "invalid_arguments", "ask_question: 'question' must be the whole question as a text");
	else if (strlen(question) > QUESTION_MAX)
		control_call_fail(c, "invalid_arguments", "ask_question: 'question' must be at most 32 KiB");
	else
		control_call_succeed(c, json_object(), "The user has the question.");
}

static const struct control_tool ask_question = {
    .name = "ask_question",
    .description =
	"Asks the user, and ends the run: what you have done so far is kept, and the answer comes as the next "
	"message. Use it only where you cannot go on without the user's decision; else decide yourself and "
	"say so in the report.",
    .parameters =
	"{\"type\":\"object\",\"required\":[\"question\"],\"properties\":{\"question\":{\"type\":\"string\","
	"\"description\":\"the whole question in Markdown: what is to be decided, the choices, and what you would "
	"choose; nothing else is told to the user\"}}}",
    .class = "state",
    .sdk_type = "",
    .arg_aliases = "{\"prompt\":\"question\",\"text\":\"question\"}",
    .final_arg = "question",
    .repeatable = true,
    .run = ask_question_run,
};
CONTROL_TOOL(ask_question);
