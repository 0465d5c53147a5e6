/* The tools that workers say they have. All workers of one version say the same, so each distinct text is kept once,
 * however many have it. A job reads a text, the hub alone has the map; a set itself is constant and counted. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/tool_sets.h"
#include <string.h>

#define NAME_MAX_LEN 64
#define PARAMETERS_MAX (64 * 1024)
#define UNUSED_MAX 64 /* in memory */
#define STORED_UNUSED_MAX 4096
#define ACCOUNT_UNUSED_MAX 256 /* of them, sent first by one account */
#define UNUSED_KEPT_MS 60000
#define FORGET_EVERY_MS 10000

static struct tool_set *set_new(const char *hash, const char *text, json_t *list)
{
	struct tool_set *s = NEW(struct tool_set);

	atomic_init(&s->refs, 1);
	snprintf(s->hash, sizeof s->hash, "%s", hash);
	s->text = str_dup(text);
	s->list = list;
	return s;
}

struct tool_set *tool_set_ref(struct tool_set *s)
{
	if (s != NULL)
		atomic_fetch_add(&s->refs, 1);
	return s;
}

void tool_set_free(struct tool_set **sp)
{
	struct tool_set *s = TAKE(*sp);

	if (s == NULL || atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	json_decref(s->list);
	free(s->text);
	free(s);
}

/* Of workers that are gone: the map's reference is the last. */
static void drop_unused(struct map *sets)
{
	size_t at = 0;
	const char *key;
	void *value;

	while (map_next(sets, &at, &key, &value)) {
		struct tool_set *s = value;

		if (atomic_load(&s->refs) > 1)
			continue;
		map_remove(sets, key);
		tool_set_free(&s);
	}
}

struct tool_set *tool_sets_find(struct fleet *f, const char *hash)
{
	return tool_set_ref(map_get(f->tool_sets, hash));
}

void tool_sets_share(struct fleet *f, struct tool_set **sp)
{
	struct tool_set *known = tool_sets_find(f, (*sp)->hash);

	if (known != NULL) {
		tool_set_free(sp);
		*sp = known;
		return;
	}
	if (map_count(f->tool_sets) >= UNUSED_MAX)
		drop_unused(f->tool_sets);
	map_put(f->tool_sets, (*sp)->hash, tool_set_ref(*sp));
}

static int check_tool(const json_t *tool, size_t i, struct map *names, struct why *why)
{
	const char *name = json_string_value(json_object_get(tool, "name"));
	const char *class = json_string_value(json_object_get(tool, "class"));
	const json_t *parameters = json_object_get(tool, "parameters");

	if (!json_is_object(tool))
		return why_set(why, ERR_INVALID, "tool %zu must be an object", i);
	if (name == NULL || !text_is_token(name, "_-", NAME_MAX_LEN))
		return why_set(
		    why, ERR_INVALID, "the name of tool %zu must be 1 to 64 characters of A-Z a-z 0-9 _ -", i);
	AUTO_STR lower = str_dup(name);

	id_lower(lower);
	if (map_get(names, lower) != NULL)
		return why_set(why, ERR_INVALID, "there are two tools '%s'", name);
	map_put(names, lower, names);
	if (class == NULL ||
	    (strcmp(class, "read") != 0 && strcmp(class, "mutating") != 0 && strcmp(class, "execute") != 0))
		return why_set(why, ERR_INVALID, "class of tool '%s' must be read, mutating or execute", name);
	if (parameters != NULL && !json_is_object(parameters))
		return why_set(why, ERR_INVALID, "parameters of tool '%s' must be an object", name);
	if (parameters != NULL && json_dumpb(parameters, NULL, 0, JSON_COMPACT) > PARAMETERS_MAX)
		return why_set(
		    why, ERR_INVALID, "parameters of tool '%s' are larger than %d bytes", name, PARAMETERS_MAX);
	return OK;
}

int tool_list_check(const json_t *list, struct why *why)
{
	struct map *names;
	size_t i;
	json_t *tool;
	int rc = OK;

	if (!json_is_array(list) || json_array_size(list) > TOOLS_MAX)
		return why_set(why, ERR_INVALID, "it must be an array of at most %d tools", TOOLS_MAX);
	names = map_new();
	json_array_foreach((json_t *)list, i, tool)
	{
		if (rc == OK)
			rc = check_tool(tool, i, names, why);
	}
	map_free(&names);
	return rc;
}

static int load_stored_set(struct store *st, const char *hash, char **ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_text(tx, ret, "SELECT tools FROM tool_sets WHERE hash = $1", "s", hash);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int tool_set_read(struct store *st, const Bullpen__Worker__V1__Hello *h, struct tool_set **ret, struct why *why)
{
	AUTO_STR stored = NULL;
	AUTO_JSON list = NULL;
	char hash[SHA256_HEX_LEN];
	const char *text = h->tools_json[0] != '\0' ? h->tools_json : "[]";
	int rc = OK;

	if (h->tools_json[0] == '\0' && h->tools_hash[0] != '\0') {
		rc = load_stored_set(st, h->tools_hash, &stored);
		text = stored;
	}
	if (rc == OK)
		rc = json_parse(text, strlen(text), &list, why);
	if (rc == OK)
		rc = tool_list_check(list, why);
	if (rc != OK)
		return rc;
	sha256_hex(text, strlen(text), hash);
	*ret = set_new(hash, text, TAKE(list));
	return OK;
}

/* Of sets that no run names only so many are kept: each costs who sends it nothing. Room is asked for by the statement
 * that takes it, and a row that another writer has just made is as good as ours. Writers at the same moment may each
 * take the last place: the bound may be passed by their number, which is few.
 *
 * A row that is there stays as it is: from this transaction on a worker names it. */
int tool_set_store(struct tx *tx, const struct tool_set *s, const char *account, int64_t now_ms)
{
	int64_t n = 0;
	int rc = tx_query_int(tx, &n, "SELECT 1 FROM tool_sets WHERE hash = $1", "s", s->hash);

	if (rc != ERR_EMPTY)
		return rc;
	rc = tx_change(tx, &n,
	    "INSERT INTO tool_sets(hash, tools, last_used_at, account) SELECT $1, $2, $3, $5 WHERE"
	    " (SELECT COUNT(*) FROM tool_sets t WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.tool_set = t.hash)) < $4"
	    " AND (SELECT COUNT(*) FROM tool_sets t WHERE t.account = $5 AND NOT EXISTS (SELECT 1 FROM runs r WHERE"
	    " r.tool_set = t.hash)) < $6 ON CONFLICT DO NOTHING",
	    "ssiisi", s->hash, s->text, now_ms, (int64_t)STORED_UNUSED_MAX, account, (int64_t)ACCOUNT_UNUSED_MAX);
	if (rc == OK && n == 0)
		rc = tx_query_int(tx, &n, "SELECT 1 FROM tool_sets WHERE hash = $1", "s", s->hash);
	return rc == ERR_EMPTY ? ERR_FULL : rc;
}

int tool_set_release(struct tx *tx, int64_t team_id, const char *worker_id, int64_t now_ms)
{
	return tx_exec(tx,
	    "UPDATE tool_sets SET last_used_at = $3 WHERE last_used_at < $4 AND hash IN"
	    " (SELECT tool_set FROM workers WHERE team_id = $1 AND id = $2)",
	    "isii", team_id, worker_id, now_ms, now_ms - UNUSED_KEPT_MS / 2);
}

/* Some time after its last use: a run whose worker was lost this moment may be about to name it. */
#define FORGOTTEN                                                                                                      \
	"SELECT t.hash FROM tool_sets t WHERE t.last_used_at < $1"                                                     \
	" AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.tool_set = t.hash)"                                             \
	" AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.tool_set = t.hash) LIMIT 50"

int tool_sets_forget(struct store *st, int64_t before_ms)
{
	AUTO(tx) tx = NULL;
	AUTO_STR any = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_text(tx, &any, FORGOTTEN, "i", before_ms);
	tx_free(&tx);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	rc = tx_begin(st, TX_WRITE, &tx);
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM tool_sets WHERE hash IN (" FORGOTTEN ")", "i", before_ms);
	return rc != OK ? rc : tx_commit(&tx);
}

static void forget_job(void *arg)
{
	struct fleet *f = OBJ_FROM(fleet, arg, FLEET_MAGIC);
	int rc = tool_sets_forget(f->cfg.store, clock_wall_ms() - UNUSED_KEPT_MS);

	if (store_is_unavailable(rc))
		store_log_unavailable(f->cfg.store, rc);
	else if (rc != OK)
		log_error("tool_sets.failed", "error=%s", err_name(rc));
	atomic_store(&f->forgetting, false);
}

void tool_sets_tick(struct fleet *f, int64_t now_ms)
{
	if (now_ms < f->forget_next_ms || atomic_exchange(&f->forgetting, true))
		return;
	f->forget_next_ms = now_ms + FORGET_EVERY_MS;
	if (pool_submit(f->cfg.jobs, forget_job, f) != OK)
		atomic_store(&f->forgetting, false);
}

void tool_sets_free(struct fleet *f)
{
	size_t at = 0;
	const char *key;
	void *value;

	while (map_next(f->tool_sets, &at, &key, &value)) {
		struct tool_set *s = value;

		tool_set_free(&s);
	}
	map_free(&f->tool_sets);
}
