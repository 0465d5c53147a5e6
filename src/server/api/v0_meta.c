/* /v0/me, /v0/models, /v0/repositories */
#include "base/clock.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "server/api/v0.h"
#include "server/models/models.h"
#include <string.h>

static void v0_get_me(struct api_request *rq)
{
	json_t *o = json_object();
	char when[CLOCK_ISO_LEN];

	clock_iso8601(rq->who->key_created_at, when);
	json_put(o, "apiKeyName", rq->who->key_name);
	json_put(o, "createdAt", when);
	if (!principal_is_service_account(rq->who))
		json_put(o, "userEmail", rq->who->user_email);
	api_reply(rq, 200, o);
}

static void v0_get_models(struct api_request *rq)
{
	json_t *ids = json_array();
	size_t n;
	const struct model *models = models_all(&n);

	for (size_t i = 0; i < n; i++)
		json_array_append_new(ids, json_string(models[i].id));
	api_reply(rq, 200, json_pack("{s:o}", "models", ids));
}

/* What stands before the last slash of the path is the owner. */
static json_t *repository_json(const char *url)
{
	AUTO_STR host = NULL;
	AUTO_STR label = repo_url_label(url, &host);
	char *slash = label != NULL ? strrchr(label, '/') : NULL;

	if (slash == NULL)
		return NULL;
	*slash = '\0';
	return json_pack("{s:s, s:s, s:s}", "owner", label, "name", slash + 1, "repository", url);
}

static void v0_get_repositories(struct api_request *rq)
{
	AUTO_JSON urls = NULL;
	json_t *list, *url;
	size_t i;
	int rc = repositories_known(rq, &urls);

	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	list = json_array();
	json_array_foreach(urls, i, url)
	{
		json_t *one = repository_json(json_string_value(url));

		if (one != NULL)
			json_array_append_new(list, one);
	}
	api_reply(rq, 200, json_pack("{s:o}", "repositories", list));
}

static const struct route v0_get_me_route = {
    .name = "v0GetMe",
    .method = "GET",
    .path = "/v0/me",
    .summary = "Whose key this is",
    .tag = "v0 meta",
    .rate = RATE_READ,
    .responses = {{200, "{apiKeyName, createdAt, userEmail?}", .form = "V0Me"}},
    .handler = v0_get_me,
};
ROUTE(v0_get_me_route);

static const struct route v0_list_models_route = {
    .name = "v0ListModels",
    .method = "GET",
    .path = "/v0/models",
    .summary = "The ids of the models that runs may have",
    .tag = "v0 meta",
    .scope = SCOPE_MODELS_READ,
    .rate = RATE_READ,
    .responses = {{200, "{models: [id]}", .form = "V0Models"}},
    .handler = v0_get_models,
};
ROUTE(v0_list_models_route);

static const struct route v0_list_repositories_route = {
    .name = "v0ListRepositories",
    .method = "GET",
    .path = "/v0/repositories",
    .summary = "As listRepositories; both count against the same limit",
    .tag = "v0 meta",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_REPOSITORIES,
    .responses = {{200, "All of them: {repositories: [{owner, name, repository}]}", .form = "V0Repositories"}},
    .handler = v0_get_repositories,
};
ROUTE(v0_list_repositories_route);
