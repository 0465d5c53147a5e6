/* Addresses of a team. */
#include "server/webhooks/team.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/webhooks/webhooks_priv.h"
#include <string.h>

static const char *const known[] = {"statusChange", "statusChange.FINISHED", "statusChange.ERROR"};

bool team_webhook_event_is_known(const char *event)
{
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(known[i], event) == 0)
			return true;
	return false;
}

static char *seal_of(const char *id)
{
	return str_printf("team-webhook/%s", id);
}

/* "a b" of a list, and back. */
static char *join_events(const json_t *events)
{
	struct strbuf b = STRBUF(1000);
	const json_t *e;
	size_t i;

	json_array_foreach((json_t *)events, i, e)
	    IGNORE(strbuf_addf(&b, "%s%s", i > 0 ? " " : "", json_string_value(e)));
	return strbuf_take(&b);
}

static json_t *split_events(const char *text)
{
	json_t *list = json_array();

	while (*text != '\0') {
		size_t n = strcspn(text, " ");

		json_array_append_new(list, json_stringn(text, n));
		text += n + (text[n] == ' ');
	}
	return list;
}

int team_webhook_add(struct tx *tx, const struct seal *seal, const struct team_webhook *w, char **ret_id)
{
	AUTO_STR id = id_new("wh-");
	AUTO_STR of = seal_of(id);
	AUTO_STR sealed = seal_text(seal, of, w->secret);
	AUTO_STR events = join_events(w->events);
	int64_t n = 0;
	int rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM team_webhooks WHERE team_id = $1", "i", w->team_id);

	if (rc == OK && n >= TEAM_WEBHOOKS_MAX)
		return ERR_FULL;
	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO team_webhooks(id, team_id, name, url, secret, events, base_url, created_by, "
		    "created_at) "
		    "VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		    "sissssssi", id, w->team_id, w->name, w->url, sealed, events, w->base_url, w->created_by,
		    w->created_at);
	if (rc == OK)
		*ret_id = TAKE(id);
	return rc;
}

int team_webhook_find(struct tx *tx, int64_t team_id, const char *id)
{
	int64_t n = 0;
	int rc = tx_query_int(
	    tx, &n, "SELECT COUNT(*) FROM team_webhooks WHERE team_id = $1 AND id = $2", "is", team_id, id);

	return rc == OK && n == 0 ? ERR_NOT_FOUND : rc;
}

int team_webhook_remove(struct tx *tx, int64_t team_id, const char *id, char **ret_url)
{
	AUTO_STR url = NULL;
	int rc =
	    tx_query_text(tx, &url, "SELECT url FROM team_webhooks WHERE team_id = $1 AND id = $2", "is", team_id, id);

	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM team_webhooks WHERE id = $1", "s", id);
	if (rc == OK)
		rc = outbox_drop(tx, TEAM_KIND, id);
	if (rc == OK)
		*ret_url = TAKE(url);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

static void put_moment(json_t *o, const char *key, int64_t ms)
{
	char when[CLOCK_ISO_LEN];

	clock_iso8601(ms, when);
	json_put(o, key, when);
}

int team_webhook_list(struct tx *tx, int64_t team_id, json_t **ret)
{
	AUTO_JSON items = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT w.id, w.name, w.url, w.events, w.created_at, w.created_by,"
	    " (SELECT COUNT(*) FROM outbox o WHERE o.kind = '" TEAM_KIND
	    "' AND o.subject = w.id AND o.state = 'waiting'),"
	    " (SELECT COUNT(*) FROM outbox o WHERE o.kind = '" TEAM_KIND
	    "' AND o.subject = w.id AND o.state = 'failed')"
	    " FROM team_webhooks w WHERE w.team_id = $1 ORDER BY w.created_at, w.id",
	    "i", team_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:s, s:I, s:I}", "id", query_str(q, 0), "name",
		    query_str(q, 1), "url", query_str(q, 2), "events", split_events(query_str(q, 3)), "createdBy",
		    query_str(q, 5), "waiting", (json_int_t)query_int(q, 6), "failed", (json_int_t)query_int(q, 7));

		put_moment(o, "createdAt", query_int(q, 4));
		json_array_append_new(items, o);
	}
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(items);
	return OK;
}

/* "statusChange" or "statusChange.ERROR" among those with spaces between them. */
static bool wants(const char *events, const char *status)
{
	AUTO_JSON list = split_events(events);
	const json_t *e;
	size_t i;

	json_array_foreach(list, i, e)
	{
		const char *filter = strchr(json_string_value(e), '.');

		if (filter == NULL || strcmp(filter + 1, status) == 0)
			return true;
	}
	return false;
}

int team_webhook_event(struct tx *tx, const struct webhook_event *e)
{
	AUTO_JSON rows = json_array();
	AUTO(query) q = NULL;
	const char *status = strcmp(e->status, "FINISHED") == 0 ? "FINISHED" : "ERROR";
	const json_t *row;
	size_t i;
	int rc;

	if (strcmp(e->status, "CANCELLED") == 0)
		return OK;
	rc = tx_query(tx, &q, "SELECT id, base_url, events FROM team_webhooks WHERE team_id = $1", "i", e->team_id);
	while (rc == OK && (rc = query_next(q)) == OK)
		if (wants(query_str(q, 2), status))
			json_array_append_new(
			    rows, json_pack("{s:s, s:s}", "id", query_str(q, 0), "base", query_str(q, 1)));
	query_free(&q);
	rc = rc == ERR_EMPTY ? OK : rc;
	json_array_foreach(rows, i, row)
	{
		AUTO_STR url = str_printf("%s/agents/%s", json_word(row, "base"), e->agent_id);
		AUTO_STR body = webhook_body(e, url);

		if (rc == OK)
			rc = outbox_add(tx, TEAM_KIND, json_word(row, "id"), body, e->at_ms, e->at_ms, NULL);
	}
	return rc;
}

static json_t *delivery_of(struct query *q)
{
	const char *state = query_str(q, 1), *body = query_str(q, 7);
	bool waits = strcmp(state, "waiting") == 0;
	AUTO_JSON payload = NULL;
	json_t *o = json_pack("{s:s, s:s, s:I}", "id", query_str(q, 0), "state",
	    waits			 ? "waiting"
	    : strcmp(state, "done") == 0 ? "delivered"
					 : "dead",
	    "attempts", (json_int_t)query_int(q, 2));

	IGNORE(json_parse(body, strlen(body), &payload, NULL));
	json_put(o, "event", json_word(payload, "event"));
	json_put(o, "agentId", json_word(payload, "id"));
	json_put(o, "status", json_word(payload, "status"));
	put_moment(o, "createdAt", query_int(q, 3));
	if (waits)
		put_moment(o, "nextAttemptAt", query_int(q, 4));
	else
		put_moment(o, "endedAt", query_int(q, 5));
	json_put(o, "error", query_text(q, 6));
	return o;
}

int team_delivery_list(struct tx *tx, const char *webhook_id, const char *state, int64_t before, const char *before_id,
    int64_t limit, json_t **ret, int64_t *ret_next, char **ret_next_id)
{
	const char *stored = state == NULL		       ? ""
			     : strcmp(state, "delivered") == 0 ? "done"
			     : strcmp(state, "dead") == 0      ? "failed"
							       : "waiting";
	AUTO_JSON items = json_array();
	AUTO(query) q = NULL;
	AUTO_STR last = NULL;
	int64_t last_at = 0;
	bool more = false;
	int rc = tx_query(tx, &q,
	    "SELECT id, state, attempts, created_at, due_at, ended_at, error, payload FROM outbox WHERE kind = "
	    "'" TEAM_KIND "' AND subject = $1 AND ($2 = '' OR state = $2) AND (created_at < $3 OR (created_at = $3 AND "
	    "id < $4)) ORDER BY "
	    "created_at DESC, id DESC LIMIT $5",
	    "ssisi", webhook_id, stored, before, before_id, limit + 1);

	while (rc == OK && (rc = query_next(q)) == OK) {
		more = (int64_t)json_array_size(items) == limit;
		if (more)
			break;
		json_array_append_new(items, delivery_of(q));
		last_at = query_int(q, 3);
		str_set(&last, query_str(q, 0));
	}
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(items);
	*ret_next = last_at;
	*ret_next_id = more ? TAKE(last) : NULL;
	return OK;
}

int team_delivery_again(struct tx *tx, int64_t team_id, const char *webhook_id, const char *id, int64_t now_ms)
{
	AUTO_STR of = NULL;
	int rc = tx_query_text(tx, &of,
	    "SELECT o.subject FROM outbox o JOIN team_webhooks w ON w.id = o.subject WHERE o.id = $1 AND o.kind = "
	    "'" TEAM_KIND "' AND w.team_id = $2",
	    "si", id, team_id);

	if (rc == ERR_EMPTY || (rc == OK && webhook_id != NULL && strcmp(webhook_id, of) != 0))
		return ERR_NOT_FOUND;
	return rc == OK ? outbox_again(tx, TEAM_KIND, id, now_ms) : rc;
}

/* Address and secret; the secret must be wiped. */
static int load_address(const struct webhooks_config *cfg, const char *id, char **ret_url, char **ret_secret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	AUTO_STR of = seal_of(id);
	int rc = tx_begin(cfg->store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q, "SELECT url, secret FROM team_webhooks WHERE id = $1", "s", id);
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		rc = seal_open(cfg->seal, of, query_str(q, 1), ret_secret);
	if (rc == OK)
		*ret_url = str_dup(query_str(q, 0));
	return rc;
}

static int post_signed(const struct webhooks_config *cfg, const struct outbox_item *item, const char *url,
    const char *secret, const atomic_bool *stop, struct why *why)
{
	char v1[WEBHOOK_SIGNATURE_LEN], v2[WEBHOOK_SIGNATURE_LEN];
	long long at = (long long)(clock_wall_ms() / 1000);
	AUTO_STR timed = str_printf("%lld.%s", at, item->payload);
	AUTO_STR id = str_printf("X-Webhook-ID: %s", item->id);
	AUTO_STR time_header = str_printf("X-Webhook-Timestamp: %lld", at);
	AUTO_STR header1 = NULL;
	AUTO_STR header2 = NULL;

	webhook_sign(secret, item->payload, v1);
	webhook_sign(secret, timed, v2);
	header1 = str_printf("X-Webhook-Signature: %s", v1);
	header2 = str_printf("X-Webhook-Signature-V2: t=%lld,v1=%s", at, v2 + strlen("sha256="));
	const char *headers[] = {"Content-Type: application/json", "X-Webhook-Event: statusChange",
	    "User-Agent: Cursor-Agent-Webhook/1.0", id, time_header, header1, header2, NULL};

	return webhook_post(cfg, url, item->payload, headers, stop, why);
}

int team_deliver(
    const struct webhooks_config *cfg, const struct outbox_item *item, const atomic_bool *stop, struct why *why)
{
	AUTO_STR url = NULL;
	char *secret = NULL;
	int rc = load_address(cfg, item->subject, &url, &secret);

	if (rc == OK)
		rc = post_signed(cfg, item, url, secret, stop, why);
	else if (rc == ERR_EMPTY)
		rc = why_set(why, ERR_INVALID, "the webhook is gone");
	str_wipe(&secret);
	return rc;
}
