/* models/settings_priv.h: reading the table of models. Thread: only at start. */
#pragma once
#include "server/models/wire_priv.h"

/* Everything that the settings make; the owner is models.c. */
struct model_list {
	struct model *models;
	size_t n, cap;
	struct remote **remotes;
	size_t n_remotes, cap_remotes;
	char *default_id; /* NULL: the first */
};

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

int settings_read(const json_t *table, struct model_list *list, struct why *why) MUST_USE;
int settings_read_models(const struct table *provider, struct remote *p, struct model_list *list) MUST_USE;
/* The providers that the environment names, in the form of the settings; an object without providers if it names none.
 */
json_t *settings_from_environment(void);
/* By its id or an alias. */
bool model_is_named(const struct model *m, const char *id);
/* Words that name no model of the settings. */
bool settings_is_reserved(const char *id);
