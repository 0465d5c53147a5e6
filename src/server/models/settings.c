/* The `models` table of the settings: its providers. docs/models.md lists the same keys. */
#include "server/models/settings_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

#define PROVIDERS_MAX 100
#define HEADERS_MAX 30
#define POOL_IDLE_MAX 64
#define POOL_IDLE_MS 60000

static int read_base_url(const struct table *t, struct remote *p)
{
	const char *url = strcmp(p->wire->type, "anthropic") == 0 ? "https://api.anthropic.com" : NULL;
	int rc = url != NULL ? table_text(t, "base_url", &url) : table_need_text(t, "base_url", &url);
	const char *host;
	size_t len;

	if (rc != OK)
		return rc;
	ENSURE(url != NULL);
	host = strstr(url, "://");
	if ((!text_has_prefix(url, "http://") && !text_has_prefix(url, "https://")) || strpbrk(url, "@?# ") != NULL ||
	    host == NULL || host[3] == '\0')
		return table_wrong(t, "base_url", "a URL like https://host/v1, without user, query and fragment");
	if (strstr(url, "/chat/completions") != NULL || text_has_suffix(url, "/messages"))
		return table_wrong(t, "base_url", "what stands before /chat/completions or /v1/messages");
	len = strlen(url);
	while (len > 0 && url[len - 1] == '/')
		len--;
	if (url[0] != '\0' && strcmp(p->wire->type, "anthropic") == 0 && len > 3 &&
	    strncmp(url + len - 3, "/v1", 3) == 0)
		len -= 3;
	p->base_url = str_ndup(url, len);
	p->url = str_printf("%s%s", p->base_url, p->wire->path);
	return OK;
}

static int settings_read_key(const struct table *t, struct remote *p)
{
	const char *file = NULL, *env = NULL;
	int rc = table_text(t, "api_key_file", &file);

	if (rc == OK)
		rc = table_text(t, "api_key_env", &env);
	if (rc != OK)
		return rc;
	if (file != NULL && env != NULL)
		return why_set(t->why, ERR_INVALID, "%s: give api_key_file or api_key_env, not both", t->where);
	if (env != NULL) {
		p->key_source = str_printf("the environment variable %.100s", env);
		if (getenv(env) == NULL)
			return why_set(
			    t->why, ERR_INVALID, "%s.api_key_env: the environment has no '%s'", t->where, env);
		return table_secret_of(t, "api_key_env", getenv(env), &p->key);
	}
	if (file == NULL)
		return OK;
	p->key_source = str_dup("api_key_file");
	return table_secret(t, "api_key_file", &p->key);
}

static int read_headers(const struct table *t, struct remote *p)
{
	json_t *headers = NULL, *v;
	const char *name;
	int rc = table_object(t, "headers", &headers);

	if (rc != OK)
		return rc;
	if (json_object_size(headers) > HEADERS_MAX)
		return table_wrong(t, "headers", "a table of at most 30 headers");
	json_object_foreach(headers, name, v)
	{
		const struct table inner = {.json = headers, .where = t->where, .why = t->why};
		const char *value = NULL;

		if (!text_is_token(name, "-_", 100))
			return table_wrong(t, "headers", "a table of header names and their values");
		if (!json_is_string(v) || table_text(&inner, name, &value) != OK)
			return why_set(t->why, ERR_INVALID, "%s.headers.%s must be a text of one line", t->where, name);
	}
	p->headers = headers != NULL ? json_deep_copy(headers) : json_object();
	return OK;
}

static int read_ca_file(const struct table *t, struct remote *p)
{
	const char *file = NULL;
	int rc = table_text(t, "ca_file", &file);

	if (rc == OK && file != NULL && access(file, R_OK) != 0)
		return why_set(t->why, ERR_INVALID, "%s.ca_file: cannot read %s", t->where, file);
	p->ca_file = str_dup(file);
	return rc;
}

static int read_openai(const struct table *t, struct remote *p)
{
	const char *field = strstr(p->base_url, "//api.openai.com") != NULL ? "max_completion_tokens" : "max_tokens";
	int rc = table_text(t, "max_tokens_field", &field);

	if (rc == OK && strcmp(field, "max_tokens") != 0 && strcmp(field, "max_completion_tokens") != 0)
		return table_wrong(t, "max_tokens_field", "\"max_tokens\" or \"max_completion_tokens\"");
	p->max_tokens_field = str_dup(field);
	p->stream_usage = p->return_reasoning = true;
	if (rc == OK)
		rc = table_bool(t, "stream_usage", &p->stream_usage);
	return rc == OK ? table_bool(t, "return_reasoning", &p->return_reasoning) : rc;
}

static const char *const provider_keys[] = {"name", "type", "base_url", "api_key_file", "api_key_env", "headers",
    "ca_file", "stall_timeout", "connect_timeout", "retries", "models", "max_tokens_field", "stream_usage",
    "return_reasoning", NULL};

static int read_type(const struct table *t, struct remote *p)
{
	static const char *const openai_only[] = {"max_tokens_field", "stream_usage", "return_reasoning"};
	const char *type = NULL;
	int rc = table_need_text(t, "type", &type);

	if (rc != OK)
		return rc;
	ENSURE(type != NULL);
	if (strcmp(type, "openai") == 0)
		p->wire = &wire_openai;
	else if (strcmp(type, "anthropic") == 0)
		p->wire = &wire_anthropic;
	else
		return table_wrong(t, "type", "\"openai\" or \"anthropic\"");
	for (size_t i = 0; p->wire != &wire_openai && i < ARRAY_LEN(openai_only); i++)
		if (json_object_get(t->json, openai_only[i]) != NULL)
			return why_set(t->why, ERR_INVALID, "%s.%s is for type openai only", t->where, openai_only[i]);
	p->provider = (struct provider){.name = p->wire->type, .request = remote_request};
	return OK;
}

static int read_provider(const struct table *t, struct remote *p)
{
	const char *name = NULL;
	int64_t stall = 120, connect = 10;
	int rc = table_keys(t, provider_keys);

	p->retries = 5;
	if (rc == OK)
		rc = table_need_text(t, "name", &name);
	if (rc == OK && !text_is_token(name, "-_.", 60))
		return table_wrong(t, "name", "letters, digits, '-', '_' and '.', at most 60");
	p->name = str_dup(name);
	if (rc == OK)
		rc = read_type(t, p);
	if (rc == OK)
		rc = read_base_url(t, p);
	if (rc == OK)
		rc = settings_read_key(t, p);
	if (rc == OK)
		rc = read_headers(t, p);
	if (rc == OK)
		rc = read_ca_file(t, p);
	if (rc == OK && p->wire == &wire_openai)
		rc = read_openai(t, p);
	if (rc == OK)
		rc = table_int(t, "stall_timeout", 1, 3600, &stall);
	if (rc == OK)
		rc = table_int(t, "connect_timeout", 1, 600, &connect);
	if (rc == OK)
		rc = table_int(t, "retries", 0, 100, &p->retries);
	p->stall_timeout_ms = stall * 1000;
	p->connect_timeout_ms = connect * 1000;
	p->pool = http_client_pool_new(POOL_IDLE_MAX, POOL_IDLE_MS);
	return rc;
}

int settings_read(const json_t *json, struct model_list *list, struct why *why)
{
	static const char *const keys[] = {"default", "providers", NULL};
	const struct table t = {.json = json, .where = "models", .why = why};
	const char *default_id = NULL;
	json_t *providers = NULL, *item;
	size_t i;
	int rc = table_keys(&t, keys);

	if (rc == OK)
		rc = table_text(&t, "default", &default_id);
	if (rc == OK)
		rc = table_array(&t, "providers", &providers);
	if (rc == OK && json_array_size(providers) > PROVIDERS_MAX)
		return table_wrong(&t, "providers", "an array of at most 100");
	list->default_id = str_dup(default_id);
	json_array_foreach(providers, i, item)
	{
		AUTO_STR where = str_printf("models.providers[%zu]", i);
		const struct table provider = {.json = item, .where = where, .why = why};
		struct remote *p = NEW(struct remote);

		list->remotes = mem_grow(list->remotes, &list->cap_remotes, i + 1, sizeof *list->remotes);
		list->remotes[list->n_remotes++] = p;
		rc = read_provider(&provider, p);
		for (size_t other = 0; rc == OK && other < i; other++)
			if (strcmp(list->remotes[other]->name, p->name) == 0)
				rc = why_set(why, ERR_INVALID, "%s.name: there are two providers '%s'", where, p->name);
		if (rc == OK)
			rc = settings_read_models(&provider, p, list);
		if (rc != OK)
			break;
	}
	return rc;
}
