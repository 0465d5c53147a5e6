/* api/v0.h: the parts of the older API; for this folder only. */
#pragma once
#include "server/api/agents.h"
#include "server/api/bodies.h"

/* The agent id of the path as v1 writes it, malloc'ed; NULL: answered. */
char *v0_id(struct api_request *rq);
/* v0_body.c: turns rq->body, a launch as v0 has it, into one as v1 has it; `webhook` stays in it, checked. Of `a` it
 * sets what v1's body cannot say. ERR_INVALID with p. */
int v0_to_v1(struct api_request *rq, struct agent *a, struct problem *p);
/* Names v1's members in the sentence as v0 has them. */
void v0_reword(struct problem *p);
/* Images say no type here: the first bytes do. Sets prompt.images[].mimeType. */
void v0_name_images(json_t *body);
