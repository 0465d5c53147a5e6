#include "agent/worker/result_fit.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define TEXT_LEAST ((size_t)1024) /* shorter ones are not cut: then it is their number that is too large */

static json_t *cut_text(const json_t *text, size_t max)
{
	AUTO_STR cut = text_cut_middle(json_string_value(text), json_string_length(text), max, NULL);

	return json_lossy(cut, strlen(cut));
}

/* Texts are at most 64 levels deep: json_parse takes no more. */
static void cut_texts(json_t *j, size_t max)
{
	const char *key;
	json_t *v;
	void *next;
	size_t i;

	json_array_foreach(j, i, v)
	{
		if (json_is_string(v) && json_string_length(v) > max)
			json_array_set_new(j, i, cut_text(v, max));
		else
			cut_texts(v, max);
	}
	json_object_foreach_safe(j, next, key, v)
	{
		if (json_is_string(v) && json_string_length(v) > max)
			json_object_set_new(j, key, cut_text(v, max));
		else
			cut_texts(v, max);
	}
}

bool result_fit(char **json, size_t max)
{
	AUTO_JSON j = NULL;

	if (json_parse(*json, strlen(*json), &j, NULL) != OK || !json_is_object(j))
		return false;
	json_put_bool(j, "truncated", true);
	for (size_t longest = max / 2; longest >= TEXT_LEAST; longest /= 2) {
		AUTO_STR text = NULL;

		cut_texts(j, longest);
		text = json_text(j);
		if (strlen(text) > max)
			continue;
		free(*json);
		*json = TAKE(text);
		return true;
	}
	return false;
}
