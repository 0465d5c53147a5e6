/* /v1/fleet/history: what the queue and the pools looked like */
#include "base/clock.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/fleet/history.h"

#define DAY_MS ((int64_t)24 * 3600 * 1000)
#define POINTS_WANTED 300

/* The least number of seconds that a person would choose and that gives no more points than `n`. */
static int64_t step_for(int64_t span_ms, int64_t n)
{
	static const int64_t steps[] = {60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400};
	size_t i = 0;

	while (i < ARRAY_LEN(steps) - 1 && span_ms / 1000 / steps[i] > n)
		i++;
	return steps[i];
}

static void get_history(struct api_request *rq)
{
	int64_t now = clock_wall_ms(), to = query_int_of(rq, "to", now), from = query_int_of(rq, "from", to - DAY_MS);
	int64_t usual = step_for(MAX(to - from, 0), POINTS_WANTED);
	/* What is older is kept by the hour. */
	int64_t step = query_int_of(rq, "step", from < now - HISTORY_MINUTES_MS ? MAX(usual, 3600) : usual);
	struct history_query hq = {.team_id = rq->who->team_id, .pool = query_text_of(rq, "pool")};
	AUTO(tx) tx = NULL;
	json_t *points = NULL, *o;
	int rc;

	if (from >= to || to - from > HISTORY_KEEP_MS + DAY_MS) {
		api_error(rq, API_validation_error, "'from' must be before 'to', by 36 days at most");
		return;
	}
	if ((to - from) / 1000 / step > HISTORY_POINTS_MAX) {
		api_error(rq, API_validation_error,
		    "'step' must be at least %lld seconds for so long a time (%d points)",
		    (long long)step_for(to - from, HISTORY_POINTS_MAX), HISTORY_POINTS_MAX);
		return;
	}
	hq.step_ms = step * 1000;
	hq.from_ms = from - from % hq.step_ms;
	hq.to_ms = to;
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = history_points(tx, &hq, &points);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	o = json_pack("{s:I, s:I, s:I, s:o}", "fromMs", (json_int_t)hq.from_ms, "toMs", (json_int_t)to, "stepSeconds",
	    (json_int_t)step, "points", points);
	json_put(o, "pool", hq.pool);
	api_reply(rq, 200, o);
}

static const struct route history_route = {
    .name = "getFleetHistory",
    .method = "GET",
    .path = "/v1/fleet/history",
    .summary = "Queue depth, waiting time and utilization of the team's pools over time",
    .tag = "fleet",
    .service_account = true,
    .scope = SCOPE_FLEET_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{\"from\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"Unix "
	     "milliseconds; a day before `to` by "
	     "default\"},\"to\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"now by "
	     "default\"},\"step\":{\"type\":\"integer\",\"minimum\":60,\"maximum\":86400,\"description\":\"seconds "
	     "that a point "
	     "stands for\"},\"pool\":{\"type\":\"string\",\"description\":\"all "
	     "together by "
	     "default\"}}}",
    .responses = {{200, "{fromMs, toMs, stepSeconds, pool?, points}: a step in which no server ran has no point",
	.form = "FleetHistory"}},
    .handler = get_history,
};
ROUTE(history_route);
