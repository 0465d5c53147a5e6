/* main/admin_connect_priv.h: what the files of `bullpen admin connect` share. Main thread; everything is printed as it
 * is found out. */
#pragma once
#include "base/errors.h"
#include "base/json.h"
#include "server/forges/forges.h"

#define CONNECT_TIMEOUT_MS ((int64_t)20 * 1000)

enum connect_surface { CONNECT_GITHUB, CONNECT_GITLAB, CONNECT_GITEA, CONNECT_LINEAR, CONNECT_SLACK };

struct connect {
	enum connect_surface surface;
	const char *name; /* "GitHub" */
	const char *path; /* behind the server's address: "/webhooks/github" */
	const char *config; /* the file */
	json_t *root; /* what it says */
	char *url; /* where services reach the server, without a slash at the end; NULL: not known */
	struct forges *forges; /* NULL: they cannot be read, forges_why says why */
	struct why forges_why;
	bool missing; /* something is */
	const char *data_dir, *answer; /* --data, --answer; NULL: not given */
};

/* The next forge of the surface's kind behind the `*at`-th; NULL: no more. */
struct forge *connect_forge(const struct connect *c, size_t *at);
/* Lines of the result; text of others in them becomes harmless. */
void connect_ok(const char *fmt, ...) PRINTF_LIKE(1, 2);
void connect_note(const char *fmt, ...) PRINTF_LIKE(1, 2);
void connect_missing(struct connect *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* What linear and slack have in their tables; texts malloc'ed, NULL: not given. Fields that cannot be read are
 * reported as missing. */
struct connect_table {
	bool is_there;
	char *token, *secret, *app_token, *api_url, *ca_file;
	char *client_id, *client_secret;
};
void connect_table_read(struct connect *c, struct connect_table *ret);
void connect_table_fini(struct connect_table *t);

/* One POST to a service. `token` NULL: none; `headers` beside the usual. */
struct connect_answer {
	int status;
	json_t *json; /* NULL: it is no JSON */
	char *text, *scopes; /* scopes NULL: not told */
	int64_t skew_ms; /* INT64_MAX: not known */
};
struct http_header;
int connect_post(const char *url, const char *ca_file, const char *token, const struct http_header *headers,
    size_t n_headers, const char *body, struct connect_answer *ret, struct why *why) MUST_USE;
void connect_answer_fini(struct connect_answer *a);

void connect_guide(const struct connect *c); /* admin_connect_guide.c */
void connect_check(struct connect *c); /* admin_connect_check.c */
/* admin_connect_oauth.c: tokens that a browser lets us have. */
/* Whether the settings ask for that: they have a client_id. */
bool connect_by_browser(const struct connect *c);
/* Prints the address for the browser. The exit status of bad usage; 0 also if something is missing. */
int connect_authorize(struct connect *c);
/* Takes --answer, the address that the browser was sent to. Likewise. */
int connect_take_answer(struct connect *c);
/* [[workspace, name, token]] of what was taken before, as far as the tokens have not ended. The exit status. */
int connect_kept_tokens(struct connect *c, json_t **ret);
/* admin_connect_guide.c: what the bot needs, with that between; malloc'ed. */
char *connect_slack_scopes(const struct connect *c, const char *between);
void connect_test(struct connect *c); /* admin_connect_test.c */

/* What the bot's token must be allowed. */
#define CONNECT_SLACK_SCOPES                                                                                           \
	"app_mentions:read", "channels:history", "channels:join", "channels:read", "chat:write", "files:read",         \
	    "groups:history", "groups:read", "im:history", "im:read", "im:write", "mpim:history", "reactions:read",    \
	    "reactions:write", "team:read", "users:read"
#define CONNECT_GITHUB_EVENTS "issue_comment", "pull_request_review_comment", "pull_request_review", "issues"
