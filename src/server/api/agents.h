/* api/agents.h: the parts of the agents resource; for this folder only. */
#pragma once
#include "server/api/api_priv.h"

#define AGENTS_ENDPOINT "POST /v1/agents" /* for Idempotency-Key */

/* Fills a from the body, in v1's form. ERR_INVALID: p says what was wrong. */
int agent_from_body(struct api_request *rq, const char *endpoint, struct agent *a, struct prompt *ret,
    json_t **ret_images, struct problem *p) MUST_USE;

/* All that creating writes, by rq->body and who asks. ERR_INVALID: p says what was wrong. */
int agent_write(struct api_request *rq, struct tx *tx, struct agent *a, const struct prompt *prompt,
    struct created *made, struct problem *p) MUST_USE;

/* v1 and v0 are two views of the same agents: what differs. */
struct agents_view {
	const char *endpoint; /* of creating, for Idempotency-Key */
	/* The answer to creating; new reference. */
	json_t *(*created)(struct api_request *rq, const struct agent *a, const struct run_info *run);
	/* What creating does besides: before the transaction, and in it. ERR_INVALID with p. May be NULL. */
	int (*check)(struct api_request *rq, struct agent *a, struct problem *p);
	int (*also)(struct api_request *rq, struct tx *tx, const struct agent *a);
	void (*reword)(struct problem *p); /* names members as the view does; may be NULL */
	const char *list_key;
	/* One of a list; new reference. */
	int (*item)(struct api_request *rq, struct tx *tx, const struct agent *a, json_t **ret);
};
/* Creates an agent by rq->body, in v1's form, and answers. */
void agents_create(struct api_request *rq, const struct agents_view *v);
/* Answers with the page of the query; all is in it but for archived ones. */
void agents_list(struct api_request *rq, const struct agents_view *v, bool with_archived);
/* "private", or "team": its members may read it in their browsers. */
const char *agent_visibility(const struct agent *a);
/* {"id"} of the agent that was changed, or what is the matter. A principal's own agents only. */
void agent_change(struct api_request *rq, const char *id, int (*change)(struct api_request *rq, const char *agent_id));
/* For agent_change. */
int agent_end(struct api_request *rq, const char *agent_id) MUST_USE;
/* The team's pools, the caller's machines and agents, by URL: [url], new reference. */
int repositories_known(struct api_request *rq, json_t **ret) MUST_USE;
/* An address that `repos` may have, as far as its form says. */
bool repo_url_is_taken(const struct api *api, const char *url);
/* Pull requests of the body: the one to work on is asked for at its forge, so it blocks. After repos and flags.
 * ERR_INVALID with p. */
int read_pulls(struct api_request *rq, struct agent *a, struct problem *p) MUST_USE;
int keep_given_pull(struct api_request *rq, struct tx *tx, const struct agent *a) MUST_USE;
/* Of the body, what says where it goes: env is read already. ERR_INVALID with p. */
int route_read(const json_t *body, struct agent *a, struct problem *p) MUST_USE;
/* Chooses pool and row, or machine. ERR_INVALID with p, or a store error. */
int agent_route(struct api_request *rq, struct tx *tx, struct agent *a, struct problem *p) MUST_USE;
