/* The models of this server: a table that is filled at start and constant from there on. */
#include "server/models/models.h"
#include "base/mem.h"
#include "server/models/settings_priv.h"
#include <string.h>

static struct model_list all;

void model_memo_fini(struct model_memo *m)
{
	if (m->data != NULL)
		m->free(m->data);
	*m = (struct model_memo){0};
}

void model_result_fini(struct model_result *t)
{
	free(t->text);
	json_decref(t->calls);
	json_decref(t->native);
	*t = (struct model_result){0};
}

static void model_fini(struct model *m)
{
	free(m->id);
	free(m->display_name);
	free(m->description);
	json_decref(m->aliases);
	json_decref(m->parameters);
	json_decref(m->variants);
	upstream_free(&m->upstream);
}

void models_free(void)
{
	for (size_t i = 0; i < all.n; i++)
		model_fini(&all.models[i]);
	for (size_t i = 0; i < all.n_remotes; i++)
		remote_free(&all.remotes[i]);
	free(all.models);
	free(all.remotes);
	free(all.default_id);
	all = (struct model_list){0};
}

static void add_playbook(struct model_list *list)
{
	list->models = mem_grow(list->models, &list->cap, list->n + 1, sizeof *list->models);
	list->models[list->n++] = (struct model){
	    .id = str_dup("playbook"),
	    .display_name = str_dup("Playbook"),
	    .description = str_dup("Performs the fenced blocks of the prompt in order, without a language model"),
	    .aliases = json_array(),
	    .parameters = json_array(),
	    .variants = json_pack("[{s:[], s:s, s:b}]", "params", "displayName", "Playbook", "isDefault", 1),
	    .provider = &provider_playbook,
	};
}

bool model_is_named(const struct model *m, const char *id)
{
	size_t i;
	json_t *alias;

	if (strcmp(m->id, id) == 0)
		return true;
	json_array_foreach(m->aliases, i, alias)
	{
		if (strcmp(json_string_value(alias), id) == 0)
			return true;
	}
	return false;
}

static bool models_answers_to(const struct model *m, const char *id)
{
	if (id == NULL || strcmp(id, "default") == 0 || strcmp(id, "auto") == 0)
		return m->is_default;
	return model_is_named(m, id);
}

/* The default goes to the front. */
static int choose_default(struct model_list *list, struct why *why)
{
	struct model chosen;
	size_t at = 0;

	if (list->default_id != NULL) {
		while (at < list->n && !models_answers_to(&list->models[at], list->default_id))
			at++;
		if (at == list->n)
			return why_set(why, ERR_INVALID, "models.default: there is no model '%s'", list->default_id);
	}
	chosen = list->models[at];
	chosen.is_default = true;
	memmove(list->models + 1, list->models, at * sizeof *list->models);
	list->models[0] = chosen;
	return OK;
}

int models_configure(const json_t *table, struct why *why)
{
	AUTO_JSON from_environment = table == NULL ? settings_from_environment() : NULL;
	int rc;

	models_free();
	rc = settings_read(table != NULL ? table : from_environment, &all, why);
	add_playbook(&all);
	if (rc == OK)
		rc = choose_default(&all, why);
	if (rc != OK)
		models_free();
	return rc;
}

const struct model *models_all(size_t *ret_n)
{
	*ret_n = all.n;
	return all.models;
}

const struct model *model_find(const char *id)
{
	for (size_t i = 0; i < all.n; i++)
		if (models_answers_to(&all.models[i], id))
			return &all.models[i];
	return NULL;
}

/* The value given for that parameter, NULL if there is none. ERR_CONFLICT: twice. */
static int find_given(const json_t *params, const char *id, const char **ret)
{
	size_t i;
	json_t *p;

	json_array_foreach((json_t *)params, i, p)
	{
		if (strcmp(json_word(p, "id"), id) != 0)
			continue;
		if (*ret != NULL)
			return ERR_CONFLICT;
		*ret = json_word(p, "value");
	}
	return OK;
}

static int models_check_names(const struct model *m, const json_t *params, struct why *why)
{
	size_t i;
	json_t *p;

	json_array_foreach((json_t *)params, i, p)
	{
		size_t k = 0;

		while (k < json_array_size(m->parameters) &&
		       strcmp(json_word(json_array_get(m->parameters, k), "id"), json_word(p, "id")) != 0)
			k++;
		if (k == json_array_size(m->parameters))
			return why_set(
			    why, ERR_INVALID, "model '%s' has no parameter '%.60s'", m->id, json_word(p, "id"));
	}
	return OK;
}

static int models_check_value(const struct model *m, const json_t *option, const char *value, struct why *why)
{
	const json_t *values = json_object_get(option, "values");
	char list[300] = "";
	const char *known;
	json_t *v;

	if (json_object_get(values, value) != NULL)
		return OK;
	json_object_foreach((json_t *)values, known, v)
	{
		size_t at = strlen(list);

		snprintf(list + at, sizeof list - at, "%s%s", at > 0 ? ", " : "", known);
	}
	return why_set(why, ERR_INVALID, "parameter '%s' of model '%s' must be one of %s, not '%.60s'",
	    json_word(option, "id"), m->id, list, value);
}

int model_params(const struct model *m, const json_t *params, json_t **ret, struct why *why)
{
	AUTO_JSON full = json_array();
	const json_t *options = m->upstream != NULL ? m->upstream->options : NULL;
	size_t i;
	json_t *option;
	int rc = models_check_names(m, params, why);

	json_array_foreach((json_t *)options, i, option)
	{
		const char *value = NULL, *id = json_word(option, "id");

		if (rc == OK && find_given(params, id, &value) != OK)
			rc = why_set(why, ERR_INVALID, "parameter '%s' is given twice", id);
		if (rc == OK && value != NULL)
			rc = models_check_value(m, option, value, why);
		if (rc == OK)
			json_array_append_new(full, json_pack("{s:s, s:s}", "id", id, "value",
							value != NULL ? value : json_word(option, "default")));
	}
	if (rc == OK)
		*ret = TAKE(full);
	return rc;
}
