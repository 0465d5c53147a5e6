#include "server/access/policy.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

static const char *const follow_ups_names[] = {
    [FOLLOW_UPS_DISABLED] = "disabled", [FOLLOW_UPS_SERVICE_ACCOUNTS] = "service_accounts", [FOLLOW_UPS_ALL] = "all"};

const char *follow_ups_name(enum follow_ups f)
{
	return follow_ups_names[f];
}

bool follow_ups_parse(const char *name, enum follow_ups *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(follow_ups_names); i++)
		if (strcmp(follow_ups_names[i], name) == 0) {
			*ret = (enum follow_ups)i;
			return true;
		}
	return false;
}

void policy_fini(struct policy *p)
{
	str_free(&p->mcp_allow);
}

int policy_load(struct tx *tx, int64_t team_id, struct policy *ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT allow_self_hosted, require_self_hosted, max_active_per_user, secret_sync, mcp_allow, "
	    "public_artifacts, "
	    "follow_ups FROM teams WHERE id = $1",
	    "i", team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		*ret = (struct policy){.allow = query_int(q, 0) != 0 || query_int(q, 1) != 0,
		    .require = query_int(q, 1) != 0,
		    .max_active_per_user = query_int(q, 2),
		    .secret_sync = query_int(q, 3) != 0,
		    .mcp_allow = str_dup(query_text(q, 4))};
	if (rc == OK) {
		ret->public_artifacts = query_int(q, 5) != 0;
		/* A word that nobody knows allows nothing. */
		if (!follow_ups_parse(query_str(q, 6), &ret->follow_ups))
			ret->follow_ups = FOLLOW_UPS_DISABLED;
	}
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int policy_may_follow_up(struct tx *tx, int64_t team_id, const char *agent_owner)
{
	AUTO_FINI(policy) p = {0};
	int rc = policy_load(tx, team_id, &p);

	if (rc != OK)
		return rc == ERR_NOT_FOUND ? ERR_DENIED : rc;
	if (p.follow_ups == FOLLOW_UPS_ALL)
		return OK;
	return p.follow_ups == FOLLOW_UPS_SERVICE_ACCOUNTS && text_has_prefix(agent_owner, "sa:") ? OK : ERR_DENIED;
}

json_t *policy_json(const struct policy *p)
{
	json_t *o = json_object(), *rules = NULL;

	json_put_bool(o, "allow", p->allow || p->require);
	json_put_bool(o, "require", p->require);
	json_put_int(o, "maxActivePerUser", p->max_active_per_user);
	json_put_bool(o, "secretSync", p->secret_sync);
	json_put_bool(o, "publicArtifacts", p->public_artifacts);
	json_put(o, "followUps", follow_ups_name(p->follow_ups));
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

	return rc != OK
		   ? rc
		   : tx_exec(tx,
			 "UPDATE teams SET allow_self_hosted = $2, require_self_hosted = $3, max_active_per_user "
			 "= $4, secret_sync = $5, mcp_allow = $6, public_artifacts = $7, follow_ups = $8 WHERE id = $1",
			 "iiiiisis", by->team_id, (int64_t)p->allow, (int64_t)p->require, p->max_active_per_user,
			 (int64_t)p->secret_sync, p->mcp_allow, (int64_t)p->public_artifacts,
			 follow_ups_name(p->follow_ups));
}
