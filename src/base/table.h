/* base/table.h: reading one table of the settings, for the rooms that have settings of their own.
 * Thread: any. */
#pragma once
#include "base/errors.h"
#include "base/json.h"

/* One table of the settings: `where` leads the errors ("models.providers[0]"). */
struct table {
	const json_t *json;
	const char *where;
	struct why *why;
};
/* A missing key leaves *ret as it is. ERR_INVALID with why. Texts are borrowed, not empty, one line. */
int table_text(const struct table *t, const char *key, const char **ret) MUST_USE;
int table_need_text(const struct table *t, const char *key, const char **ret) MUST_USE;
int table_int(const struct table *t, const char *key, int64_t min, int64_t max, int64_t *ret) MUST_USE;
int table_bool(const struct table *t, const char *key, bool *ret) MUST_USE;
int table_array(const struct table *t, const char *key, json_t **ret) MUST_USE;
int table_object(const struct table *t, const char *key, json_t **ret) MUST_USE;
/* Refuses keys that are not in the NULL-terminated list, and what is no table. */
int table_keys(const struct table *t, const char *const *keys) MUST_USE;
/* "where.key must be …" */
int table_wrong(const struct table *t, const char *key, const char *must) MUST_USE;
/* A key or password travels in a header: visible ASCII, one line. *ret: malloc'ed, for str_wipe. */
int table_secret_of(const struct table *t, const char *key, const char *text, char **ret) MUST_USE;
/* The same from the file that the setting names; a missing setting leaves *ret as it is. */
int table_secret(const struct table *t, const char *key, char **ret) MUST_USE;
