/* What GitHub and Gitea have in common: Gitea's API was made after GitHub's. */
#include "base/mem.h"
#include "server/forges/forges_priv.h"
#include <string.h>

#define TITLE_MAX 1024
#define TEXT_MAX ((size_t)256 * 1024)
#define NAME_MAX_BYTES 512

void hub_pull_from(const json_t *j, struct forge_pull *ret)
{
	const json_t *head = forge_object(j, "head"), *base = forge_object(j, "base");

	*ret = (struct forge_pull){.number = forge_number(j, "number"),
	    .url = forge_text(j, "html_url", 2048),
	    .title = forge_text(j, "title", TITLE_MAX),
	    .body = forge_text(j, "body", TEXT_MAX),
	    .head = forge_text(head, "ref", NAME_MAX_BYTES),
	    .base = forge_text(base, "ref", NAME_MAX_BYTES),
	    .head_commit = forge_text(head, "sha", 64),
	    .head_repo = forge_text(forge_object(head, "repo"), "full_name", NAME_MAX_BYTES),
	    .author = forge_text(forge_object(j, "user"), "login", NAME_MAX_BYTES),
	    .is_open = strcmp(json_word(j, "state"), "open") == 0,
	    .is_merged = json_is_true(json_object_get(j, "merged"))};
}

int hub_repo_get(struct forge_call *c, struct forge_repo *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	int rc = forge_get(c, &a, "/repos/%s", c->repo);

	if (rc == OK)
		ret->default_branch = forge_text(a.json, "default_branch", NAME_MAX_BYTES);
	return rc;
}

int hub_branch_get(struct forge_call *c, const char *branch, char **ret_commit)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR name = forge_quote(branch);
	int rc = forge_get(c, &a, "/repos/%s/branches/%s", c->repo, name);

	if (rc == OK)
		*ret_commit =
		    forge_text(forge_object(a.json, "commit"), c->forge->kind == FORGE_GITEA ? "id" : "sha", 64);
	return rc;
}

int hub_pull_get(struct forge_call *c, int64_t number, struct forge_pull *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	int rc = forge_get(c, &a, "/repos/%s/pulls/%lld", c->repo, (long long)number);

	if (rc == OK)
		hub_pull_from(a.json, ret);
	return rc;
}

int hub_pull_edit(struct forge_call *c, int64_t number, const char *title, const char *body)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR path = str_printf("/repos/%s/pulls/%lld", c->repo, (long long)number);
	AUTO_JSON o = json_object();

	json_put(o, "title", title);
	json_put(o, "body", body);
	return forge_ask(c, "PATCH", path, o, &a);
}

int hub_ask_review(struct forge_call *c, int64_t number, const char *login)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR path = str_printf("/repos/%s/pulls/%lld/requested_reviewers", c->repo, (long long)number);
	AUTO_JSON o = json_pack("{s:[s]}", "reviewers", login);

	return forge_ask(c, "POST", path, o, &a);
}

/* Comments on a line are another resource. */
static char *comment_path(const struct forge_call *c, const struct forge_comment *at)
{
	return str_printf(
	    "/repos/%s/%s/comments/%lld", c->repo, at->is_line ? "pulls" : "issues", (long long)at->comment);
}

int hub_comment_edit(struct forge_call *c, const struct forge_comment *at, const char *body)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR path = comment_path(c, at);
	AUTO_JSON o = json_pack("{s:s}", "body", body);

	return forge_ask(c, "PATCH", path, o, &a);
}

static json_t *comment_from(const json_t *j)
{
	AUTO_STR author = forge_text(forge_object(j, "user"), "login", NAME_MAX_BYTES);
	AUTO_STR body = forge_text(j, "body", TEXT_MAX);
	AUTO_STR association = forge_text(j, "author_association", 64);
	json_t *o =
	    json_pack("{s:I, s:s, s:s}", "id", (json_int_t)forge_number(j, "id"), "author", author, "body", body);

	if (association[0] != '\0')
		json_put(o, "association", association);
	return o;
}

int hub_comments(struct forge_call *c, const struct forge_comment *at, int page, json_t **ret, bool *ret_more)
{
	AUTO_FINI(forge_answer) a = {0};
	const json_t *e;
	size_t i;
	int rc = forge_get(c, &a, "/repos/%s/issues/%lld/comments?%s=%d&page=%d", c->repo, (long long)at->thread,
	    c->forge->kind == FORGE_GITEA ? "limit" : "per_page", FORGE_PAGE, page);

	if (rc != OK)
		return rc;
	*ret = json_array();
	json_array_foreach(a.json, i, e) json_array_append_new(*ret, comment_from(e));
	/* Gitea gives them all at once, whatever is asked for. */
	*ret_more = c->forge->kind == FORGE_GITHUB && json_array_size(a.json) == FORGE_PAGE;
	return OK;
}

int hub_thread_get(struct forge_call *c, const struct forge_comment *at, json_t **ret)
{
	AUTO_FINI(forge_answer) a = {0};
	int rc = forge_get(c, &a, "/repos/%s/issues/%lld", c->repo, (long long)at->thread);
	AUTO_STR title = NULL;

	if (rc != OK)
		return rc;
	title = forge_text(a.json, "title", TITLE_MAX);
	*ret = comment_from(a.json);
	json_put(*ret, "title", title);
	return OK;
}

int hub_react(struct forge_call *c, const struct forge_comment *at, const char *reaction)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR of = at->comment != 0 ? comment_path(c, at)
				       : str_printf("/repos/%s/issues/%lld", c->repo, (long long)at->thread);
	/* Gitea keeps the reactions of comments on lines with those of all comments. */
	AUTO_STR path = c->forge->kind == FORGE_GITEA && at->comment != 0
			    ? str_printf("/repos/%s/issues/comments/%lld/reactions", c->repo, (long long)at->comment)
			    : str_printf("%s/reactions", of);
	AUTO_JSON o = json_pack("{s:s}", "content", reaction);

	return forge_ask(c, "POST", path, o, &a);
}
