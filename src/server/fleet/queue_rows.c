#include "server/fleet/queue_rows.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include "server/fleet/fleet_rows.h"
#include <string.h>

void queue_filter_fini(struct queue_filter *f)
{
	str_free(&f->repo);
	str_free(&f->pool);
}

/* Three ways to write an address without a scheme. */
static char *address_of(const char *given)
{
	const char *slash = strchr(given, '/'), *colon = strchr(given, ':');

	if (slash == NULL || given[0] == '/' || (colon != NULL && (slash == NULL || colon < slash)))
		return str_dup(given); /* a URL, git@host:owner/name, or nothing */
	if (strchr(slash + 1, '/') == NULL)
		return str_printf("https://github.com/%s", given);
	return str_printf("https://%s", given);
}

int queue_filter_read(const char *repository, const char *pool, struct queue_filter *ret, struct why *why)
{
	if (repository != NULL) {
		AUTO_STR address = address_of(repository);
		AUTO_STR label = repo_url_label(address, NULL);

		if (label == NULL)
			return why_set(why, ERR_INVALID,
			    "'repository' must be the address of a repository: a URL, git@host:owner/name, owner/name "
			    "or "
			    "host/group/name");
		ret->repo = TAKE(address);
	}
	if (pool != NULL && pool[0] == '\0')
		return why_set(why, ERR_INVALID, "'pool' must not be empty: leave it out for all pools");
	ret->pool = str_dup(pool);
	return OK;
}

/* What is stored may be damaged; then it names nothing. */
static json_t *read_repos(const char *stored)
{
	json_t *repos = NULL;

	IGNORE(json_parse(stored, strlen(stored), &repos, NULL));
	return repos != NULL ? repos : json_array();
}

static const char *url_at(const json_t *repos, size_t i)
{
	const char *url = json_string_value(json_object_get(json_array_get(repos, i), "url"));

	return url != NULL ? url : "";
}

static bool names_repo(const json_t *repos, const char *address)
{
	for (size_t i = 0; i < json_array_size(repos); i++)
		if (repo_url_same(url_at(repos, i), address))
			return true;
	return false;
}

#define REQUEST_COLUMNS                                                                                                \
	"r.agent_id, r.queued_at, r.state, r.pool, r.repo, r.labels, r.worker_id, r.offline_until, a.owner, a.repos,"  \
	" (SELECT u.email FROM users u WHERE u.id = CASE WHEN a.owner LIKE 'user:%' THEN CAST(SUBSTR(a.owner, 6) AS"   \
	" BIGINT) END) FROM requests r JOIN agents a ON a.id = r.agent_id"

static void put_owner(json_t *o, const char *owner, const char *email)
{
	int64_t user = 0;

	if (text_has_prefix(owner, "user:"))
		IGNORE(text_parse_int(owner + 5, 0, INT64_MAX, &user));
	json_put_int(o, "userId", user);
	json_put(o, "userEmail", email);
	if (text_has_prefix(owner, "sa:"))
		json_put(o, "serviceAccountId", owner + 3);
}

static void put_label(json_t *labels, const char *key, const char *value)
{
	json_array_append_new(labels, json_pack("{s:s, s:s}", "key", key, "value", value));
}

/* All of them, where the request goes to workers that serve any: a controller prepares its machine by that. */
static void put_urls(json_t *o, const json_t *repos)
{
	json_t *urls = json_array();

	for (size_t i = 0; i < json_array_size(repos); i++)
		json_array_append_new(urls, json_string(url_at(repos, i)));
	json_put_new(o, "repoUrls", urls);
}

static json_t *request_json(struct query *q, const json_t *repos, int64_t now_ms)
{
	json_t *o = json_object(), *labels = json_array();
	AUTO_STR name = repo_url_label(url_at(repos, 0), NULL);
	bool has_repo = query_str(q, 4)[0] != '\0';

	json_put(o, "id", query_str(q, 0));
	put_owner(o, query_str(q, 8), query_text(q, 10));
	if (name != NULL)
		fleet_put_repo(o, name, url_at(repos, 0));
	if (name != NULL && !has_repo)
		put_urls(o, repos);
	if (has_repo)
		put_label(labels, "repo", name != NULL ? name : query_str(q, 4));
	put_label(labels, "pool", query_str(q, 3));
	fleet_add_pairs(labels, query_str(q, 5));
	json_put_new(o, "labels", labels);
	json_put_int(o, "createdAtMs", query_int(q, 1));
	if (strcmp(query_str(q, 2), "offline") == 0) {
		json_put(o, "claimedWorkerId", query_str(q, 6));
		json_put_int(o, "wakeTimeoutMs", MAX(query_int(q, 7) - now_ms, 0));
	}
	return o;
}

int queue_pending(struct tx *tx, int64_t team_id, const struct queue_filter *f, struct queue_mark *place, int64_t limit,
    int64_t now_ms, json_t **ret, bool *ret_more)
{
	AUTO_JSON items = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT " REQUEST_COLUMNS " WHERE r.team_id = $1 AND r.state IN ('queued', 'offline') AND r.machine IS NULL"
	    " AND (r.queued_at, r.agent_id) > ($2, $3) AND ($4 = '' OR r.pool = $4) ORDER BY r.queued_at, r.agent_id",
	    "iiss", team_id, place->queued_at_ms, place->agent_id != NULL ? place->agent_id : "",
	    f->pool != NULL ? f->pool : "");

	*ret_more = false;
	while (rc == OK && !*ret_more && (rc = query_next(q)) == OK) {
		AUTO_JSON repos = read_repos(query_str(q, 9));

		if (f->repo != NULL && !names_repo(repos, f->repo))
			continue;
		*ret_more = (int64_t)json_array_size(items) == limit;
		if (*ret_more)
			continue;
		json_array_append_new(items, request_json(q, repos, now_ms));
		place->queued_at_ms = query_int(q, 1);
		str_set(&place->agent_id, query_str(q, 0));
	}
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(items);
	return OK;
}

int queue_request_json(
    struct tx *tx, int64_t team_id, const struct queue_filter *f, const char *agent_id, int64_t now_ms, json_t **ret)
{
	AUTO_JSON repos = NULL;
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT " REQUEST_COLUMNS " WHERE r.agent_id = $1 AND r.team_id = $2 AND r.machine IS NULL", "si", agent_id,
	    team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	repos = read_repos(query_str(q, 9));
	if ((f->pool != NULL && strcmp(f->pool, query_str(q, 3)) != 0) ||
	    (f->repo != NULL && !names_repo(repos, f->repo)))
		return ERR_EMPTY;
	*ret = request_json(q, repos, now_ms);
	return OK;
}

int queue_agent_fits(struct tx *tx, const struct queue_filter *f, const char *agent_id, bool *ret)
{
	AUTO_STR stored = NULL;
	AUTO_JSON repos = NULL;
	int rc;

	*ret = true;
	if (f->repo == NULL)
		return OK;
	rc = tx_query_text(tx, &stored, "SELECT repos FROM agents WHERE id = $1", "s", agent_id);
	if (rc == OK) {
		repos = read_repos(stored);
		*ret = names_repo(repos, f->repo);
	}
	return rc == ERR_EMPTY ? OK : rc;
}
