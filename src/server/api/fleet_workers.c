/* /v0/private-workers, /summary, /{id}: the workers of the team that are connected */
#include "base/log.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/fleet/drain.h"
#include "server/fleet/fleet_rows.h"
#include <string.h>

static enum fleet_scope scope_of(const char *word)
{
	return strcmp(word, "team_pool") == 0 ? FLEET_TEAM : strcmp(word, "personal") == 0 ? FLEET_PERSONAL : FLEET_ALL;
}

static enum fleet_use use_of(const char *word)
{
	return strcmp(word, "in_use") == 0 ? FLEET_IN_USE : strcmp(word, "idle") == 0 ? FLEET_IDLE : FLEET_ANY_USE;
}

/* nextPageToken is what older clients call it. */
static bool read_page_token(struct api_request *rq, int64_t *ret_ms, char **ret_id)
{
	const char *name = query_text_of(rq, "pageToken") != NULL ? "pageToken" : "nextPageToken";

	return query_cursor_named(rq, name, ret_ms, ret_id);
}

/* Whose workers the answer may have. */
static struct fleet_person workers_of(const struct api_request *rq)
{
	return rq->only_own ? (struct fleet_person){rq->who->owner, rq->who->user_id} : (struct fleet_person){NULL, 0};
}

static void get_workers(struct api_request *rq)
{
	struct fleet_page page = {.team_id = rq->who->team_id,
	    .of = workers_of(rq),
	    .scope = scope_of(query_text_of(rq, "scope")),
	    .use = use_of(query_text_of(rq, "status")),
	    .limit = query_int_of(rq, "limit", 50)};
	AUTO_STR before = NULL;
	AUTO_STR next = NULL;
	AUTO(tx) tx = NULL;
	int64_t total = 0, next_ms = 0;
	json_t *workers = NULL, *o;
	int rc;

	if (!read_page_token(rq, &page.before_ms, &before))
		return;
	page.before_id = before;
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = fleet_workers(tx, &page, &workers, &total, &next_ms, &next);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	o = json_pack("{s:o}", "workers", workers);
	json_put_int(o, "totalCount", total);
	if (next != NULL) {
		AUTO_STR token = cursor_make(next_ms, next);

		json_put(o, "nextPageToken", token);
	}
	api_reply(rq, 200, o);
}

static void get_summary(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	json_t *summary = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = fleet_summary(tx, rq->who->team_id, &summary);
	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:o}", "teamSummary", summary));
	else
		api_refuse(rq, rc, NULL);
}

static void get_worker(struct api_request *rq)
{
	const struct fleet_person of = workers_of(rq);
	AUTO(tx) tx = NULL;
	json_t *worker = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = fleet_worker(tx, rq->who->team_id, &of, route_param(rq, "id"), &worker);
	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:o}", "worker", worker));
	else if (rc == ERR_NOT_FOUND)
		api_error(rq, API_not_found, "no worker with this id is connected");
	else
		api_refuse(rq, rc, NULL);
}

/* The rest happens when its last run ends: the scheduler hears of that. */
static void drain_worker(struct api_request *rq)
{
	const char *id = route_param(rq, "id");
	const struct audit_by by = request_by(rq);
	AUTO(tx) tx = NULL;
	bool idle = false;
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = drain_begin(tx, rq->who->team_id, id, &idle);
	if (rc == OK)
		rc = audit_write(tx, &by, "worker_drained", json_pack("{s:s}", "workerId", id));
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_not_found, "no worker with this id is connected");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	if (rc != OK)
		return;
	log_info("worker.drain", "worker=%s key=%s idle=%d", log_quote(id), log_quote(rq->who->key_id), idle);
	notify_send(runs_config(rq->api->cfg.runs)->notify,
	    &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = rq->who->team_id, .worker_id = id});
	api_reply(rq, 200, json_pack("{s:s, s:b}", "workerId", id, "draining", 1));
}

static const struct route drain_worker_route = {
    .name = "drainPrivateWorker",
    .method = "POST",
    .path = "/v0/private-workers/{id}/drain",
    .summary = "The worker gets nothing new, and exits when its runs are over",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{workerId, draining}", .form = "Drain"}, {404, "No such worker is connected"}},
    .handler = drain_worker,
};
ROUTE(drain_worker_route);

static const struct route list_workers = {
    .name = "listPrivateWorkers",
    .method = "GET",
    .path = "/v0/private-workers",
    .summary = "The team's connected workers, newest connection first",
    .tag = "fleet",
    .service_account = true,
    .people = true,
    .scope = SCOPE_FLEET_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{\"status\":{\"type\":\"string\",\"enum\":[\"all\",\"in_use\","
	     "\"idle\"],\"default\":\"all\"},\"scope\":{\"type\":\"string\",\"enum\":[\"all\",\"team_pool\","
	     "\"personal\"],\"default\":\"all\"},\"limit\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":100,"
	     "\"default\":50},\"pageToken\":{\"type\":\"string\",\"description\":\"nextPageToken of the page before\"},"
	     "\"nextPageToken\":{\"type\":\"string\",\"description\":\"the same, under its former name\"}}}",
    .responses = {{200, "{workers, totalCount, nextPageToken?}", .form = "Workers"}},
    .handler = get_workers,
};
ROUTE(list_workers);

static const struct route summary_route = {
    .name = "getPrivateWorkersSummary",
    .method = "GET",
    .path = "/v0/private-workers/summary",
    .summary = "How many workers of the team's pools are connected, and in use",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_READ,
    .rate = RATE_READ,
    .responses = {{200, "{teamSummary: {totalConnected, inUse}}", .form = "Summary"}},
    .handler = get_summary,
};
ROUTE(summary_route);

static const struct route get_worker_route = {
    .name = "getPrivateWorker",
    .method = "GET",
    .path = "/v0/private-workers/{id}",
    .summary = "One connected worker",
    .tag = "fleet",
    .service_account = true,
    .people = true,
    .scope = SCOPE_FLEET_READ,
    .rate = RATE_READ,
    .responses = {{200, "{worker}", .form = "OneWorker"}, {404, "No such worker is connected"}},
    .handler = get_worker,
};
ROUTE(get_worker_route);
