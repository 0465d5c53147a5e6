#include "server/access/policy.h"
#include "base/mem.h"
#include <string.h>

void policy_fini(struct policy *p)
{
	str_free(&p->mcp_allow);
}

int policy_load(struct tx *tx, int64_t team_id, struct policy *ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT allow_self_hosted, require_self_hosted, max_active_per_user, secret_sync, mcp_allow FROM teams "
	    "WHERE id = $1",
	    "i", team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		*ret = (struct policy){.allow = query_int(q, 0) != 0 || query_int(q, 1) != 0,
		    .require = query_int(q, 1) != 0,
		    .max_active_per_user = query_int(q, 2),
		    .secret_sync = query_int(q, 3) != 0,
		    .mcp_allow = str_dup(query_text(q, 4))};
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

json_t *policy_json(const struct policy *p)
{
	json_t *o = json_object(), *rules = NULL;

	json_put_bool(o, "allow", p->allow || p->require);
	json_put_bool(o, "require", p->require);
	json_put_int(o, "maxActivePerUser", p->max_active_per_user);
	json_put_bool(o, "secretSync", p->secret_sync);
	if (p->mcp_allow != NULL && json_parse(p->mcp_allow, strlen(p->mcp_allow), &rules, NULL) == OK)
		json_put_new(o, "mcpAllow", rules);
	return o;
}

static int note_policy(struct tx *tx, const struct audit_by *by, const struct policy *p)
{
	AUTO_FINI(policy) before = {0};
	json_t *data;
	int rc = policy_load(tx, by->team_id, &before);

	if (rc != OK)
		return rc;
	data = json_object();
	json_put_new(data, "before", policy_json(&before));
	json_put_new(data, "after", policy_json(p));
	if (!json_equal(json_object_get(data, "before"), json_object_get(data, "after")))
		return audit_write(tx, by, "self_hosted_policy", data);
	json_decref(data);
	return OK;
}

int policy_store(struct tx *tx, const struct audit_by *by, const struct policy *p)
{
	int rc = note_policy(tx, by, p);

	return rc != OK ? rc
			: tx_exec(tx,
			      "UPDATE teams SET allow_self_hosted = $2, require_self_hosted = $3, max_active_per_user "
			      "= $4, secret_sync = $5, mcp_allow = $6 WHERE id = $1",
			      "iiiiis", by->team_id, (int64_t)p->allow, (int64_t)p->require, p->max_active_per_user,
			      (int64_t)p->secret_sync, p->mcp_allow);
}
