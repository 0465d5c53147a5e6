/* Checks of the body members that agents and runs have in common. */
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include "server/models/models.h"
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#define PROMPT_MAX (1024 * 1024)
#define IMAGES_MAX 5

int problem_set(struct problem *p, enum api_code code, const char *fmt, ...)
{
	struct why next; /* the arguments may be the text that is there */
	va_list ap;

	p->code = code;
	va_start(ap, fmt);
	vsnprintf(next.text, sizeof next.text, fmt, ap);
	va_end(ap);
	p->why = next;
	return ERR_INVALID;
}

int read_prompt(const json_t *body, const char **ret_text, json_t **ret_images, struct problem *p)
{
	static const char *const keys[] = {"text", "images", NULL};
	json_t *prompt = NULL, *images = NULL;
	const char *text = NULL;
	int rc = json_get_object(body, "prompt", &prompt, &p->why);

	if (rc == OK && prompt == NULL)
		return problem_set(p, API_validation_error, "'prompt' is required");
	if (rc == OK)
		rc = json_only_keys(prompt, keys, "'prompt'", &p->why);
	if (rc == OK)
		rc = json_need_string(prompt, "text", &text, &p->why);
	if (rc == OK)
		rc = json_get_array(prompt, "images", &images, &p->why);
	if (rc != OK)
		return rc;
	if (text_is_blank(text))
		return problem_set(p, API_validation_error, "'prompt.text' must not be blank");
	if (strlen(text) > PROMPT_MAX)
		return problem_set(p, API_validation_error, "'prompt.text' must be at most 1 MiB");
	if (json_array_size(images) > IMAGES_MAX)
		return problem_set(p, API_validation_error, "'prompt.images' may have at most %d entries", IMAGES_MAX);
	*ret_text = text;
	*ret_images = images;
	return OK;
}

/* Well-formed parameters; whether the model has them is for the model to say. */
static int read_params(const json_t *model, json_t **ret, struct problem *p)
{
	static const char *const keys[] = {"id", "value", NULL};
	json_t *params = NULL, *item;
	size_t i;
	int rc = json_get_array(model, "params", &params, &p->why);

	if (rc != OK)
		return rc;
	json_array_foreach(params, i, item)
	{
		const char *text = NULL;

		if (!json_is_object(item))
			return problem_set(p, API_validation_error, "'model.params[%zu]' must be an object", i);
		rc = json_only_keys(item, keys, "'model.params'", &p->why);
		if (rc == OK)
			rc = json_need_string(item, "id", &text, &p->why);
		if (rc == OK)
			rc = json_need_string(item, "value", &text, &p->why);
		if (rc != OK)
			return rc;
	}
	*ret = params;
	return OK;
}

/* As the store keeps it: the id and every parameter, defaults filled in. */
static int choose_model(const struct model *m, const json_t *given, char **ret, struct problem *p)
{
	AUTO_JSON params = NULL;
	AUTO_JSON chosen = NULL;
	struct why why = {0};

	if (model_params(m, given, &params, &why) != OK)
		return problem_set(p, API_invalid_model, "%s", why.text);
	chosen = json_pack("{s:s, s:O}", "id", m->id, "params", params);
	free(*ret);
	*ret = json_text(chosen);
	return OK;
}

int default_model(char **ret_model, struct problem *p)
{
	return choose_model(model_find(NULL), NULL, ret_model, p);
}

int read_model(const json_t *body, char **ret_model, struct problem *p)
{
	static const char *const keys[] = {"id", "params", NULL};
	json_t *model = NULL, *given = NULL;
	const char *id = NULL;
	const struct model *m;
	int rc = json_get_object(body, "model", &model, &p->why);

	if (rc != OK || model == NULL)
		return rc;
	rc = json_only_keys(model, keys, "'model'", &p->why);
	if (rc == OK)
		rc = json_need_string(model, "id", &id, &p->why);
	if (rc != OK)
		return rc;
	m = model_find(id);
	if (m == NULL)
		return problem_set(p, API_invalid_model, "there is no model '%.100s'; GET /v1/models lists them", id);
	rc = read_params(model, &given, p);
	return rc != OK ? rc : choose_model(m, given, ret_model, p);
}

int read_mode(const json_t *body, const char **ret_mode, struct problem *p)
{
	const char *mode = NULL;
	int rc = json_get_string(body, "mode", &mode, &p->why);

	if (rc != OK || mode == NULL)
		return rc;
	if (strcmp(mode, "agent") != 0 && strcmp(mode, "plan") != 0)
		return problem_set(p, API_validation_error, "'mode' must be agent or plan");
	*ret_mode = mode;
	return OK;
}

static bool is_env_name(const char *s)
{
	if (!isalpha((unsigned char)s[0]) && s[0] != '_')
		return false;
	return text_is_token(s, "_", 255);
}

int read_env_vars(const json_t *body, const char *key, struct problem *p)
{
	json_t *vars = NULL, *value;
	const char *name;
	int rc = json_get_object(body, key, &vars, &p->why);

	if (rc != OK)
		return rc;
	if (json_object_size(vars) > 50)
		return problem_set(p, API_validation_error, "'%s' may have at most 50 entries", key);
	json_object_foreach(vars, name, value)
	{
		if (!is_env_name(name) || text_has_prefix(name, "CURSOR_"))
			return problem_set(p, API_validation_error,
			    "'%s': a name is 1 to 255 letters, digits and _, not starting with a digit or CURSOR_",
			    key);
		if (!json_is_string(value) || json_string_length(value) < 1 || json_string_length(value) > 4096 ||
		    strlen(json_string_value(value)) != json_string_length(value))
			return problem_set(
			    p, API_validation_error, "'%s.%.60s' must be a string of 1 to 4096 bytes", key, name);
	}
	return OK;
}

/* Known to the API, not built here yet: refused in words rather than taken and forgotten. Empty values ask for nothing.
 */
int refuse_unbuilt(const json_t *body, struct problem *p)
{
	static const char *const lists[] = {"mcpServers", "customSubagents"};
	bool pr = false;
	int rc = OK;

	for (size_t i = 0; i < ARRAY_LEN(lists) && rc == OK; i++) {
		json_t *list = NULL;

		rc = json_get_array(body, lists[i], &list, &p->why);
		if (rc == OK && json_array_size(list) > 0)
			rc = problem_set(p, API_not_implemented, "'%s' is not supported by this version", lists[i]);
	}
	if (rc == OK)
		rc = json_get_bool(body, "autoCreatePR", &pr, &p->why);
	if (rc == OK && pr)
		rc = problem_set(p, API_not_implemented,
		    "'autoCreatePR' is not supported by this version: the branch is pushed, open the pull request from "
		    "it");
	return rc;
}
