#include "base/mem.h"
#include "server/models/provider.h"
#include <string.h>

static const struct model models[] = {
    {
	.id = "playbook",
	.display_name = "Playbook",
	.description = "Performs the fenced blocks of the prompt in order, without a language model",
	.provider = &provider_playbook,
	.is_default = true,
    },
};

void model_turn_fini(struct model_turn *t)
{
	free(t->text);
	json_decref(t->calls);
	*t = (struct model_turn){0};
}

const struct model *models_all(size_t *ret_n)
{
	*ret_n = ARRAY_LEN(models);
	return models;
}

static bool answers_to(const struct model *m, const char *id)
{
	if (id == NULL || strcmp(id, "default") == 0 || strcmp(id, "auto") == 0)
		return m->is_default;
	if (strcmp(m->id, id) == 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(m->aliases) && m->aliases[i] != NULL; i++)
		if (strcmp(m->aliases[i], id) == 0)
			return true;
	return false;
}

const struct model *model_find(const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(models); i++)
		if (answers_to(&models[i], id))
			return &models[i];
	return NULL;
}
