/* Gitea and Forgejo: their API version 1. */
#include "base/mem.h"
#include "base/text.h"
#include "server/forges/forges_priv.h"
#include <string.h>
#include <strings.h>

/* The list is looked through: the call for one base and head does not take a name with a slash. */
static int pull_find(struct forge_call *c, const char *head, const char *base, struct forge_pull *ret)
{
	for (int page = 1; page <= FORGE_PAGES_MAX; page++) {
		AUTO_FINI(forge_answer) a = {0};
		const json_t *e;
		size_t i;
		int rc =
		    forge_get(c, &a, "/repos/%s/pulls?state=open&sort=recentupdate&limit=50&page=%d", c->repo, page);

		if (rc != OK)
			return rc;
		json_array_foreach(a.json, i, e)
		{
			hub_pull_from(e, ret);
			if (strcmp(ret->head, head) == 0 && (base == NULL || strcmp(ret->base, base) == 0) &&
			    strcasecmp(ret->head_repo, c->repo) == 0)
				return OK;
			forge_pull_fini(ret);
		}
		if (json_array_size(a.json) == 0)
			break;
	}
	return ERR_EMPTY;
}

static int pull_create(struct forge_call *c, const struct forge_pull_text *text, struct forge_pull *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR path = str_printf("/repos/%s/pulls", c->repo);
	AUTO_STR title = str_printf("%s%s", text->draft ? "WIP: " : "", text->title);
	AUTO_JSON o = json_pack(
	    "{s:s, s:s, s:s, s:s}", "title", title, "head", text->head, "base", text->base, "body", text->body);
	int rc = forge_ask(c, "POST", path, o, &a);

	if (a.status == 409)
		return ERR_CONFLICT;
	if (a.status == 422 && forge_said(&a, "no changes"))
		return ERR_EMPTY;
	if (rc == OK)
		hub_pull_from(a.json, ret);
	return rc;
}

/* A comment on a line is answered in the thread: the API has no replies to them. */
static int comment_add(struct forge_call *c, const struct forge_comment *at, const char *body, int64_t *ret_id)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR path = str_printf("/repos/%s/issues/%lld/comments", c->repo, (long long)at->thread);
	AUTO_JSON o = json_pack("{s:s}", "body", body);
	int rc = forge_ask(c, "POST", path, o, &a);

	if (rc == OK)
		*ret_id = forge_number(a.json, "id");
	return rc;
}

static int comment_edit(struct forge_call *c, const struct forge_comment *at, const char *body)
{
	const struct forge_comment plain = {.thread = at->thread, .comment = at->comment};

	return hub_comment_edit(c, &plain, body);
}

/* Only an administrator of the repository is told; of its owner it is plain. */
static int may_write(struct forge_call *c, const char *login, bool *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR name = forge_quote(login);
	size_t owner = strcspn(c->repo, "/");
	int rc;

	*ret = strlen(login) == owner && strncasecmp(c->repo, login, owner) == 0;
	if (*ret)
		return OK;
	rc = forge_get(c, &a, "/repos/%s/collaborators/%s/permission", c->repo, name);
	if (rc == ERR_DENIED)
		return why_set(&c->why, rc,
		    "the token is not of an administrator of %s, whom alone %s tells who may write there", c->repo,
		    forge_host(c->forge));
	const char *permission = json_word(a.json, "permission");

	*ret = rc == OK && (strcmp(permission, "owner") == 0 || strcmp(permission, "admin") == 0 ||
			       strcmp(permission, "write") == 0);
	return rc == ERR_NOT_FOUND ? OK : rc;
}

static int check(struct forge_call *c, json_t **ret)
{
	AUTO_FINI(forge_answer) a = {0};
	int rc = forge_get(c, &a, "/user");

	if (rc != OK)
		return rc;
	AUTO_STR login = forge_text(a.json, "login", 200);

	*ret = json_pack("{s:s}", "login", login);
	if (a.clock_skew_ms != INT64_MAX)
		json_put_int(*ret, "clockSkewMs", a.clock_skew_ms);
	return OK;
}

const struct forge_ops forge_gitea = {.name = "gitea",
    .api_path = "/api/v1",
    .pull_path = "/pulls/",
    .repo_get = hub_repo_get,
    .branch_get = hub_branch_get,
    .pull_get = hub_pull_get,
    .pull_find = pull_find,
    .pull_create = pull_create,
    .pull_edit = hub_pull_edit,
    .pull_ask_review = hub_ask_review,
    .comment_add = comment_add,
    .comment_edit = comment_edit,
    .react = hub_react,
    .comments = hub_comments,
    .thread_get = hub_thread_get,
    .may_write = may_write,
    .check = check};
