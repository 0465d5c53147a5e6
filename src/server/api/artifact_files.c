/* GET /v1/artifact-files/{id}: what a link leads to, and /public/artifacts/{token}: what the addresses in pull requests
 * do. It is sent in pieces, as fast as the client takes them: a handler
 * thread reads from the storage while there is room, and comes back when the loop says that there is again. */
#include "base/clock.h"
#include "base/image.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include "server/api/artifact_names.h"
#include <string.h>

#define UNSENT_HIGH ((size_t)512 * 1024)
#define READ_AT_ONCE ((size_t)128 * 1024)
#define DOWNLOADS_MAX 512

/* Who works on it. The loop hands it to a thread, the thread back to the loop; what the loop says meanwhile is not
 * lost. */
enum pumping { PUMP_REST, PUMP_BUSY, PUMP_AGAIN };

struct download {
	struct api *api;
	struct http_exchange *x;
	struct storage_file *file;
	int64_t at, end; /* of the file; of who pumps */
	atomic_int pumping;
	atomic_uint refs; /* the watch's and the pump's */
};

static void download_unref(struct download *d)
{
	if (atomic_fetch_sub(&d->refs, 1) > 1)
		return;
	artifacts_storage(d->api->cfg.artifacts)->kind->close(&d->file);
	atomic_fetch_sub(&d->api->downloading, 1);
	http_exchange_free(&d->x);
	free(d);
}

/* OK: there is more, and no room for it now. ERR_EMPTY: all is sent. */
static int send_some(struct download *d, char *buf)
{
	const struct storage_kind *kind = artifacts_storage(d->api->cfg.artifacts)->kind;
	int rc = OK;

	while (rc == OK && d->at < d->end && http_unsent(d->x) < UNSENT_HIGH) {
		size_t len = (size_t)MIN((int64_t)READ_AT_ONCE, d->end - d->at);

		rc = kind->read(d->file, d->at, buf, len, &len);
		if (rc == OK)
			rc = http_write(d->x, buf, len);
		if (rc == OK)
			d->at += (int64_t)len;
	}
	/* Less than was announced: only a cut connection says so. */
	if (rc == ERR_EMPTY)
		rc = ERR_IO;
	return rc == OK && d->at == d->end ? ERR_EMPTY : rc;
}

/* Handler thread; has a reference. */
static void pump_download(void *arg)
{
	struct download *d = arg;
	char *buf = mem_alloc(READ_AT_ONCE);
	int rc, state;

	do {
		atomic_store(&d->pumping, PUMP_BUSY);
		rc = send_some(d, buf);
		state = PUMP_BUSY;
	} while (rc == OK && !atomic_compare_exchange_strong(&d->pumping, &state, PUMP_REST));
	free(buf);
	if (rc == ERR_EMPTY)
		IGNORE(http_end(d->x, NULL, 0));
	else if (rc != OK)
		http_abort(d->x);
	download_unref(d);
}

/* Loop thread. */
static void on_download_drain(void *ctx, struct http_exchange *x)
{
	struct download *d = ctx;

	if (atomic_exchange(&d->pumping, PUMP_AGAIN) != PUMP_REST)
		return;
	atomic_fetch_add(&d->refs, 1);
	if (pool_submit(d->api->cfg.handlers, pump_download, d) == OK)
		return;
	/* The server is overloaded or stops: the client can go on with a range. */
	http_abort(x);
	download_unref(d);
}

/* Loop thread, the last callback. */
static void on_download_close(void *ctx, struct http_exchange *x)
{
	download_unref(ctx);
}

/* What is sent of the file. */
struct range {
	int64_t first, end; /* end: behind the last byte */
	bool partial;
};

/* `type`: of a picture that is shown; NULL: it is to be saved. */
static void start_reply(struct api_request *rq, const struct artifact *f, const struct range *r, const char *type)
{
	AUTO_STR disposition = type != NULL ? str_dup("inline") : artifact_disposition(f->path);
	AUTO_STR tag = str_printf("\"%s\"", f->generation);
	char length[24], content_range[80];
	struct http_header h[12];
	size_t n = 0;

	snprintf(length, sizeof length, "%lld", (long long)(r->end - r->first));
	snprintf(content_range, sizeof content_range, "bytes %lld-%lld/%lld", (long long)r->first,
	    (long long)r->end - 1, (long long)f->size_bytes);
	h[n++] = (struct http_header){"content-type", type != NULL ? type : "application/octet-stream"};
	h[n++] = (struct http_header){"content-length", length};
	h[n++] = (struct http_header){"content-disposition", disposition};
	/* Whatever an agent made: no browser runs it, and none takes it for a page of this server. */
	h[n++] = (struct http_header){"content-security-policy", "sandbox; default-src 'none'"};
	h[n++] = (struct http_header){"x-content-type-options", "nosniff"};
	h[n++] = (struct http_header){"cache-control", "private, no-store"};
	h[n++] = (struct http_header){"x-robots-tag", "noindex"};
	h[n++] = (struct http_header){"accept-ranges", "bytes"};
	h[n++] = (struct http_header){"etag", tag};
	h[n++] = (struct http_header){"x-request-id", rq->request_id};
	if (r->partial)
		h[n++] = (struct http_header){"content-range", content_range};
	rq->answered = true;
	IGNORE(http_start(rq->x, r->partial ? 206 : 200, h, n));
}

/* `file` is taken. */
static void send_file(struct api_request *rq, struct storage_file *file, const struct range *r)
{
	struct download *d = NEW(struct download);

	d->api = rq->api;
	d->x = http_exchange_ref(rq->x);
	d->file = file;
	d->at = r->first;
	d->end = strcmp(http_method(rq->x), "HEAD") == 0 ? r->first : r->end;
	atomic_store(&d->refs, 2);
	atomic_store(&d->pumping, PUMP_BUSY);
	http_watch(d->x, &(struct http_watch){.ctx = d, .on_drain = on_download_drain, .on_close = on_download_close});
	pump_download(d);
}

/* One range of bytes, as resumed downloads ask for; anything else is answered with the whole. ERR_INVALID: it lies
 * behind the end. */
static int read_range(const struct http_exchange *x, const struct artifact *f, struct range *ret)
{
	const char *text = http_header_get(x, "range"), *same = http_header_get(x, "if-range");
	AUTO_STR tag = str_printf("\"%s\"", f->generation);

	*ret = (struct range){.end = f->size_bytes};
	if (text == NULL || (same != NULL && strcmp(same, tag) != 0))
		return OK;
	return artifact_range(text, f->size_bytes, &ret->first, &ret->end, &ret->partial);
}

static void refuse_range(struct api_request *rq, const struct artifact *f)
{
	char all[40];
	const struct http_header h = {"content-range", all};
	AUTO_JSON body = api_error_body(rq, API_validation_error, "the range lies behind the end of the file");
	AUTO_STR text = json_text(body);

	snprintf(all, sizeof all, "bytes */%lld", (long long)f->size_bytes);
	api_reply_bytes(rq, 416, "application/json; charset=utf-8", text, strlen(text), &h, 1);
}

/* By its first bytes: what a file is called says nothing. */
static const char *picture_type(struct api_request *rq, struct storage_file *file)
{
	unsigned char head[16];
	size_t len = 0;
	int rc = artifacts_storage(rq->api->cfg.artifacts)->kind->read(file, 0, head, sizeof head, &len);

	return rc == OK ? image_type(head, len) : NULL;
}

/* True: it is being sent, and the download gives its place back itself. Else another answer was given. */
static bool reply_file(struct api_request *rq, const struct artifact *f, bool shows)
{
	struct storage *s = artifacts_storage(rq->api->cfg.artifacts);
	struct storage_file *file = NULL;
	struct range r;
	int rc;

	if (read_range(rq->x, f, &r) != OK) {
		refuse_range(rq, f);
		return false;
	}
	rc = s->kind->open(s, f->generation, &file);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_artifact_not_found, "there is no such artifact any more");
	else if (rc == ERR_NET || rc == ERR_CANCELLED)
		api_error(rq, API_service_unavailable,
		    "the storage of artifacts does not answer, or refuses it; the log of the server says more");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	if (rc != OK)
		return false;
	start_reply(rq, f, &r, shows ? picture_type(rq, file) : NULL);
	send_file(rq, file, &r);
	return true;
}

/* With a picture as what it is, if it `shows`. */
static void send_counted(struct api_request *rq, const struct artifact *f, bool shows)
{
	const struct http_header retry = {"retry-after", "5"};

	if (atomic_fetch_add(&rq->api->downloading, 1) >= DOWNLOADS_MAX) {
		atomic_fetch_sub(&rq->api->downloading, 1);
		api_error_headers(
		    rq, API_service_unavailable, "the server sends as many artifacts as it may", &retry, 1);
	} else if (!reply_file(rq, f, shows)) {
		atomic_fetch_sub(&rq->api->downloading, 1);
	}
}

static void get_file(struct api_request *rq)
{
	const char *id = route_param(rq, "id");
	AUTO_FINI(artifact) f = {0};
	int rc;

	if (!artifact_link_is_good(rq->api->cfg.artifacts, id, query_text_of(rq, "expires"),
		query_text_of(rq, "signature"), clock_wall_ms())) {
		api_error(rq, API_link_not_valid, "this link is over, or not one of this server: ask for a new one");
		return;
	}
	rc = artifact_find(rq->api->cfg.artifacts, NULL, id, &f);
	if (rc == ERR_NOT_FOUND || (rc == OK && !f.ready))
		api_error(rq, API_artifact_not_found, "there is no such artifact any more");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		send_counted(rq, &f, false);
}

/* Nobody is known who asks, so it is the address whose requests are counted. */
static bool is_within_rate(struct api_request *rq, const char *id)
{
	AUTO_STR key = str_printf("public artifact %s", id);
	int64_t limit = rq->api->cfg.reads_per_minute;
	struct rate_answer ans;
	char seconds[24];

	if (limit == 0 || rate_take(rq->api->rate, key, limit, 60, &ans))
		return true;
	snprintf(seconds, sizeof seconds, "%lld", (long long)ans.retry_after_s);
	api_error_headers(rq, API_rate_limit_exceeded, "this address is asked too often",
	    &(struct http_header){"retry-after", seconds}, 1);
	return false;
}

static void get_public(struct api_request *rq)
{
	AUTO_FINI(artifact) f = {0};
	AUTO_STR id = NULL;
	int rc = artifact_public_find(rq->api->cfg.artifacts, route_param(rq, "token"), &id, &f);

	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_artifact_not_found, "there is no such artifact, or not any more");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else if (is_within_rate(rq, id))
		send_counted(rq, &f, true);
}

static const struct route get_file_route = {
    .name = "getArtifactFile",
    .method = "GET",
    .path = "/v1/artifact-files/{id}",
    .summary = "The content of an artifact; the link that downloadArtifact gives is the credential",
    .tag = "artifacts",
    .open = true,
    .rate = RATE_NONE,
    .query = "{\"type\":\"object\",\"required\":[\"expires\",\"signature\"],\"properties\":{\"expires\":{\"type\":"
	     "\"string\"},\"signature\":{\"type\":\"string\"}}}",
    .streams = true,
    .responses = {{200, "The file", "application/octet-stream"},
	{206, "The range that was asked for", "application/octet-stream"}, {403, "The link is over or was changed"},
	{404, "The artifact is gone"}, {416, "The range lies behind the end"}},
    .handler = get_file,
};
ROUTE(get_file_route);

static const struct route get_public_route = {
    .name = "getPublicArtifact",
    .method = "GET",
    .path = "/public/artifacts/{token}",
    .summary =
	"The content of an artifact that a pull request shows; the address is the credential. PNG, JPEG, GIF and "
	"WebP are sent as what they are, everything else as an attachment",
    .tag = "artifacts",
    .open = true,
    .rate = RATE_NONE,
    .streams = true,
    .responses = {{200, "The file", "application/octet-stream"},
	{206, "The range that was asked for", "application/octet-stream"},
	{404, "There is none, it was revoked, or the policy of the team forbids it"},
	{416, "The range lies behind the end"}, {429, "The address is asked too often"}},
    .handler = get_public,
};
ROUTE(get_public_route);
