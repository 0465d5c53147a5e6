/* api/route.h: what a route is. A resource is one file: its routes, described, and their handlers. ROUTE() registers a
 * route at link time, and nothing else needs to know of it.
 *
 * From the description come: finding the route, 404 and 405, who may call it, which limit counts it, the checks of
 * path, query and body with their 400s, and docs/openapi.yaml. A handler is called only with a request that fits, so it
 * checks what no schema can say.
 *
 * Threads: descriptions are constant. A handler runs on a thread of the pool and may block; it answers exactly once. */
#pragma once
#include "base/id.h"
#include "base/json.h"
#include "server/access/access.h"
#include "server/api/api.h"

/* How a request counts against its principal's limits. */
enum route_rate { RATE_NONE, RATE_READ, RATE_MUTATION, RATE_REPOSITORIES, RATE_V0_ARTIFACTS };

enum route_body {
	BODY_NONE, /* one that is sent all the same is ignored */
	BODY_JSON, /* an object, checked against body_schema: api_request.body */
	BODY_FORM, /* application/x-www-form-urlencoded, checked against body_schema: api_request.body */
	BODY_BYTES, /* whole, as it came: http_body() */
	BODY_UPLOAD, /* piece by piece: upload_read() */
};

/* One of the answers a route may give, for the documentation. The general errors (400 for a request that does not fit
 * the description, 401, 403, 413, 429, 500, 503) are added to each route that can give them. */
struct route_response {
	int status;
	const char *description;
	const char *content_type; /* NULL: application/json */
	const char *form; /* of answers.h; NULL: not described, or an error */
};

#define ROUTE_RESPONSES_MAX 6
#define ROUTE_PARAMS_MAX 4
#define ROUTE_BODY_DEFAULT ((size_t)1024 * 1024)

struct api_request;

struct route {
	const char *name; /* the operationId: "createAgent" */
	const char *method; /* a GET answers HEAD too */
	/* "{id}" stands for one segment that is not empty, "{path*}" at the end for one or more. A segment given by
	 * name is preferred to one given by a parameter. */
	const char *path;
	const char *summary;
	const char *tag; /* the resource, to group the documentation by */
	bool open; /* no key is asked for */
	bool open_on_loopback; /* none while the server listens on loopback only; else as `scope` says */
	bool service_account; /* users are refused, whatever their key may do */
	bool people; /* also any person in a browser, who sees what is hers: api_request.only_own */
	const char *scope; /* what the key must be allowed to do, of access.h; NULL: any valid key */
	enum route_rate rate; /* RATE_NONE if open */
	const char *query; /* JSON Schema of the query's parameters, see schema.h; NULL: there are none */
	enum route_body body;
	const char *body_schema; /* BODY_JSON and BODY_FORM */
	const char *const
	    *content_types; /* BODY_BYTES and BODY_UPLOAD: what is taken, NULL-terminated; NULL: anything */
	size_t max_body; /* 0: ROUTE_BODY_DEFAULT */
	unsigned weight; /* how many copies are made of a body, itself included; 0: 1 */
	bool streams; /* the answer goes on after the handler has returned */
	struct route_response responses[ROUTE_RESPONSES_MAX];
	void (*handler)(struct api_request *rq);
};

/* Registers the route at link time. The library that has it is linked whole. */
#define ROUTE(r) static const struct route *const registered_##r __attribute__((section("route_table"), used)) = &r

/* One request on its way through a handler. */
struct api_request {
	/* What is asked; constant once the handler is called. */
	struct api *api;
	struct http_exchange *x;
	const struct route *route;
	struct principal *who; /* NULL on open routes */
	char request_id[40];
	char ip[64]; /* whence it comes, without the port */
	json_t *query; /* the parameters by name, with the types of the schema and its defaults */
	json_t *body; /* BODY_JSON and BODY_FORM: an object */
	struct upload *upload; /* BODY_UPLOAD */
	char *params[ROUTE_PARAMS_MAX]; /* of the path, decoded; route_param() finds them by name */
	/* How it is answered. */
	bool answered;
	bool only_own; /* of a `people` route: the answer has only what is the caller's */
	bool replayed; /* the answer says Idempotent-Replayed */
	bool cacheable; /* a client may keep the answer and ask by its ETag whether it still holds */
	char body_hash[SHA256_HEX_LEN]; /* idempotency.c's; set with an Idempotency-Key */
};

/* The decoded path parameter of that name, never NULL; the route has it. */
const char *route_param(const struct api_request *rq, const char *name);
/* Query parameters; NULL or `otherwise` if absent and without default. */
const char *query_text_of(const struct api_request *rq, const char *name);
int64_t query_int_of(const struct api_request *rq, const char *name, int64_t otherwise);

enum api_code {
#define API_CODE(name, status) API_##name,
#include "server/api/codes.tbl"
#undef API_CODE
};

/* Why a request is refused: goes with ERR_INVALID. */
struct problem {
	enum api_code code;
	struct why why;
	char provider[64]; /* of integration_not_connected: what is not connected */
};
/* Sets it and returns ERR_INVALID. */
int problem_set(struct problem *p, enum api_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Who asks, for the audit log; borrowed from the request, which is not an open route's. */
struct audit_by request_by(const struct api_request *rq);

/* Answers. Each handler answers exactly once; `body` is taken. */
void api_reply(struct api_request *rq, int status, json_t *body);
/* Another content type than JSON. With up to six further headers (borrowed). */
void api_reply_bytes(struct api_request *rq, int status, const char *content_type, const void *bytes, size_t len,
    const struct http_header *h, size_t n);
void api_error(struct api_request *rq, enum api_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* With up to four headers (borrowed). */
void api_error_headers(
    struct api_request *rq, enum api_code code, const char *message, const struct http_header *h, size_t n);
/* The one way from a result to an answer, for any result but OK: ERR_INVALID is answered with what the problem says,
 * 503 while the store is unavailable, else 500 and a line in the log. `p` may be NULL: nothing the client sent can be
 * the reason. Nothing happens if the answer was given already. */
void api_refuse(struct api_request *rq, int rc, const struct problem *p);
/* {"error":{"code","message"}}; for the fleet API {"error":"Title: message"}, for v0 agents
 * {"error":"message","code","message"}. New reference. */
json_t *api_error_body(const struct api_request *rq, enum api_code code, const char *message);

/* BODY_UPLOAD: the next bytes, at least one and at most `max`. Blocks, but never for long: ERR_EMPTY at the end,
 * ERR_TIMEOUT if the client sends nothing, ERR_TOO_LARGE beyond max_body, ERR_CLOSED if the client is gone. */
int upload_read(struct upload *u, void *buf, size_t max, size_t *ret_len) MUST_USE;
/* The answer for any of those but OK and ERR_EMPTY. */
void upload_refuse(struct api_request *rq, int rc);

/* Answers with a file of the folder: content type by its name, ETag, 304 for If-None-Match. `path` is relative, of
 * segments of [A-Za-z0-9._-] that do not begin with a dot; anything else, symbolic links too, is 404. */
void api_reply_file(struct api_request *rq, const char *folder, const char *path);
