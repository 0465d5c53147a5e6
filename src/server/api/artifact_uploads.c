/* /v1/artifact-uploads: what a worker brings. The grant of its session is the credential, and good for nothing else. */
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include "server/api/upload.h"
#include <string.h>

#define PIECE_MAX ((size_t)16 * 1024 * 1024)
#define READ_AT_ONCE ((size_t)64 * 1024)

/* Whose artifacts are brought; NULL: the answer was given. */
static char *uploader_of(struct api_request *rq)
{
	char *agent = NULL;
	int rc = http_header_count(rq->x, "authorization") > 1
		     ? ERR_UNAUTHORIZED
		     : artifacts_check_grant(rq->api->cfg.artifacts, http_header_get(rq->x, "authorization"), &agent);

	if (rc == ERR_UNAUTHORIZED)
		api_error(rq, API_unauthorized, "the upload token is missing, over, or its session has ended");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	return agent;
}

/* A full disk of the storage is not the store's. */
static void refuse_upload(struct api_request *rq, int rc, const struct problem *p)
{
	const struct http_header retry = {"retry-after", "1"};

	if (rc == ERR_NO_SPACE)
		api_error(rq, API_service_unavailable, "there is no space for artifacts on the server");
	else if (rc == ERR_NET || rc == ERR_CANCELLED)
		api_error_headers(rq, API_service_unavailable,
		    "the storage of artifacts does not answer, or refuses it; the log of the server says more", &retry,
		    1);
	else if (rc == ERR_FULL)
		api_error_headers(rq, API_service_unavailable,
		    "so many files are on their way into the storage that there is no room for this one now", &retry,
		    1);
	else if (rc == ERR_AGAIN)
		api_error_headers(rq, API_service_unavailable, "another connection brings this file", &retry, 1);
	else if (rc == ERR_NOT_FOUND)
		api_error(rq, API_artifact_not_found, "there is no such upload, or its agent is gone");
	else
		api_refuse(rq, rc, p);
}

static json_t *upload_json(const struct artifact *f, int64_t received)
{
	json_t *o = json_object();

	json_put(o, "id", f->generation);
	json_put_int(o, "receivedBytes", received);
	json_put_bool(o, "ready", f->ready);
	return o;
}

static void post_upload(struct api_request *rq)
{
	AUTO_FINI(artifact) f = {0};
	AUTO_STR agent = uploader_of(rq);
	struct problem p = {.code = API_validation_error};
	const json_t *size = json_object_get(rq->body, "sizeBytes");
	int64_t received = 0;
	int rc;

	if (agent == NULL)
		return;
	rc = artifact_announce(rq->api->cfg.artifacts, agent, json_string_value(json_object_get(rq->body, "path")),
	    json_integer_value(size), json_string_value(json_object_get(rq->body, "sha256")), &f, &received, &p.why);
	if (rc == OK)
		api_reply(rq, 200, upload_json(&f, received));
	else if (rc == ERR_TOO_LARGE)
		api_reply(rq, 413, api_error_body(rq, API_validation_error, p.why.text));
	else
		refuse_upload(rq, rc, &p);
}

/* The piece as it comes; *received is how far the storage stands then, whatever the result. */
static int take_piece(struct api_request *rq, const struct artifact *f, struct storage_piece *piece, int64_t *received)
{
	const struct storage_kind *kind = artifacts_storage(rq->api->cfg.artifacts)->kind;
	char *buf = mem_alloc(READ_AT_ONCE);
	size_t len;
	int rc;

	while ((rc = upload_read(rq->upload, buf, READ_AT_ONCE, &len)) == OK) {
		if ((int64_t)len > f->size_bytes - *received) {
			rc = ERR_TOO_LARGE;
			break;
		}
		rc = kind->write(piece, buf, len);
		if (rc != OK)
			break;
		*received += (int64_t)len;
	}
	free(buf);
	return rc == ERR_EMPTY ? OK : rc;
}

static void finish_upload(struct api_request *rq, struct artifact *f, struct storage_piece *piece, int64_t received)
{
	struct problem p = {.code = API_validation_error};
	int rc = received == f->size_bytes ? artifact_complete(rq->api->cfg.artifacts, f, piece) : OK;

	if (rc == ERR_INVALID)
		rc = problem_set(&p, API_validation_error,
		    "the content is not what was announced, and was thrown away: it has another SHA-256");
	f->ready = rc == OK && received == f->size_bytes;
	if (rc == OK)
		api_reply(rq, 200, upload_json(f, received));
	else
		refuse_upload(rq, rc, &p);
}

static void refuse_offset(struct api_request *rq, const struct artifact *f)
{
	struct storage *s = artifacts_storage(rq->api->cfg.artifacts);
	int64_t received = 0;
	json_t *body;
	int rc = s->kind->received(s, f->generation, &received);

	if (rc != OK) {
		refuse_upload(rq, rc, NULL);
		return;
	}
	body =
	    api_error_body(rq, API_upload_offset, "the server has another number of bytes: go on with receivedBytes");
	json_put_int(body, "receivedBytes", received);
	api_reply(rq, 409, body);
}

static void put_piece(struct api_request *rq, struct artifact *f)
{
	struct storage *s = artifacts_storage(rq->api->cfg.artifacts);
	struct storage_piece *piece = NULL;
	int64_t received = query_int_of(rq, "offset", 0);
	int rc = s->kind->begin(s, f->generation, received, &piece);

	if (rc == ERR_CONFLICT)
		refuse_offset(rq, f);
	else if (rc != OK)
		refuse_upload(rq, rc, NULL);
	if (rc != OK)
		return;
	rc = take_piece(rq, f, piece, &received);
	if (rc == OK)
		finish_upload(rq, f, piece, received);
	else if (rc == ERR_TOO_LARGE || rc == ERR_TIMEOUT || rc == ERR_CLOSED)
		upload_refuse(rq, rc);
	else
		refuse_upload(rq, rc, NULL);
	s->kind->end(&piece);
}

static void put_upload(struct api_request *rq)
{
	AUTO_FINI(artifact) f = {0};
	AUTO_STR agent = uploader_of(rq);
	int rc;

	if (agent == NULL)
		return;
	rc = artifact_find(rq->api->cfg.artifacts, agent, route_param(rq, "id"), &f);
	if (rc != OK)
		refuse_upload(rq, rc, NULL);
	else if (f.ready)
		api_reply(rq, 200, upload_json(&f, f.size_bytes));
	else
		put_piece(rq, &f);
}

static const char *const piece_types[] = {"application/octet-stream", NULL};

static const struct route announce_artifact_route = {
    .name = "announceArtifact",
    .method = "POST",
    .path = "/v1/artifact-uploads",
    .summary = "A worker says which file it brings, and learns where to begin; asks for the token of its session",
    .tag = "artifacts",
    .open = true,
    .rate = RATE_NONE,
    .body = BODY_JSON,
    .body_schema =
	"{" SCHEMA_STRICT ",\"required\":[\"path\",\"sizeBytes\",\"sha256\"],\"properties\":{"
	"\"path\":" SCHEMA_STRING ",\"sizeBytes\":{\"type\":\"integer\",\"minimum\":0},\"sha256\":" SCHEMA_STRING "}}",
    .max_body = 16 * 1024,
    .responses = {{200, "{id, receivedBytes, ready}", .form = "Upload"}, {401, "The token is missing or over"},
	{404, "The agent is gone"}},
    .handler = post_upload,
};
ROUTE(announce_artifact_route);

static const struct route upload_artifact_route = {
    .name = "uploadArtifact",
    .method = "PUT",
    .path = "/v1/artifact-uploads/{id}",
    .summary = "The next bytes of such a file, at most 16 MiB at once; the last ones make it an artifact",
    .tag = "artifacts",
    .open = true,
    .rate = RATE_NONE,
    .query = "{\"type\":\"object\",\"required\":[\"offset\"],\"properties\":{\"offset\":{\"type\":\"integer\","
	     "\"minimum\":0}}}",
    .body = BODY_UPLOAD,
    .content_types = piece_types,
    .max_body = PIECE_MAX,
    .responses = {{200, "{id, receivedBytes, ready}", .form = "Upload"}, {401, "The token is missing or over"},
	{404, "There is no such upload"}, {409, "The server stands elsewhere: {error, receivedBytes}"}},
    .handler = put_upload,
};
ROUTE(upload_artifact_route);
