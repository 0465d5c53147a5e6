/* api/agents.h: the parts of the agents resource; for this folder only. */
#pragma once
#include "server/api/api_priv.h"

#define AGENTS_ENDPOINT "POST /v1/agents" /* for Idempotency-Key */

/* Fills a from the body. ERR_INVALID: p says what was wrong. */
int agent_from_body(
    struct api_request *rq, struct agent *a, struct prompt *ret, json_t **ret_images, struct problem *p) MUST_USE;
/* An address that `repos` may have, as far as its form says. */
bool repo_url_is_taken(const struct api *api, const char *url);
/* Of the body, what says where it goes: env is read already. ERR_INVALID with p. */
int route_read(const json_t *body, struct agent *a, struct problem *p) MUST_USE;
/* Chooses pool and row, or machine. ERR_INVALID with p, or a store error. */
int agent_route(struct api_request *rq, struct tx *tx, struct agent *a, struct problem *p) MUST_USE;
