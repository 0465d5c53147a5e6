#include "base/toml.h"
#include "base/mem.h"
#include "base/toml_shim.h"
#include <string.h>

int toml_parse(const char *text, size_t len, const char *file_name, json_t **ret, struct why *why)
{
	char reason[400] = "";
	char *json = bullpen_toml_to_json(text, len, file_name, reason, sizeof reason);
	int rc;

	if (json == NULL)
		return why_set(why, ERR_INVALID, "%s", reason);
	rc = json_parse(json, strlen(json), ret, why);
	free(json);
	return rc;
}
