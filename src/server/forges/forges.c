/* The forges of the settings: which there are, which one an address belongs to, and the way to each kind. */
#include "server/forges/forges.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/seal.h"
#include "base/table.h"
#include "base/text.h"
#include "server/forges/forges_priv.h"
#include <string.h>
#include <strings.h>

#define FORGES_MAX 32
#define PEM_MAX 16384
#define POOL_IDLE_MAX 8
#define POOL_IDLE_MS 30000

struct forges {
	struct forge *v[FORGES_MAX];
	size_t n;
};

static const struct forge_ops *const kinds[] = {
    [FORGE_GITHUB] = &forge_github, [FORGE_GITLAB] = &forge_gitlab, [FORGE_GITEA] = &forge_gitea};

void forge_repo_fini(struct forge_repo *r)
{
	str_free(&r->default_branch);
}

void forge_pull_fini(struct forge_pull *p)
{
	str_free(&p->url);
	str_free(&p->title);
	str_free(&p->body);
	str_free(&p->head);
	str_free(&p->base);
	str_free(&p->head_commit);
	str_free(&p->head_repo);
	str_free(&p->author);
}

static void forge_free(struct forge *f)
{
	if (f == NULL)
		return;
	forge_app_free(&f->app);
	str_wipe(&f->token);
	str_wipe(&f->webhook_secret);
	if (f->pool != NULL)
		http_client_pool_free(&f->pool);
	forge_limits_free(&f->limits);
	pthread_mutex_destroy(&f->mtx);
	free(f->name);
	free(f->login);
	free(f->host);
	free(f->url);
	free(f->api_url);
	free(f->ca_file);
	free(f);
}

void forges_free(struct forges **fp)
{
	struct forges *f = TAKE(*fp);

	if (f == NULL)
		return;
	for (size_t i = 0; i < f->n; i++)
		forge_free(f->v[i]);
	free(f);
}

/* "https://host/x/" -> without the slash; *ret_host: without a port. */
static int take_url(const struct table *t, const char *key, const char *text, char **ret, char **ret_host)
{
	size_t n = strlen(text);
	const char *host = strstr(text, "://");

	if ((!text_has_prefix(text, "https://") && !text_has_prefix(text, "http://")) || host == NULL ||
	    strpbrk(text, "@?# ") != NULL || host[3] == '\0' || host[3] == '/')
		return table_wrong(t, key, "a URL like https://git.example.com, without user, query and fragment");
	while (text[n - 1] == '/')
		n--;
	*ret = str_ndup(text, n);
	if (ret_host != NULL) {
		host += 3;
		*ret_host = str_ndup(host, strcspn(host, ":/"));
		for (char *c = *ret_host; *c != '\0'; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
	}
	return OK;
}

static int read_kind(const struct table *t, struct forge *f)
{
	const char *kind = NULL;
	int rc = table_need_text(t, "kind", &kind);

	if (rc != OK)
		return rc;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (strcmp(kinds[i]->name, kind) == 0 || (i == FORGE_GITEA && strcmp(kind, "forgejo") == 0)) {
			f->kind = (enum forge_kind)i;
			f->ops = kinds[i];
			return OK;
		}
	return table_wrong(t, "kind", "github, gitlab, gitea or forgejo");
}

static int read_urls(const struct table *t, struct forge *f)
{
	const char *url = f->kind == FORGE_GITHUB ? "https://github.com" : NULL, *api = NULL, *ca = NULL;
	int rc = url != NULL ? table_text(t, "url", &url) : table_need_text(t, "url", &url);

	if (rc == OK)
		rc = table_text(t, "api_url", &api);
	if (rc == OK)
		rc = table_text(t, "ca_file", &ca);
	if (rc == OK)
		rc = take_url(t, "url", url, &f->url, &f->host);
	if (rc == OK && api != NULL)
		rc = take_url(t, "api_url", api, &f->api_url, NULL);
	if (rc == OK && api == NULL)
		f->api_url = strcmp(f->host, "github.com") == 0 ? str_dup("https://api.github.com")
								: str_printf("%s%s", f->url, f->ops->api_path);
	str_set(&f->ca_file, ca);
	return rc;
}

static int read_app(const struct table *t, struct forge *f)
{
	const char *id = NULL, *file = NULL;
	AUTO_STR pem = NULL;
	struct why why = {0};
	size_t len = 0;
	int rc = table_text(t, "app_id", &id);

	if (rc == OK)
		rc = table_text(t, "private_key_file", &file);
	if (rc != OK || (id == NULL && file == NULL))
		return rc;
	if (f->kind != FORGE_GITHUB)
		return why_set(t->why, ERR_INVALID, "%s.app_id: only GitHub has apps; give token_file", t->where);
	if (id == NULL || file == NULL)
		return why_set(t->why, ERR_INVALID, "%s: app_id and private_key_file belong together", t->where);
	rc = text_read_file(file, PEM_MAX, &pem, &len);
	if (rc != OK)
		return why_set(
		    t->why, ERR_INVALID, "%s.private_key_file: cannot read %s: %s", t->where, file, err_text(rc));
	rc = forge_app_new(id, pem, &f->app, &why);
	explicit_bzero(pem, len);
	return rc == OK ? OK : why_set(t->why, rc, "%s.private_key_file: %s: %s", t->where, file, why.text);
}

static int read_forge(const json_t *json, const char *where, struct forge *f, struct why *why)
{
	static const char *const keys[] = {"kind", "name", "url", "api_url", "ca_file", "token_file", "app_id",
	    "private_key_file", "webhook_secret_file", "draft", "write_pause_ms", NULL};
	const struct table t = {.json = json, .where = where, .why = why};
	const char *name = NULL;
	int rc = table_keys(&t, keys);

	f->drafts = true;
	if (rc == OK)
		rc = read_kind(&t, f);
	if (rc != OK)
		return rc;
	f->write_pause_ms = f->ops->write_pause_ms;
	rc = read_urls(&t, f);
	if (rc == OK)
		rc = table_text(&t, "name", &name);
	if (rc == OK)
		rc = table_secret(&t, "token_file", &f->token);
	if (rc == OK)
		rc = table_secret(&t, "webhook_secret_file", &f->webhook_secret);
	if (rc == OK)
		rc = table_bool(&t, "draft", &f->drafts);
	if (rc == OK)
		rc = table_int(&t, "write_pause_ms", 0, 60000, &f->write_pause_ms);
	if (rc == OK)
		rc = read_app(&t, f);
	if (rc != OK)
		return rc;
	if (name != NULL && !text_is_token(name, "-_.", 64))
		return table_wrong(&t, "name", "letters, digits, '-', '_' and '.', at most 64");
	if (f->app == NULL && f->token == NULL)
		return why_set(why, ERR_INVALID, "%s: token_file is missing%s", where,
		    f->kind == FORGE_GITHUB ? " (or app_id and private_key_file)" : "");
	f->name = str_dup(name != NULL ? name : f->host);
	return OK;
}

int forges_new(const json_t *settings, struct forges **ret, struct why *why)
{
	struct forges *f = NEW(struct forges);
	const json_t *e;
	size_t i;
	int rc = OK;

	if (settings != NULL && (!json_is_array(settings) || json_array_size(settings) > FORGES_MAX))
		rc =
		    why_set(why, ERR_INVALID, "forges must be an array of tables ([[forges]]), at most %d", FORGES_MAX);
	if (rc == OK)
		json_array_foreach((json_t *)settings, i, e)
		{
			AUTO_STR where = str_printf("forges[%zu]", i);
			struct forge *one = NEW(struct forge);

			one->magic = FORGE_MAGIC;
			pthread_mutex_init(&one->mtx, NULL);
			one->pool = http_client_pool_new(POOL_IDLE_MAX, POOL_IDLE_MS);
			f->v[f->n++] = one;
			rc = read_forge(e, where, one, why);
			if (rc != OK)
				break;
			one->limits = forge_limits_new(one->write_pause_ms, one->app != NULL);
			for (size_t k = 0; k + 1 < f->n && rc == OK; k++)
				if (strcmp(f->v[k]->name, one->name) == 0)
					rc = why_set(why, ERR_INVALID,
					    "%s: two forges are called '%s': give them a name", where, one->name);
			if (rc != OK)
				break;
		}
	if (rc != OK)
		forges_free(&f);
	else
		*ret = f;
	return rc;
}

size_t forges_count(const struct forges *f)
{
	return f->n;
}

struct forge *forges_at(const struct forges *f, size_t i)
{
	ENSURE(i < f->n);
	return f->v[i];
}

struct forge *forges_named(const struct forges *f, const char *name)
{
	for (size_t i = 0; i < f->n; i++)
		if (strcmp(f->v[i]->name, name) == 0)
			return f->v[i];
	return NULL;
}

enum forge_kind forge_kind(const struct forge *f)
{
	return f->kind;
}

const char *forge_name(const struct forge *f)
{
	return f->name;
}

const char *forge_host(const struct forge *f)
{
	return f->host;
}

const char *forge_webhook_secret(const struct forge *f)
{
	return f->webhook_secret;
}

bool forge_opens_drafts(const struct forge *f)
{
	return f->drafts;
}

char *forge_repo_url(const struct forge *f, const char *repo)
{
	return str_printf("%s/%s", f->url, repo);
}

/* What stands in paths of the API: segments that are no way out of them. */
static bool is_repo_name(const struct forge *f, const char *s)
{
	int segments = 1;

	for (const char *c = s; *c != '\0'; c++)
		segments += *c == '/';
	if (segments < 2 || (segments > 2 && f->kind != FORGE_GITLAB) || strlen(s) > 500 || strstr(s, "//") != NULL)
		return false;
	for (const char *at = s; *at != '\0';) {
		size_t n = strcspn(at, "/");

		if (n == 0 || (n == 1 && at[0] == '.') || (n == 2 && at[0] == '.' && at[1] == '.'))
			return false;
		at += n + (at[n] == '/');
	}
	return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./~+") == strlen(s);
}

/* Behind a path of the forge's own, if it has one (https://example.com/git). */
static const char *below_path(const struct forge *f, const char *label)
{
	const char *path = strchr(strstr(f->url, "://") + 3, '/');
	size_t n = path != NULL ? strlen(path + 1) : 0;

	if (n == 0)
		return label;
	return strncasecmp(label, path + 1, n) == 0 && label[n] == '/' ? label + n + 1 : NULL;
}

struct forge *forges_of_repo(const struct forges *f, const char *repo_url, char **ret_repo)
{
	AUTO_STR host = NULL;
	AUTO_STR label = f->n > 0 ? repo_url_label(repo_url, &host) : NULL;

	for (size_t i = 0; label != NULL && i < f->n; i++) {
		const char *repo = host != NULL && strcmp(f->v[i]->host, host) == 0 ? below_path(f->v[i], label) : NULL;

		if (repo == NULL || !is_repo_name(f->v[i], repo))
			continue;
		*ret_repo = str_dup(repo);
		return f->v[i];
	}
	return NULL;
}

struct forge *forges_of_pull(const struct forges *f, const char *pull_url, char **ret_repo, int64_t *ret_number)
{
	for (size_t i = 0; i < f->n; i++) {
		const char *word = f->v[i]->ops->pull_path;
		size_t n = strlen(f->v[i]->url);
		const char *at = strncasecmp(pull_url, f->v[i]->url, n) == 0 && pull_url[n] == '/'
				     ? strstr(pull_url + n, word)
				     : NULL;
		AUTO_STR repo = at != NULL && at > pull_url + n
				    ? str_ndup(pull_url + n + 1, (size_t)(at - pull_url) - n - 1)
				    : NULL;
		AUTO_STR number =
		    at != NULL ? str_ndup(at + strlen(word), strspn(at + strlen(word), "0123456789")) : NULL;

		/* What follows may be a page of it: /files, #issuecomment-1. */
		if (repo == NULL || !is_repo_name(f->v[i], repo) ||
		    text_parse_int(number, 1, INT32_MAX, ret_number) != OK ||
		    strchr("/?#", at[strlen(word) + strlen(number)]) == NULL)
			continue;
		*ret_repo = TAKE(repo);
		return f->v[i];
	}
	return NULL;
}

int forge_repo_get(struct forge_call *c, struct forge_repo *ret)
{
	return c->forge->ops->repo_get(c, ret);
}

int forge_branch_get(struct forge_call *c, const char *branch, char **ret_commit)
{
	return c->forge->ops->branch_get(c, branch, ret_commit);
}

int forge_pull_get(struct forge_call *c, int64_t number, struct forge_pull *ret)
{
	return c->forge->ops->pull_get(c, number, ret);
}

int forge_pull_find(struct forge_call *c, const char *head, const char *base, struct forge_pull *ret)
{
	return c->forge->ops->pull_find(c, head, base, ret);
}

int forge_pull_create(struct forge_call *c, const struct forge_pull_text *text, struct forge_pull *ret)
{
	return c->forge->ops->pull_create(c, text, ret);
}

int forge_pull_edit(struct forge_call *c, int64_t number, const char *title, const char *body)
{
	return c->forge->ops->pull_edit(c, number, title, body);
}

int forge_pull_ask_review(struct forge_call *c, int64_t number, const char *login)
{
	return c->forge->ops->pull_ask_review(c, number, login);
}

int forge_comment_add(struct forge_call *c, const struct forge_comment *at, const char *body, int64_t *ret_id)
{
	return c->forge->ops->comment_add(c, at, body, ret_id);
}

int forge_comment_edit(struct forge_call *c, const struct forge_comment *at, const char *body)
{
	return c->forge->ops->comment_edit(c, at, body);
}

int forge_react(struct forge_call *c, const struct forge_comment *at, const char *reaction)
{
	return c->forge->ops->react(c, at, reaction);
}

/* All comments of a thread, oldest first, as far as FORGE_PAGES_MAX pages go. */
static int all_comments(struct forge_call *c, const struct forge_comment *at, json_t **ret)
{
	bool more = true;
	int rc = OK;

	*ret = json_array();
	for (int page = 1; rc == OK && more && page <= FORGE_PAGES_MAX; page++) {
		AUTO_JSON list = NULL;

		rc = c->forge->ops->comments(c, at, page, &list, &more);
		if (rc == OK)
			json_array_extend(*ret, list);
	}
	return rc;
}

int forge_comment_find(struct forge_call *c, const struct forge_comment *at, const char *marker, int64_t *ret_id)
{
	AUTO_JSON list = NULL;
	int rc = all_comments(c, at, &list);

	for (size_t i = json_array_size(list); rc == OK && i > 0; i--) {
		const json_t *e = json_array_get(list, i - 1);

		if (strstr(json_word(e, "body"), marker) == NULL)
			continue;
		*ret_id = forge_number(e, "id");
		return OK;
	}
	return rc == OK ? ERR_EMPTY : rc;
}

int forge_thread_get(struct forge_call *c, const struct forge_comment *at, size_t max, json_t **ret)
{
	AUTO_JSON thread = NULL;
	AUTO_JSON list = NULL;
	int rc = c->forge->ops->thread_get(c, at, &thread);

	if (rc == OK)
		rc = all_comments(c, at, &list);
	while (rc == OK && json_array_size(list) > max)
		json_array_remove(list, 0);
	if (rc != OK)
		return rc;
	json_object_set(thread, "comments", list);
	*ret = TAKE(thread);
	return OK;
}

int forge_may_write(struct forge_call *c, const char *login, bool *ret)
{
	return c->forge->ops->may_write(c, login, ret);
}

int forge_check(struct forge_call *c, json_t **ret)
{
	return c->forge->ops->check(c, ret);
}

int forge_login(struct forge_call *c, char **ret)
{
	struct forge *f = OBJ_FROM(forge, c->forge, FORGE_MAGIC);
	AUTO_JSON said = NULL;
	bool before = c->by_token, apps;
	int rc;

	pthread_mutex_lock(&f->mtx);
	*ret = str_dup(f->login);
	pthread_mutex_unlock(&f->mtx);
	if (*ret != NULL)
		return OK;
	/* Issues can be assigned to the token's account, not to an app. */
	c->by_token = f->token != NULL;
	rc = forge_check(c, &said);
	apps = forge_call_is_apps(c);
	c->by_token = before;
	if (rc != OK)
		return rc;
	/* What an app does is done by an account with this name. */
	*ret = str_printf("%s%s", json_word(said, "login"), apps ? "[bot]" : "");
	pthread_mutex_lock(&f->mtx);
	str_set(&f->login, *ret);
	pthread_mutex_unlock(&f->mtx);
	return OK;
}

bool forge_has_both(const struct forge *f)
{
	return f->app != NULL && f->token != NULL;
}
