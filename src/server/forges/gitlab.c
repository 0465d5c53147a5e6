/* GitLab: its API version 4. A pull request is a merge request here, its number the iid. */
#include "base/mem.h"
#include "base/text.h"
#include "server/forges/forges_priv.h"
#include <string.h>

#define DEVELOPER 30 /* the access level from which on one may push */

static char *project_path(const struct forge_call *c)
{
	AUTO_STR quoted = forge_quote(c->repo);

	return str_printf("/projects/%s", quoted);
}

static int repo_get(struct forge_call *c, struct forge_repo *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	int rc = forge_ask(c, "GET", project, NULL, &a);

	if (rc == OK)
		ret->default_branch = forge_text(a.json, "default_branch", 512);
	return rc;
}

static int branch_get(struct forge_call *c, const char *branch, char **ret_commit)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	AUTO_STR name = forge_quote(branch);
	int rc = forge_get(c, &a, "%s/repository/branches/%s", project, name);

	if (rc == OK)
		*ret_commit = forge_text(forge_object(a.json, "commit"), "id", 64);
	return rc;
}

static void pull_from(const json_t *j, const char *repo, struct forge_pull *ret)
{
	bool same = forge_number(j, "source_project_id") == forge_number(j, "target_project_id");

	*ret = (struct forge_pull){.number = forge_number(j, "iid"),
	    .url = forge_text(j, "web_url", 2048),
	    .title = forge_text(j, "title", 1024),
	    .body = forge_text(j, "description", (size_t)256 * 1024),
	    .head = forge_text(j, "source_branch", 512),
	    .base = forge_text(j, "target_branch", 512),
	    .head_commit = forge_text(j, "sha", 64),
	    .head_repo = str_dup(same ? repo : ""),
	    .author = forge_text(forge_object(j, "author"), "username", 512),
	    .is_open = strcmp(json_word(j, "state"), "opened") == 0,
	    .is_merged = strcmp(json_word(j, "state"), "merged") == 0};
}

static int pull_get(struct forge_call *c, int64_t number, struct forge_pull *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	int rc = forge_get(c, &a, "%s/merge_requests/%lld", project, (long long)number);

	if (rc == OK)
		pull_from(a.json, c->repo, ret);
	return rc;
}

static int pull_find(struct forge_call *c, const char *head, const char *base, struct forge_pull *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	AUTO_STR head_name = forge_quote(head);
	AUTO_STR base_name = forge_quote(base != NULL ? base : "");
	int rc = forge_get(c, &a, "%s/merge_requests?state=opened&source_branch=%s%s%s&per_page=1", project, head_name,
	    base != NULL ? "&target_branch=" : "", base_name);

	if (rc != OK)
		return rc;
	if (json_array_size(a.json) == 0)
		return ERR_EMPTY;
	pull_from(json_array_get(a.json, 0), c->repo, ret);
	return OK;
}

/* GitLab opens merge requests without a change, too. */
static int has_changes(struct forge_call *c, const struct forge_pull_text *text, bool *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	AUTO_STR from = forge_quote(text->base);
	AUTO_STR to = forge_quote(text->head);
	int rc = forge_get(c, &a, "%s/repository/compare?from=%s&to=%s", project, from, to);

	*ret = rc == OK && json_array_size(json_object_get(a.json, "commits")) > 0;
	return rc;
}

static int pull_create(struct forge_call *c, const struct forge_pull_text *text, struct forge_pull *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	AUTO_STR path = str_printf("%s/merge_requests", project);
	AUTO_STR title = str_printf("%s%s", text->draft ? "Draft: " : "", text->title);
	AUTO_JSON o = json_pack("{s:s, s:s, s:s, s:s}", "title", title, "source_branch", text->head, "target_branch",
	    text->base, "description", text->body);
	bool any = false;
	int rc = has_changes(c, text, &any);

	if (rc != OK)
		return rc;
	if (!any)
		return ERR_EMPTY;
	rc = forge_ask(c, "POST", path, o, &a);
	if (rc == OK)
		pull_from(a.json, c->repo, ret);
	return rc;
}

static int pull_edit(struct forge_call *c, int64_t number, const char *title, const char *body)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	AUTO_STR path = str_printf("%s/merge_requests/%lld", project, (long long)number);
	AUTO_JSON o = json_object();

	json_put(o, "title", title);
	json_put(o, "description", body);
	return forge_ask(c, "PUT", path, o, &a);
}

/* Calls take ids, people have names. */
static int user_id(struct forge_call *c, const char *login, int64_t *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR name = forge_quote(login);
	int rc = forge_get(c, &a, "/users?username=%s", name);

	if (rc == OK && json_array_size(a.json) == 0)
		return why_set(&c->why, ERR_NOT_FOUND, "%s knows nobody called %s", forge_host(c->forge), login);
	*ret = forge_number(json_array_get(a.json, 0), "id");
	return rc;
}

static int ask_review(struct forge_call *c, int64_t number, const char *login)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	AUTO_STR path = str_printf("%s/merge_requests/%lld", project, (long long)number);
	int64_t id = 0;
	int rc = user_id(c, login, &id);

	if (rc != OK)
		return rc;
	AUTO_JSON o = json_pack("{s:[I]}", "reviewer_ids", (json_int_t)id);

	return forge_ask(c, "PUT", path, o, &a);
}

static char *notes_path(const struct forge_call *c, const struct forge_comment *at)
{
	AUTO_STR project = project_path(c);

	return str_printf("%s/%s/%lld", project, at->is_pull ? "merge_requests" : "issues", (long long)at->thread);
}

static int comment_add(struct forge_call *c, const struct forge_comment *at, const char *body, int64_t *ret_id)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR of = notes_path(c, at);
	AUTO_STR discussion = at->discussion != NULL ? forge_quote(at->discussion) : NULL;
	AUTO_STR path =
	    discussion != NULL ? str_printf("%s/discussions/%s/notes", of, discussion) : str_printf("%s/notes", of);
	AUTO_JSON o = json_pack("{s:s}", "body", body);
	int rc = forge_ask(c, "POST", path, o, &a);

	if (rc == OK)
		*ret_id = forge_number(a.json, "id");
	return rc;
}

static int comment_edit(struct forge_call *c, const struct forge_comment *at, const char *body)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR of = notes_path(c, at);
	AUTO_STR path = str_printf("%s/notes/%lld", of, (long long)at->comment);
	AUTO_JSON o = json_pack("{s:s}", "body", body);

	return forge_ask(c, "PUT", path, o, &a);
}

static int react(struct forge_call *c, const struct forge_comment *at, const char *reaction)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR of = notes_path(c, at);
	AUTO_STR path = at->comment != 0 ? str_printf("%s/notes/%lld/award_emoji", of, (long long)at->comment)
					 : str_printf("%s/award_emoji", of);
	AUTO_JSON o = json_pack("{s:s}", "name", reaction);
	int rc = forge_ask(c, "POST", path, o, &a);

	/* It has that one already. */
	return rc == ERR_NOT_FOUND && forge_said(&a, "taken") ? OK : rc;
}

static json_t *note_from(const json_t *j, const char *text_key)
{
	AUTO_STR author = forge_text(forge_object(j, "author"), "username", 512);
	AUTO_STR body = forge_text(j, text_key, (size_t)256 * 1024);

	return json_pack("{s:I, s:s, s:s}", "id", (json_int_t)forge_number(j, "id"), "author", author, "body", body);
}

static int comments(struct forge_call *c, const struct forge_comment *at, int page, json_t **ret, bool *ret_more)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR of = notes_path(c, at);
	const json_t *e;
	size_t i;
	int rc = forge_get(c, &a, "%s/notes?sort=asc&order_by=created_at&per_page=%d&page=%d", of, FORGE_PAGE, page);

	if (rc != OK)
		return rc;
	*ret = json_array();
	json_array_foreach(a.json, i, e) if (!json_is_true(json_object_get(e, "system")))
	    json_array_append_new(*ret, note_from(e, "body"));
	*ret_more = json_array_size(a.json) == FORGE_PAGE;
	return OK;
}

static int thread_get(struct forge_call *c, const struct forge_comment *at, json_t **ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR path = notes_path(c, at);
	int rc = forge_ask(c, "GET", path, NULL, &a);

	if (rc != OK)
		return rc;
	AUTO_STR title = forge_text(a.json, "title", 1024);

	*ret = note_from(a.json, "description");
	json_put(*ret, "title", title);
	return OK;
}

static int may_write(struct forge_call *c, const char *login, bool *ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_STR project = project_path(c);
	int64_t id = 0;
	int rc = user_id(c, login, &id);

	if (rc == OK)
		rc = forge_get(c, &a, "%s/members/all/%lld", project, (long long)id);
	*ret = rc == OK && forge_number(a.json, "access_level") >= DEVELOPER;
	return rc == ERR_NOT_FOUND ? OK : rc;
}

static int check(struct forge_call *c, json_t **ret)
{
	AUTO_FINI(forge_answer) a = {0};
	AUTO_FINI(forge_answer) token = {0};
	int rc = forge_get(c, &a, "/user");

	if (rc != OK)
		return rc;
	AUTO_STR login = forge_text(a.json, "username", 200);

	*ret = json_pack("{s:s}", "login", login);
	if (a.clock_skew_ms != INT64_MAX)
		json_put_int(*ret, "clockSkewMs", a.clock_skew_ms);
	if (forge_get(c, &token, "/personal_access_tokens/self") == OK &&
	    json_is_array(json_object_get(token.json, "scopes")))
		json_object_set(*ret, "scopes", json_object_get(token.json, "scopes"));
	return OK;
}

const struct forge_ops forge_gitlab = {.name = "gitlab",
    .api_path = "/api/v4",
    .pull_path = "/-/merge_requests/",
    .repo_get = repo_get,
    .branch_get = branch_get,
    .pull_get = pull_get,
    .pull_find = pull_find,
    .pull_create = pull_create,
    .pull_edit = pull_edit,
    .pull_ask_review = ask_review,
    .comment_add = comment_add,
    .comment_edit = comment_edit,
    .react = react,
    .comments = comments,
    .thread_get = thread_get,
    .may_write = may_write,
    .check = check};
