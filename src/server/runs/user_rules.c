#include "server/runs/user_rules.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

void user_rules_free(struct user_rules **up)
{
	struct user_rules *u = TAKE(*up);

	if (u == NULL)
		return;
	free(u->text);
	free(u);
}

int user_rules_load(struct tx *tx, int64_t user_id, struct user_rules **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT content, updated_at FROM user_rules WHERE user_id = $1", "i", user_id);

	*ret = NULL;
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	*ret = NEW(struct user_rules);
	**ret = (struct user_rules){.text = str_dup(query_str(q, 0)), .updated_at = query_int(q, 1)};
	return OK;
}

int user_rules_load_owner(struct tx *tx, const char *owner, struct user_rules **ret)
{
	int64_t id;

	*ret = NULL;
	if (!text_has_prefix(owner, "user:") || text_parse_int(owner + 5, 1, INT64_MAX, &id) != OK)
		return OK;
	return user_rules_load(tx, id, ret);
}

int user_rules_store(struct tx *tx, int64_t user_id, const char *text, struct why *why)
{
	if (strlen(text) > USER_RULES_BYTES)
		return why_set(why, ERR_INVALID, "'text' must be at most 64 KiB");
	if (text_is_blank(text))
		return tx_exec(tx, "DELETE FROM user_rules WHERE user_id = $1", "i", user_id);
	return tx_exec(tx,
	    "INSERT INTO user_rules(user_id, content, updated_at) VALUES($1, $2, $3)"
	    " ON CONFLICT(user_id) DO UPDATE SET content = excluded.content, updated_at = excluded.updated_at",
	    "isi", user_id, text, clock_wall_ms());
}
