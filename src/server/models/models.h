/* models/models.h: the models that people may name.
 * Thread: models_configure once at start, before the others; from then on all is constant and for any thread. */
#pragma once
#include "server/models/provider.h"

struct upstream;

struct model {
	char *id, *display_name, *description;
	json_t *aliases; /* [string] */
	json_t *parameters; /* [{id, displayName, values: [{value, displayName}]}] of GET /v1/models */
	json_t *variants; /* [{params: [{id, value}], displayName, isDefault}], exactly one of them the default */
	int64_t context_window; /* tokens, 0: unlimited */
	bool takes_images;
	bool is_default;
	const struct provider *provider;
	struct upstream *upstream; /* the provider's own, NULL if it has none */
};

/* The models of this server, from the `models` table of the settings (NULL: from the environment, else playbook alone).
 * ERR_INVALID with `why`. */
int models_configure(const json_t *table, struct why *why) MUST_USE;
void models_free(void);

/* All of them, the default first. */
const struct model *models_all(size_t *ret_n);
/* By id or alias; "default" and "auto" are the default model, as is NULL. NULL if there is none of that name. */
const struct model *model_find(const char *id);
/* `params` (NULL: none) with the defaults filled in, as a new [{id, value}]. ERR_INVALID with `why` that names the
 * parameter and what it may be, if they match no variant. */
int model_params(const struct model *m, const json_t *params, json_t **ret, struct why *why) MUST_USE;
