/* Pull requests in requests: the one that an agent shall work on, and whether one shall be opened. */
#include "server/api/agents.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include "server/pulls/pulls.h"
#include <string.h>
#include <strings.h>

#define ASK_MS 15000

static int refuse_answer(struct problem *p, int rc, const struct forge_call *c)
{
	if (rc == ERR_NOT_FOUND || rc == ERR_DENIED || rc == ERR_UNAUTHORIZED || rc == ERR_INVALID)
		return problem_set(
		    p, API_pr_resolution_failed, "'repos[0].prUrl' could not be resolved: %s", c->why.text);
	return problem_set(
	    p, API_service_unavailable, "'repos[0].prUrl' could not be resolved now, try again: %s", c->why.text);
}

/* Its base is where a new branch begins, its head what the agent works on if it is told to. */
static int take_pull(
    struct agent *a, const struct forge_pull *pull, const char *repo, bool on_current, struct problem *p)
{
	bool from_fork = strcasecmp(pull->head_repo, repo) != 0;

	if (!pull->is_open)
		return problem_set(p, API_pr_resolution_failed, "'repos[0].prUrl': that pull request is %s",
		    pull->is_merged ? "merged" : "closed");
	if (from_fork && on_current)
		return problem_set(p, API_pr_resolution_failed,
		    "'repos[0].prUrl': that pull request comes from the fork %s, where its branch cannot be pushed to: "
		    "leave out "
		    "'workOnCurrentBranch' for a branch of its own",
		    pull->head_repo[0] != '\0' ? pull->head_repo : "(deleted)");
	if (!text_is_git_ref(pull->head) || !text_is_git_ref(pull->base))
		return problem_set(p, API_pr_resolution_failed, "'repos[0].prUrl': the forge names no usable branches");
	str_set(&a->starting_ref, on_current ? pull->head : pull->base);
	str_set(&a->pull_url, pull->url);
	str_set(&a->pull_head, pull->head);
	json_put(json_array_get(a->repos, 0), "prUrl", pull->url);
	/* As the documentation has it: it is ignored. */
	json_object_del(json_array_get(a->repos, 0), "startingRef");
	return OK;
}

static int resolve_pull(struct api_request *rq, const char *url, struct agent *a, struct problem *p)
{
	const bool on_current = json_is_true(json_object_get(rq->body, "workOnCurrentBranch"));
	AUTO_STR repo = NULL;
	AUTO_STR of_repo = NULL;
	AUTO_FINI(forge_pull) pull = {0};
	struct forge *other = NULL;
	int64_t number = 0;
	struct forge *forge = forges_of_pull(pulls_forges(rq->api->cfg.pulls), url, &repo, &number);
	struct forge_call call = {.forge = forge, .repo = repo, .deadline_mono_ms = clock_mono_ms() + ASK_MS};
	int rc;

	if (forge == NULL)
		return problem_set(p, API_pr_resolution_failed,
		    "'repos[0].prUrl' is no pull request of a forge that this server knows ([[forges]] in its "
		    "settings)");
	if (!pulls_knows(rq->api->cfg.pulls, a->repo_url, &other, &of_repo) || other != forge ||
	    strcasecmp(of_repo, repo) != 0)
		return problem_set(p, API_pr_resolution_failed,
		    "'repos[0].prUrl' is a pull request of %s, and 'repos[0].url' another repository", repo);
	/* As many at once as may fetch images: each holds a handler's thread. */
	if (atomic_fetch_add(&rq->api->resolving, 1) >= rq->api->cfg.max_fetching) {
		atomic_fetch_sub(&rq->api->resolving, 1);
		return problem_set(
		    p, API_service_unavailable, "the server resolves as many pull requests as it may, try again");
	}
	rc = forge_pull_get(&call, number, &pull);
	atomic_fetch_sub(&rq->api->resolving, 1);
	return rc == OK ? take_pull(a, &pull, repo, on_current, p) : refuse_answer(p, rc, &call);
}

/* By its host, as far as that says it; else the host itself. */
static void name_provider(const char *repo_url, char *ret, size_t size)
{
	static const struct {
		const char *part, *provider;
	} rows[] = {{"github", "github"}, {"gitlab", "gitlab"}, {"bitbucket", "bitbucket"},
	    {"dev.azure.com", "azure-devops"}, {"visualstudio.com", "azure-devops"}, {"gitea", "gitea"},
	    {"codeberg.org", "gitea"}, {"forgejo", "gitea"}};
	const char *host = strstr(repo_url, "://") != NULL ? strstr(repo_url, "://") + 3 : repo_url;
	AUTO_STR name = str_ndup(host, strcspn(host, "/:"));
	const char *provider = name[0] != '\0' ? name : "unknown";

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strcasestr(name, rows[i].part) != NULL) {
			provider = rows[i].provider;
			break;
		}
	snprintf(ret, size, "%s", provider);
}

int read_pulls(struct api_request *rq, struct agent *a, struct problem *p)
{
	const json_t *repo;
	size_t i;

	a->auto_create_pr = json_is_true(json_object_get(rq->body, "autoCreatePR"));
	json_array_foreach(json_object_get(rq->body, "repos"), i, repo)
	{
		const char *url = json_string_value(json_object_get(repo, "prUrl"));
		int rc =
		    url == NULL ? OK
		    : i == 0
			? resolve_pull(rq, url, a, p)
			: problem_set(p, API_pr_resolution_failed,
			      "'repos[%zu].prUrl': only the pull request of the first repository can be worked on", i);

		if (rc != OK)
			return rc;
	}
	if (a->auto_create_pr && a->repo_url[0] == '\0')
		return problem_set(p, API_validation_error, "'autoCreatePR' needs a repository in 'repos'");
	if (a->auto_create_pr && !pulls_knows(rq->api->cfg.pulls, a->repo_url, NULL, NULL)) {
		name_provider(a->repo_url, p->provider, sizeof p->provider);
		return problem_set(p, API_integration_not_connected,
		    "'autoCreatePR': this server knows no forge for that repository ([[forges]] in its settings): "
		    "leave it out, the "
		    "branch is pushed in any case");
	}
	return OK;
}

int keep_given_pull(struct api_request *rq, struct tx *tx, const struct agent *a)
{
	AUTO_STR repo = NULL;
	struct forge_pull pull = {.url = a->pull_url, .head = a->pull_head, .base = a->starting_ref};
	struct forge *forge;

	if (a->pull_url == NULL)
		return OK;
	forge = forges_of_pull(pulls_forges(rq->api->cfg.pulls), a->pull_url, &repo, &pull.number);
	/* The forge's own address of it may be another than the one it was asked by. */
	return forge != NULL ? pull_given(tx, a->id, forge, repo, &pull) : OK;
}
