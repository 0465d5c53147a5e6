/* triggers/linear_priv.h: Linear's API, for the surface. */
#pragma once
#include "server/triggers/surface.h"

struct http_client_pool;

/* Of the settings; constant. */
struct linear {
	char *api_url, *ca_file, *default_repo; /* NULL: not given, but for api_url */
	char *webhook_secret, *token;
	bool moves_issues;
	struct http_client_pool *pool;
};

/* One GraphQL request; `variables` is taken. *ret_data: the answer's data, new reference. ERR_FULL: it limits its
 * requests; ERR_UNAUTHORIZED, ERR_INVALID with Linear's own words; ERR_NET, ERR_TIMEOUT. */
int linear_ask(const struct linear *l, const char *query, json_t *variables, int64_t deadline_mono_ms,
    json_t **ret_data, struct why *why) MUST_USE;
/* An activity of an agent session. `id`: a UUID, which makes a second one with it the same one. type: thought,
 * response, error. */
int linear_activity(const struct linear *l, const char *session, const char *id, const char *type, const char *body,
    bool ephemeral, int64_t deadline_mono_ms, struct why *why) MUST_USE;
