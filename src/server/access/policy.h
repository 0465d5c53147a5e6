/* access/policy.h: what an administrator decides for a team. Thread: any, inside the caller's transaction. */
#pragma once
#include "server/audit/audit.h"
#include "store/store.h"

/* Whose agents the rest of the team may go on with: nobody's, those of service accounts, everybody's. */
enum follow_ups { FOLLOW_UPS_DISABLED, FOLLOW_UPS_SERVICE_ACCOUNTS, FOLLOW_UPS_ALL };
/* "disabled", "service_accounts", "all"; and back: false for another word. */
const char *follow_ups_name(enum follow_ups f);
bool follow_ups_parse(const char *name, enum follow_ups *ret);

struct policy {
	bool allow; /* runs may ask for machines of the team's own */
	bool require; /* all of them do; implies allow */
	bool secret_sync; /* variables of requests may go to workers that take them */
	char *mcp_allow; /* which MCP servers and tools runs may use: rules of mcp/allow.h as JSON text; NULL: all */
	bool public_artifacts; /* pull requests show artifacts, at addresses that need no key */
	enum follow_ups follow_ups;
	int64_t max_active_per_user; /* runs of a user that have a worker at once; 0: any number */
};
void policy_fini(struct policy *p);
/* *ret is for policy_fini. */
int policy_load(struct tx *tx, int64_t team_id, struct policy *ret) MUST_USE;
/* What changes is in the audit log. */
int policy_store(struct tx *tx, const struct audit_by *by, const struct policy *p) MUST_USE;
/* {allow, require, maxActivePerUser, secretSync, publicArtifacts, followUps, mcpAllow?}. New reference. */
json_t *policy_json(const struct policy *p);

/* Whether members and service accounts of the team may go on with an agent of it that is another's. ERR_DENIED: not by
 * the policy. */
int policy_may_follow_up(struct tx *tx, int64_t team_id, const char *agent_owner) MUST_USE;
