/* /v1/audit-log: who changed what. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include <string.h>

/* What was asked for. */
struct asked {
	struct audit_query q;
	char *types, *before; /* malloc'ed */
	const char *list[AUDIT_TYPES_MAX + 1]; /* into types */
};

static void asked_fini(struct asked *a)
{
	free(a->types);
	free(a->before);
}

static bool read_moment(struct api_request *rq, const char *name, int64_t *ret)
{
	const char *text = query_text_of(rq, name);

	if (text == NULL || clock_read_iso8601(text, ret) == OK)
		return true;
	api_error(rq, API_validation_error, "'%s' must be a time like 2026-05-01T12:00:00Z, or a date", name);
	return false;
}

/* "login,logout". */
static bool read_types(struct api_request *rq, struct asked *a)
{
	size_t n = 0;
	char *rest;

	if (query_text_of(rq, "eventTypes") == NULL)
		return true;
	a->types = str_dup(query_text_of(rq, "eventTypes"));
	rest = a->types;
	for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
		if (n == AUDIT_TYPES_MAX || !text_is_token(word, "_", 64)) {
			api_error(rq, API_validation_error,
			    "'eventTypes' must be up to %d names with commas between them", AUDIT_TYPES_MAX);
			return false;
		}
		a->list[n++] = word;
	}
	a->q.types = a->list;
	return true;
}

static bool read_asked(struct api_request *rq, struct asked *a)
{
	a->q = (struct audit_query){.team_id = rq->who->team_id,
	    .until_ms = INT64_MAX,
	    .search = query_text_of(rq, "search"),
	    .limit = query_int_of(rq, "limit", 100)};
	return read_moment(rq, "startTime", &a->q.from_ms) && read_moment(rq, "endTime", &a->q.until_ms) &&
	       read_types(rq, a) && query_cursor(rq, &a->q.before_seq, &a->before);
}

/* Before anything is told. Nobody waits for the store's writer who was noted already. */
static int note_reader(struct api_request *rq)
{
	const char *reader = rq->who->session_id != NULL ? rq->who->session_id : rq->who->key_id;
	const struct audit_by by = request_by(rq);
	bool is_new = false;
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = audit_is_new_reader(tx, reader, &is_new);
	tx_free(&tx);
	if (rc != OK || !is_new)
		return rc;
	rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);
	if (rc == OK)
		rc = audit_note_reader(tx, &by, reader);
	return rc == OK ? tx_commit(&tx) : rc;
}

static void get_audit_log(struct api_request *rq)
{
	__attribute__((cleanup(asked_fini))) struct asked a = {0};
	AUTO_JSON items = NULL;
	AUTO(tx) tx = NULL;
	int64_t next = 0;
	json_t *o;
	int rc;

	if (!read_asked(rq, &a))
		return;
	rc = note_reader(rq);
	if (rc == OK)
		rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = audit_page(tx, &a.q, &items, &next);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	o = json_pack("{s:O}", "items", items);
	if (next != 0) {
		AUTO_STR cursor = cursor_make(next, "audit");

		json_put(o, "nextCursor", cursor);
	}
	api_reply(rq, 200, o);
}

static const struct route get_audit_log_route = {
    .name = "getAuditLog",
    .method = "GET",
    .path = "/v1/audit-log",
    .summary = "Who changed what, newest first. Reading it is in it, once a session",
    .tag = "settings",
    .scope = SCOPE_AUDIT_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{"
	     "\"startTime\":{\"type\":\"string\",\"description\":\"ISO 8601; from then on\"},"
	     "\"endTime\":{\"type\":\"string\",\"description\":\"ISO 8601; before then\"},"
	     "\"eventTypes\":{\"type\":\"string\",\"description\":\"login,logout\"},"
	     "\"search\":{\"type\":\"string\",\"description\":\"in actor, address and data\"},"
	     "\"limit\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":500,\"default\":100},"
	     "\"cursor\":{\"type\":\"string\",\"description\":\"nextCursor of the page before\"}}}",
    .responses = {{200, "{items, nextCursor?}", .form = "AuditLog"}},
    .handler = get_audit_log,
};
ROUTE(get_audit_log_route);
