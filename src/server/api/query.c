/* Cursors of lists. */
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include <string.h>

char *cursor_make(int64_t created_at, const char *id)
{
	AUTO_STR plain = str_printf("%lld,%s", (long long)created_at, id);

	return base64url_encode(plain, strlen(plain));
}

bool query_cursor(struct api_request *rq, int64_t *ret_created_at, char **ret_id)
{
	return query_cursor_named(rq, "cursor", ret_created_at, ret_id);
}

bool query_cursor_named(struct api_request *rq, const char *name, int64_t *ret_created_at, char **ret_id)
{
	const char *text = query_text_of(rq, name);
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
		api_error(rq, API_validation_error, "'%s' is not one that this endpoint gave out", name);
		return false;
	}
	*ret_id = str_dup(comma + 1);
	return true;
}
