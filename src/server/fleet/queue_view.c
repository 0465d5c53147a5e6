/* Why many requests wait: the state of all workers is read once, then every answer comes from memory. */
#include "base/map.h"
#include "base/mem.h"
#include "server/fleet/wait.h"
#include <string.h>

/* The slots of one (team, pool, repo), by host. Nearly always that is one. */
struct slot_group {
	struct slot_host {
		char *host;
		int64_t all, free, unfit;
		struct wait_unfit *first_unfit; /* at most WAIT_UNFIT_MAX */
		size_t n_first_unfit;
	} * hosts;
	size_t n, cap;
};

/* Of the workers that a request could get: those which could not open its session. */
struct tried {
	int64_t fit, free;
};

struct queue_view {
	struct map *connected, *stopping; /* "team/pool" -> int64_t */
	struct map *slots; /* "team/pool/repo" -> struct slot_group */
	struct map *lost; /* agent id -> int64_t, since when the worker of its claim is away */
	struct map *tried; /* agent id -> struct tried */
};

static void free_values(struct map *m)
{
	size_t at = 0;
	const char *key;
	void *value;

	while (map_next(m, &at, &key, &value))
		free(value);
}

static void free_slots(struct map *m)
{
	size_t at = 0;
	const char *key;
	void *value;

	while (map_next(m, &at, &key, &value)) {
		struct slot_group *g = value;

		for (size_t i = 0; i < g->n; i++) {
			for (size_t k = 0; k < g->hosts[i].n_first_unfit; k++)
				wait_unfit_fini(&g->hosts[i].first_unfit[k]);
			free(g->hosts[i].first_unfit);
			free(g->hosts[i].host);
		}
		free(g->hosts);
		free(g);
	}
}

void queue_view_free(struct queue_view **vp)
{
	struct queue_view *v = TAKE(*vp);

	if (v == NULL)
		return;
	free_values(v->connected);
	free_values(v->stopping);
	free_values(v->lost);
	free_values(v->tried);
	free_slots(v->slots);
	map_free(&v->connected);
	map_free(&v->stopping);
	map_free(&v->lost);
	map_free(&v->tried);
	map_free(&v->slots);
	free(v);
}

/* No two groups have one key: a pool's name has no slash, and the repository is last. */
static char *pool_key(int64_t team_id, const char *pool)
{
	return str_printf("%lld/%s", (long long)team_id, pool);
}

static char *slots_key(int64_t team_id, const char *pool, const char *repo)
{
	return str_printf("%lld/%s/%s", (long long)team_id, pool, repo);
}

static void put_number(struct map *m, const char *key, int64_t n)
{
	int64_t *value = NEW(int64_t);

	*value = n;
	free(map_put(m, key, value));
}

static int64_t get_number(const struct map *m, const char *key)
{
	const int64_t *value = map_get(m, key);

	return value != NULL ? *value : 0;
}

static int load_connected(struct queue_view *v, struct tx *tx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT team_id, pool, COUNT(*), SUM(CASE WHEN draining <> 0 THEN 1 ELSE 0 END) FROM workers WHERE "
	    "personal = 0 AND only_agent = '' GROUP BY"
	    " team_id, pool",
	    "");

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_STR key = pool_key(query_int(q, 0), query_str(q, 1));

		put_number(v->connected, key, query_int(q, 2) - query_int(q, 3));
		put_number(v->stopping, key, query_int(q, 3));
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static struct slot_host *add_slots(struct queue_view *v, const char *key, const char *host)
{
	struct slot_group *g = map_get(v->slots, key);

	if (g == NULL) {
		g = NEW(struct slot_group);
		map_put(v->slots, key, g);
	}
	g->hosts = mem_grow(g->hosts, &g->cap, g->n + 1, sizeof *g->hosts);
	g->hosts[g->n] = (struct slot_host){.host = str_dup(host)};
	return &g->hosts[g->n++];
}

static int load_slots(struct queue_view *v, struct tx *tx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT team_id, pool, repo, repo_host, COUNT(*), SUM(CASE WHEN state IN ($1, $2) THEN 1 ELSE 0 END),"
	    " SUM(CASE WHEN state = $3 THEN 1 ELSE 0 END) FROM worker_slots GROUP BY team_id, pool, repo, repo_host",
	    "iii", (int64_t)SLOT_FREE, (int64_t)SLOT_HELD, (int64_t)SLOT_UNFIT);

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_STR key = slots_key(query_int(q, 0), query_str(q, 1), query_str(q, 2));
		struct slot_host *h = add_slots(v, key, query_str(q, 3));

		h->all = query_int(q, 4);
		h->free = query_int(q, 5);
		h->unfit = query_int(q, 6);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static struct slot_host *find_host(const struct queue_view *v, const char *key, const char *host)
{
	const struct slot_group *g = map_get(v->slots, key);

	for (size_t i = 0; g != NULL && i < g->n; i++)
		if (strcmp(g->hosts[i].host, host) == 0)
			return &g->hosts[i];
	return NULL;
}

/* The first few of each kind of slot. */
static int load_unfit(struct queue_view *v, struct tx *tx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT s.team_id, s.pool, s.repo, s.repo_host, s.idle_since, w.id, w.name, w.host, w.unfit_reason"
	    " FROM worker_slots s JOIN workers w ON w.team_id = s.team_id AND w.id = s.worker_id WHERE s.state = $1"
	    " ORDER BY s.idle_since, s.worker_id",
	    "i", (int64_t)SLOT_UNFIT);

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_STR key = slots_key(query_int(q, 0), query_str(q, 1), query_str(q, 2));
		struct slot_host *h = find_host(v, key, query_str(q, 3));

		if (h == NULL || h->n_first_unfit == WAIT_UNFIT_MAX)
			continue;
		if (h->first_unfit == NULL)
			h->first_unfit = mem_zalloc(WAIT_UNFIT_MAX * sizeof *h->first_unfit);
		h->first_unfit[h->n_first_unfit++] =
		    wait_unfit_new(query_int(q, 4), query_str(q, 5), query_str(q, 6), query_str(q, 7), query_str(q, 8));
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int load_tried(struct queue_view *v, struct tx *tx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT r.agent_id, SUM(CASE WHEN s.state <> $1 THEN 1 ELSE 0 END),"
	    " SUM(CASE WHEN s.state IN ($2, $3) THEN 1 ELSE 0 END) FROM requests r JOIN worker_slots s ON"
	    " s.team_id = r.team_id AND s.pool = r.pool AND s.repo = r.repo AND (s.repo_host = r.repo_host OR"
	    " s.repo_host = '' OR r.repo_host = '') WHERE r.open_attempts > 0 AND r.state = 'queued'"
	    " AND EXISTS(SELECT 1 FROM run_attempts a WHERE a.run_id = r.run_id AND a.worker_id = s.worker_id)"
	    " GROUP BY r.agent_id",
	    "iii", (int64_t)SLOT_UNFIT, (int64_t)SLOT_FREE, (int64_t)SLOT_HELD);

	while (rc == OK && (rc = query_next(q)) == OK) {
		struct tried *t = NEW(struct tried);

		*t = (struct tried){.fit = query_int(q, 1), .free = query_int(q, 2)};
		free(map_put(v->tried, query_str(q, 0), t));
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int load_lost(struct queue_view *v, struct tx *tx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT agent_id, lost_at FROM claims WHERE lost_at IS NOT NULL", "");

	while (rc == OK && (rc = query_next(q)) == OK)
		put_number(v->lost, query_str(q, 0), query_int(q, 1));
	return rc == ERR_EMPTY ? OK : rc;
}

int queue_view_read(struct tx *tx, struct queue_view **ret)
{
	AUTO(queue_view) v = NEW(struct queue_view);
	int rc;

	v->connected = map_new();
	v->stopping = map_new();
	v->slots = map_new();
	v->lost = map_new();
	v->tried = map_new();
	rc = load_connected(v, tx);
	if (rc == OK)
		rc = load_slots(v, tx);
	if (rc == OK)
		rc = load_unfit(v, tx);
	if (rc == OK)
		rc = load_tried(v, tx);
	if (rc == OK)
		rc = load_lost(v, tx);
	if (rc == OK)
		*ret = TAKE(v);
	return rc;
}

int queue_view_load(struct store *st, struct queue_view **ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	return rc != OK ? rc : queue_view_read(tx, ret);
}

/* As the conditions of wait.c; the position is left out, because it is different for each request. */
static struct wait_facts facts_of(const struct queue_view *v, const struct queue_group *r)
{
	AUTO_STR of_pool = pool_key(r->team_id, r->pool);
	AUTO_STR of_repo = slots_key(r->team_id, r->pool, r->repo);
	struct wait_facts f = {.lost_at = get_number(v->lost, r->agent_id),
	    .connected = get_number(v->connected, of_pool),
	    .stopping = get_number(v->stopping, of_pool)};
	const struct slot_group *g = map_get(v->slots, of_repo);
	const struct tried *tried = map_get(v->tried, r->agent_id);

	if (tried != NULL) {
		f.tried = tried->fit;
		f.tried_free = tried->free;
	}
	for (size_t i = 0; g != NULL && i < g->n; i++) {
		const struct slot_host *h = &g->hosts[i];

		if (h->host[0] != '\0' && r->repo_host[0] != '\0' && strcmp(h->host, r->repo_host) != 0)
			continue;
		f.matching += h->all;
		f.serving += h->all;
		f.free += h->free;
		f.unfit += h->unfit;
		for (size_t k = 0; k < h->n_first_unfit; k++)
			wait_add_unfit(&f, &h->first_unfit[k]);
	}
	return f;
}

const char *queue_view_reason(const struct queue_view *v, const struct queue_group *r, int64_t now_ms)
{
	const struct wait_facts f = facts_of(v, r);

	return wait_code(r, &f, now_ms);
}

json_t *queue_view_wait(
    const struct queue_view *v, const struct queue_group *r, int64_t position, int64_t now_ms, int64_t grace_ms)
{
	struct wait_facts f = facts_of(v, r);

	f.position = position;
	return wait_json(r, &f, now_ms, grace_ms);
}
