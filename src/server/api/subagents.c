/* customSubagents of POST /v1/agents. Types, unknown keys and what is required are checked by the route's schema
 * before. */
#include "server/runs/subagents.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include "server/models/models.h"
#include <string.h>

#define DESCRIPTION_MAX 4096
#define PROMPT_MAX (128 * 1024)

static const char *subagent_text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* Names are compared without regard to case, so the first of two is found by either. */
static int check_name(const json_t *list, size_t i, const char *name, struct problem *p)
{
	if (!subagent_is_name(name))
		return problem_set(p, API_validation_error,
		    "'customSubagents[%zu].name' must be 1 to 64 letters, digits, _ and -, beginning with a letter or "
		    "a digit",
		    i);
	if (subagent_is_reserved(name))
		return problem_set(p, API_validation_error,
		    "'customSubagents[%zu].name': '%s' is a name of Bullpen's own: choose another", i, name);
	if (subagents_find(list, name) != json_array_get(list, i))
		return problem_set(
		    p, API_validation_error, "'customSubagents[%zu].name': there are two subagents '%s'", i, name);
	return OK;
}

static int check_text(const json_t *s, size_t i, const char *key, size_t max, struct problem *p)
{
	const char *text = subagent_text(s, key);

	if (text_is_blank(text))
		return problem_set(p, API_validation_error, "'customSubagents[%zu].%s' must not be blank", i, key);
	if (strlen(text) > max)
		return problem_set(
		    p, API_validation_error, "'customSubagents[%zu].%s' must be at most %zu bytes", i, key, max);
	return OK;
}

static const char model_forms[] = "a model's id, {id, params?} or \"inherit\"";

/* Each of [{id, value}], both non-empty texts. */
static bool are_params(const json_t *params)
{
	size_t i;
	json_t *item;

	if (params != NULL && !json_is_array(params))
		return false;
	json_array_foreach((json_t *)params, i, item)
	{
		const char *id = subagent_text(item, "id"), *value = subagent_text(item, "value");

		if (id == NULL || id[0] == '\0' || value == NULL || value[0] == '\0' || json_object_size(item) != 2)
			return false;
	}
	return true;
}

static int check_model_object(const json_t *model, size_t i, struct problem *p)
{
	const char *id = subagent_text(model, "id");
	const json_t *params = json_object_get(model, "params");
	const struct model *m;
	AUTO_JSON full = NULL;
	struct why why = {0};

	if (id == NULL || id[0] == '\0' || json_object_size(model) != (params != NULL ? 2 : 1))
		return problem_set(p, API_validation_error, "'customSubagents[%zu].model' must be %s", i, model_forms);
	if (!are_params(params))
		return problem_set(p, API_validation_error,
		    "'customSubagents[%zu].model.params' must be an array of {id, value}, both non-empty strings", i);
	m = model_find(id);
	if (m == NULL)
		return problem_set(p, API_invalid_model,
		    "'customSubagents[%zu].model': there is no model '%.100s'; GET /v1/models lists them", i, id);
	return model_params(m, params, &full, &why) == OK
		   ? OK
		   : problem_set(p, API_invalid_model, "'customSubagents[%zu].model': %s", i, why.text);
}

static int check_model(const json_t *s, size_t i, struct problem *p)
{
	const json_t *model = json_object_get(s, "model");
	AUTO_JSON of_id = NULL;

	if (model == NULL || (json_is_string(model) && strcmp(json_string_value(model), "inherit") == 0))
		return OK;
	if (json_is_object(model))
		return check_model_object(model, i, p);
	if (!json_is_string(model) || strlen(json_string_value(model)) != json_string_length(model))
		return problem_set(p, API_validation_error, "'customSubagents[%zu].model' must be %s", i, model_forms);
	of_id = json_pack("{s:s}", "id", json_string_value(model));
	return check_model_object(of_id, i, p);
}

int read_subagents(const json_t *body, struct problem *p)
{
	const json_t *list = json_object_get(body, "customSubagents");
	size_t i;
	json_t *s;

	json_array_foreach((json_t *)list, i, s)
	{
		int rc = check_name(list, i, subagent_text(s, "name"), p);

		if (rc == OK)
			rc = check_text(s, i, "description", DESCRIPTION_MAX, p);
		if (rc == OK)
			rc = check_text(s, i, "prompt", PROMPT_MAX, p);
		if (rc == OK)
			rc = check_model(s, i, p);
		if (rc != OK)
			return rc;
	}
	return OK;
}
