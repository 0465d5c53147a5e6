/* The tools that workers say they have. All workers of one version say the same, so each distinct text is kept and
 * parsed once, however many have it. The hub alone looks for them; a set itself is constant and counted. */
#include "base/id.h"
#include "base/mem.h"
#include "server/fleet/fleet_priv.h"
#include <string.h>

#define TOOLS_MAX 500
#define UNUSED_MAX 64

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

static const char *as_text(const char *text)
{
	return text != NULL && text[0] != '\0' ? text : "[]";
}

struct tool_set *tool_sets_find(struct fleet *f, const Bullpen__Worker__V1__Hello *h)
{
	char hash[SHA256_HEX_LEN];
	const char *text = as_text(h->tools_json);

	if (h->tools_json[0] == '\0' && h->tools_hash[0] != '\0')
		return tool_set_ref(map_get(f->tool_sets, h->tools_hash));
	sha256_hex(text, strlen(text), hash);
	return tool_set_ref(map_get(f->tool_sets, hash));
}

int tool_sets_add(struct fleet *f, const Bullpen__Worker__V1__Hello *h, struct tool_set **ret, struct why *why)
{
	AUTO_JSON list = NULL;
	char hash[SHA256_HEX_LEN];
	const char *text = as_text(h->tools_json);
	struct tool_set *s = tool_sets_find(f, h);
	int rc;

	if (s == NULL) {
		rc = json_parse(text, strlen(text), &list, why);
		if (rc != OK)
			return rc;
		if (!json_is_array(list) || json_array_size(list) > TOOLS_MAX)
			return why_set(why, ERR_INVALID, "tools_json must be an array of at most %d tools", TOOLS_MAX);
		if (map_count(f->tool_sets) >= UNUSED_MAX)
			drop_unused(f->tool_sets);
		sha256_hex(text, strlen(text), hash);
		s = set_new(hash, text, TAKE(list));
		map_put(f->tool_sets, hash, tool_set_ref(s));
	}
	*ret = s;
	return OK;
}

int tool_set_load(struct store *st, Bullpen__Worker__V1__Hello *h)
{
	AUTO(tx) tx = NULL;
	AUTO_STR text = NULL;
	int rc;

	if (h->tools_json[0] != '\0' || h->tools_hash[0] == '\0')
		return OK;
	rc = tx_begin(st, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query_text(tx, &text, "SELECT tools FROM tool_sets WHERE hash = $1", "s", h->tools_hash);
	if (rc == OK)
		h->tools_json = TAKE(text);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int tool_set_store(struct tx *tx, const struct tool_set *s)
{
	return tx_exec(tx, "INSERT INTO tool_sets(hash, tools) VALUES($1, $2) ON CONFLICT(hash) DO NOTHING", "ss",
	    s->hash, s->text);
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
