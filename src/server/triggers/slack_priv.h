/* triggers/slack_priv.h: Slack, for the files of this folder that speak with it. docs.slack.dev.
 * Thread: any; a call blocks. */
#pragma once
#include "server/triggers/service_tokens.h"
#include "server/triggers/surface.h"
#include <pthread.h>
#include <stdatomic.h>

#define SLACK_MAGIC 0x534c4143u
#define SLACK_BODY_MAX ((size_t)1024 * 1024) /* of an event */
#define SLACK_ID_MAX 64
#define SLACK_KEYS                                                                                                     \
	(TRIGGER_SELF_HOSTED | TRIGGER_POOL | TRIGGER_WORKER | TRIGGER_REPO | TRIGGER_ENV | TRIGGER_BRANCH |           \
	    TRIGGER_MODEL | TRIGGER_AUTOPR | TRIGGER_CHANNEL)

struct slack {
	unsigned magic;
	char *signing_secret, *bot_token, *app_token; /* NULL: not given */
	char *client_id, *client_secret; /* with them workspaces install the app, each with a token of its own; NULL */
	char *ca_file; /* NULL: the system's authorities */
	char *api_url, *files_url; /* without and with a slash at the end */
	char *app_id; /* NULL: any that signs rightly */
	bool link_by_email;
	struct http_client_pool *pool;
	atomic_bool stopped; /* calls end soon */
	_Atomic int64_t quiet_until_ms; /* monotonic: Slack wants to be left alone */
	struct store *store; /* borrowed; NULL while the settings are only looked at */
	const struct seal *seal;
	pthread_mutex_t mtx; /* guards what follows */
	json_t *selves; /* by workspace, what auth.test said */
	json_t *names; /* of people, by workspace and id */
};
/* `settings` NULL: *ret is NULL, there is no Slack. ERR_INVALID with why. */
int slack_new(const json_t *settings, struct slack **ret, struct why *why) MUST_USE;
void slack_use(struct slack *s, struct store *store, const struct seal *seal); /* both borrowed; NULL is fine */
void slack_stop(struct slack *s); /* NULL is fine */
void slack_free(struct slack **s);
struct slack *triggers_slack(struct triggers *t); /* NULL: not configured */

/* slack_web.c: the Web API. */
struct slack_call {
	struct slack *slack;
	const char *place; /* the workspace; NULL: none, with the token of the settings */
	int64_t deadline_mono_ms;
	int names_asked; /* a thread may mention any number of people: some are asked for, the others stay ids */
	const char *error; /* Slack's word for what went wrong; borrowed from `words` */
	char words[64];
	struct why why;
	int64_t retry_ms; /* with ERR_FULL: how long Slack wants to be left alone */
};
/* ERR_FULL: rate limit, later; ERR_NET, ERR_TIMEOUT: likewise; ERR_UNAUTHORIZED: the installation is broken;
 * ERR_NOT_FOUND; ERR_INVALID: anything else that Slack refuses, see call.error. *ret may be NULL. */
int slack_post(struct slack_call *c, const char *method, const json_t *args, json_t **ret) MUST_USE;
/* `query`: percent-encoded; reading methods take no JSON. */
int slack_get(struct slack_call *c, const char *method, const char *query, json_t **ret) MUST_USE;
/* A WebSocket's address for Socket Mode; malloc'ed. */
int slack_open_socket(struct slack_call *c, char **ret_url) MUST_USE;
/* A file of Slack's; ERR_DENIED: it is elsewhere. */
int slack_download(struct slack_call *c, const char *url, size_t max, struct strbuf *ret) MUST_USE;
/* Who we are there. Texts malloc'ed. */
int slack_self(struct slack_call *c, char **ret_user, char **ret_bot) MUST_USE;
/* The name of a person, or the id if there is none to be had; malloc'ed. */
char *slack_name(struct slack_call *c, const char *user);

/* What was remembered of the workspace is asked for again. */
void slack_forget(struct slack *s, const char *place);

/* slack_install.c: tokens of workspaces. */
/* malloc'ed, for str_wipe. ERR_UNAUTHORIZED: the workspace has none. */
int slack_token_of(struct slack_call *c, char **ret) MUST_USE;
/* The token for a code that Slack gave to a browser. ERR_UNAUTHORIZED: it refuses; ERR_INVALID: none that we can use.
 */
int slack_grant_of_code(const struct slack *s, const char *code, const char *redirect_uri, struct service_grant *ret,
    struct why *why) MUST_USE;
/* An event says that the workspace has uninstalled the app. ERR_EMPTY with why: seen to; other codes: later. */
int slack_uninstalled(struct triggers *t, const char *place, struct why *why) MUST_USE;

/* slack_text.c: pure. */
/* Slack's markup as plain text; malloc'ed. `bot`: its first mention is taken out and *ret_mentioned set; NULL: none.
 * `name` says names of people (malloc'ed; may be NULL). */
char *slack_decode(
    const char *text, const char *bot, char *(*name)(void *ctx, const char *user), void *ctx, bool *ret_mentioned);
/* Text for a message, at most `max` bytes (16 or more; what is longer is cut), its markup without effect; malloc'ed. */
char *slack_escape(const char *text, size_t max);
/* "agent …", "start a new agent …": where the prompt begins behind it; NULL: it is none of these. */
const char *slack_forced(const char *text);
enum slack_command_kind {
	SLACK_NONE,
	SLACK_LIST,
	SLACK_SETTINGS,
	SLACK_HELP,
	SLACK_POOL,
	SLACK_POOL_SET,
	SLACK_POOL_UNSET,
	SLACK_REPO,
	SLACK_REPO_SET, /* text "": none from now on; likewise below */
	SLACK_MACHINE,
	SLACK_MACHINE_SET,
	SLACK_SUMMARIES,
	SLACK_SUMMARIES_SET
};
struct slack_command {
	enum slack_command_kind kind;
	char pool[64];
	char text[300]; /* a repository, a machine, on or off */
	bool for_channel, for_me, for_shared;
};
/* The whole message is a command, or it is SLACK_NONE. */
struct slack_command slack_command_of(const char *text);
/* "in acme/backend", "from the dev branch", "with opus": each malloc'ed, NULL where there is none. */
struct slack_phrases {
	char *repo, *branch, *model;
};
void slack_phrases_of(const char *text, bool (*is_model)(const char *name), struct slack_phrases *ret);
void slack_phrases_fini(struct slack_phrases *p);

/* slack.c: what Socket Mode brings, too. Fills *ret, as surface.accept does with what was signed. */
int slack_take_event(
    struct slack *s, const json_t *body, struct accepted *ret, struct inside_answer *answer, struct why *why) MUST_USE;
int slack_take_interaction(struct slack *s, const json_t *payload, struct accepted *ret, struct why *why) MUST_USE;
/* The event of a "Try again": the body that is in the store; ERR_EMPTY: gone. */
int slack_event_again(struct triggers *t, const char *place, const char *id, json_t **ret) MUST_USE;
const json_t *slack_said(const json_t *body); /* the message of an event */
#define SLACK_SWITCH "switch:" /* a choice of the menu, before the id of an event */
#define SLACK_SWITCH_FORM "bullpen_switch"
/* The event that such a form is about; malloc'ed, NULL: it is another one. */
char *slack_event_of_form(const json_t *view);

/* slack_look.c, slack_commands.c, slack_tell.c: the functions of the surface. */
int slack_look(struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *a,
    int64_t deadline_mono_ms, struct why *why) MUST_USE;
int slack_settle(struct triggers *t, struct tx *tx, const struct principal *who, const struct inbox_row *row,
    struct asked *a, struct trigger_options *o, struct why *why) MUST_USE;
int slack_command(struct triggers *t, struct tx *tx, const struct principal *who, const struct inbox_row *row,
    const struct asked *a, char **ret) MUST_USE;
int slack_tell(struct triggers *t, const char *place, struct told *told, struct why *why) MUST_USE;

/* slack_defaults.c: what holds where a request says nothing. */
int slack_defaults_settle(
    struct tx *tx, const struct principal *who, const char *place, struct asked *a, struct trigger_options *o) MUST_USE;
/* Sentences of SLACK_REPO, SLACK_MACHINE or SLACK_SUMMARIES; SLACK_SETTINGS: lines of all of them. */
int slack_defaults_describe(struct tx *tx, const struct principal *who, const char *place, const char *channel,
    enum slack_command_kind kind, struct strbuf *b) MUST_USE;
int slack_defaults_change(struct tx *tx, const struct principal *who, const char *place, const char *channel,
    const struct slack_command *c, struct strbuf *b) MUST_USE;
/* Addresses of repositories that she may mean: [text]. New reference. */
int slack_known_repos(struct tx *tx, const struct principal *who, json_t **ret) MUST_USE;
/* slack_progress.c */
int slack_describe(struct tx *tx, const char *run_id, char **ret) MUST_USE;

/* slack_proxy.c: how libwebsockets gets to that host. *ret: "user:word@host:port", malloc'ed, for str_wipe; NULL: by
 * itself. `env`: getenv, but for tests. ERR_INVALID with why, without the password: it cannot. */
int slack_proxy_for(
    const char *host, bool tls, const char *(*env)(const char *name), char **ret, struct why *why) MUST_USE;

/* slack_socket.c: Socket Mode; nothing without an app token. */
struct slack_socket;
int slack_socket_start(struct triggers *t, struct slack_socket **ret, struct why *why) MUST_USE;
void slack_socket_free(struct slack_socket **s); /* NULL is fine */
