/* api/inside.h: agents that the control plane makes and continues in a person's name, because she asked elsewhere (a
 * chat, an issue, a schedule). The same checks as over HTTP, the same refusals. Thread: any; it blocks. */
#pragma once
#include "base/json.h"
#include "server/access/access.h"
#include "server/runs/runs.h"

struct api;
struct problem; /* api/route.h */

struct inside_made {
	char *agent_id, *run_id; /* run_id NULL: the prompt waits for the end of the run before it */
};
void inside_made_fini(struct inside_made *m);

/* What else is written in the same transaction. */
struct inside_also {
	int (*write)(void *ctx, struct tx *tx, const char *agent_id);
	void *ctx;
};

/* As POST /v1/agents with this body. ERR_CONFLICT: the agentId of the body is taken. ERR_INVALID with p. Other codes:
 * the store's. */
int inside_create(struct api *a, const struct principal *who, const json_t *body, const struct inside_also *also,
    struct inside_made *ret, struct problem *p) MUST_USE;
/* Whether such a body is taken, as far as that can be said before. ERR_INVALID with p. */
int inside_check(struct api *a, const struct principal *who, const json_t *body, struct problem *p) MUST_USE;
/* A follow-up, now or behind the active run, where the agent is talked with. ERR_DENIED: it is another's, and the
 * policy does not let this person. ERR_NOT_FOUND, ERR_INVALID with p. */
int inside_continue(struct api *a, const struct principal *who, const char *agent_id, const struct prompt *prompt,
    const struct inside_also *also, struct inside_made *ret, struct problem *p) MUST_USE;
/* Who may go on with it may stop it. ERR_DENIED, ERR_CONFLICT: nothing runs. */
int inside_stop(struct api *a, const struct principal *who, const char *agent_id) MUST_USE;
/* Stops what runs and puts it away; for its owner alone. */
int inside_archive(struct api *a, const struct principal *who, const char *agent_id) MUST_USE;
/* Whether POST /v1/agents knows a model of that name. */
bool inside_has_model(const char *name);
/* NULL: the default model. */
bool inside_takes_images(const char *model);
/* The link to an agent for people. malloc'ed. */
char *inside_agent_url(struct api *a, const char *agent_id);
const char *inside_web_base(struct api *a); /* NULL: not known yet */

/* Webhooks of other services: POST /webhooks/{path*}. */
struct inside_delivery {
	const char *path; /* "slack/events" */
	const char *(*header)(const struct inside_delivery *d, const char *name); /* NULL: not given */
	const void *ctx;
	const char *body;
	size_t len;
};
struct inside_answer {
	int status;
	const char *content_type; /* NULL: JSON */
	char *text; /* malloc'ed; NULL: "{}" */
};
typedef void inside_receive_fn(void *ctx, const struct inside_delivery *d, struct inside_answer *ret);
