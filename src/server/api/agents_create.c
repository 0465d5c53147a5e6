/* POST /v1/agents: reading and checking the body. */
#include "base/id.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/api/agents.h"
#include <ctype.h>
#include <string.h>

/* How many bytes the first `n` characters take. */
static size_t bytes_of_characters(const char *s, size_t n)
{
	size_t i = 0;

	for (; s[i] != '\0'; i++)
		if (((unsigned char)s[i] & 0xc0) != 0x80 && n-- == 0)
			break;
	return i;
}

/* The first line of the prompt that is not blank, white space collapsed, cut to 100 characters at a word. */
static char *name_from_prompt(const char *prompt)
{
	struct strbuf b = STRBUF(1024);
	size_t start, words_end = 0;

	while (isspace((unsigned char)*prompt))
		prompt++;
	for (start = 0; prompt[start] != '\0' && prompt[start] != '\n' && b.len < 600; start++) {
		if (!isspace((unsigned char)prompt[start]))
			strbuf_addc(&b, prompt[start]);
		else if (b.len > 0 && b.data[b.len - 1] != ' ')
			strbuf_addc(&b, ' ');
	}
	while (b.len > 0 && b.data[b.len - 1] == ' ')
		b.data[--b.len] = '\0';
	if (text_has_prefix(strbuf_str(&b), "```") || b.len == 0) {
		strbuf_fini(&b);
		return str_dup("Untitled agent");
	}
	while (text_code_points(b.data) > 100) {
		char *space = strrchr(b.data, ' ');

		words_end = space != NULL ? (size_t)(space - b.data) : bytes_of_characters(b.data, 100);
		b.len = words_end;
		b.data[b.len] = '\0';
	}
	return strbuf_take(&b);
}

static int read_name(const json_t *body, const char *prompt, struct agent *a, struct problem *p)
{
	const char *name = json_string_value(json_object_get(body, "name"));

	if (name != NULL && (text_is_blank(name) || text_code_points(name) > 100))
		return problem_set(p, API_validation_error, "'name' must be 1 to 100 characters, not blank");
	a->name = name != NULL ? str_dup(name) : name_from_prompt(prompt);
	return OK;
}

static int read_id(const json_t *body, struct agent *a, struct problem *p)
{
	const char *id = json_string_value(json_object_get(body, "agentId"));

	if (id == NULL)
		return OK;
	if (!id_is(id, "bc-"))
		return problem_set(p, API_validation_error, "'agentId' must be bc- followed by a UUID");
	if (json_object_get(body, "envVars") != NULL)
		return problem_set(p, API_validation_error, "'agentId' and 'envVars' cannot be used together");
	a->id = str_dup(id);
	id_lower(a->id);
	return OK;
}

static int read_env(const json_t *body, struct agent *a, struct problem *p)
{
	const json_t *env = json_object_get(body, "env");
	const char *type = env != NULL ? json_string_value(json_object_get(env, "type")) : "cloud";
	const char *name = json_string_value(json_object_get(env, "name"));

	if (strcmp(type, "cloud") == 0 && name != NULL)
		return problem_set(p, API_validation_error, "there is no saved environment '%.100s'", name);
	a->env_type = str_dup(type);
	a->env_name = str_dup(strcmp(type, "pool") == 0 ? (name != NULL ? name : "default") : name != NULL ? name : "");
	return OK;
}

static bool is_commit(const char *s)
{
	return strlen(s) == 40 && strspn(s, "0123456789abcdefABCDEF") == 40;
}

/* http(s), ssh, scp-like; file only where the server lets it. */
bool repo_url_is_taken(const struct api *api, const char *url)
{
	if (strlen(url) > 2048 || strchr(url, ' ') != NULL || url[0] == '-')
		return false;
	for (const char *c = url; *c != '\0'; c++)
		if ((unsigned char)*c < 0x21 || *c == 0x7f)
			return false;
	if (text_has_prefix(url, "https://") || text_has_prefix(url, "http://") || text_has_prefix(url, "ssh://"))
		return true;
	if (text_has_prefix(url, "file:///"))
		return api->cfg.is_local;
	/* git@host:owner/name; a word with a colon before the @ would be a password. */
	return strstr(url, "://") == NULL && strcspn(url, "@") < strcspn(url, ":") && strchr(url, ':') != NULL &&
	       strchr(strchr(url, '@') + 1, '@') == NULL;
}

static int read_repo(const struct api *api, const json_t *repo, size_t i, struct agent *a, struct problem *p)
{
	const char *url = json_string_value(json_object_get(repo, "url"));
	const char *ref = json_string_value(json_object_get(repo, "startingRef"));
	AUTO_STR label = NULL;
	AUTO_STR clean = NULL;
	AUTO_STR host = NULL;

	/* Not told back: it may be a token. */
	if (strpbrk(url, "?#") != NULL)
		return problem_set(p, API_validation_error,
		    "'repos[%zu].url' must have neither query nor fragment ('?', '#'): credentials belong to the "
		    "workers",
		    i);
	if (repo_url_is_taken(api, url))
		label = repo_url_label(url, &host);
	if (label == NULL)
		return problem_set(p, API_validation_error,
		    "'repos[%zu].url' must be an http(s), ssh or git@host:owner/name URL of a repository%s", i,
		    text_has_prefix(url, "file:") ? " (file:// only while the server listens on loopback)" : "");
	if (ref != NULL && !text_is_git_ref(ref))
		return problem_set(p, API_invalid_branch_name, "'repos[%zu].startingRef' is no usable branch name", i);
	clean = repo_url_redact(url);
	json_array_append_new(a->repos, json_pack("{s:s}", "url", clean));
	if (ref != NULL)
		json_put(json_array_get(a->repos, i), "startingRef", ref);
	if (i > 0)
		return OK;
	id_lower(label);
	a->repo_url = TAKE(clean);
	a->repo = TAKE(label);
	a->repo_host = TAKE(host);
	a->starting_ref = str_dup(ref != NULL ? ref : "");
	return OK;
}

static int read_repos(const struct api *api, const json_t *body, struct agent *a, struct problem *p)
{
	json_t *repo;
	size_t i;

	a->repos = json_array();
	json_array_foreach(json_object_get(body, "repos"), i, repo)
	{
		int rc = read_repo(api, repo, i, a, p);

		if (rc != OK)
			return rc;
	}
	if (a->repo_url == NULL) {
		a->repo_url = str_dup("");
		a->repo = str_dup("");
		a->starting_ref = str_dup("");
	}
	if (a->repo_host == NULL)
		a->repo_host = str_dup("");
	return OK;
}

static int read_metadata(const json_t *body, struct agent *a, struct problem *p)
{
	json_t *metadata = json_object_get(body, "metadata"), *value;
	const char *key;

	json_object_foreach(metadata, key, value)
	{
		if (json_string_length(value) > 1024 || text_code_points(key) > 64)
			return problem_set(p, API_validation_error,
			    "'metadata': keys are at most 64 characters, values strings of at most 1024 bytes");
	}
	a->metadata = json_incref(metadata);
	return OK;
}

static int read_flags(struct api_request *rq, struct agent *a, struct problem *p)
{
	const json_t *as_app = json_object_get(rq->body, "openAsCursorGithubApp");

	a->open_as_app = as_app != NULL ? json_is_true(as_app) : principal_is_service_account(rq->who);
	a->work_on_current_branch = json_is_true(json_object_get(rq->body, "workOnCurrentBranch"));
	a->skip_reviewer_request = json_is_true(json_object_get(rq->body, "skipReviewerRequest"));
	if (a->work_on_current_branch && is_commit(a->starting_ref))
		return problem_set(
		    p, API_invalid_branch_name, "'workOnCurrentBranch' needs a branch as 'startingRef', not a commit");
	return OK;
}

int agent_from_body(struct api_request *rq, const char *endpoint, struct agent *a, struct prompt *ret,
    json_t **ret_images, struct problem *p)
{
	const char *mode = json_string_value(json_object_get(rq->body, "mode"));
	json_t *images = NULL;
	int rc = read_prompt(rq->body, &ret->text, &images, p);

	a->team_id = rq->who->team_id;
	a->owner = str_dup(rq->who->owner);
	a->mode = str_dup(mode != NULL ? mode : "agent");
	if (rc == OK)
		rc = read_name(rq->body, ret->text, a, p);
	if (rc == OK)
		rc = read_model(rq->body, &a->model, p);
	if (rc == OK)
		rc = read_env(rq->body, a, p);
	if (rc == OK)
		rc = read_repos(rq->api, rq->body, a, p);
	if (rc == OK)
		rc = route_read(rq->body, a, p);
	if (rc == OK)
		rc = read_pulls(rq, a, p);
	if (rc == OK)
		rc = read_flags(rq, a, p);
	if (rc == OK)
		rc = read_env_vars(rq->body, "envVars", p);
	if (rc == OK)
		rc = read_env_vars(rq->body, "runEnvVars", p);
	if (rc == OK)
		rc = check_mcp_servers(rq->body, p);
	if (rc == OK)
		rc = read_id(rq->body, a, p);
	if (rc == OK)
		rc = read_metadata(rq->body, a, p);
	if (rc == OK)
		rc = read_subagents(rq->body, p);
	if (rc == OK && a->model == NULL)
		rc = default_model(&a->model, p);
	if (rc == OK)
		rc = check_images(images, a->model, p);
	if (rc == OK)
		rc = read_images(rq, endpoint, images, ret_images, p);
	ret->images = *ret_images;
	return rc;
}
