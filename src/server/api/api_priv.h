/* api/api_priv.h: what the product's resources share; for this folder only. What every route sees is in route.h. */
#pragma once
#define CSRF_HEADER "x-bullpen-request" /* which every request has that changes something by a browser's cookie */
#include "server/api/rate.h"
#include "server/api/route.h"
#include "server/api/streams.h"
#include <stdatomic.h>

#define API_MAGIC 0x41504921u

#define PROMPT_BODY_MAX ((size_t)128 * 1024 * 1024) /* prompts with images */
#define PROMPT_BODY_WEIGHT 4 /* its JSON, the images decoded and as text again stand beside it */

struct api {
	unsigned magic;
	struct api_config cfg;
	_Atomic(char *) web_base; /* set once; NULL before */
	struct rate *rate;
	struct streams *streams;
	struct watches *watches;
	_Atomic bool draining;
	atomic_uint fetching; /* requests that fetch images now */
	atomic_uint signing_in; /* requests that wait for the OpenID provider now */
	atomic_uint resolving; /* requests that ask a forge, now */
	atomic_uint uploading; /* requests whose body is an upload, now */
	atomic_uint downloading; /* artifacts that are being sent now */
};

/* Keyset cursors over (created_at, id). `*ret_id` is malloc'ed; without cursor: INT64_MAX and "". */
bool query_cursor(struct api_request *rq, int64_t *ret_created_at, char **ret_id);
/* The same in another parameter. */
bool query_cursor_named(struct api_request *rq, const char *name, int64_t *ret_created_at, char **ret_id);
char *cursor_make(int64_t created_at, const char *id);

/* objects.c: the JSON of agents and runs. New references. */
enum object_form { FORM_LIST, FORM_FULL };
json_t *agent_json(struct api *api, const struct agent *a, enum object_form form);
/* {type: user or service_account, id, name} as its `owner`. */
int agent_put_owner(struct tx *tx, const struct agent *a, json_t *o) MUST_USE;
/* The link to it, malloc'ed. */
char *agent_link(struct api *api, const struct agent *a);
/* `wait` (borrowed) may be NULL. */
json_t *run_json(const struct agent *a, const struct run_info *r, const json_t *wait, enum object_form form);

/* Why the agent's run waits, with the workers that come nearest; NULL: it does not. New reference. */
int agent_wait(struct api_request *rq, struct tx *tx, const struct agent *a, json_t **ret) MUST_USE;
/* The agent if this principal may see it; otherwise answers 404 and gives false. `team`: also service accounts of the
 * team and auditors may (reading, streaming, cancelling). Who leads the team in a browser always may. */
bool load_visible_agent(struct api_request *rq, struct tx *tx, const char *id, bool team, struct agent **ret);
/* Likewise the agent if this principal may go on with it: her own, and what the policy lets the team go on with. */
bool load_agent_to_continue(struct api_request *rq, struct tx *tx, const char *id, struct agent **ret);
/* Whether `who` may. Of a person's agent only if it is shared, or where the agent is talked with anyhow (`in_thread`).
 * ERR_DENIED; store errors. */
int follow_up_check(struct tx *tx, const struct principal *who, const struct agent *a, bool in_thread) MUST_USE;
/* Into the audit log, if the agent is another's. */
int follow_up_note(struct tx *tx, const struct audit_by *by, const struct agent *a) MUST_USE;

/* idempotency.c */
/* Hashes the body: it may be large, and transactions that write wait for each other. */
void idempotency_prepare(struct api_request *rq);
/* OK: go on. ERR_CONFLICT or ERR_EMPTY: the answer was given (conflict, or the first answer again). */
int idempotency_check(struct api_request *rq, struct tx *tx, const char *endpoint) MUST_USE;
/* The same in a transaction of its own, before work that a repetition should be spared. */
int idempotency_look(struct api_request *rq, const char *endpoint) MUST_USE;
/* Keeps the answer, in the transaction that made it true. */
int idempotency_keep(
    struct api_request *rq, struct tx *tx, const char *endpoint, int status, const json_t *body) MUST_USE;

/* runs.c: images of a prompt for an agent that exists. They are fetched before the write transaction, in which nobody
 * may wait; which model the agent has (`model` NULL) is looked up in one of its own for that. *ret_images: as of
 * read_images. OK; ERR_INVALID with p; else the answer was given, or a store error. */
int take_images(struct api_request *rq, const char *endpoint, const char *agent_id, const json_t *images,
    const char *model, json_t **ret_images, struct problem *p) MUST_USE;

/* prompt.c: checks shared by agents and runs, of bodies that fit the schemas in bodies.h. ERR_INVALID with p. */
/* Borrowed from the body; *ret_images (NULL: none) as sent. */
int read_prompt(const json_t *body, const char **ret_text, json_t **ret_images, struct problem *p) MUST_USE;
/* images.c */
/* A prompt with images needs a model that takes them; `model` as of read_model. ERR_INVALID with p; ERR_INTERNAL: the
 * model is not what read_model makes, so the row it came from is damaged. */
int check_images(const json_t *images, const char *model, struct problem *p) MUST_USE;
/* Checks them and fetches those given by URL: [{mimeType, data}], a new reference, NULL if there are none. Blocks for
 * up to ten seconds. ERR_INVALID with code and why, or the answer was given (`endpoint` as for idempotency_check). */
int read_images(
    struct api_request *rq, const char *endpoint, const json_t *images, json_t **ret, struct problem *p) MUST_USE;
/* image_size.c: what the header says, of an image whose first bytes are those of its type; 0 if it says nothing. */
uint64_t image_pixels(const char *type, const unsigned char *b, size_t len);
/* *ret_model: {"id", "params"} as text, malloc'ed; NULL if absent. */
int read_model(const json_t *body, char **ret_model, struct problem *p) MUST_USE;
/* What is taken when none is named. */
int default_model(char **ret_model, struct problem *p) MUST_USE;
int read_env_vars(const json_t *body, const char *key, struct problem *p) MUST_USE;
/* mcp_check.c: what the schema of mcpServers does not say; and of one server, which errors call by `where`. */
int check_mcp_server(const json_t *server, const char *where, struct problem *p) MUST_USE;
int check_mcp_servers(const json_t *body, struct problem *p) MUST_USE;
/* Stores envVars, runEnvVars and mcpServers, which were checked. `first`: they come with a new agent, and but for
 * runEnvVars are the agent's; else the run's. */
int keep_inputs(struct api_request *rq, struct tx *tx, const char *agent_id, const char *run_id, bool first) MUST_USE;
/* subagents.c: customSubagents. */
int read_subagents(const json_t *body, struct problem *p) MUST_USE;
