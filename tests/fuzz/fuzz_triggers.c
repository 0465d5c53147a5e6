/* What strangers write at forges and chats: the options around a mention, a model's text on its way to a forge,
 * addresses of pull requests, where the next page of a list is. The first byte says which wording holds and what is
 * dropped. */
#include "base/mem.h"
#include "server/forges/forges_priv.h"
#include "server/pulls/pulls.h"
#include "server/triggers/options.h"
#include "bytes.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_options(const char *text, uint8_t how)
{
	static const char *const mentions[] = {"@cursoragent", "@cursor", NULL};
	const struct trigger_text t = {.text = text,
	    .mentions = how & 1 ? mentions : NULL,
	    .keys = how & 2 ? 511 : 1,
	    .strict = how & 4,
	    .drops_comments = how & 8};
	struct trigger_options o;
	struct why why = {0};
	int rc = trigger_options_read(&t, &o, &why);

	ENSURE(rc == OK || rc == ERR_EMPTY || rc == ERR_INVALID);
	ENSURE((rc == OK) == (o.prompt != NULL));
	/* Nothing is added to what was written. */
	if (rc == OK)
		ENSURE(strlen(o.prompt) <= strlen(text));
	if (rc == ERR_INVALID)
		ENSURE(why.text[0] != '\0');
	trigger_options_fini(&o);
}

static void neutralise(const char *text)
{
	AUTO_STR once = pull_neutral_text(text);
	AUTO_STR twice = pull_neutral_text(once);

	/* Ours are the only comments. */
	ENSURE(strstr(once, "<!--") == NULL || strchr(text, '`') != NULL || strchr(text, '~') != NULL);
	ENSURE(strlen(twice) >= strlen(once));
}

/* It goes into a path of the forge's API. */
static void read_cursor(const char *link)
{
	AUTO_STR cursor = forge_next_cursor(link);

	if (cursor != NULL)
		ENSURE(cursor[0] != '\0' && strpbrk(cursor, "/?#& <>\r\n") == NULL && strstr(link, cursor) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	AUTO_STR text = str_ndup((const char *)data + 1, strnlen((const char *)data + 1, size - 1));

	read_options(text, data[0]);
	neutralise(text);
	read_cursor(text);
	return 0;
}
