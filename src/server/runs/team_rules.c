#include "server/runs/team_rules.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

#define NAME_LEN_MAX 64
#define GLOB_LEN_MAX 1024

void team_rules_free(struct team_rules **tp)
{
	struct team_rules *t = TAKE(*tp);

	if (t == NULL)
		return;
	json_decref(t->list);
	free(t->updated_by);
	free(t);
}

int team_rules_load(struct tx *tx, int64_t team_id, struct team_rules **ret)
{
	AUTO(query) q = NULL;
	AUTO_JSON list = NULL;
	int rc =
	    tx_query(tx, &q, "SELECT content, updated_at, updated_by FROM team_rules WHERE team_id = $1", "i", team_id);

	*ret = NULL;
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	if (json_parse(query_str(q, 0), strlen(query_str(q, 0)), &list, NULL) != OK || !json_is_array(list)) {
		/* What the team wants kept must not be passed over in silence. */
		log_error("store.row.damaged", "table=team_rules key=%lld column=content", (long long)team_id);
		return ERR_INTERNAL;
	}
	*ret = NEW(struct team_rules);
	**ret = (struct team_rules){
	    .list = TAKE(list), .updated_at = query_int(q, 1), .updated_by = str_dup(query_str(q, 2))};
	return OK;
}

static int check_team_rule(const json_t *list, size_t i, struct why *why)
{
	const json_t *r = json_array_get(list, i), *glob = json_object_get(r, "glob"),
		     *enforced = json_object_get(r, "enforced");
	static const char *const keys[] = {"name", "text", "glob", "enforced", NULL};
	AUTO_STR where = str_printf("rules[%zu]", i);

	if (!json_is_object(r))
		return why_set(why, ERR_INVALID, "%s must be an object", where);
	if (json_only_keys(r, keys, where, why) != OK)
		return ERR_INVALID;
	if (!text_is_token(json_word(r, "name"), "._-", NAME_LEN_MAX))
		return why_set(why, ERR_INVALID, "%s.name must be 1 to %d of A-Z a-z 0-9 . _ -", where, NAME_LEN_MAX);
	for (size_t k = 0; k < i; k++)
		if (strcmp(json_word(json_array_get(list, k), "name"), json_word(r, "name")) == 0)
			return why_set(why, ERR_INVALID, "%s.name is that of rules[%zu]", where, k);
	if (text_is_blank(json_word(r, "text")))
		return why_set(why, ERR_INVALID, "%s.text must be a text that is not empty", where);
	if (glob != NULL && (text_is_blank(json_word(r, "glob")) || strlen(json_word(r, "glob")) > GLOB_LEN_MAX))
		return why_set(why, ERR_INVALID,
		    "%s.glob must be file patterns, with commas between them, at most %d bytes", where, GLOB_LEN_MAX);
	if (enforced != NULL && !json_is_boolean(enforced))
		return why_set(why, ERR_INVALID, "%s.enforced must be true or false", where);
	return OK;
}

static json_t *as_kept(const json_t *list)
{
	json_t *kept = json_array(), *r;
	size_t i;

	json_array_foreach((json_t *)list, i, r)
	{
		json_t *o = json_copy(r);

		json_put_bool(o, "enforced", json_is_true(json_object_get(r, "enforced")));
		json_array_append_new(kept, o);
	}
	return kept;
}

int team_rules_store(struct tx *tx, int64_t team_id, const json_t *list, const char *by, struct why *why)
{
	AUTO_JSON kept = NULL;
	AUTO_STR text = NULL;
	int rc = OK;

	if (!json_is_array(list))
		return why_set(why, ERR_INVALID, "rules must be an array");
	if (json_array_size(list) > TEAM_RULES_MAX)
		return why_set(why, ERR_INVALID, "rules: at most %d are possible", TEAM_RULES_MAX);
	for (size_t i = 0; rc == OK && i < json_array_size(list); i++)
		rc = check_team_rule(list, i, why);
	if (rc != OK)
		return rc;
	if (json_array_size(list) == 0)
		return tx_exec(tx, "DELETE FROM team_rules WHERE team_id = $1", "i", team_id);
	kept = as_kept(list);
	text = json_text(kept);
	if (strlen(text) > TEAM_RULES_BYTES)
		return why_set(why, ERR_INVALID, "the rules together are larger than 256 KiB");
	return tx_exec(tx,
	    "INSERT INTO team_rules(team_id, content, updated_at, updated_by) VALUES($1, $2, $3, $4)"
	    " ON CONFLICT(team_id) DO UPDATE SET content = excluded.content, updated_at = excluded.updated_at,"
	    " updated_by = excluded.updated_by",
	    "isis", team_id, text, clock_wall_ms(), by);
}

char *team_rules_text(const struct team_rules *t)
{
	struct strbuf b = STRBUF(2 * TEAM_RULES_BYTES);
	size_t i;
	json_t *r;

	json_array_foreach(t != NULL ? t->list : NULL, i, r)
	{
		if (json_object_get(r, "glob") == NULL)
			strbuf_addf(&b, "\n## Rule %s\n%s\n", json_word(r, "name"), json_word(r, "text"));
	}
	return b.len > 0 ? strbuf_take(&b) : NULL;
}

json_t *team_rules_for_files(const struct team_rules *t)
{
	json_t *some = json_array(), *r;
	size_t i;

	json_array_foreach(t != NULL ? t->list : NULL, i, r)
	{
		if (json_object_get(r, "glob") != NULL)
			json_array_append(some, r);
	}
	return some;
}
