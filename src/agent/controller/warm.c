/* Warm mode: so many idle workers in each pool. It never claims: the control plane gives waiting requests to idle
 * workers. There is no lease, so two controllers of one pool start too many for a while. */
#include "agent/controller/controller_priv.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include <string.h>

#define LOOK_MS 60000
#define FORGET_MS (10 * 60 * 1000) /* a worker that was started and did not connect */
#define RETRY_MIN_MS 5000
#define RETRY_MAX_MS (5 * 60 * 1000)

/* A worker that was started and has not been seen yet: it counts as idle. */
struct starting {
	char *worker_id;
	size_t pool; /* index in the options */
	int64_t since_ms;
};

static void starting_free(struct starting *s)
{
	if (s != NULL)
		free(s->worker_id);
	free(s);
}

static void forget(struct controller *c, const char *worker_id)
{
	struct starting *s = map_get(c->starting, worker_id);

	map_remove(c->starting, worker_id);
	starting_free(s);
}

static bool has_connected(struct controller *c, const char *worker_id)
{
	AUTO_STR path = str_printf("/v0/private-workers/%s", worker_id);
	__attribute__((cleanup(reply_fini))) struct reply r = {0};

	fleet_api(&c->o, "GET", path, NULL, &r);
	return r.status == 200;
}

/* Those that came, and those that will not come any more, count as what the pool says. */
static void settle_starting(struct controller *c, int64_t now_ms)
{
	AUTO_JSON gone = json_array();
	size_t at = 0, i;
	const char *id;
	json_t *name;
	void *value;

	while (map_next(c->starting, &at, &id, &value)) {
		const struct starting *s = value;

		if (now_ms - s->since_ms > FORGET_MS || has_connected(c, s->worker_id))
			json_array_append_new(gone, json_string(s->worker_id));
	}
	json_array_foreach(gone, i, name) forget(c, json_string_value(name));
}

static int64_t count_starting(const struct controller *c, size_t pool)
{
	size_t at = 0;
	const char *id;
	void *value;
	int64_t n = 0;

	while (map_next(c->starting, &at, &id, &value))
		n += ((const struct starting *)value)->pool == pool;
	return n;
}

static bool is_of(const struct controller *c, const json_t *row, const char *pool)
{
	const char *name = json_string_value(json_object_get(row, "poolName"));
	const char *url = json_string_value(json_object_get(row, "repoUrl"));

	return name != NULL && strcmp(name, pool) == 0 &&
	       (c->o.repository == NULL || (url != NULL && strcmp(url, c->o.repository) == 0));
}

/* A worker of several repositories stands in several rows: the largest row tells most. */
static int64_t idle_in(const struct controller *c, const json_t *pools, const char *pool)
{
	int64_t idle = 0;
	json_t *row;
	size_t i;

	json_array_foreach((json_t *)pools, i, row)
	{
		if (is_of(c, row, pool))
			idle = MAX(idle, (int64_t)(json_integer_value(json_object_get(row, "connectedWorkerCount")) -
						   json_integer_value(json_object_get(row, "inUseWorkerCount"))));
	}
	return idle;
}

static int start_one(struct controller *c, size_t pool, int64_t now_ms)
{
	AUTO_STR id = id_new("ctrl-");
	struct why why = {""};
	struct starting *s;
	const struct hook_variable v[] = {{"CURSOR_POOL", c->o.pools[pool]}, {"CURSOR_AGENT_WORKER_ID", id},
	    {"CURSOR_WORKER_NAME", id}, {"CURSOR_API_KEY", c->o.api_key}, {"CURSOR_API_URL", c->o.endpoint},
	    {"CURSOR_API_ENDPOINT", c->o.endpoint}, {"CURSOR_REPO_URL", c->o.repository}, {"CURSOR_REQUEST_ID", NULL},
	    {"CURSOR_USER_ID", NULL}, {"CURSOR_WAKE", NULL}};
	int rc = hook_start(c, id, id, v, ARRAY_LEN(v), &why);

	if (rc == ERR_IO)
		log_warn("controller.hook.failed", "pool=%s reason=%s", c->o.pools[pool], log_quote(why.text));
	if (rc != OK)
		return rc;
	log_info("controller.warm.start", "pool=%s worker=%s", c->o.pools[pool], id);
	s = NEW(struct starting);
	*s = (struct starting){TAKE(id), pool, now_ms};
	map_put(c->starting, s->worker_id, s);
	return OK;
}

static void fail_pool(struct controller *c, size_t pool, int64_t now_ms)
{
	int64_t delay = RETRY_MIN_MS << MIN(c->warm.failures[pool], 6);

	c->warm.failures[pool]++;
	c->warm.not_before_ms[pool] = now_ms + MIN(delay, RETRY_MAX_MS);
}

static void fill(struct controller *c, size_t pool, int64_t idle, int64_t now_ms)
{
	int64_t missing = c->o.warm_idle - idle - count_starting(c, pool);

	if (now_ms < c->warm.not_before_ms[pool]) {
		c->warm.look_ms = MIN(c->warm.look_ms, c->warm.not_before_ms[pool]);
		return;
	}
	for (; missing > 0; missing--) {
		int rc = start_one(c, pool, now_ms);

		if (rc == ERR_FULL)
			return;
		if (rc != OK) {
			fail_pool(c, pool, now_ms);
			c->warm.look_ms = MIN(c->warm.look_ms, c->warm.not_before_ms[pool]);
			return;
		}
	}
}

int64_t warm_tick(struct controller *c, int64_t now_ms, bool now)
{
	__attribute__((cleanup(reply_fini))) struct reply r = {0};

	if (!now && now_ms < c->warm.look_ms)
		return c->warm.look_ms;
	c->warm.look_ms = now_ms + LOOK_MS;
	fleet_api(&c->o, "GET", "/v0/private-workers/pools?includeStale=true", NULL, &r);
	if (controller_is_refused(c, &r, "reading the pools"))
		return c->warm.look_ms;
	if (r.status != 200) {
		log_warn("controller.pools.failed", "http=%d reason=%s", r.status, log_quote(r.text));
		c->warm.look_ms = now_ms + MAX(r.retry_after_ms, RETRY_MIN_MS);
		return c->warm.look_ms;
	}
	settle_starting(c, now_ms);
	for (size_t i = 0; i < c->o.n_pools; i++)
		fill(c, i, idle_in(c, json_object_get(r.body, "pools"), c->o.pools[i]), now_ms);
	return c->warm.look_ms;
}

void warm_hook_ended(struct controller *c, const char *id, int status, const char *text)
{
	struct starting *s = map_get(c->starting, id);
	int64_t now = clock_mono_ms();

	log_info("controller.hook.ended", "worker=%s status=%d", log_quote(id), status);
	if (s != NULL && status != 0) {
		log_warn("controller.hook.failed", "pool=%s status=%d reason=%s", c->o.pools[s->pool], status,
		    log_quote(text != NULL ? text : ""));
		fail_pool(c, s->pool, now);
		forget(c, id);
	} else if (s != NULL) {
		c->warm.failures[s->pool] = 0;
	}
	/* A program that stayed as the worker itself has ended with it: there is one less. */
	c->warm.look_ms = MIN(c->warm.look_ms, now + 100);
}
