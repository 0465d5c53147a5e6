#include "base/mem.h"
#include <string.h>

static _Noreturn void out_of_memory(size_t size)
{
	fprintf(stderr, "out of memory: %zu bytes asked for\n", size);
	abort();
}

void *mem_alloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (p == NULL)
		out_of_memory(size);
	return p;
}

void *mem_zalloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (p == NULL)
		out_of_memory(size);
	return p;
}

void *mem_realloc(void *p, size_t size)
{
	void *q = realloc(p, size ? size : 1);

	if (q == NULL)
		out_of_memory(size);
	return q;
}

void *mem_grow(void *array, size_t *cap, size_t need, size_t item_size)
{
	size_t n = *cap ? *cap : 8;

	if (need <= *cap)
		return array;
	while (n < need)
		n *= 2;
	*cap = n;
	return mem_realloc(array, n * item_size);
}

void *mem_dup(const void *p, size_t len)
{
	void *q = mem_alloc(len);

	if (len > 0)
		memcpy(q, p, len);
	return q;
}

char *str_dup(const char *s)
{
	return s == NULL ? NULL : str_ndup(s, strlen(s));
}

char *str_ndup(const char *s, size_t len)
{
	char *p = mem_alloc(len + 1);

	if (len > 0)
		memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

char *str_vprintf(const char *fmt, va_list ap)
{
	char *s = NULL;

	if (vasprintf(&s, fmt, ap) < 0)
		out_of_memory(0);
	return s;
}

char *str_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = str_vprintf(fmt, ap);
	va_end(ap);
	return s;
}

void str_free(char **s)
{
	free(*s);
	*s = NULL;
}

void str_set(char **s, const char *v)
{
	char *copy = str_dup(v);

	free(*s);
	*s = copy;
}
