#include "base/toml.h"
#include "base/mem.h"
#include "base/toml_shim.h"
#include <string.h>

int toml_parse(const char *text, size_t len, const char *file_name, json_t **ret, struct why *why)
{
	char reason[400] = "";
	char *json = bullpen_toml_to_json(text, len, file_name, reason, sizeof reason);
	struct why inner = {0};
	int rc;

	if (json == NULL)
		return why_set(why, ERR_INVALID, "%s", reason);
	rc = json_parse(json, strlen(json), ret, &inner);
	/* The sentence would be about JSON, which nobody wrote. */
	if (rc != OK && strstr(json, "\\u0000") != NULL)
		rc = why_set(why, rc, "%s: a text must not hold the character U+0000", file_name);
	else if (rc != OK)
		rc = why_set(
		    why, rc, "%s: it is nested too deep, holds too many values, or a number that is none", file_name);
	free(json);
	return rc;
}

bool toml_finds_date(const char *text, size_t len, char *key, size_t key_len)
{
	char *found = bullpen_toml_date_key(text, len);
	bool any = found != NULL;

	if (any)
		snprintf(key, key_len, "%s", found);
	free(found);
	return any;
}
