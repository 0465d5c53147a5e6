#include "server/access/policy.h"
#include "base/mem.h"

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

int policy_store(struct tx *tx, int64_t team_id, const struct policy *p)
{
	return tx_exec(tx,
	    "UPDATE teams SET allow_self_hosted = $2, require_self_hosted = $3, max_active_per_user = $4, secret_sync "
	    "= $5, mcp_allow = $6 WHERE id = $1",
	    "iiiiis", team_id, (int64_t)p->allow, (int64_t)p->require, p->max_active_per_user, (int64_t)p->secret_sync,
	    p->mcp_allow);
}
