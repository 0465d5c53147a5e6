#include "base/errors.h"
#include "base/text.h"
#include <errno.h>
#include <stdarg.h>
#include <string.h>

static const struct {
	int code;
	const char *name;
	const char *text;
} rows[] = {
    {OK, "OK", "ok"},
#define ERROR_ROW(name, number, text) {number, #name, text},
#include "base/errors.tbl"
#undef ERROR_ROW
};

const char *err_name(int code)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].code == code)
			return rows[i].name;
	return "ERR_UNKNOWN";
}

const char *err_text(int code)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].code == code)
			return rows[i].text;
	return "unknown error";
}

int err_from_errno(int errnum)
{
	switch (errnum) {
	case 0:
		return OK;
	case ENOENT:
	case ENOTDIR:
		return ERR_NOT_FOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERR_DENIED;
	case ENOSPC:
	case EDQUOT:
		return ERR_NO_SPACE;
	case EEXIST:
		return ERR_CONFLICT;
	case EINVAL:
	case ENAMETOOLONG:
		return ERR_INVALID;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	default:
		return ERR_IO;
	}
}

int why_set(struct why *why, int code, const char *fmt, ...)
{
	struct why next;
	va_list ap;

	if (why == NULL)
		return code;
	/* A sentence may be made from the one before. */
	va_start(ap, fmt);
	vsnprintf(next.text, sizeof next.text, fmt, ap);
	va_end(ap);
	*why = next;
	/* What did not fit was cut at a byte, here or by a "%.100s": a sentence has whole characters only. */
	why->text[text_utf8_whole(why->text, strlen(why->text))] = '\0';
	text_utf8_mend(why->text);
	return code;
}
