/* Models for a quick try, without a file: the variables that other programs of the trade read too. */
#include "base/log.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include "server/models/settings_priv.h"
#include <string.h>

#define LISTED_MAX 50
#define ASK_MS 3000

static const char *settings_env_env(const char *name)
{
	const char *s = getenv(name);

	return s != NULL && s[0] != '\0' ? s : NULL;
}

static json_t *model_of(const char *id, int64_t context_window, int64_t max_output, bool images)
{
	json_t *m = json_object();

	json_put(m, "id", id);
	if (context_window > 0)
		json_put_int(m, "context_window", context_window);
	if (max_output > 0)
		json_put_int(m, "max_output_tokens", max_output);
	json_put_bool(m, "images", images);
	return m;
}

/* "a, b" */
static json_t *models_named(const char *list, int64_t context_window, bool images)
{
	json_t *models = json_array();
	const char *at = list;

	while (*at != '\0') {
		size_t n = strcspn(at, ",");
		AUTO_STR raw = str_ndup(at, n);
		AUTO_STR id = text_trim(raw);

		if (id[0] != '\0')
			json_array_append_new(models, model_of(id, context_window, 0, images));
		at += n + (at[n] == ',');
	}
	return models;
}

static json_t *model_objects(const char *body, size_t len)
{
	json_t *models = json_array(), *item;
	AUTO_JSON json = answer_json(body, len);
	size_t i;

	json_array_foreach(json_object_get(json, "data"), i, item)
	{
		const char *id = json_string_value(json_object_get(item, "id"));
		bool known = id == NULL || !text_is_token(id, "-_.:/@+", 200) || settings_is_reserved(id);

		for (size_t other = 0; !known && other < json_array_size(models); other++)
			known =
			    strcmp(json_string_value(json_object_get(json_array_get(models, other), "id")), id) == 0;
		if (known || json_array_size(models) == LISTED_MAX)
			continue;
		/* vLLM says how long a conversation may be. */
		json_array_append_new(
		    models, model_of(id, MIN(member_count(item, "max_model_len"), 100000000), 0, false));
	}
	return models;
}

/* The models that the server itself names. A server that is not there is no reason not to start. */
static json_t *ask_for_models(const char *base, const char *key)
{
	AUTO_STR url = str_printf("%s%smodels", base, text_has_suffix(base, "/") ? "" : "/");
	AUTO_STR bearer = str_printf("Bearer %s", key != NULL ? key : "");
	const struct http_header header = {"authorization", bearer};
	const struct http_client_request req = {.method = "GET",
	    .url = url,
	    .headers = &header,
	    .n_headers = key != NULL,
	    .connect_timeout_ms = ASK_MS,
	    .timeout_ms = ASK_MS,
	    .max_body = 4 * 1024 * 1024};
	struct http_client_response res;
	struct why why = {0};
	json_t *models = NULL;
	int rc = http_client_do(&req, &res, &why);

	if (rc == OK && res.status == 200)
		models = model_objects(strbuf_str(&res.body), res.body.len);
	else if (rc == OK)
		why_set(&why, ERR_PROTOCOL, "it answered %d", res.status);
	if (json_array_size(models) == 0) {
		if (models != NULL)
			why_set(&why, ERR_PROTOCOL, "it names none");
		AUTO_STR shown = repo_url_redact(base);

		log_warn("models.not_listed", "base_url=%s reason=%s hint=%s", log_quote(shown), log_quote(why.text),
		    log_quote("set OPENAI_MODEL to a model of that server"));
		json_drop(&models);
	}
	http_client_response_fini(&res);
	return models;
}

static json_t *openai_models(const char *base, const char *key)
{
	const char *named = settings_env_env("OPENAI_MODEL");
	bool theirs = strstr(base, "//api.openai.com") != NULL;
	json_t *models;

	if (named != NULL)
		return models_named(named, 0, theirs);
	if (!theirs)
		return ask_for_models(base, key);
	models = json_array();
	json_array_append_new(models, model_of("gpt-5", 272000, 0, true));
	json_array_append_new(models, model_of("gpt-5-mini", 272000, 0, true));
	json_array_append_new(models, model_of("gpt-4.1", 1000000, 0, true));
	return models;
}

static json_t *anthropic_models(void)
{
	const char *named = settings_env_env("ANTHROPIC_MODEL");
	json_t *models;

	if (named != NULL)
		return models_named(named, 200000, true);
	models = json_array();
	json_array_append_new(models, model_of("claude-sonnet-4-5", 200000, 16384, true));
	json_array_append_new(models, model_of("claude-opus-4-5", 200000, 16384, true));
	json_array_append_new(models, model_of("claude-haiku-4-5", 200000, 16384, true));
	return models;
}

static void add_provider(json_t *providers, const char *type, const char *base, const char *key_env, json_t *models)
{
	json_t *p = json_object();

	json_put(p, "name", type);
	json_put(p, "type", type);
	json_put(p, "base_url", base);
	if (settings_env_env(key_env) != NULL)
		json_put(p, "api_key_env", key_env);
	json_put_new(p, "models", models);
	json_array_append_new(providers, p);
}

json_t *settings_from_environment(void)
{
	json_t *table = json_object(), *providers = json_array(), *models;
	const char *base = settings_env_env("OPENAI_BASE_URL"), *key = settings_env_env("OPENAI_API_KEY");

	if (base != NULL || key != NULL) {
		if (base == NULL)
			base = "https://api.openai.com/v1";
		models = openai_models(base, key);
		if (models != NULL)
			add_provider(providers, "openai", base, "OPENAI_API_KEY", models);
	}
	if (settings_env_env("ANTHROPIC_API_KEY") != NULL)
		add_provider(providers, "anthropic", settings_env_env("ANTHROPIC_BASE_URL"), "ANTHROPIC_API_KEY",
		    anthropic_models());
	json_put_new(table, "providers", providers);
	return table;
}
