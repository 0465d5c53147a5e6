/* What waits: the list is the truth, the stream behind it says what changed. */
#include "agent/controller/controller_priv.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "net/http_client.h"
#include "net/sse.h"
#include <string.h>

#define STALL_MS 60000 /* a heartbeat comes every 20 s */
#define STACK_BYTES (512 * 1024)

struct watch {
	const struct controller_options *o; /* lives as long as the process */
	struct mailbox *inbox;
	char *pool, *cursor;
	bool heard; /* something on this connection: it is a stream of events, and the cursor moves */
};

static void post(struct mailbox *inbox, enum event_kind kind, json_t *request, const char *id, bool claimed)
{
	struct event *e = NEW(struct event);

	*e = (struct event){.kind = kind, .request = json_incref(request), .id = str_dup(id), .claimed = claimed};
	if (mailbox_post_always(inbox, e) != OK)
		event_free(e);
}

static int on_event(void *ctx, const char *id, const char *event, const char *text)
{
	struct watch *w = ctx;
	AUTO_JSON data = NULL;
	const char *of;

	if (id[0] != '\0')
		str_set(&w->cursor, id);
	if (json_parse(text, strlen(text), &data, NULL) != OK)
		return ERR_PROTOCOL;
	w->heard = true;
	of = json_string_value(json_object_get(data, "id"));
	if (of != NULL && (strcmp(event, "created") == 0 || strcmp(event, "claimed_offline") == 0))
		post(w->inbox, EVENT_UPSERT, data, of, false);
	else if (of != NULL && (strcmp(event, "claimed") == 0 || strcmp(event, "expired") == 0))
		post(w->inbox, EVENT_REMOVE, NULL, of, strcmp(event, "claimed") == 0);
	return OK;
}

static int feed(void *ctx, const void *bytes, size_t len)
{
	return sse_feed(ctx, bytes, len);
}

/* One connection; OK: it may be gone on with from the cursor. */
static int follow_once(struct watch *w)
{
	AUTO_STR query = query_of("cursor", w->cursor, "pool", w->pool, "repository", w->o->repository, NULL);
	AUTO_STR url = str_printf("%s/v0/private-workers/pending-requests/stream%s", w->o->endpoint, query);
	AUTO_STR auth = str_printf("Bearer %s", w->o->api_key);
	const struct http_header headers[] = {{"authorization", auth}, {"accept", "text/event-stream"}};
	struct http_client_response r = {0};
	struct why why = {0};
	struct sse s;
	int rc;

	w->heard = false;
	sse_init(&s, on_event, w);
	rc = http_client_do(&(struct http_client_request){.method = "GET",
				.url = url,
				.headers = headers,
				.n_headers = ARRAY_LEN(headers),
				.stall_timeout_ms = STALL_MS,
				.on_data = feed,
				.ctx = &s},
	    &r, &why);
	if (rc == OK && r.status != 200) {
		log_debug("controller.watch.ended", "http=%d", r.status);
		rc = ERR_DENIED;
	} else if (rc != OK) {
		log_info("controller.watch.lost", "reason=%s", log_quote(why.text));
	}
	http_client_response_fini(&r);
	sse_fini(&s);
	return rc;
}

/* A stream that ends in order is gone on with; the next one then says that the cursor is too old, or an error, and the
 * list is read again. So it is after one that said nothing, which may be no stream at all. */
static void watch_thread(void *arg)
{
	struct watch *w = arg;

	while (follow_once(w) == OK && w->heard)
		;
	post(w->inbox, EVENT_RELIST, NULL, w->pool, false);
	mailbox_free(&w->inbox);
	free(w->pool);
	free(w->cursor);
	free(w);
}

int watch_start(struct controller *c, const char *pool, const char *cursor)
{
	struct watch *w = NEW(struct watch);

	*w = (struct watch){
	    .o = &c->o, .inbox = mailbox_ref(c->inbox), .pool = str_dup(pool), .cursor = str_dup(cursor)};
	return thread_start("watch", STACK_BYTES, watch_thread, w);
}

/* A page; *ret_next and *ret_cursor are malloc'ed. */
static bool list_page(struct controller *c, const char *pool, void (*fn)(struct controller *c, const json_t *request),
    char **next, char **cursor)
{
	AUTO_STR query =
	    query_of("limit", "100", "pool", pool, "repository", c->o.repository, "pageToken", *next, NULL);
	AUTO_STR path = str_printf("/v0/private-workers/pending-requests%s", query);
	__attribute__((cleanup(reply_fini))) struct reply r = {0};
	json_t *request;
	size_t i;

	fleet_api(&c->o, "GET", path, NULL, &r);
	if (controller_is_refused(c, &r, "listing what waits"))
		return false;
	if (r.status != 200) {
		log_warn("controller.list.failed", "http=%d reason=%s", r.status, log_quote(r.text));
		return false;
	}
	json_array_foreach(json_object_get(r.body, "requests"), i, request) fn(c, request);
	str_set(next, json_string_value(json_object_get(r.body, "nextPageToken")));
	str_set(cursor, json_string_value(json_object_get(r.body, "streamCursor")));
	return true;
}

bool watch_list(struct controller *c, const char *pool, void (*fn)(struct controller *c, const json_t *request))
{
	AUTO_STR next = NULL;
	AUTO_STR cursor = NULL;

	do {
		if (!list_page(c, pool, fn, &next, &cursor))
			return false;
	} while (next != NULL && !c->ended);
	return cursor != NULL && watch_start(c, pool, cursor) == OK;
}
