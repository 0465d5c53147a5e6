/* Checks of the body members that agents and runs have in common. */
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include "server/models/models.h"
#include "server/runs/inputs.h"
#include <ctype.h>
#include <string.h>

#define PROMPT_MAX (1024 * 1024)

/* The shapes of the members (types, unknown keys, required ones) are checked by the routes' schemas before. */

int read_prompt(const json_t *body, const char **ret_text, json_t **ret_images, struct problem *p)
{
	const json_t *prompt = json_object_get(body, "prompt");
	const char *text = json_string_value(json_object_get(prompt, "text"));

	/* A file of Windows begins with a mark that is no part of its text. */
	if (text_has_prefix(text, "\xef\xbb\xbf"))
		text += 3;
	if (text_is_blank(text))
		return problem_set(p, API_validation_error, "'prompt.text' must not be blank");
	if (strlen(text) > PROMPT_MAX)
		return problem_set(p, API_validation_error, "'prompt.text' must be at most 1 MiB");
	*ret_text = text;
	*ret_images = json_object_get(prompt, "images");
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
	const json_t *model = json_object_get(body, "model");
	const char *id = json_string_value(json_object_get(model, "id"));
	const struct model *m;

	if (model == NULL)
		return OK;
	m = model_find(id);
	if (m == NULL)
		return problem_set(p, API_invalid_model, "there is no model '%.100s'; GET /v1/models lists them", id);
	return choose_model(m, json_object_get(model, "params"), ret_model, p);
}

static bool is_env_name(const char *s)
{
	if (!isalpha((unsigned char)s[0]) && s[0] != '_')
		return false;
	return text_is_token(s, "_", 255);
}

int read_env_vars(const json_t *body, const char *key, struct problem *p)
{
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(body, key), name, value)
	{
		if (!is_env_name(name) || text_has_prefix(name, "CURSOR_"))
			return problem_set(p, API_validation_error,
			    "'%s': a name is 1 to 255 letters, digits and _, not starting with a digit or CURSOR_",
			    key);
		if (json_string_length(value) < 1 || json_string_length(value) > 4096)
			return problem_set(
			    p, API_validation_error, "'%s.%.60s' must be a string of 1 to 4096 bytes", key, name);
	}
	return OK;
}

int keep_inputs(struct api_request *rq, struct tx *tx, const char *agent_id, const char *run_id, bool first)
{
	const struct seal *seal = rq->api->cfg.seal;
	const json_t *env = json_object_get(rq->body, "envVars"), *mcp = json_object_get(rq->body, "mcpServers");
	const json_t *own = json_object_get(rq->body, "runEnvVars");
	const char *of = first ? NULL : run_id;
	int rc = input_store(tx, seal, agent_id, of, INPUT_ENV, json_object_size(env) > 0 ? env : NULL);

	if (rc == OK && json_object_size(own) > 0)
		rc = input_store(tx, seal, agent_id, run_id, INPUT_ENV, own);
	/* Of a follow-up an empty list means none, of a new agent it means nothing. */
	if (rc == OK)
		rc = input_store(tx, seal, agent_id, of, INPUT_MCP, first && json_array_size(mcp) == 0 ? NULL : mcp);
	return rc;
}
