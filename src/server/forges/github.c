/* GitHub and GitHub Enterprise Server: docs.github.com/rest, version 2022-11-28. */
#include "base/mem.h"
#include "server/forges/forges_priv.h"
#include <string.h>

static int pull_find(struct forge_call *c, const char *head, const char *base, struct forge_pull *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR owner = str_ndup(c->repo, strcspn(c->repo, "/"));
	AUTO_STR head_name = forge_quote(head);
	AUTO_STR base_name = forge_quote(base != NULL ? base : "");
	int rc = forge_get(c, &a, "/repos/%s/pulls?state=open&head=%s:%s%s%s&per_page=1", c->repo, owner, head_name,
	    base != NULL ? "&base=" : "", base_name);

	if (rc != OK)
		return rc;
	if (json_array_size(a.json) == 0)
		return ERR_EMPTY;
	hub_pull_from(json_array_get(a.json, 0), ret);
	/* A server that does not know the filter would give us another one. */
	if (strcmp(ret->head, head) == 0)
		return OK;
	forge_pull_fini(ret);
	return ERR_EMPTY;
}

static int post_pull(struct forge_call *c, const struct forge_pull_text *text, bool draft, struct forge_answer *a)
{
	AUTO_STR path = str_printf("/repos/%s/pulls", c->repo);
	AUTO_JSON o = json_pack("{s:s, s:s, s:s, s:s, s:b}", "title", text->title, "head", text->head, "base",
	    text->base, "body", text->body, "maintainer_can_modify", 1);

	if (draft)
		json_put_bool(o, "draft", true);
	return forge_ask(c, "POST", path, o, a);
}

static int pull_create(struct forge_call *c, const struct forge_pull_text *text, struct forge_pull *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	int rc = post_pull(c, text, text->draft, &a);

	/* Repositories of some plans have no drafts. */
	if (a.status == 422 && text->draft && forge_said(&a, "draft")) {
		forge_answer_fini(&a);
		rc = post_pull(c, text, false, &a);
	}
	if (a.status == 422 && forge_said(&a, "already exists"))
		return ERR_CONFLICT;
	if (a.status == 422 && forge_said(&a, "no commits between"))
		return ERR_EMPTY;
	if (rc == OK)
		hub_pull_from(a.json, ret);
	return rc;
}

static int comment_add(struct forge_call *c, const struct forge_comment *at, const char *body, int64_t *ret_id)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR path = at->is_line ? str_printf("/repos/%s/pulls/%lld/comments/%lld/replies", c->repo,
					  (long long)at->thread, (long long)at->comment)
				    : str_printf("/repos/%s/issues/%lld/comments", c->repo, (long long)at->thread);
	AUTO_JSON o = json_pack("{s:s}", "body", body);
	int rc = forge_ask(c, "POST", path, o, &a);

	if (rc == OK)
		*ret_id = forge_number(a.json, "id");
	return rc;
}

static int may_write(struct forge_call *c, const char *login, bool *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR name = forge_quote(login);
	int rc = forge_get(c, &a, "/repos/%s/collaborators/%s/permission", c->repo, name);
	const char *permission = json_word(a.json, "permission");

	*ret = rc == OK && (strcmp(permission, "admin") == 0 || strcmp(permission, "write") == 0);
	return rc == ERR_NOT_FOUND ? OK : rc;
}

/* "repo, read:org" */
static json_t *scopes_of(const char *text)
{
	json_t *list = json_array();

	for (const char *at = text; *at != '\0';) {
		size_t n = strcspn(at, ", ");

		if (n > 0)
			json_array_append_new(list, json_stringn(at, n));
		at += n + strspn(at + n, ", ");
	}
	return list;
}

/* What an app may do stands with its installation; classic tokens are told their scopes, others are not. */
static int check(struct forge_call *c, json_t **ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_FINI(forge_answer) hook = {0};
	AUTO_STR jwt = NULL;
	AUTO_STR auth = NULL;
	int rc;

	if (!forge_call_is_apps(c)) {
		rc = forge_get(c, &a, "/user");
	} else {
		jwt = forge_app_jwt(c->forge->app, -1);
		auth = str_printf("Bearer %s", jwt);
		rc = forge_ask_as(c, auth, "GET", "/app", NULL, &a);
	}
	if (rc != OK)
		return rc;
	AUTO_STR login = forge_text(a.json, forge_call_is_apps(c) ? "slug" : "login", 200);

	*ret = json_pack("{s:s, s:b}", "login", login, "isApp", forge_call_is_apps(c));
	if (forge_object(a.json, "permissions") != NULL)
		json_object_set(*ret, "permissions", json_object_get(a.json, "permissions"));
	if (json_is_array(json_object_get(a.json, "events")))
		json_object_set(*ret, "events", json_object_get(a.json, "events"));
	if (a.scopes != NULL && a.scopes[0] != '\0')
		json_object_set_new(*ret, "scopes", scopes_of(a.scopes));
	if (a.clock_skew_ms != INT64_MAX)
		json_put_int(*ret, "clockSkewMs", a.clock_skew_ms);
	if (auth != NULL && forge_ask_as(c, auth, "GET", "/app/hook/config", NULL, &hook) == OK) {
		AUTO_STR url = forge_text(hook.json, "url", 2000);

		json_put(*ret, "webhookUrl", url);
	}
	return OK;
}

const struct forge_ops forge_github = {.name = "github",
    .api_path = "/api/v3",
    .pull_path = "/pull/",
    .write_pause_ms = 1000,
    .repo_get = hub_repo_get,
    .branch_get = hub_branch_get,
    .pull_get = hub_pull_get,
    .pull_find = pull_find,
    .pull_create = pull_create,
    .pull_edit = hub_pull_edit,
    .pull_ask_review = hub_ask_review,
    .comment_add = comment_add,
    .comment_edit = hub_comment_edit,
    .react = hub_react,
    .comments = hub_comments,
    .thread_get = hub_thread_get,
    .may_write = may_write,
    .check = check};
