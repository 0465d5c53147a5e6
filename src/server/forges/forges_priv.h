#pragma once
#include "base/strbuf.h"
#include "net/http_client.h"
#include "server/forges/forges.h"
#include <pthread.h>

#define FORGE_MAGIC 0x464f5247u
#define FORGE_BODY_MAX ((size_t)4 * 1024 * 1024)
#define FORGE_PAGE 100
#define FORGE_PAGES_MAX 20

/* What the kinds differ in. Each as the function of the same name in forges.h. */
struct forge_ops {
	const char *name; /* of the kind, in the settings */
	const char *api_path; /* behind the url of the forge */
	const char *pull_path; /* between repository and number in addresses of pull requests */
	int64_t write_pause_ms; /* what the forge asks for between two writes */
	int (*repo_get)(struct forge_call *c, struct forge_repo *ret);
	int (*branch_get)(struct forge_call *c, const char *branch, char **ret_commit);
	int (*pull_get)(struct forge_call *c, int64_t number, struct forge_pull *ret);
	int (*pull_find)(struct forge_call *c, const char *head, const char *base, struct forge_pull *ret);
	int (*pull_create)(struct forge_call *c, const struct forge_pull_text *text, struct forge_pull *ret);
	int (*pull_edit)(struct forge_call *c, int64_t number, const char *title, const char *body);
	int (*pull_ask_review)(struct forge_call *c, int64_t number, const char *login);
	int (*comment_add)(struct forge_call *c, const struct forge_comment *at, const char *body, int64_t *ret_id);
	int (*comment_edit)(struct forge_call *c, const struct forge_comment *at, const char *body);
	int (*react)(struct forge_call *c, const struct forge_comment *at, const char *reaction);
	/* A page of comments, newest last; *ret_more: there is another one. */
	int (*comments)(struct forge_call *c, const struct forge_comment *at, int page, json_t **ret, bool *ret_more);
	int (*thread_get)(struct forge_call *c, const struct forge_comment *at, json_t **ret);
	int (*may_write)(struct forge_call *c, const char *login, bool *ret);
	int (*check)(struct forge_call *c, json_t **ret);
};
/* hub.c: what GitHub and Gitea have in common. */
void hub_pull_from(const json_t *j, struct forge_pull *ret);
int hub_repo_get(struct forge_call *c, struct forge_repo *ret);
int hub_branch_get(struct forge_call *c, const char *branch, char **ret_commit);
int hub_pull_get(struct forge_call *c, int64_t number, struct forge_pull *ret);
int hub_pull_edit(struct forge_call *c, int64_t number, const char *title, const char *body);
int hub_comment_edit(struct forge_call *c, const struct forge_comment *at, const char *body);
int hub_comments(struct forge_call *c, const struct forge_comment *at, int page, json_t **ret, bool *ret_more);
int hub_thread_get(struct forge_call *c, const struct forge_comment *at, json_t **ret);
int hub_react(struct forge_call *c, const struct forge_comment *at, const char *reaction);
int hub_ask_review(struct forge_call *c, int64_t number, const char *login);

extern const struct forge_ops forge_github, forge_gitlab, forge_gitea;

/* limits.c. Thread: any. */
struct forge_limits;
struct forge_limits *forge_limits_new(int64_t write_pause_ms, bool by_owner);
void forge_limits_free(struct forge_limits **l); /* NULL is fine */
/* Waits until the call may be made. ERR_FULL with c->retry_ms: the forge wants to be left alone for longer;
 * ERR_TIMEOUT: no time to keep the distance of writes. */
int forge_limits_wait(struct forge_limits *l, struct forge_call *c, bool writes) MUST_USE;
/* How long the forge wants to be left alone, of an answer that says that there is a limit. */
int64_t forge_limits_wait_of(const struct http_client_response *r);
/* What the answer says about limits; `refused`: it was one. */
void forge_limits_heed(
    struct forge_limits *l, const struct forge_call *c, const struct http_client_response *r, bool refused);
/* What to ask with; malloc'ed, NULL: nothing was kept of that path. */
char *forge_kept_etag(struct forge_limits *l, const char *path);
/* The answer that had it; false: it was forgotten meanwhile. *ret_cursor may be NULL. */
bool forge_kept_take(struct forge_limits *l, const char *path, const char *etag, char **ret_body, char **ret_cursor);
void forge_kept_put(struct forge_limits *l, const char *path, const struct http_client_response *r, const char *cursor);

struct forge_app; /* app.c: tokens of a GitHub App */

struct forge {
	unsigned magic;
	enum forge_kind kind;
	const struct forge_ops *ops;
	char *name, *host, *url, *api_url, *ca_file;
	char *token, *webhook_secret; /* NULL: none */
	struct forge_app *app; /* NULL: the token; with both the app, but for calls that say by_token */
	bool drafts;
	int64_t write_pause_ms;
	struct http_client_pool *pool;
	struct forge_limits *limits;
	pthread_mutex_t mtx; /* a leaf; guards what follows */
	char *login; /* who we are there; NULL: not asked yet */
};

/* Who makes the call. */
bool forge_call_is_apps(const struct forge_call *c);

struct forge_answer {
	int status;
	json_t *json; /* NULL: none, or no JSON */
	int64_t clock_skew_ms; /* ours minus theirs; INT64_MAX: not known */
	char *scopes; /* of the token, "repo, read:org"; NULL: not told */
	char *cursor; /* of the next page; NULL: none, or pages have numbers */
};
void forge_answer_fini(struct forge_answer *a);
/* One request to the forge's API. `path` stands behind the API's address, with its query; `body` NULL: none. OK for
 * every status below 300; else the code of forges.h and, in c->why, the forge's own words, with *ret as far as there
 * was an answer. forge_answer_fini in any case. */
int forge_ask(
    struct forge_call *c, const char *method, const char *path, const json_t *body, struct forge_answer *ret) MUST_USE;
/* Printed path. */
int forge_get(struct forge_call *c, struct forge_answer *ret, const char *fmt, ...) PRINTF_LIKE(3, 4) MUST_USE;
/* Whether the forge's words of a refused request have this text. */
bool forge_said(const struct forge_answer *a, const char *text);
/* The cursor of the next page, from the header Link; malloc'ed, safe in a query; NULL: none. */
char *forge_next_cursor(const char *link);
/* "a b/c" -> "a%20b%2Fc"; malloc'ed. */
char *forge_quote(const char *text);
/* A text of an object; "" if it has none; malloc'ed, at most `max` bytes. */
char *forge_text(const json_t *o, const char *key, size_t max);
const json_t *forge_object(const json_t *o, const char *key);
/* 0 if it is none. */
int64_t forge_number(const json_t *o, const char *key);

/* app.c. The private key is PEM. ERR_INVALID with `why`. */
int forge_app_new(const char *id, const char *pem, struct forge_app **ret, struct why *why) MUST_USE;
void forge_app_free(struct forge_app **a);
/* A token for c->repo alone, from memory or new; malloc'ed, for str_wipe. */
int forge_app_token(struct forge_call *c, struct forge_app *a, char **ret) MUST_USE;
/* The forge does not take it any more. */
void forge_app_forget(struct forge_app *a, const char *token);
/* A short-lived token of the app itself, for /app. */
char *forge_app_jwt(struct forge_app *a, int64_t now_ms);
/* With that credential instead of the forge's own; used by app.c. */
int forge_ask_as(struct forge_call *c, const char *authorization, const char *method, const char *path,
    const json_t *body, struct forge_answer *ret) MUST_USE;
