#include "server/api/artifact_names.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>

#define NAME_MAX_BYTES 4096

static bool is_plain(unsigned char c)
{
	return c >= ' ' && c < 0x7f && strchr("\"\\%;/", c) == NULL;
}

char *artifact_disposition(const char *path)
{
	static const char hex[] = "0123456789ABCDEF";
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	struct strbuf b = STRBUF(NAME_MAX_BYTES);

	strbuf_adds(&b, "attachment; filename=\"");
	for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; c++)
		strbuf_addc(&b, is_plain(*c) ? (char)*c : '_');
	strbuf_adds(&b, "\"; filename*=UTF-8''");
	for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; c++) {
		if (*c < 0x80 && (isalnum(*c) || strchr("-._~", *c) != NULL)) {
			strbuf_addc(&b, (char)*c);
		} else {
			strbuf_addc(&b, '%');
			strbuf_addc(&b, hex[*c >> 4]);
			strbuf_addc(&b, hex[*c & 15]);
		}
	}
	return strbuf_take(&b);
}

static bool is_number(const char *s, int64_t *ret)
{
	return isdigit((unsigned char)s[0]) && text_parse_int(s, 0, INT64_MAX, ret) == OK;
}

int artifact_range(const char *text, int64_t size, int64_t *ret_first, int64_t *ret_end, bool *ret_partial)
{
	AUTO_STR first = NULL;
	const char *dash, *last;
	int64_t from = 0, to = size - 1;

	*ret_partial = false;
	if (!text_has_prefix(text, "bytes=") || (dash = strchr(text, '-')) == NULL)
		return OK;
	first = str_ndup(text + 6, (size_t)(dash - text) - 6);
	last = dash + 1;
	if (first[0] == '\0') {
		/* The last so many bytes. */
		if (!is_number(last, &to))
			return OK;
		from = MAX(size - to, 0);
		if (to == 0 || size == 0)
			return ERR_INVALID;
		to = size - 1;
	} else {
		if (!is_number(first, &from) || (last[0] != '\0' && !is_number(last, &to)) ||
		    (last[0] != '\0' && to < from))
			return OK;
		if (from >= size)
			return ERR_INVALID;
		to = MIN(to, size - 1);
	}
	*ret_first = from;
	*ret_end = to + 1;
	*ret_partial = true;
	return OK;
}
