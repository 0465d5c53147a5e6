/* api/artifact_names.h: names of files and ranges of bytes as HTTP writes them. Thread: any. */
#pragma once
#include "base/errors.h"

/* The value of Content-Disposition for the last part of the path: attachment, with a plain name for old clients and the
 * true one in RFC 8187. malloc'ed. */
char *artifact_disposition(const char *path);
/* One range of a file of `size` bytes ("bytes=5-", "bytes=0-9", "bytes=-10"). OK with *ret_partial: first and end
 * (behind the last byte) are set; without: it is none that is understood, and they are left alone. ERR_INVALID: it lies
 * behind the end. */
int artifact_range(const char *text, int64_t size, int64_t *ret_first, int64_t *ret_end, bool *ret_partial) MUST_USE;
