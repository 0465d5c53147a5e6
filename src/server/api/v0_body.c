/* POST /v0/agents: the body, turned into one of v1, which has the checks. */
#include "base/image.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/fetch.h"
#include "server/api/v0.h"
#include "server/pulls/pulls.h"
#include "server/webhooks/webhooks.h"
#include <string.h>
#include <strings.h>

#define HEAD_TEXT 32 /* of base64: more than the signature of any image */

void v0_name_images(json_t *body)
{
	json_t *image;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(body, "prompt"), "images"), i, image)
	{
		const json_t *data = json_object_get(image, "data");
		size_t len = json_string_length(data), n = 0;
		AUTO_STR head = NULL;
		const char *type = NULL;

		if (base64_decode(json_string_value(data), len > HEAD_TEXT ? HEAD_TEXT : len, &head, &n) == OK)
			type = image_type((const unsigned char *)head, n);
		/* What is none of them is refused by its bytes, whatever stands here. */
		json_put(image, "mimeType", type != NULL ? type : "image/png");
		json_object_del(image, "url"); /* unknown here, so ignored */
	}
}

static int check_webhook(const struct api *api, const json_t *hook, struct problem *p)
{
	const char *url = json_string_value(json_object_get(hook, "url"));
	const char *secret = json_string_value(json_object_get(hook, "secret"));
	struct why why;

	if (hook == NULL)
		return OK;
	if (text_code_points(url) > WEBHOOK_URL_MAX)
		return problem_set(
		    p, API_validation_error, "'webhook.url' must be at most %d characters", WEBHOOK_URL_MAX);
	if (fetch_check_url(url, api->cfg.allow_private_urls, &why) != OK)
		return problem_set(p, API_validation_error, "'webhook.url' %s", why.text);
	if (!api->cfg.allow_http_webhooks && strncasecmp(url, "https:", 6) != 0)
		return problem_set(
		    p, API_validation_error, "'webhook.url' must be https (the server's webhooks.allow_http is off)");
	if (secret != NULL &&
	    (text_code_points(secret) < WEBHOOK_SECRET_MIN || text_code_points(secret) > WEBHOOK_SECRET_MAX))
		return problem_set(p, API_validation_error, "'webhook.secret' must be %d to %d characters",
		    WEBHOOK_SECRET_MIN, WEBHOOK_SECRET_MAX);
	return OK;
}

static int check_source(const json_t *source, struct problem *p)
{
	if (json_object_get(source, "repository") == NULL && json_object_get(source, "prUrl") == NULL)
		return problem_set(p, API_validation_error, "'source.repository' is required");
	return OK;
}

static int check_flags(const json_t *source, const json_t *target, struct problem *p)
{
	static const char *const with_pr[] = {"openAsCursorGithubApp", "skipReviewerRequest"};
	bool opens = json_is_true(json_object_get(target, "autoCreatePr"));

	for (size_t i = 0; i < ARRAY_LEN(with_pr) && !opens; i++)
		if (json_is_true(json_object_get(target, with_pr[i])))
			return problem_set(
			    p, API_validation_error, "'target.%s' needs 'target.autoCreatePr'", with_pr[i]);
	if (json_is_false(json_object_get(target, "autoBranch")) && json_object_get(source, "prUrl") == NULL)
		return problem_set(p, API_validation_error, "'target.autoBranch' false needs 'source.prUrl'");
	return OK;
}

static int read_branch(const json_t *source, const json_t *target, struct agent *a, struct problem *p)
{
	const char *branch = json_string_value(json_object_get(target, "branchName"));
	const char *ref = json_string_value(json_object_get(source, "ref"));

	if (branch == NULL)
		return OK;
	if (!text_is_git_ref(branch))
		return problem_set(p, API_invalid_branch_name, "'target.branchName' is no usable branch name");
	if (ref != NULL && strcmp(ref, branch) == 0)
		return problem_set(
		    p, API_invalid_branch_name, "'target.branchName' must be another branch than 'source.ref'");
	a->branch = str_dup(branch);
	return OK;
}

/* With a pull request, repository and ref are ignored: they are the pull request's. */
static json_t *repos_of(const struct api *api, const json_t *source)
{
	const char *pull = json_string_value(json_object_get(source, "prUrl"));
	AUTO_STR repo = NULL;
	AUTO_STR url = NULL;
	json_t *o = json_object();
	int64_t number;
	struct forge *forge = pull != NULL ? forges_of_pull(pulls_forges(api->cfg.pulls), pull, &repo, &number) : NULL;

	if (forge != NULL)
		url = forge_repo_url(forge, repo);
	/* One of no forge is refused as such, whatever the repository would be. */
	json_put(o, "url",
	    pull == NULL  ? json_string_value(json_object_get(source, "repository"))
	    : url != NULL ? url
			  : pull);
	if (pull == NULL)
		json_put(o, "startingRef", json_string_value(json_object_get(source, "ref")));
	json_put(o, "prUrl", pull);
	return json_pack("[o]", o);
}

static void put_flags(json_t *v1, const json_t *source, const json_t *target)
{
	json_put_bool(v1, "openAsCursorGithubApp", json_is_true(json_object_get(target, "openAsCursorGithubApp")));
	if (json_is_true(json_object_get(target, "autoCreatePr")))
		json_put_bool(v1, "autoCreatePR", true);
	if (json_is_true(json_object_get(target, "skipReviewerRequest")))
		json_put_bool(v1, "skipReviewerRequest", true);
	if (json_object_get(source, "prUrl") != NULL && json_is_false(json_object_get(target, "autoBranch")))
		json_put_bool(v1, "workOnCurrentBranch", true);
}

int v0_to_v1(struct api_request *rq, struct agent *a, struct problem *p)
{
	const json_t *body = rq->body, *source = json_object_get(body, "source"),
		     *target = json_object_get(body, "target");
	static const char *const same[] = {"prompt", "usePrivateWorker", "labels", "webhook"};
	const char *model = json_string_value(json_object_get(body, "model"));
	json_t *v1;
	int rc = check_source(source, p);

	if (rc == OK)
		rc = check_flags(source, target, p);
	if (rc == OK)
		rc = read_branch(source, target, a, p);
	if (rc == OK)
		rc = check_webhook(rq->api, json_object_get(body, "webhook"), p);
	if (rc != OK)
		return rc;
	v0_name_images(rq->body);
	v1 = json_object();
	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		if (json_object_get(body, same[i]) != NULL)
			json_object_set(v1, same[i], json_object_get(body, same[i]));
	if (model != NULL && strcmp(model, "default") != 0)
		json_put_new(v1, "model", json_pack("{s:s}", "id", model));
	json_put_new(v1, "repos", repos_of(rq->api, source));
	put_flags(v1, source, target);
	json_decref(rq->body);
	rq->body = v1;
	return OK;
}

void v0_reword(struct problem *p)
{
	static const struct {
		const char *v1, *v0;
	} words[] = {{"'repos[0].url'", "'source.repository'"}, {"'repos[0].startingRef'", "'source.ref'"},
	    {"'repos[0].prUrl'", "'source.prUrl'"}, {"'repos'", "'source.repository'"},
	    {"'workOnCurrentBranch'", "'target.autoBranch' false"}, {"'autoCreatePR'", "'target.autoCreatePr'"},
	    {"/v1/models", "/v0/models"}, {"use env.type pool", "use 'usePrivateWorker' true"}};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		const char *at = strstr(p->why.text, words[i].v1);
		AUTO_STR text = NULL;

		if (at == NULL)
			continue;
		text =
		    str_printf("%.*s%s%s", (int)(at - p->why.text), p->why.text, words[i].v0, at + strlen(words[i].v1));
		snprintf(p->why.text, sizeof p->why.text, "%s", text);
		text_utf8_mend(p->why.text);
	}
}
