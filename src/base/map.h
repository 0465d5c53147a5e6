/* base/map.h: text keys to pointers. Thread: the owner's. Keys are copied; values are the caller's. */
#pragma once
#include "base/macros.h"

struct map;

struct map *map_new(void);
void map_free(struct map **m); /* not the values */
void *map_get(const struct map *m, const char *key);
/* Returns the value that was there, or NULL. */
void *map_put(struct map *m, const char *key, void *value);
void *map_remove(struct map *m, const char *key);
size_t map_count(const struct map *m);
/* Walks in no order; the entry at hand may be removed meanwhile, nothing else. Start with *at = 0; false at the end. */
bool map_next(const struct map *m, size_t *at, const char **ret_key, void **ret_value);
