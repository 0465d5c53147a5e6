/* What Slack sends: events and clicks as JSON, and the text that people write there. */
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/triggers/slack_priv.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_model(const char *name)
{
	return name[0] == 'o';
}

static void take(const char *text, size_t size)
{
	struct slack slack = {.magic = SLACK_MAGIC};
	AUTO_JSON body = NULL;

	if (json_parse(text, size, &body, NULL) != OK || !json_is_object(body))
		return;
	for (int click = 0; click < 2; click++) {
		struct accepted a = {0};
		struct inside_answer answer = {0};
		struct why why = {0};
		int rc = click ? slack_take_interaction(&slack, body, &a, &why)
			       : slack_take_event(&slack, body, &a, &answer, &why);

		/* What is stored has a name, a place, and one line of a thread. */
		if (rc == OK)
			ENSURE(text_is_token(a.place, "", 64) && a.delivery[0] != '\0' && strlen(a.thread) < 200);
		accepted_fini(&a);
		free(answer.text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR text = str_ndup((const char *)data, strnlen((const char *)data, size));
	AUTO_STR plain = slack_decode(text, "UBOT", NULL, NULL, NULL);
	AUTO_STR escaped = slack_escape(plain, 300);
	struct slack_phrases p = {0};

	ENSURE(strlen(escaped) <= 300 && strpbrk(escaped, "<>") == NULL);
	ENSURE(text_is_utf8(escaped, strlen(escaped)));
	IGNORE(slack_command_of(plain));
	IGNORE(slack_forced(plain));
	slack_phrases_of(plain, is_model, &p);
	slack_phrases_fini(&p);
	take(text, strlen(text));
	return 0;
}
