/* base/strbuf.h: a growing byte buffer that is born with its maximum.
 * Thread: the owner's. Invariant: data is NUL-terminated once anything was added; len <= max. */
#pragma once
#include "base/macros.h"
#include <stdarg.h>

struct strbuf {
	char *data;
	size_t len;
	size_t cap;
	size_t max;
	bool overflowed; /* an append was refused because of max; sticky until strbuf_clear */
};

#define STRBUF(max_bytes) ((struct strbuf){.max = (max_bytes)})

/* Frees the memory; the struct is empty and usable again. */
void strbuf_fini(struct strbuf *b);
/* Keeps the memory, drops the content. */
void strbuf_clear(struct strbuf *b);
/* Appends. OK, or ERR_TOO_LARGE (nothing added, overflowed set). Ignoring the result is fine where
 * `overflowed` is looked at in the end. */
int strbuf_add(struct strbuf *b, const void *bytes, size_t len);
int strbuf_adds(struct strbuf *b, const char *s);
int strbuf_addc(struct strbuf *b, char c);
int strbuf_addf(struct strbuf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Drops the first n bytes. */
void strbuf_consume(struct strbuf *b, size_t n);
/* Drops what is behind the first n bytes; n is not more than there are. */
void strbuf_cut(struct strbuf *b, size_t n);
/* Hands the content over as a malloc'ed string (never NULL); the buffer is empty afterwards. */
char *strbuf_take(struct strbuf *b);
/* The content as a C string; "" when empty. Borrowed until the next change. */
const char *strbuf_str(const struct strbuf *b);
