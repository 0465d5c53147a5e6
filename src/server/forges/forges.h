/* forges/forges.h: the forges that the settings name (GitHub, GitLab, Gitea or Forgejo), one interface to all of them.
 *
 * A forge is constant after start, but for its tokens and the time of its last write, which are behind a lock of its
 * own. Calls block their thread until their deadline. What a forge answers is from outside: bounded, and only the
 * fields that are read here leave this room.
 * Thread: forges_new and forges_free at start and end; everything else from any. */
#pragma once
#include "base/errors.h"
#include "base/json.h"

enum forge_kind { FORGE_GITHUB, FORGE_GITLAB, FORGE_GITEA };

struct forges;
struct forge;

/* The `forges` array of the settings (NULL: none). ERR_INVALID with `why`. */
int forges_new(const json_t *settings, struct forges **ret, struct why *why) MUST_USE;
/* NULL is fine. */
void forges_free(struct forges **f);
size_t forges_count(const struct forges *f);
struct forge *forges_at(const struct forges *f, size_t i);

/* The forge of a repository by its address, NULL if there is none. *ret_repo: "owner/name" (GitLab: with all groups),
 * malloc'ed, set only with a forge. */
struct forge *forges_of_repo(const struct forges *f, const char *repo_url, char **ret_repo);
/* The forge of a pull or merge request by its address. */
struct forge *forges_of_pull(const struct forges *f, const char *pull_url, char **ret_repo, int64_t *ret_number);
/* By the name in the settings; NULL. */
struct forge *forges_named(const struct forges *f, const char *name);

enum forge_kind forge_kind(const struct forge *f);
const char *forge_name(const struct forge *f); /* of the settings; default: its host */
const char *forge_host(const struct forge *f); /* "github.com" */
const char *forge_webhook_secret(const struct forge *f); /* NULL: it sends nothing that is taken */
bool forge_opens_drafts(const struct forge *f);
/* The address of a repository for git; malloc'ed. */
char *forge_repo_url(const struct forge *f, const char *repo);

/* One call. */
struct forge_call {
	struct forge *forge;
	const char *repo; /* "owner/name" */
	int64_t deadline_mono_ms;
	bool (*stopped)(void *ctx); /* true: give up soon; NULL: never */
	void *ctx;
	bool by_token; /* of a forge that has an app and a token: with the token */
	int64_t retry_ms; /* out: with ERR_FULL how long the forge wants us to wait */
	struct why why; /* out: with every code but OK */
};

/* All of them: ERR_NET, ERR_TIMEOUT (it may have been done), ERR_FULL (a rate limit, retry_ms), ERR_UNAUTHORIZED,
 * ERR_DENIED (no right), ERR_NOT_FOUND (or hidden), ERR_INVALID (the forge refuses what was asked), ERR_PROTOCOL,
 * ERR_CANCELLED. */
struct forge_repo {
	char *default_branch;
};
int forge_repo_get(struct forge_call *c, struct forge_repo *ret) MUST_USE;
void forge_repo_fini(struct forge_repo *r);
/* The commit of a branch. */
int forge_branch_get(struct forge_call *c, const char *branch, char **ret_commit) MUST_USE;

/* A pull request, or a merge request of GitLab. */
struct forge_pull {
	int64_t number;
	char *url, *title, *body, *head, *base, *head_commit;
	char *head_repo; /* "owner/name"; "": gone */
	char *author;
	bool is_open, is_merged;
};
void forge_pull_fini(struct forge_pull *p);
int forge_pull_get(struct forge_call *c, int64_t number, struct forge_pull *ret) MUST_USE;
/* The open one from a branch of the same repository. ERR_EMPTY: there is none. */
int forge_pull_find(struct forge_call *c, const char *head, const char *base, struct forge_pull *ret) MUST_USE;
struct forge_pull_text {
	const char *head, *base, *title, *body;
	bool draft;
};
/* ERR_CONFLICT: there is one already; ERR_EMPTY: nothing to merge. */
int forge_pull_create(struct forge_call *c, const struct forge_pull_text *text, struct forge_pull *ret) MUST_USE;
/* NULL: stays. */
int forge_pull_edit(struct forge_call *c, int64_t number, const char *title, const char *body) MUST_USE;
int forge_pull_ask_review(struct forge_call *c, int64_t number, const char *login) MUST_USE;

/* Comments: of an issue, or of a pull request ("thread" is its number). */
struct forge_comment {
	int64_t thread;
	bool is_pull;
	int64_t comment; /* to react to or edit; 0: the issue or pull request itself */
	bool is_line; /* a comment on a line of a change */
	const char *discussion; /* GitLab: id of the discussion; else NULL */
};
/* A new comment (in the line's discussion, if there is one); *ret_id as forge_comment.comment. */
int forge_comment_add(struct forge_call *c, const struct forge_comment *at, const char *body, int64_t *ret_id) MUST_USE;
int forge_comment_edit(struct forge_call *c, const struct forge_comment *at, const char *body) MUST_USE;
/* One of "eyes", "rocket", "confused". Twice is fine. */
int forge_react(struct forge_call *c, const struct forge_comment *at, const char *reaction) MUST_USE;
/* The newest comment of the thread whose text has `marker`. ERR_EMPTY: none. */
int forge_comment_find(
    struct forge_call *c, const struct forge_comment *at, const char *marker, int64_t *ret_id) MUST_USE;
/* What stands in the thread: {"title", "body", "author", "association"?, "comments": [{"author", "association"?,
 * "body"}]}, the newest `max` comments, oldest first. New reference. */
int forge_thread_get(struct forge_call *c, const struct forge_comment *at, size_t max, json_t **ret) MUST_USE;
/* Whether that person may write to the repository. */
int forge_may_write(struct forge_call *c, const char *login, bool *ret) MUST_USE;

/* The account that we are there; malloc'ed. The forge is asked once. */
int forge_login(struct forge_call *c, char **ret) MUST_USE;

/* Whether it has both an app and a token. */
bool forge_has_both(const struct forge *f);
/* A GitHub App, which may have what failed sent again. */
bool forge_is_app(const struct forge *f);
/* Its events since then that nobody took, oldest first, but those that were sent `attempts_max` times: [{"id", "event",
 * "action"}]. Only of an app. New reference. */
int forge_deliveries_failed(struct forge_call *c, int64_t since_ms, int64_t attempts_max, json_t **ret) MUST_USE;
/* Has it sent once more. */
int forge_redeliver(struct forge_call *c, int64_t id) MUST_USE;
/* For `bullpen admin connect`: who the credential is, what it may do and how far the clocks differ:
 * {"login", "scopes"?, "clockSkewMs"?}, of a GitHub App also {"isApp", "permissions", "events", "webhookUrl"?}. New
 * reference. */
int forge_check(struct forge_call *c, json_t **ret) MUST_USE;
