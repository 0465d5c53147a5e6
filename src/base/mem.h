/* base/mem.h: allocation that cannot fail. Out of memory aborts with a message, which is fair only because
 * every size a peer controls is limited before allocation.
 * Thread: any. Plain malloc/calloc/strdup are banned outside this file. */
#pragma once
#include "base/macros.h"
#include <stdarg.h>

void *mem_alloc(size_t size) __attribute__((malloc));
void *mem_zalloc(size_t size) __attribute__((malloc));
/* Grows an array to hold at least `need` items of `item_size`, doubling *cap; returns the (moved) array. */
void *mem_grow(void *array, size_t *cap, size_t need, size_t item_size);
void *mem_realloc(void *p, size_t size);
void *mem_dup(const void *p, size_t len);

/* NULL in, NULL out. */
char *str_dup(const char *s);
/* Copies `len` bytes and adds the terminating NUL. */
char *str_ndup(const char *s, size_t len);
char *str_printf(const char *fmt, ...) PRINTF_LIKE(1, 2);
char *str_vprintf(const char *fmt, va_list ap) PRINTF_LIKE(1, 0);
/* For AUTO_STR: frees *s and clears it. */
void str_free(char **s);
/* Replaces *s by a copy of `v` (may be NULL). */
void str_set(char **s, const char *v);

#define NEW(type) ((type *)mem_zalloc(sizeof(type)))
