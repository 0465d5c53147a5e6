/* triggers/linear_priv.h: Linear's API, for the files of this folder that speak with it, and for connecting it. */
#pragma once
#include "server/triggers/service_tokens.h"
#include "server/triggers/surface.h"
#include <pthread.h>
#include <stdatomic.h>

struct http_client_pool;

/* Who we are to Linear's authorization server; texts of the settings, NULL where they say nothing. */
struct linear_client {
	char *id, *secret, *refresh_token, *token_url, *ca_file;
};

struct linear {
	/* Of the settings; constant. NULL: not given, but for api_url. */
	char *api_url, *default_repo;
	char *webhook_secret, *token; /* token NULL: it is renewed, by `client` */
	struct linear_client client;
	bool moves_issues, hears_comments;
	struct http_client_pool *pool;
	/* Borrowed; NULL while the settings are only looked at. */
	struct store *store;
	const struct seal *seal;
	_Atomic int64_t quiet_until_ms; /* monotonic: Linear wants to be left alone */
	pthread_mutex_t mtx; /* guards what follows */
	char *self_id, *self_name, *self_display; /* of the app's user; NULL: not asked yet */
};

/* One GraphQL request; `variables` is taken. *ret_data: the answer's data, new reference. ERR_FULL: it limits its
 * requests; ERR_UNAUTHORIZED, ERR_INVALID with Linear's own words; ERR_NET, ERR_TIMEOUT. */
int linear_ask(struct linear *l, const char *query, json_t *variables, int64_t deadline_mono_ms, json_t **ret_data,
    struct why *why) MUST_USE;
/* An activity of an agent session. `id`: a UUID, which makes a second one with it the same one. type: thought,
 * response, elicitation, error. */
int linear_activity(struct linear *l, const char *session, const char *id, const char *type, const char *body,
    bool ephemeral, int64_t deadline_mono_ms, struct why *why) MUST_USE;
/* The user that the app is there, and its names. malloc'ed. */
int linear_self(struct linear *l, int64_t deadline_mono_ms, char **ret_id, char **ret_name, char **ret_display,
    struct why *why) MUST_USE;

/* linear.c */
/* What a signed event is: fills *ret but for the delivery. */
void linear_take(const struct linear *l, const json_t *body, struct accepted *ret);
char *linear_id_in(const json_t *o, const char *key); /* "" if it has none; malloc'ed */
char *linear_ended_text(const struct told *told); /* malloc'ed */
void linear_move_issue(struct linear *l, const char *id, int64_t deadline_mono_ms);

/* linear_comments.c: comments outside of agent sessions. */
bool linear_is_comment(const json_t *body);
/* As surface.accept, surface.read and surface.tell do it for them. */
void linear_accept_comment(const struct linear *l, const json_t *body, struct accepted *ret);
int linear_read_comment(struct triggers *t, const json_t *body, struct asked *ret, struct why *why) MUST_USE;
int linear_tell_comment(struct linear *l, struct told *told, struct why *why) MUST_USE;
/* Which event answers a comment that several may tell of. ERR_EMPTY with why: not this one (*ret_by_reply: but that of
 * the comment); ERR_NET: it cannot be said yet. */
int linear_claim_comment(
    struct triggers *t, const struct inbox_row *row, const char *comment, bool *ret_by_reply, struct why *why) MUST_USE;

/* linear_token.c */
#define LINEAR_NONE_REJECTED (-1)
/* `rejected`: the version that Linear did not take. *ret: malloc'ed, for str_wipe. ERR_UNAUTHORIZED: it is not
 * connected (any more). */
int linear_token(struct linear *l, int64_t rejected, int64_t deadline_mono_ms, char **ret, int64_t *ret_version,
    struct why *why) MUST_USE;
/* The tokens for a code that Linear gave to a browser. ERR_UNAUTHORIZED: it refuses. */
int linear_grant_of_code(const struct linear_client *c, const char *code, const char *redirect_uri,
    struct service_token *ret, struct why *why) MUST_USE;
/* What the settings' refresh token is known by. malloc'ed; NULL: they have none. */
char *linear_seed_of(const struct linear_client *c);
