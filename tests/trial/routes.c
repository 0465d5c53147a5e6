/* For tests/e2e/api-routes.test.mjs: routes that only the program bullpen-trial has. They show that a resource is one
 * file, and prove what no route of the product needs yet: forms, bytes, uploads, files. */
#include "base/mem.h"
#include "server/api/route.h"
#include <sodium.h>
#include <string.h>

#define TRIAL_BODY_MAX ((size_t)8 * 1024 * 1024)

static void trial_form_post(struct api_request *rq)
{
	api_reply(rq, 200, json_ref(rq->body));
}

static const struct route trial_form = {
    .name = "trialForm",
    .method = "POST",
    .path = "/trial/form",
    .summary = "Returns a form as it was read",
    .tag = "trial",
    .open = true,
    .body = BODY_FORM,
    .body_schema = "{\"type\":\"object\",\"required\":[\"code\"],\"properties\":{\"code\":{\"type\":\"string\","
		   "\"minLength\":1},\"count\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":9,\"default\":1},"
		   "\"deep\":{\"type\":\"boolean\"}}}",
    .responses = {{200, "The form"}},
    .handler = trial_form_post,
};
ROUTE(trial_form);

static void trial_query_get(struct api_request *rq)
{
	api_reply(rq, 200,
	    json_pack(
		"{s:O, s:s, s:s}", "query", rq->query, "id", route_param(rq, "id"), "rest", route_param(rq, "rest")));
}

static const struct route trial_query = {
    .name = "trialQuery",
    .method = "GET",
    .path = "/trial/{id}/below/{rest*}",
    .summary = "Returns path and query as they were read",
    .tag = "trial",
    .open = true,
    .query =
	"{\"type\":\"object\",\"required\":[\"who\"],\"properties\":{\"who\":{\"type\":\"string\",\"minLength\":1},"
	"\"n\":{\"type\":\"integer\",\"minimum\":-5,\"default\":7},\"kind\":{\"type\":\"string\",\"enum\":[\"a\",\"b\"]"
	"}}}",
    .responses = {{200, "Both"}},
    .handler = trial_query_get,
};
ROUTE(trial_query);

/* A path given by name beside one with a parameter in its place. */
static void trial_named_get(struct api_request *rq)
{
	api_reply(rq, 200, json_pack("{s:s}", "route", rq->route->name));
}

static const struct route trial_by_id = {
    .name = "trialById",
    .method = "GET",
    .path = "/trial/things/{id}",
    .summary = "Names the route",
    .tag = "trial",
    .open = true,
    .responses = {{200, "The name"}},
    .handler = trial_named_get,
};
ROUTE(trial_by_id);

static const struct route trial_by_name = {
    .name = "trialByName",
    .method = "GET",
    .path = "/trial/things/summary",
    .summary = "Names the route",
    .tag = "trial",
    .open = true,
    .responses = {{200, "The name"}},
    .handler = trial_named_get,
};
ROUTE(trial_by_name);

static json_t *digest_json(size_t len, const unsigned char hash[crypto_hash_sha256_BYTES])
{
	char hex[crypto_hash_sha256_BYTES * 2 + 1];

	sodium_bin2hex(hex, sizeof hex, hash, crypto_hash_sha256_BYTES);
	return json_pack("{s:I, s:s}", "bytes", (json_int_t)len, "sha256", hex);
}

static void trial_bytes_post(struct api_request *rq)
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	size_t len;
	const char *body = http_body(rq->x, &len);

	crypto_hash_sha256(hash, (const unsigned char *)body, len);
	api_reply(rq, 200, digest_json(len, hash));
}

static const char *const trial_types[] = {"application/octet-stream", "image/png", NULL};

static const struct route trial_bytes = {
    .name = "trialBytes",
    .method = "POST",
    .path = "/trial/bytes",
    .summary = "Counts and hashes a body",
    .tag = "trial",
    .scope = SCOPE_METRICS_READ,
    .rate = RATE_MUTATION,
    .body = BODY_BYTES,
    .content_types = trial_types,
    .max_body = TRIAL_BODY_MAX,
    .responses = {{200, "Count and hash"}},
    .handler = trial_bytes_post,
};
ROUTE(trial_bytes);

static void trial_upload_post(struct api_request *rq)
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state state;
	char piece[10000];
	size_t total = 0, len = 0;
	int rc;

	crypto_hash_sha256_init(&state);
	while ((rc = upload_read(rq->upload, piece, sizeof piece, &len)) == OK) {
		crypto_hash_sha256_update(&state, (const unsigned char *)piece, len);
		total += len;
	}
	crypto_hash_sha256_final(&state, hash);
	if (rc == ERR_EMPTY)
		api_reply(rq, 200, digest_json(total, hash));
	else
		upload_refuse(rq, rc);
}

static const struct route trial_upload = {
    .name = "trialUpload",
    .method = "POST",
    .path = "/trial/upload",
    .summary = "Counts and hashes a body that is not held in memory",
    .tag = "trial",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_UPLOAD,
    .max_body = TRIAL_BODY_MAX,
    .responses = {{200, "Count and hash"}},
    .handler = trial_upload_post,
};
ROUTE(trial_upload);

static void trial_file_get(struct api_request *rq)
{
	const char *folder = getenv("BULLPEN_TRIAL_FILES");

	api_reply_file(rq, folder != NULL ? folder : "/nonexistent", route_param(rq, "path"));
}

static const struct route trial_file = {
    .name = "trialFile",
    .method = "GET",
    .path = "/trial/files/{path*}",
    .summary = "A file",
    .tag = "trial",
    .open = true,
    .responses = {{200, "The file", "application/octet-stream"}, {404, "There is none"}},
    .handler = trial_file_get,
};
ROUTE(trial_file);

static void trial_fail_get(struct api_request *rq)
{
	/* A code that the handler does not expect, with a problem that says nothing: still our fault. */
	api_refuse(rq, ERR_INVALID, &(struct problem){.code = API_validation_error});
}

static const struct route trial_fail = {
    .name = "trialFail",
    .method = "GET",
    .path = "/trial/fail",
    .summary = "Fails",
    .tag = "trial",
    .open = true,
    .responses = {{200, "Never"}},
    .handler = trial_fail_get,
};
ROUTE(trial_fail);
