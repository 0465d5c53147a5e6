/* The dashboard: the files of web/dist, which are in the program, and pages of docs that answers refer to. Every
 * address of a page gives the same file; the script shows what the address says. */
#include "base/id.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "web_files.h"
#include <string.h>

/* Nothing of others is loaded or asked, nobody shows our page in a frame of theirs, and no text becomes a script.
 * Pictures and films are artifacts, which may be elsewhere. malloc'ed. */
static char *content_policy(const struct api_request *rq)
{
	AUTO_STR origin = artifacts_origin(rq->api->cfg.artifacts);
	const char *more = origin != NULL ? origin : "";

	return str_printf("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:%s%s; "
			  "media-src 'self' blob:%s%s; connect-src 'self'; font-src 'self'; base-uri 'none'; "
			  "form-action 'self'; frame-ancestors 'none'",
	    origin != NULL ? " " : "", more, origin != NULL ? " " : "", more);
}

static const struct web_file *web_find(const char *name)
{
	for (size_t i = 0; i < web_files_n; i++)
		if (strcmp(web_files[i].name, name) == 0)
			return &web_files[i];
	return NULL;
}

static const char *type_of(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot == NULL		   ? "application/octet-stream"
	       : strcmp(dot, ".html") == 0 ? "text/html; charset=utf-8"
	       : strcmp(dot, ".js") == 0   ? "text/javascript; charset=utf-8"
	       : strcmp(dot, ".css") == 0  ? "text/css; charset=utf-8"
	       : strcmp(dot, ".svg") == 0  ? "image/svg+xml"
	       : strcmp(dot, ".md") == 0   ? "text/plain; charset=utf-8"
					   : "application/octet-stream";
}

/* gzip'ed as it lies in the program; the few clients that do not take that get it whole. */
static void reply_file(struct api_request *rq, const struct web_file *f)
{
	const char *encodings = http_header_get(rq->x, "accept-encoding"),
		   *tags = http_header_get(rq->x, "if-none-match");
	bool packed = encodings != NULL && strstr(encodings, "gzip") != NULL;
	AUTO_STR policy = content_policy(rq);
	char hash[SHA256_HEX_LEN], tag[48];

	sha256_hex(f->gz, f->gz_len, hash);
	snprintf(tag, sizeof tag, "\"%.32s%s\"", hash, packed ? "z" : "");
	const struct http_header h[] = {{"etag", tag}, {"content-security-policy", policy},
	    {"referrer-policy", "no-referrer"}, {"x-content-type-options", "nosniff"}, {"vary", "accept-encoding"},
	    {"content-encoding", "gzip"}};

	rq->cacheable = true;
	if (tags != NULL && strstr(tags, tag) != NULL)
		api_reply_bytes(rq, 304, NULL, "", 0, h, ARRAY_LEN(h) - 1);
	else
		api_reply_bytes(rq, 200, type_of(f->name), packed ? f->gz : f->plain, packed ? f->gz_len : f->plain_len,
		    h, ARRAY_LEN(h) - !packed);
}

static void get_page(struct api_request *rq)
{
	static const char none[] =
	    "<!doctype html><title>Bullpen</title><p>This bullpen was built without its dashboard. The API is "
	    "at <a href=/openapi.yaml>/openapi.yaml</a>.</p>";
	const struct web_file *f = web_find("index.html");

	if (f != NULL)
		reply_file(rq, f);
	else
		api_reply_bytes(rq, 200, "text/html; charset=utf-8", none, sizeof none - 1, NULL, 0);
}

static void get_asset(struct api_request *rq)
{
	const struct web_file *f = web_find(route_param(rq, "name"));

	if (f != NULL)
		reply_file(rq, f);
	else
		api_error(rq, API_not_found, "the dashboard has no such file");
}

#define PAGE(id, address)                                                                                              \
	static const struct route page_##id = {.name = "page" #id,                                                     \
	    .method = "GET",                                                                                           \
	    .path = address,                                                                                           \
	    .summary = "A page of the dashboard",                                                                      \
	    .tag = "dashboard",                                                                                        \
	    .open = true,                                                                                              \
	    .query = "{\"type\":\"object\",\"additionalProperties\":true,\"properties\":{}}", /* for the script */     \
	    .responses = {{200, "HTML", "text/html"}},                                                                 \
	    .handler = get_page};                                                                                      \
	ROUTE(page_##id)

PAGE(Home, "/");
PAGE(Login, "/login");
PAGE(Agents, "/agents");
PAGE(Agent, "/agents/{id}");
PAGE(Fleet, "/fleet");
PAGE(Link, "/link");
PAGE(Settings, "/settings");
PAGE(SettingsOf, "/settings/{page}");

static const struct route get_asset_route = {
    .name = "getDashboardFile",
    .method = "GET",
    .path = "/assets/{name}",
    .summary = "A file of the dashboard",
    .tag = "dashboard",
    .open = true,
    .responses = {{200, "The file", "text/javascript"}, {200, "A page of docs", "text/plain"},
	{404, "There is no such file"}},
    .handler = get_asset,
};
ROUTE(get_asset_route);
