/* Events of Linear, once their signature is right: agent sessions and comments. */
#include "base/mem.h"
#include "base/text.h"
#include "server/triggers/linear_priv.h"
#include "bytes.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is worked off has a place, a name, and one line of a thread; and it says the same twice. */
static void check(const json_t *body, bool hears)
{
	const struct linear linear = {.hears_comments = hears};
	AUTO_FINI(accepted) a = {0};
	AUTO_FINI(accepted) again = {0};

	linear_take(&linear, body, &a);
	linear_take(&linear, body, &again);
	ENSURE(a.ignored == again.ignored && strcmp(a.thread, again.thread) == 0);
	ENSURE(strcmp(a.event, "created") == 0 || strcmp(a.event, "prompted") == 0 || strcmp(a.event, "comment") == 0);
	if (a.ignored)
		return;
	ENSURE(text_is_token(a.place, "-_", 128) && text_is_token(a.thread, "-_", 200));
	ENSURE(hears || strcmp(a.event, "comment") != 0);
	ENSURE((a.seen_at != NULL) == (strcmp(a.event, "created") == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR text = str_ndup((const char *)data, strnlen((const char *)data, size));
	AUTO_JSON body = NULL;

	if (json_parse(text, strlen(text), &body, NULL) != OK || !json_is_object(body))
		return 0;
	check(body, true);
	check(body, false);
	return 0;
}
