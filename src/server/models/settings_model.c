/* The models of one provider of the settings, and what people may choose about them. */
#include "base/mem.h"
#include "base/text.h"
#include "server/models/settings_priv.h"
#include <string.h>

#define MODELS_MAX 1000
#define VARIANTS_MAX 256
#define TOKENS_MAX 100000000
#define BUDGET_MIN 1024

bool settings_is_reserved(const char *id)
{
	return strcmp(id, "default") == 0 || strcmp(id, "auto") == 0 || strcmp(id, "playbook") == 0;
}

static bool is_model_id(const char *s)
{
	return text_is_token(s, "-_.:/@+", 200);
}

/* An id or alias must be nobody else's. */
static int check_free(const struct table *t, const char *key, const struct model_list *list, const char *id)
{
	if (!is_model_id(id))
		return table_wrong(t, key, "letters, digits and any of -_.:/@+, at most 200");
	ENSURE(id != NULL);
	if (settings_is_reserved(id))
		return why_set(t->why, ERR_INVALID, "%s.%s: '%s' is taken by Bullpen itself", t->where, key, id);
	for (size_t i = 0; i < list->n; i++)
		if (model_is_named(&list->models[i], id))
			return why_set(t->why, ERR_INVALID, "%s.%s: there are two models '%s'", t->where, key, id);
	return OK;
}

static int read_aliases(const struct table *t, const struct model_list *list, struct model *m)
{
	json_t *aliases = NULL, *item;
	size_t i;
	int rc = table_array(t, "aliases", &aliases);

	m->aliases = json_array();
	json_array_foreach(aliases, i, item)
	{
		const char *alias = json_string_value(item);

		if (rc == OK && alias == NULL)
			rc = table_wrong(t, "aliases", "an array of texts");
		if (rc == OK)
			rc = check_free(t, "aliases", list, alias);
		if (rc == OK && model_is_named(m, alias))
			rc = why_set(t->why, ERR_INVALID, "%s.aliases: there are two models '%s'", t->where, alias);
		if (rc == OK)
			json_array_append(m->aliases, item);
	}
	return rc;
}

/* Members that every request has by itself. */
static bool is_ours(const char *key)
{
	static const char *const ours[] = {"model", "messages", "tools", "system", "stream", "stream_options", "n"};

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (strcmp(ours[i], key) == 0)
			return true;
	return false;
}

static int read_parameters(const struct table *t, struct upstream *u)
{
	json_t *parameters = NULL, *v;
	const char *key;
	int rc = table_object(t, "parameters", &parameters);

	json_object_foreach(parameters, key, v)
	{
		if (is_ours(key))
			return why_set(t->why, ERR_INVALID, "%s.parameters must not set '%s'", t->where, key);
	}
	u->parameters = parameters != NULL ? json_deep_copy(parameters) : json_object();
	return rc;
}

static char *value_text(const json_t *v)
{
	if (json_is_string(v))
		return str_dup(json_string_value(v));
	return json_is_number(v) || json_is_boolean(v) ? json_text(v) : NULL;
}

/* `values` as the wire wants them by the texts that people choose, and as GET /v1/models shows them. */
static int read_values(const struct table *t, json_t *values, json_t *by_text, json_t *shown)
{
	size_t i;
	json_t *v;

	json_array_foreach(values, i, v)
	{
		AUTO_STR text = value_text(v);

		if (text == NULL || text[0] == '\0' || strlen(text) > 100)
			return table_wrong(t, "values", "an array of texts, numbers or booleans");
		if (json_object_get(by_text, text) != NULL)
			return why_set(t->why, ERR_INVALID, "%s.values has '%s' twice", t->where, text);
		json_object_set(by_text, text, v);
		json_array_append_new(shown, json_pack("{s:s, s:s}", "value", text, "displayName", text));
	}
	return i > 0 ? OK : table_wrong(t, "values", "an array that is not empty");
}

static int read_field(const struct table *t, const char **ret)
{
	int rc = table_need_text(t, "field", ret);
	size_t head = rc == OK ? strcspn(*ret, ".") : 0;
	AUTO_STR first = rc == OK ? str_ndup(*ret, head) : NULL;

	if (rc != OK)
		return rc;
	if (!text_is_token(*ret, "-_.", 200) || (*ret)[0] == '.' || text_has_suffix(*ret, ".") ||
	    strstr(*ret, "..") != NULL || is_ours(first))
		return table_wrong(t, "field", "a member of the request that is free, like reasoning_effort or a.b");
	return OK;
}

static int read_default(const struct table *t, const json_t *by_text, const json_t *shown, char **ret)
{
	const json_t *v = json_object_get(t->json, "default");

	if (v == NULL)
		*ret = str_dup(json_string_value(json_object_get(json_array_get(shown, 0), "value")));
	else
		*ret = value_text(v);
	if (*ret == NULL || json_object_get(by_text, *ret) == NULL)
		return table_wrong(t, "default", "one of values");
	return OK;
}

/* anthropic_request.c counts with it: the texts of numbers become numbers, nothing else is taken. */
static int read_budgets(const struct table *t, const char *key, json_t *by_text)
{
	const char *text;
	json_t *v;
	void *next;

	json_object_foreach_safe(by_text, next, text, v)
	{
		int64_t n = -1;

		if (json_is_integer(v))
			n = json_integer_value(v);
		else if (json_is_string(v) && text_parse_int(json_string_value(v), 0, TOKENS_MAX, &n) != OK)
			n = -1;
		if (n != 0 && (n < BUDGET_MIN || n > TOKENS_MAX))
			return why_set(t->why, ERR_INVALID,
			    "%s.%s: a thinking_budget is a number of tokens from %d, or 0 for none", t->where, key,
			    BUDGET_MIN);
		json_put_int(by_text, text, n);
	}
	return OK;
}

static int read_option(const struct table *t, const struct remote *p, struct model *m)
{
	static const char *const keys[] = {"id", "display_name", "values", "default", "field", NULL};
	const char *id = NULL, *display = NULL, *field = NULL;
	json_t *values = NULL;
	AUTO_JSON by_text = json_object();
	AUTO_JSON shown = json_array();
	AUTO_STR chosen = NULL;
	int rc = table_keys(t, keys);

	if (rc == OK)
		rc = table_need_text(t, "id", &id);
	if (rc == OK && !text_is_token(id, "-_.", 60))
		return table_wrong(t, "id", "letters, digits, '-', '_' and '.', at most 60");
	if (rc == OK)
		rc = table_text(t, "display_name", &display);
	if (rc == OK)
		rc = read_field(t, &field);
	if (rc == OK)
		rc = table_array(t, "values", &values);
	if (rc == OK)
		rc = read_values(t, values, by_text, shown);
	if (rc == OK && p->wire == &wire_anthropic && strcmp(field, "thinking_budget") == 0)
		rc = read_budgets(t, "values", by_text);
	if (rc == OK)
		rc = read_default(t, by_text, shown, &chosen);
	if (rc != OK)
		return rc;
	for (size_t i = 0; i < json_array_size(m->parameters); i++)
		if (strcmp(json_string_value(json_object_get(json_array_get(m->parameters, i), "id")), id) == 0)
			return why_set(t->why, ERR_INVALID, "%s.id: there are two options '%s'", t->where, id);
	json_array_append_new(m->parameters,
	    json_pack("{s:s, s:s, s:O}", "id", id, "displayName", display != NULL ? display : id, "values", shown));
	json_array_append_new(m->upstream->options,
	    json_pack("{s:s, s:s, s:s, s:O}", "id", id, "field", field, "default", chosen, "values", by_text));
	return OK;
}

static int read_options(const struct table *t, const struct remote *p, struct model *m)
{
	json_t *options = NULL, *item;
	size_t i;
	int rc = table_array(t, "options", &options);

	m->parameters = json_array();
	m->upstream->options = json_array();
	json_array_foreach(options, i, item)
	{
		AUTO_STR where = str_printf("%s.options[%zu]", t->where, i);
		const struct table option = {.json = item, .where = where, .why = t->why};

		if (rc == OK)
			rc = read_option(&option, p, m);
	}
	return rc;
}

/* The number-th combination of values: the last option counts fastest. */
static json_t *make_variant(const struct model *m, size_t number)
{
	size_t n = json_array_size(m->parameters);
	AUTO_JSON params = json_array();
	AUTO_STR name = str_dup(m->display_name);
	bool is_default = true;

	for (size_t i = n; i > 0; i--) {
		const json_t *parameter = json_array_get(m->parameters, i - 1);
		const json_t *option = json_array_get(m->upstream->options, i - 1);
		json_t *values = json_object_get(parameter, "values");
		const json_t *value =
		    json_object_get(json_array_get(values, number % json_array_size(values)), "value");

		number /= json_array_size(values);
		json_array_insert_new(
		    params, 0, json_pack("{s:O, s:O}", "id", json_object_get(parameter, "id"), "value", value));
		is_default = is_default && json_equal(value, json_object_get(option, "default"));
	}
	for (size_t i = 0; i < n; i++) {
		char *longer = str_printf("%s%s%s", name, i == 0 ? " " : ", ",
		    json_string_value(json_object_get(json_array_get(params, i), "value")));

		free(name);
		name = longer;
	}
	return json_pack("{s:O, s:s, s:b}", "params", params, "displayName", name, "isDefault", is_default ? 1 : 0);
}

static int make_variants(const struct table *t, struct model *m)
{
	size_t n = 1;

	for (size_t i = 0; i < json_array_size(m->parameters) && n <= VARIANTS_MAX; i++)
		n *= json_array_size(json_object_get(json_array_get(m->parameters, i), "values"));
	if (n > VARIANTS_MAX)
		return why_set(
		    t->why, ERR_INVALID, "%s.options make more than %d combinations", t->where, VARIANTS_MAX);
	m->variants = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(m->variants, make_variant(m, i));
	return OK;
}

/* Ours, written by anthropic_request.c; other providers would send it as it is. */
static int read_thinking(const struct table *t, const struct remote *p, struct upstream *u)
{
	int64_t budget = 0;
	int rc = table_int(t, "thinking_budget", BUDGET_MIN, TOKENS_MAX, &budget);

	if (rc == OK && budget > 0 && p->wire != &wire_anthropic)
		return why_set(t->why, ERR_INVALID, "%s.thinking_budget is for providers of type anthropic", t->where);
	if (rc == OK && budget > 0)
		json_put_int(u->parameters, "thinking_budget", budget);
	else if (rc == OK && p->wire == &wire_anthropic && json_object_get(u->parameters, "thinking_budget") != NULL)
		return why_set(
		    t->why, ERR_INVALID, "%s.parameters must not set 'thinking_budget': it is a setting", t->where);
	return rc;
}

static int read_limits(const struct table *t, const struct remote *p, struct model *m)
{
	int rc = table_int(t, "context_window", 0, TOKENS_MAX, &m->context_window);

	if (rc == OK)
		rc = table_int(t, "max_output_tokens", 1, TOKENS_MAX, &m->upstream->max_output_tokens);
	if (rc == OK)
		rc = table_bool(t, "images", &m->takes_images);
	if (rc == OK)
		rc = read_parameters(t, m->upstream);
	return rc == OK ? read_thinking(t, p, m->upstream) : rc;
}

static const char *const model_keys[] = {"id", "upstream", "display_name", "description", "aliases", "context_window",
    "max_output_tokens", "images", "parameters", "thinking_budget", "options", NULL};

static int read_model(const struct table *t, struct remote *p, const struct model_list *list, struct model *m)
{
	const char *id = NULL, *upstream, *display, *description = NULL;
	int rc = table_keys(t, model_keys);

	if (rc == OK)
		rc = table_need_text(t, "id", &id);
	if (rc == OK)
		rc = check_free(t, "id", list, id);
	if (rc != OK)
		return rc;
	upstream = display = id;
	rc = table_text(t, "upstream", &upstream);
	if (rc == OK)
		rc = table_text(t, "display_name", &display);
	if (rc == OK)
		rc = table_text(t, "description", &description);
	if (rc != OK)
		return rc;
	m->id = str_dup(id);
	m->display_name = str_dup(display);
	m->description = description != NULL ? str_dup(description) : str_printf("%s, through %s", upstream, p->name);
	m->provider = &p->provider;
	m->upstream = NEW(struct upstream);
	m->upstream->name = str_dup(upstream);
	rc = read_aliases(t, list, m);
	if (rc == OK)
		rc = read_limits(t, p, m);
	if (rc == OK)
		rc = read_options(t, p, m);
	return rc == OK ? make_variants(t, m) : rc;
}

int settings_read_models(const struct table *provider, struct remote *p, struct model_list *list)
{
	json_t *models = NULL, *item;
	size_t i;
	int rc = table_array(provider, "models", &models);

	if (rc == OK && (json_array_size(models) == 0 || json_array_size(models) > MODELS_MAX))
		return table_wrong(provider, "models", "an array of 1 to 1000 models: [[models.providers.models]]");
	json_array_foreach(models, i, item)
	{
		AUTO_STR where = str_printf("%s.models[%zu]", provider->where, i);
		const struct table t = {.json = item, .where = where, .why = provider->why};
		struct model m = {0};

		if (rc != OK)
			break;
		rc = read_model(&t, p, list, &m);
		/* The list owns it in any case. */
		list->models = mem_grow(list->models, &list->cap, list->n + 1, sizeof *list->models);
		list->models[list->n++] = m;
	}
	return rc;
}
