/* Automations as rows. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "server/automations/automations.h"
#include "server/automations/cron.h"
#include "server/outbox/outbox.h"
#include <string.h>

#define COLUMNS                                                                                                        \
	"id, team_id, owner, name, prompt, launch, concurrency, enabled, cron, time_zone, missed, next_at, secret, "   \
	"old_secret, old_until, timestamped, created_at, updated_at"

void automation_free(struct automation **ap)
{
	struct automation *a = TAKE(*ap);

	if (a == NULL)
		return;
	char **const texts[] = {&a->id, &a->owner, &a->name, &a->prompt, &a->concurrency, &a->cron, &a->time_zone,
	    &a->missed, &a->secret, &a->old_secret};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		str_free(texts[i]);
	json_drop(&a->launch);
	free(a);
}

static int read_automation(struct query *q, struct automation **ret)
{
	AUTO(automation) a = NEW(struct automation);
	const char *launch = query_str(q, 5);

	if (json_parse(launch, strlen(launch), &a->launch, NULL) != OK)
		return ERR_INTERNAL;
	a->id = str_dup(query_str(q, 0));
	a->team_id = query_int(q, 1);
	a->owner = str_dup(query_str(q, 2));
	a->name = str_dup(query_str(q, 3));
	a->prompt = str_dup(query_str(q, 4));
	a->concurrency = str_dup(query_str(q, 6));
	a->enabled = query_int(q, 7) != 0;
	a->cron = str_dup(query_text(q, 8));
	a->time_zone = str_dup(query_text(q, 9));
	a->missed = str_dup(query_text(q, 10));
	a->next_at = query_int(q, 11);
	a->secret = str_dup(query_text(q, 12));
	a->old_secret = str_dup(query_text(q, 13));
	a->old_until = query_int(q, 14);
	a->timestamped = query_int(q, 15) != 0;
	a->created_at = query_int(q, 16);
	a->updated_at = query_int(q, 17);
	*ret = TAKE(a);
	return OK;
}

int automation_load(struct tx *tx, const char *id, struct automation **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT " COLUMNS " FROM automations WHERE id = $1", "s", id);

	if (rc == OK)
		rc = query_next(q);
	return rc == OK ? read_automation(q, ret) : rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int automation_list(struct tx *tx, const char *owner, int64_t before, const char *before_id, int64_t limit,
    struct automation **ret, size_t *ret_n)
{
	AUTO(query) q = NULL;
	size_t n = 0;
	int rc = tx_query(tx, &q,
	    "SELECT " COLUMNS " FROM automations WHERE owner = $1 AND (created_at < $2 OR (created_at = $2 AND id < "
	    "$3)) ORDER BY created_at DESC, id DESC LIMIT $4",
	    "sisi", owner, before, before_id, limit);

	while (rc == OK && (rc = query_next(q)) == OK && (rc = read_automation(q, &ret[n])) == OK)
		n++;
	*ret_n = n;
	return rc == ERR_EMPTY ? OK : rc;
}

int automation_insert(struct tx *tx, const struct automation *a)
{
	AUTO_STR launch = json_text(a->launch);
	int64_t n = 0;
	int rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM automations WHERE owner = $1", "s", a->owner);

	if (rc == OK && n >= AUTOMATIONS_MAX)
		return ERR_FULL;
	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO automations(" COLUMNS ") VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, "
		    "NULLIF($12, 0), $13, $14, $15, $16, $17, $18)",
		    "sisssssisssissiiii", a->id, a->team_id, a->owner, a->name, a->prompt, launch, a->concurrency,
		    (int64_t)a->enabled, a->cron, a->time_zone, a->missed, a->next_at, a->secret, a->old_secret,
		    a->old_until, (int64_t)a->timestamped, a->created_at, a->updated_at);
	return rc;
}

int automation_update(struct tx *tx, const struct automation *a)
{
	AUTO_STR launch = json_text(a->launch);

	return tx_exec(tx,
	    "UPDATE automations SET name = $2, prompt = $3, launch = $4, concurrency = $5, enabled = $6, cron = $7, "
	    "time_zone = $8, missed = $9, next_at = NULLIF($10, 0), secret = $11, old_secret = $12, old_until = $13, "
	    "timestamped = $14, updated_at = $15 WHERE id = $1",
	    "sssssisssissiii", a->id, a->name, a->prompt, launch, a->concurrency, (int64_t)a->enabled, a->cron,
	    a->time_zone, a->missed, a->next_at, a->secret, a->old_secret, a->old_until, (int64_t)a->timestamped,
	    a->updated_at);
}

int automation_delete(struct tx *tx, const char *id)
{
	int rc = tx_exec(tx, "DELETE FROM automation_runs WHERE automation_id = $1", "s", id);

	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM automations WHERE id = $1", "s", id);
	return rc == OK ? outbox_drop(tx, AUTOMATION_KIND, id) : rc;
}

int automation_plan(struct automation *a, int64_t now_ms, struct why *why)
{
	AUTO(zone) z = NULL;
	struct cron c;
	int64_t next = 0;
	int rc;

	a->next_at = 0;
	if (a->cron == NULL)
		return OK;
	rc = cron_parse(a->cron, &c, why);
	if (rc == OK)
		rc = zone_load(a->time_zone, &z, why);
	if (rc != OK)
		return rc;
	if (cron_next(&c, z, now_ms, &next) != OK)
		return why_set(why, ERR_INVALID, "the schedule never comes: there is no such day");
	if (a->enabled)
		a->next_at = next;
	return OK;
}

static char *seal_of(const struct automation *a)
{
	return str_printf("automation/%s", a->id);
}

char *automation_new_secret(struct automation *a, const struct seal *seal, int64_t now_ms)
{
	AUTO_STR of = seal_of(a);
	char secret[65];

	id_hex(secret, 32);
	str_free(&a->old_secret);
	a->old_secret = TAKE(a->secret);
	a->old_until = a->old_secret != NULL ? now_ms + AUTOMATION_OLD_SECRET_MS : 0;
	a->secret = seal_text(seal, of, secret);
	char *ret = str_dup(secret);

	explicit_bzero(secret, sizeof secret);
	return ret;
}

int automation_secret(const struct automation *a, const struct seal *seal, bool old, int64_t now_ms, char **ret)
{
	AUTO_STR of = seal_of(a);
	const char *sealed = !old ? a->secret : a->old_until > now_ms ? a->old_secret : NULL;

	return sealed == NULL ? ERR_EMPTY : seal_open(seal, of, sealed, ret);
}

static int insert_run(struct tx *tx, const struct automation_tick *t, const char *state, int64_t now_ms, char *id)
{
	char uuid[UUID_LEN];
	int64_t n = 0;
	int rc;

	id_uuid(uuid);
	snprintf(id, AUTOMATION_RUN_ID_LEN, "arun-%s", uuid);
	rc = tx_change(tx, &n,
	    "INSERT INTO automation_runs(id, automation_id, tick, signature, cause, state, reason, prompt, at, "
	    "created_at, ended_at) VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULLIF($11, 0)) ON CONFLICT DO "
	    "NOTHING",
	    "ssssssssiii", id, t->automation_id, t->tick, t->signature, t->cause, state, t->reason, t->prompt, t->at_ms,
	    now_ms, strcmp(state, "new") == 0 ? (int64_t)0 : now_ms);
	return rc == OK && n == 0 ? ERR_CONFLICT : rc;
}

int automation_fire(struct tx *tx, const struct automation_tick *t, int64_t now_ms, char ret_id[AUTOMATION_RUN_ID_LEN])
{
	int rc = insert_run(tx, t, "new", now_ms, ret_id);

	return rc == OK ? outbox_add_in_order(tx, AUTOMATION_KIND, t->automation_id, ret_id, now_ms) : rc;
}

int automation_note(struct tx *tx, const struct automation_tick *t, const char *state, int64_t now_ms)
{
	char id[AUTOMATION_RUN_ID_LEN];

	return insert_run(tx, t, state, now_ms, id);
}

void automation_agent_id(const char *automation_id, const char *tick, char out[AGENT_ID_LEN])
{
	AUTO_STR of = str_printf("%s %s", automation_id, tick);
	char h[SHA256_HEX_LEN];

	sha256_hex(of, strlen(of), h);
	/* A UUID of version 8: made of what one likes (RFC 9562). */
	snprintf(out, AGENT_ID_LEN, "bc-%.8s-%.4s-8%.3s-a%.3s-%.12s", h, h + 8, h + 12, h + 15, h + 18);
}

#define RUN_COLUMNS "id, cause, state, at, created_at, reason, agent_id, ended_at"

static void put_moment(json_t *o, const char *key, int64_t ms)
{
	char when[CLOCK_ISO_LEN];

	clock_iso8601(ms, when);
	json_put(o, key, when);
}

static json_t *run_object(struct query *q)
{
	json_t *o =
	    json_pack("{s:s, s:s, s:s}", "id", query_str(q, 0), "cause", query_str(q, 1), "state", query_str(q, 2));

	put_moment(o, "at", query_int(q, 3));
	put_moment(o, "createdAt", query_int(q, 4));
	json_put(o, "reason", query_text(q, 5));
	json_put(o, "agentId", query_text(q, 6));
	if (!query_is_null(q, 7))
		put_moment(o, "endedAt", query_int(q, 7));
	return o;
}

int automation_runs(struct tx *tx, const char *automation_id, int64_t before, const char *before_id, int64_t limit,
    json_t **ret, int64_t *ret_next, char **ret_next_id)
{
	AUTO(query) q = NULL;
	AUTO_JSON items = json_array();
	AUTO_STR last = NULL;
	int64_t last_at = 0;
	bool more = false;
	int rc = tx_query(tx, &q,
	    "SELECT " RUN_COLUMNS " FROM automation_runs WHERE automation_id = $1 AND (created_at < $2 OR (created_at "
	    "= $2 AND id < $3)) ORDER BY created_at DESC, id DESC LIMIT $4",
	    "sisi", automation_id, before, before_id, limit + 1);

	while (rc == OK && (rc = query_next(q)) == OK) {
		more = (int64_t)json_array_size(items) == limit;
		if (more)
			break;
		json_array_append_new(items, run_object(q));
		last_at = query_int(q, 4);
		str_set(&last, query_str(q, 0));
	}
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(items);
	*ret_next = last_at;
	*ret_next_id = more ? TAKE(last) : NULL;
	return OK;
}

int automation_run(struct tx *tx, const char *run_id, json_t **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT " RUN_COLUMNS " FROM automation_runs WHERE id = $1", "s", run_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
	*ret = run_object(q);
	return OK;
}
