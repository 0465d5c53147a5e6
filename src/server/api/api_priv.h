/* api/api_priv.h: what handlers work with; for this folder only. */
#pragma once
#include "base/id.h"
#include "base/json.h"
#include "server/access/access.h"
#include "server/api/api.h"
#include "server/api/rate.h"
#include "server/api/streams.h"
#include <stdatomic.h>

#define API_MAGIC 0x41504921u
#define PARAMS_MAX 3

struct api {
	unsigned magic;
	struct api_config cfg;
	_Atomic(char *) web_base; /* set once; NULL before */
	struct rate *rate;
	struct streams *streams;
	_Atomic bool draining;
	atomic_uint fetching; /* requests that fetch images now */
};

/* One request on a handler thread. */
struct api_request {
	struct api *api;
	struct http_exchange *x;
	char request_id[40];
	char *params[PARAMS_MAX]; /* path parameters, decoded */
	json_t *query; /* {"limit": "20"} decoded strings */
	json_t *body; /* object, or NULL if the route takes none */
	char body_hash[SHA256_HEX_LEN]; /* with an Idempotency-Key */
	struct principal *who; /* NULL on open routes */
	bool replayed; /* answer with Idempotent-Replayed */
	bool answered;
};

enum api_code {
#define API_CODE(name, status) API_##name,
#include "server/api/codes.tbl"
#undef API_CODE
};

/* Why a request is refused: goes with ERR_INVALID. */
struct problem {
	enum api_code code;
	struct why why;
};

/* Answers. Each handler answers exactly once; `body` is taken. */
void api_reply(struct api_request *rq, int status, json_t *body);
void api_error(struct api_request *rq, enum api_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* With up to four headers (borrowed). */
void api_error_headers(
    struct api_request *rq, enum api_code code, const char *message, const struct http_header *h, size_t n);
/* The answer for a result code that the handler does not treat itself: 503 while the store is unavailable, else 500. */
void api_fail(struct api_request *rq, int rc);
/* The answer for any result but OK: what the problem says for ERR_INVALID, else as api_fail. Nothing if the answer was
 * given. */
void api_refuse(struct api_request *rq, int rc, const struct problem *p);
/* {"error":{"code","message"}}. New reference. */
json_t *api_error_body(enum api_code code, const char *message);

enum route_flags { ROUTE_OPEN = 1, ROUTE_BODY = 2, ROUTE_MUTATES = 4, ROUTE_BIG_BODY = 8 };

struct route {
	const char *method, *pattern; /* "{}" stands for one segment */
	unsigned flags;
	void (*handler)(struct api_request *rq);
	const char *const *query_keys; /* NULL-terminated; NULL: none is known */
};
/* The rows of a resource, one table a file; the last has method NULL. router.c lists the tables. */
extern const struct route agent_routes[], run_routes[], meta_routes[];

/* Query parameters; false: the answer was given. */
bool query_limit(struct api_request *rq, int64_t *ret);
bool query_bool(struct api_request *rq, const char *key, bool *ret);
const char *query_get(struct api_request *rq, const char *key);
/* Keyset cursors over (created_at, id). `*ret_id` is malloc'ed; without cursor: INT64_MAX and "". */
bool query_cursor(struct api_request *rq, int64_t *ret_created_at, char **ret_id);
char *cursor_make(int64_t created_at, const char *id);

/* objects.c: the JSON of agents and runs. New references. */
enum object_form { FORM_LIST, FORM_FULL };
json_t *agent_json(struct api *api, const struct agent *a, enum object_form form);
/* `wait` (borrowed) may be NULL. */
json_t *run_json(const struct agent *a, const struct run_info *r, const json_t *wait, enum object_form form);

/* The agent if this principal may see it; otherwise answers 404 and gives false. `team`: also service accounts of the
 * team may (reading, streaming, cancelling). */
bool load_visible_agent(struct api_request *rq, struct tx *tx, const char *id, bool team, struct agent **ret);

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

/* prompt.c: checks shared by agents and runs. ERR_INVALID with code and why. */
int problem_set(struct problem *p, enum api_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
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
int read_mode(const json_t *body, const char **ret_mode, struct problem *p) MUST_USE;
int read_env_vars(const json_t *body, const char *key, struct problem *p) MUST_USE;
int refuse_unbuilt(const json_t *body, struct problem *p) MUST_USE;
