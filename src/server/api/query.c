/* Query parameters: strict, each at most once. */
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include <string.h>

#define LIMIT_DEFAULT 20
#define LIMIT_MAX 100

const char *query_get(struct api_request *rq, const char *key)
{
	return json_string_value(json_object_get(rq->query, key));
}

bool query_limit(struct api_request *rq, int64_t *ret)
{
	const char *text = query_get(rq, "limit");

	*ret = LIMIT_DEFAULT;
	if (text == NULL || text_parse_int(text, 1, LIMIT_MAX, ret) == OK)
		return true;
	api_error(rq, API_validation_error, "'limit' must be an integer from 1 to %d", LIMIT_MAX);
	return false;
}

bool query_bool(struct api_request *rq, const char *key, bool *ret)
{
	const char *text = query_get(rq, key);

	if (text == NULL)
		return true;
	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
		api_error(rq, API_validation_error, "'%s' must be true or false", key);
		return false;
	}
	*ret = text[0] == 't';
	return true;
}

char *cursor_make(int64_t created_at, const char *id)
{
	AUTO_STR plain = str_printf("%lld,%s", (long long)created_at, id);

	return base64url_encode(plain, strlen(plain));
}

bool query_cursor(struct api_request *rq, int64_t *ret_created_at, char **ret_id)
{
	const char *text = query_get(rq, "cursor");
	AUTO_STR plain = NULL;
	char *comma = NULL;
	size_t len;

	if (text == NULL) {
		*ret_created_at = INT64_MAX;
		*ret_id = str_dup("");
		return true;
	}
	if (strlen(text) < 200 && base64url_decode(text, strlen(text), &plain, &len) == OK && strlen(plain) == len)
		comma = strchr(plain, ',');
	if (comma != NULL)
		*comma = '\0';
	if (comma == NULL || text_parse_int(plain, 0, INT64_MAX, ret_created_at) != OK || comma[1] == '\0') {
		api_error(rq, API_validation_error, "'cursor' is not one that this endpoint gave out");
		return false;
	}
	*ret_id = str_dup(comma + 1);
	return true;
}
