/* models/settings_priv.h: reading the table of models. Thread: only at start. */
#pragma once
#include "base/table.h"
#include "server/models/wire_priv.h"

/* Everything that the settings make; the owner is models.c. */
struct model_list {
	struct model *models;
	size_t n, cap;
	struct remote **remotes;
	size_t n_remotes, cap_remotes;
	char *default_id; /* NULL: the first */
};

int settings_read(const json_t *table, struct model_list *list, struct why *why) MUST_USE;
int settings_read_models(const struct table *provider, struct remote *p, struct model_list *list) MUST_USE;
/* The providers that the environment names, in the form of the settings; an object without providers if it names none.
 */
json_t *settings_from_environment(void);
/* By its id or an alias. */
bool model_is_named(const struct model *m, const char *id);
/* Words that name no model of the settings. */
bool settings_is_reserved(const char *id);
