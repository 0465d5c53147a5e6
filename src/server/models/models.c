/* The models of this server: a table that is filled at start and constant from there on. */
#include "server/models/models.h"
#include "base/mem.h"
#include <string.h>

static struct model *models;
static size_t n_models;

void model_turn_fini(struct model_turn *t)
{
	free(t->text);
	json_decref(t->calls);
	json_decref(t->native);
	*t = (struct model_turn){0};
}

static void model_fini(struct model *m)
{
	free(m->id);
	free(m->display_name);
	free(m->description);
	json_decref(m->aliases);
	json_decref(m->parameters);
	json_decref(m->variants);
}

void models_free(void)
{
	for (size_t i = 0; i < n_models; i++)
		model_fini(&models[i]);
	free(models);
	models = NULL;
	n_models = 0;
}

int models_configure(const json_t *table, struct why *why)
{
	if (table != NULL)
		return why_set(why, ERR_INVALID, "there are no settings for models yet");
	models_free();
	models = mem_zalloc(sizeof *models);
	models[n_models++] = (struct model){
	    .id = str_dup("playbook"),
	    .display_name = str_dup("Playbook"),
	    .description = str_dup("Performs the fenced blocks of the prompt in order, without a language model"),
	    .aliases = json_array(),
	    .parameters = json_array(),
	    .variants = json_pack("[{s:[], s:s, s:b}]", "params", "displayName", "Playbook", "isDefault", 1),
	    .provider = &provider_playbook,
	    .is_default = true,
	};
	return OK;
}

const struct model *models_all(size_t *ret_n)
{
	*ret_n = n_models;
	return models;
}

static bool answers_to(const struct model *m, const char *id)
{
	size_t i;
	json_t *alias;

	if (id == NULL || strcmp(id, "default") == 0 || strcmp(id, "auto") == 0)
		return m->is_default;
	if (strcmp(m->id, id) == 0)
		return true;
	json_array_foreach(m->aliases, i, alias)
	{
		if (strcmp(json_string_value(alias), id) == 0)
			return true;
	}
	return false;
}

const struct model *model_find(const char *id)
{
	for (size_t i = 0; i < n_models; i++)
		if (answers_to(&models[i], id))
			return &models[i];
	return NULL;
}

int model_params(const struct model *m, const json_t *params, json_t **ret, struct why *why)
{
	const char *id = json_string_value(json_object_get(json_array_get(params, 0), "id"));

	if (json_array_size(params) > 0)
		return why_set(why, ERR_INVALID, "model '%s' has no parameter '%.60s'", m->id, id != NULL ? id : "");
	*ret = json_array();
	return OK;
}
