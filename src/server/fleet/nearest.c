#include "server/fleet/nearest.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/fleet/queue.h"
#include <string.h>

#define LOOKED_AT 200 /* workers of the pool, and of others: this is read by people, not by the scheduler */
#define SHOWN 3
#define REASON_MAX 300

struct candidate {
	json_t *entry;
	size_t obstacles;
};

static void add_obstacle(json_t *list, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add_obstacle(json_t *list, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	text_utf8_mend(text);
	json_array_append_new(list, json_string(text));
}

/* Whether one of its slots serves the repository; if not, what they serve. */
static int check_repo(
    struct tx *tx, const struct queue_group *r, const char *worker_id, bool same_pool, json_t *obstacles)
{
	struct strbuf others = STRBUF(300);
	AUTO(query) q = NULL;
	bool any = false, serves = false;
	int rc = tx_query(tx, &q, "SELECT repo, repo_host FROM worker_slots WHERE team_id = $1 AND worker_id = $2",
	    "is", r->team_id, worker_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		const char *repo = query_str(q, 0), *host = query_str(q, 1);

		any = true;
		if (strcmp(repo, r->repo) == 0 &&
		    (host[0] == '\0' || r->repo_host[0] == '\0' || strcmp(host, r->repo_host) == 0))
			serves = true;
		strbuf_addf(&others, "%s%s%s%s", others.len > 0 ? ", " : "", repo[0] ? repo : "any repository",
		    host[0] ? " of " : "", host);
	}
	if (any && !serves)
		add_obstacle(obstacles, "it serves %s, not %s", strbuf_str(&others),
		    r->repo[0] ? r->repo : "requests without a repository");
	strbuf_fini(&others);
	return rc == ERR_EMPTY ? OK : rc;
}

/* Columns of CANDIDATE. */
static void check_worker(struct query *q, const struct queue_group *r, json_t *obstacles)
{
	__attribute__((cleanup(labels_fini))) struct labels have = {0};
	const char *pool = query_str(q, 2), *unfit = query_str(q, 5);
	const char *other = query_text(q, 8);
	const char *lacking;

	if (r->machine == NULL && strcmp(pool, r->pool) != 0)
		add_obstacle(obstacles, "its pool is %s, not %s", pool, r->pool);
	labels_parse(query_str(q, 7), &have);
	lacking = labels_lacking(&have, &r->labels);
	if (lacking != NULL)
		add_obstacle(obstacles, "it lacks the label %s", lacking);
	if (unfit[0] != '\0') {
		AUTO_STR line = text_line(query_str(q, 6), REASON_MAX);

		add_obstacle(obstacles, "it is unfit (%s): %s", unfit, line);
	}
	if (query_int(q, 3) != 0)
		add_obstacle(obstacles, "it is stopping");
	else if (query_int(q, 4) != 0 && other != NULL)
		add_obstacle(obstacles, query_int(q, 9) != 0 ? "it is kept for a follow-up of another agent"
							     : "it is busy with another agent");
	if (query_str(q, 10)[0] != '\0')
		add_obstacle(obstacles, "its session token is for another agent");
}

static void keep_best(struct candidate best[SHOWN], json_t *entry)
{
	struct candidate c = {entry, json_array_size(json_object_get(entry, "blockedBy"))};

	for (size_t i = 0; i < SHOWN; i++)
		if (best[i].entry == NULL || c.obstacles < best[i].obstacles) {
			struct candidate worse = best[i];

			best[i] = c;
			c = worse;
			if (c.entry == NULL)
				break;
		}
	json_decref(c.entry);
}

/* Of the workers that `which` names; their claims are looked up for these alone. */
#define CANDIDATES(which)                                                                                              \
	"SELECT w.id, w.name, w.pool, w.draining, CASE WHEN w.busy >= w.max_sessions THEN 1 ELSE 0 END, w.unfit_code," \
	" w.unfit_reason, w.labels, (SELECT MIN(c.agent_id) FROM claims c WHERE c.team_id = w.team_id AND"             \
	" c.worker_id = w.id), (SELECT COUNT(*) FROM claims c WHERE c.team_id = w.team_id AND c.worker_id = w.id"      \
	" AND c.idle_since IS NOT NULL), w.only_agent FROM workers w WHERE w.team_id = $1 AND w.id IN (" which ")"

/* $2 is the pool, $3 how many. */
static int query_candidates(struct tx *tx, const struct queue_group *r, bool of_pool, struct query **ret)
{
	if (r->machine != NULL)
		return tx_query(tx, ret,
		    CANDIDATES(
			"SELECT id FROM workers WHERE team_id = $1 AND personal = 1 AND user_id = $2 AND ($3 = '' OR"
			" name = $3) ORDER BY busy LIMIT $4"),
		    "iisi", r->team_id, r->user_id, r->machine, (int64_t)LOOKED_AT);
	if (of_pool)
		return tx_query(tx, ret,
		    CANDIDATES("SELECT id FROM workers WHERE team_id = $1 AND personal = 0 AND pool = $2"
			       " ORDER BY connected_at DESC LIMIT $3"),
		    "isi", r->team_id, r->pool, (int64_t)LOOKED_AT);
	return tx_query(tx, ret,
	    CANDIDATES("SELECT id FROM workers WHERE team_id = $1 AND personal = 0 AND pool <> $2"
		       " ORDER BY connected_at DESC LIMIT $3"),
	    "isi", r->team_id, r->pool, (int64_t)LOOKED_AT);
}

static int look_at(
    struct tx *tx, struct query *q, const struct queue_group *r, bool names, struct candidate best[SHOWN])
{
	json_t *entry = json_object(), *obstacles = json_array();
	int rc;

	json_put_new(entry, "blockedBy", obstacles);
	if (names) {
		json_put_new(entry, "workerId", json_lossy(query_str(q, 0), strlen(query_str(q, 0))));
		json_put_new(entry, "name", json_lossy(query_str(q, 1), strlen(query_str(q, 1))));
		json_put(entry, "pool", query_str(q, 2)[0] != '\0' ? query_str(q, 2) : NULL);
	}
	rc = check_repo(tx, r, query_str(q, 0), strcmp(query_str(q, 2), r->pool) == 0, obstacles);
	check_worker(q, r, obstacles);
	keep_best(best, entry);
	return rc;
}

/* *ret_n: how many there were. */
static int look_at_candidates(
    struct tx *tx, const struct queue_group *r, bool of_pool, bool names, struct candidate best[SHOWN], size_t *ret_n)
{
	AUTO(query) q = NULL;
	int rc = query_candidates(tx, r, of_pool, &q);

	for (; rc == OK && (rc = query_next(q)) == OK; ++*ret_n)
		rc = look_at(tx, q, r, names, best);
	return rc == ERR_EMPTY ? OK : rc;
}

int nearest_put(struct tx *tx, const char *agent_id, bool names, json_t *wait)
{
	struct candidate best[SHOWN] = {0};
	AUTO(queue_group) r = NULL;
	size_t n = 0;
	json_t *list;
	int rc = queue_group_load(tx, agent_id, &r);

	if (rc != OK || strcmp(r->state, "queued") != 0)
		return rc == ERR_EMPTY ? OK : rc;
	rc = look_at_candidates(tx, r, true, names, best, &n);
	/* Those of other pools only where its own has few. */
	if (rc == OK && r->machine == NULL && n < LOOKED_AT)
		rc = look_at_candidates(tx, r, false, names, best, &n);
	list = json_array();
	for (size_t i = 0; i < SHOWN && best[i].entry != NULL; i++)
		json_array_append_new(list, best[i].entry);
	if (json_array_size(list) > 0)
		json_object_set(wait, "nearest", list);
	json_decref(list);
	return rc;
}
