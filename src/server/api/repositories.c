/* GET /v1/repositories: what the caller could name in `repos`: repositories of the team's pools, of the caller's own
 * machines and of the caller's newest agents. From the store alone: nobody outside is asked. */
#include "base/id.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "server/api/agents.h"
#include <string.h>

#define NEWEST_AGENTS 1000

/* `known`: by host and name, so that a repository is listed once, however its address is spelled. */
static void add_repository(const struct api *api, json_t *known, const char *url)
{
	AUTO_STR host = NULL;
	AUTO_STR label = NULL;
	AUTO_STR key = NULL;

	if (!repo_url_is_taken(api, url))
		return; /* a local path, say: no request could name it */
	label = repo_url_label(url, &host);
	if (label == NULL)
		return;
	key = str_printf("%s/%s", host, label);
	id_lower(key);
	if (json_object_get(known, key) == NULL)
		json_put(known, key, url);
}

static int add_of_fleet(struct api_request *rq, struct tx *tx, json_t *known)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT repo_url, 0 AS own FROM pools WHERE team_id = $1 AND deleted_at IS NULL AND repo_url <> ''"
	    " UNION SELECT repo_url, 1 FROM workers WHERE team_id = $1 AND personal = 1 AND user_id = $2"
	    " AND repo_url <> '' ORDER BY 2, 1",
	    "ii", rq->who->team_id, rq->who->user_id);

	while (rc == OK && (rc = query_next(q)) == OK)
		add_repository(rq->api, known, query_str(q, 0));
	return rc == ERR_EMPTY ? OK : rc;
}

/* A machine may serve folders beside its first; of these only host and name are kept. */
static int add_of_folders(struct api_request *rq, struct tx *tx, json_t *known)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT s.repo_host, s.repo FROM worker_slots s JOIN workers w ON w.team_id = s.team_id AND w.id = "
	    "s.worker_id"
	    " WHERE w.team_id = $1 AND w.personal = 1 AND w.user_id = $2 AND s.repo <> '' AND s.repo_host <> ''"
	    " AND s.repo_host <> '" REPO_URL_LOCAL "' ORDER BY s.repo_host, s.repo",
	    "ii", rq->who->team_id, rq->who->user_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_STR url = str_printf("https://%s/%s", query_str(q, 0), query_str(q, 1));

		add_repository(rq->api, known, url);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int add_of_agents(struct api_request *rq, struct tx *tx, json_t *known)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT DISTINCT repos FROM (SELECT repos FROM agents WHERE owner = $1 AND status <> 'DELETED'"
	    " ORDER BY created_at DESC, id DESC LIMIT $2) AS newest ORDER BY repos",
	    "si", rq->who->owner, (int64_t)NEWEST_AGENTS);

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_JSON repos = NULL;
		json_t *repo;
		size_t i;

		if (json_parse(query_str(q, 0), strlen(query_str(q, 0)), &repos, NULL) != OK)
			continue; /* a damaged row hides no others */
		json_array_foreach(repos, i, repo)
		{
			const char *url = json_string_value(json_object_get(repo, "url"));

			if (url != NULL)
				add_repository(rq->api, known, url);
		}
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int compare_urls(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *sorted_urls(json_t *known)
{
	size_t n = json_object_size(known), i = 0;
	const char **urls = mem_zalloc((n + 1) * sizeof *urls);
	json_t *items = json_array(), *v;
	const char *key;

	json_object_foreach(known, key, v) urls[i++] = json_string_value(v);
	qsort(urls, n, sizeof urls[0], compare_urls);
	for (i = 0; i < n; i++)
		json_array_append_new(items, json_string(urls[i]));
	free(urls);
	return items;
}

int repositories_known(struct api_request *rq, json_t **ret)
{
	AUTO(tx) tx = NULL;
	AUTO_JSON known = json_object();
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = add_of_fleet(rq, tx, known);
	if (rc == OK)
		rc = add_of_folders(rq, tx, known);
	if (rc == OK)
		rc = add_of_agents(rq, tx, known);
	if (rc == OK)
		*ret = sorted_urls(known);
	return rc;
}

static void get_repositories(struct api_request *rq)
{
	AUTO_JSON urls = NULL;
	json_t *items, *url;
	size_t i;
	int rc = repositories_known(rq, &urls);

	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	items = json_array();
	json_array_foreach(urls, i, url) json_array_append_new(items, json_pack("{s:O}", "url", url));
	api_reply(rq, 200, json_pack("{s:o}", "items", items));
}

static const struct route list_repositories_route = {
    .name = "listRepositories",
    .method = "GET",
    .path = "/v1/repositories",
    .summary = "Repositories of the team's pools, the caller's machines and agents, by URL",
    .tag = "meta",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_REPOSITORIES,
    .responses = {{200, "All of them: {items: [{url}]}", .form = "Repositories"}},
    .handler = get_repositories,
};
ROUTE(list_repositories_route);
