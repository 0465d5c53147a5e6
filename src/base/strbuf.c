#include "base/strbuf.h"
#include "base/errors.h"
#include "base/mem.h"
#include <string.h>

void strbuf_fini(struct strbuf *b)
{
	free(b->data);
	b->data = NULL;
	b->len = b->cap = 0;
	b->overflowed = false;
}

void strbuf_clear(struct strbuf *b)
{
	b->len = 0;
	b->overflowed = false;
	if (b->data != NULL)
		b->data[0] = '\0';
}

int strbuf_add(struct strbuf *b, const void *bytes, size_t len)
{
	if (len > b->max || b->len > b->max - len) {
		b->overflowed = true;
		return ERR_TOO_LARGE;
	}
	b->data = mem_grow(b->data, &b->cap, b->len + len + 1, 1);
	if (len > 0)
		memcpy(b->data + b->len, bytes, len);
	b->len += len;
	b->data[b->len] = '\0';
	return OK;
}

int strbuf_adds(struct strbuf *b, const char *s)
{
	return strbuf_add(b, s, strlen(s));
}

int strbuf_addc(struct strbuf *b, char c)
{
	return strbuf_add(b, &c, 1);
}

int strbuf_addf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap;
	AUTO_STR s = NULL;

	va_start(ap, fmt);
	s = str_vprintf(fmt, ap);
	va_end(ap);
	return strbuf_adds(b, s);
}

void strbuf_consume(struct strbuf *b, size_t n)
{
	ENSURE(n <= b->len);
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
	b->data[b->len] = '\0';
}

void strbuf_cut(struct strbuf *b, size_t n)
{
	ENSURE(n <= b->len);
	b->len = n;
	if (b->data != NULL)
		b->data[n] = '\0';
}

char *strbuf_take(struct strbuf *b)
{
	char *s = b->data != NULL ? b->data : str_ndup("", 0);

	b->data = NULL;
	b->len = b->cap = 0;
	b->overflowed = false;
	return s;
}

const char *strbuf_str(const struct strbuf *b)
{
	return b->data != NULL ? b->data : "";
}
