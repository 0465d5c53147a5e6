/* /v0/private-workers/pending-requests: the queue of the team's pools, as a list and as a stream of what happens to it
 */
#include "base/clock.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/api/fleet_cursor.h"
#include "server/api/fleet_watch.h"
#include "server/fleet/nearest.h"
#include "server/fleet/queue_events.h"
#include "server/fleet/queue_reasons.h"
#include <string.h>

#define WATCHES_PER_ACCOUNT 4

static bool read_filter(struct api_request *rq, struct queue_filter *f)
{
	struct why why;

	if (queue_filter_read(query_text_of(rq, "repository"), query_text_of(rq, "pool"), f, &why) == OK)
		return true;
	api_error(rq, API_validation_error, "%s", why.text);
	return false;
}

/* Signed for this team and with these filters, or answered. */
static bool read_queue_cursor(struct api_request *rq, const unsigned char key[INSTALLATION_KEY_LEN], const char *name,
    const char *text, const char *filter_hash, struct queue_cursor *ret)
{
	if (queue_cursor_read(key, text, ret) != OK || ret->team_id != rq->who->team_id)
		api_error(rq, API_validation_error, "'%s' is not one that this endpoint gave out", name);
	else if (strcmp(ret->filter, filter_hash) != 0)
		api_error(rq, API_validation_error,
		    "'%s' was given out for other filters: 'repository' and 'pool' must be the same", name);
	return !rq->answered;
}

/* The first page begins a listing; the others go on with it. */
static bool begin_listing(struct api_request *rq, const unsigned char key[INSTALLATION_KEY_LEN], struct tx *tx,
    const struct queue_filter *f, int64_t now_ms, struct queue_cursor *c)
{
	const char *token = query_text_of(rq, "pageToken");
	char hash[CURSOR_FILTER_LEN];
	int rc;

	queue_filter_hash(f, hash);
	if (token != NULL) {
		if (!read_queue_cursor(rq, key, "pageToken", token, hash, c))
			return false;
		if (c->after.agent_id == NULL)
			api_error(rq, API_validation_error, "'pageToken' is not one that this endpoint gave out");
		return !rq->answered;
	}
	*c = (struct queue_cursor){.team_id = rq->who->team_id, .list_ms = now_ms};
	memcpy(c->filter, hash, sizeof hash);
	rc = queue_event_newest(tx, rq->who->team_id, &c->seq);
	if (rc != OK)
		api_refuse(rq, rc, NULL);
	return rc == OK;
}

static void reply_page(struct api_request *rq, const unsigned char key[INSTALLATION_KEY_LEN], json_t *requests,
    const struct queue_cursor *c, bool more)
{
	struct queue_cursor stream = *c;
	json_t *o = json_pack("{s:o}", "requests", requests);

	stream.after.agent_id = NULL; /* borrowed */
	AUTO_STR cursor = queue_cursor_make(key, &stream);

	if (more) {
		AUTO_STR token = queue_cursor_make(key, c);

		json_put(o, "nextPageToken", token);
	}
	json_put(o, "streamCursor", cursor);
	api_reply(rq, 200, o);
}

/* With the workers that come nearest, which takes a while for each: for people. */
static int put_nearest(struct tx *tx, json_t *requests)
{
	json_t *request;
	size_t i;

	json_array_foreach(requests, i, request)
	{
		json_t *wait = json_object_get(request, "wait");
		int rc =
		    wait != NULL ? nearest_put(tx, json_string_value(json_object_get(request, "id")), true, wait) : OK;

		if (rc != OK)
			return rc;
	}
	return OK;
}

static int put_reasons(struct api_request *rq, struct tx *tx, json_t *requests, int64_t now)
{
	int64_t grace = runs_config(rq->api->cfg.runs)->loss_grace_ms;
	int rc = queue_put_reasons(tx, requests, now, grace);

	return rc == OK && json_is_true(json_object_get(rq->query, "nearest")) ? put_nearest(tx, requests) : rc;
}

static void get_requests(struct api_request *rq)
{
	__attribute__((cleanup(queue_filter_fini))) struct queue_filter f = {0};
	__attribute__((cleanup(queue_cursor_fini))) struct queue_cursor c = {0};
	unsigned char key[INSTALLATION_KEY_LEN];
	AUTO(tx) tx = NULL;
	json_t *requests = NULL;
	int64_t now = clock_wall_ms();
	bool more = false;
	int rc = OK;

	if (!read_filter(rq, &f))
		return;
	rc = installation_key(rq->api->cfg.store, CURSOR_KEY, key);
	if (rc == OK)
		rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK && !begin_listing(rq, key, tx, &f, now, &c))
		return;
	if (rc == OK)
		rc = queue_pending(
		    tx, rq->who->team_id, &f, &c.after, query_int_of(rq, "limit", 50), now, &requests, &more);
	if (rc == OK)
		rc = put_reasons(rq, tx, requests, now);
	if (rc == OK)
		reply_page(rq, key, requests, &c, more);
	else
		api_refuse(rq, rc, NULL);
}

/* Where the watcher goes on. False: answered. */
static bool watch_from(struct api_request *rq, const struct queue_filter *f, struct queue_cursor *c)
{
	const char *last = http_header_get(rq->x, "last-event-id"), *text = query_text_of(rq, "cursor");
	const char *name = last != NULL && last[0] != '\0' ? "Last-Event-ID" : "cursor";
	unsigned char key[INSTALLATION_KEY_LEN];
	char hash[CURSOR_FILTER_LEN];
	AUTO(tx) tx = NULL;
	bool kept = false;
	int rc;

	if (strcmp(name, "cursor") != 0)
		text = last;
	if (text == NULL) {
		api_error(rq, API_validation_error,
		    "'cursor' is needed: the 'streamCursor' of a list, or the id of the last event");
		return false;
	}
	queue_filter_hash(f, hash);
	rc = installation_key(rq->api->cfg.store, CURSOR_KEY, key);
	if (rc == OK && !read_queue_cursor(rq, key, name, text, hash, c))
		return false;
	if (rc == OK)
		rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = queue_event_is_kept(tx, c->team_id, c->seq, &kept);
	if (rc != OK)
		api_refuse(rq, rc, NULL);
	else if (!kept || queue_cursor_is_over(c, clock_wall_ms()))
		api_reply(rq, 410, json_pack("{s:s}", "code", "cursor_expired"));
	return !rq->answered;
}

static void watch_requests(struct api_request *rq)
{
	__attribute__((cleanup(queue_filter_fini))) struct queue_filter f = {0};
	__attribute__((cleanup(queue_cursor_fini))) struct queue_cursor c = {0};
	AUTO_STR owner = str_printf("watch %s", rq->who->owner);

	if (!read_filter(rq, &f) || !watch_from(rq, &f, &c))
		return;
	if (!streams_take(rq->api->streams, owner, WATCHES_PER_ACCOUNT, rq->x)) {
		api_error_headers(rq, API_too_many_streams, "a service account may have four open at once",
		    &(struct http_header){"retry-after", "5"}, 1);
		return;
	}
	const struct http_header headers[] = {{"content-type", "text/event-stream"}, {"cache-control", "no-cache"},
	    {"x-accel-buffering", "no"}, {"x-request-id", rq->request_id}};

	if (watches_open(rq->api->watches, rq->x, headers, ARRAY_LEN(headers), rq->who->key_id, &c, &f) == OK)
		rq->answered = true;
	else
		api_error_headers(rq, API_service_unavailable, "the server opens too many streams at the moment",
		    &(struct http_header){"retry-after", "5"}, 1);
}

#define SCHEMA_FILTERS                                                                                                 \
	"\"repository\":{\"type\":\"string\",\"description\":\"requests that name this one: a URL, owner/name or "     \
	"host/group/name\"},\"pool\":{\"type\":\"string\",\"description\":\"requests for this pool\"}"

static const struct route list_requests = {
    .name = "listPendingRequests",
    .method = "GET",
    .path = "/v0/private-workers/pending-requests",
    .summary = "What waits for a worker of the team's pools, oldest first",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{\"limit\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":100,"
	     "\"default\":50},\"pageToken\":{\"type\":\"string\",\"description\":\"nextPageToken of the page "
	     "before\"},\"nearest\":{\"type\":\"boolean\",\"default\":false,\"description\":\"with the workers that "
	     "come nearest, and what stands in the way\"}," SCHEMA_FILTERS "}}",
    .responses = {{200, "{requests, nextPageToken?, streamCursor}", .form = "Requests"}},
    .handler = get_requests,
};
ROUTE(list_requests);

static const struct route watch_requests_route = {
    .name = "watchPendingRequests",
    .method = "GET",
    .path = "/v0/private-workers/pending-requests/stream",
    .summary = "What happens to the queue from a cursor on, for five minutes from its list",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_READ,
    .rate = RATE_READ,
    .streams = true,
    .query = "{\"type\":\"object\",\"properties\":{\"cursor\":{\"type\":\"string\",\"description\":\"streamCursor of a "
	     "list, or the id of an event; Last-Event-ID goes before it\"}," SCHEMA_FILTERS "}}",
    .responses = {{200, "Server-sent events: created, claimed, claimed_offline, expired, heartbeat",
		      "text/event-stream"},
	{410, "The cursor is over, list again: {code: cursor_expired}", .form = "CursorExpired"},
	{429, "Four streams are open, or too many requests"}},
    .handler = watch_requests,
};
ROUTE(watch_requests_route);
