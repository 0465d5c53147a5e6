#include "server/fleet/queue_reasons.h"
#include "base/map.h"
#include "base/mem.h"
#include <string.h>

/* The last request of a group, which is one (pool, repository) without labels: the next one of it is counted from
 * there. */
struct place {
	int64_t queued_at, position;
	char *agent_id;
};

static void places_free(struct map **mp)
{
	struct map *m = *mp;
	size_t at = 0;
	const char *key;
	void *value;

	while (map_next(m, &at, &key, &value)) {
		free(((struct place *)value)->agent_id);
		free(value);
	}
	map_free(mp);
}

static int find_position(struct tx *tx, struct map *places, const struct queue_group *r, int64_t *ret)
{
	AUTO_STR key = str_printf("%s/%s", r->pool, r->repo); /* a pool's name has no slash */
	struct place *p = map_get(places, key);
	int64_t between = 0;
	int rc;

	if (p == NULL) {
		p = NEW(struct place);
		*p = (struct place){.queued_at = -1, .agent_id = str_dup("")};
		map_put(places, key, p);
	}
	rc = tx_query_int(tx, &between,
	    "SELECT COUNT(*) FROM requests WHERE team_id = $1 AND pool = $2 AND repo = $3 AND state = 'queued'"
	    " AND label = '' AND (queued_at, agent_id) > ($4, $5) AND (queued_at, agent_id) < ($6, $7)",
	    "issisis", r->team_id, r->pool, r->repo, p->queued_at, p->agent_id, r->queued_at, r->agent_id);
	p->position += between + 1;
	p->queued_at = r->queued_at;
	str_set(&p->agent_id, r->agent_id);
	*ret = p->position;
	return rc;
}

/* Labels, a machine and a user's cap are looked up for each request by itself. */
static int reason_of(struct tx *tx, const struct queue_view *v, struct map *places, const char *id, int64_t now_ms,
    int64_t grace_ms, json_t **ret)
{
	AUTO(queue_group) r = NULL;
	int64_t position = 0;
	const char *code;
	int rc = queue_group_load(tx, id, &r);

	if (rc != OK || r->alone)
		return rc != OK ? rc : queue_wait_reason(tx, id, now_ms, grace_ms, ret);
	code = queue_view_reason(v, r, now_ms);
	if (code != NULL && strcmp(code, "all_busy") == 0)
		rc = find_position(tx, places, r, &position);
	if (rc == OK)
		*ret = queue_view_wait(v, r, position, now_ms, grace_ms);
	return rc;
}

int queue_put_reasons(struct tx *tx, json_t *requests, int64_t now_ms, int64_t grace_ms)
{
	AUTO(queue_view) v = NULL;
	__attribute__((cleanup(places_free))) struct map *places = map_new();
	json_t *request;
	size_t i;
	int rc = queue_view_read(tx, &v);

	json_array_foreach(requests, i, request)
	{
		const char *id = json_string_value(json_object_get(request, "id"));
		AUTO_JSON wait = NULL;

		if (rc == OK)
			rc = reason_of(tx, v, places, id, now_ms, grace_ms, &wait);
		if (rc == OK && wait != NULL)
			json_object_set(request, "wait", wait);
		rc = rc == ERR_EMPTY ? OK : rc;
	}
	return rc;
}
