/* api/api.h: the public REST API: parse, check access, call, answer. No logic of its own.
 * Threads: http callbacks on the loops, handlers on the pool. */
#pragma once
#include "base/pool.h"
#include "net/http_server.h"
#include "server/artifacts/artifacts.h"
#include "server/fleet/fleet.h"
#include "server/login/oidc.h"
#include "server/mcp/remotes.h"
#include "server/api/inside.h"
#include "server/runs/runs.h"
#include "store/store.h"

struct api;

struct api_config {
	struct store *store;
	const struct seal *seal; /* base/seal.h */
	struct pool *handlers;
	struct fleet *fleet;
	struct runs *runs;
	struct artifacts *artifacts;
	struct pulls *pulls;
	struct remotes *remotes;
	struct oidc *oidc; /* NULL: nobody signs in that way */
	const char *oidc_button; /* what the page calls it */
	const char *cloud_pool; /* the pool that env.type "cloud" means; "" switches it off */
	bool allow_private_urls; /* images may be fetched from private addresses */
	bool allow_http_webhooks; /* their addresses may be http:// */
	unsigned
	    max_fetching; /* requests that may fetch images at once, each on a handler's thread; likewise uploads */
	bool is_local; /* listens on loopback only, and no proxy is known: repos may be file://, /metrics is open */
	int64_t reads_per_minute; /* for one principal; 0: no limit */
	int64_t mutations_per_minute;
	int64_t repositories_per_minute, repositories_per_hour; /* GET /v1/repositories */
	int64_t v0_artifacts_per_minute, v0_artifacts_per_hour; /* GET /v0/agents/{id}/artifacts and its download */
	int64_t max_streams_per_principal;
	inside_receive_fn *receive; /* webhooks of other services; NULL: none are taken */
	void *receive_ctx;
	int64_t claim_connect_ms; /* how long a request is kept for a worker that has not connected yet */
};

int api_new(const struct api_config *cfg, struct api **ret) MUST_USE;
/* After the HTTP server and the pool are gone. */
void api_free(struct api **a);
/* For http_server_config. */
struct http_callbacks api_callbacks(struct api *a);
/* The base of links to agents, "http://127.0.0.1:8787". Once. */
void api_set_web_base(struct api *a, const char *url);
/* From now on new requests are answered 503. Any thread. */
void api_drain(struct api *a);
