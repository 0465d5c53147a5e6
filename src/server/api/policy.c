/* /v1/policy: what an administrator decides for the team's runs. */
#include "server/access/policy.h"
#include "base/id.h"
#include "base/mem.h"
#include "mcp/allow.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include <string.h>

#define POLICY_TAG_LEN 40

/* Which policy somebody has seen. */
static void policy_tag(const struct policy *p, char ret[POLICY_TAG_LEN])
{
	AUTO_JSON o = policy_json(p);
	AUTO_STR text = json_text(o);
	char hash[SHA256_HEX_LEN];

	sha256_hex(text, strlen(text), hash);
	snprintf(ret, POLICY_TAG_LEN, "\"%.32s\"", hash);
}

static void reply_policy(struct api_request *rq, const struct policy *p)
{
	AUTO_JSON o = policy_json(p);
	AUTO_STR text = json_text(o);
	char tag[POLICY_TAG_LEN];

	policy_tag(p, tag);
	const struct http_header h = {"etag", tag};

	api_reply_bytes(rq, 200, "application/json; charset=utf-8", text, strlen(text), &h, 1);
}

static void get_policy(struct api_request *rq)
{
	AUTO_FINI(policy) p = {0};
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = policy_load(tx, rq->who->team_id, &p);
	if (rc == OK)
		reply_policy(rq, &p);
	else
		api_refuse(rq, rc, NULL);
}

static int read_policy(const json_t *body, struct policy *ret, struct problem *p)
{
	const json_t *rules = json_object_get(body, "mcpAllow");
	const char *follow_ups = json_string_value(json_object_get(body, "followUps"));
	struct why why = {0};

	ret->allow = json_is_true(json_object_get(body, "allow"));
	ret->require = json_is_true(json_object_get(body, "require"));
	ret->secret_sync = json_is_true(json_object_get(body, "secretSync"));
	ret->public_artifacts = json_is_true(json_object_get(body, "publicArtifacts"));
	if (follow_ups != NULL && !follow_ups_parse(follow_ups, &ret->follow_ups))
		return problem_set(p, API_validation_error, "'followUps' must be disabled, service_accounts or all");
	ret->max_active_per_user = json_integer_value(json_object_get(body, "maxActivePerUser"));
	if (ret->require && !ret->allow)
		return problem_set(p, API_validation_error,
		    "'allow' must be true with 'require': runs that must go to the team's workers must be able to");
	if (rules != NULL && mcp_allow_check(rules, &why) != OK)
		return problem_set(p, API_validation_error, "'mcpAllow': %s", why.text);
	if (rules != NULL)
		ret->mcp_allow = json_text(rules);
	return OK;
}

struct policy_putting {
	const struct audit_by *by;
	const struct policy *wanted;
	const char *seen; /* the tag */
};

/* ERR_CONFLICT: it is another one than was seen. */
static int put_policy_in(struct tx *tx, void *arg)
{
	const struct policy_putting *p = arg;
	AUTO_FINI(policy) now = {0};
	char tag[POLICY_TAG_LEN];
	int rc = policy_load(tx, p->by->team_id, &now);

	if (rc != OK)
		return rc;
	policy_tag(&now, tag);
	if (strcmp(p->seen, "*") != 0 && strcmp(p->seen, tag) != 0)
		return ERR_CONFLICT;
	return policy_store(tx, p->by, p->wanted);
}

static void put_policy(struct api_request *rq)
{
	const char *seen = http_header_get(rq->x, "if-match");
	const struct audit_by by = request_by(rq);
	AUTO_FINI(policy) wanted = {0};
	struct problem problem = {0};
	int rc;

	if (seen == NULL) {
		api_error(rq, API_precondition_required,
		    "the header If-Match is needed: the ETag of the policy that this one replaces, or *");
		return;
	}
	rc = read_policy(rq->body, &wanted, &problem);
	if (rc == OK)
		rc = store_write(rq->api->cfg.store, put_policy_in, &(struct policy_putting){&by, &wanted, seen});
	if (rc == ERR_CONFLICT)
		api_error(rq, API_precondition_failed,
		    "somebody has changed the policy since it was read: read it again and decide anew");
	else if (rc != OK)
		api_refuse(rq, rc, &problem);
	else
		reply_policy(rq, &wanted);
}

static const struct route get_policy_route = {
    .name = "getPolicy",
    .method = "GET",
    .path = "/v1/policy",
    .summary = "What holds for the team's runs: their workers, quotas, secrets, MCP servers",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_READ,
    .responses = {{200, "The policy; ETag says which one it is. Without mcpAllow runs may use any MCP server",
	.form = "Policy"}},
    .handler = get_policy,
};
ROUTE(get_policy_route);

static const struct route put_policy_route = {
    .name = "putPolicy",
    .method = "PUT",
    .path = "/v1/policy",
    .summary = "Replaces the policy, if it is still the one of If-Match. It holds from the next request on",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{" SCHEMA_STRICT ",\"required\":[\"allow\",\"require\",\"secretSync\",\"maxActivePerUser\"],\"properties\":{"
	"\"allow\":{\"type\":\"boolean\",\"description\":\"runs may ask for the team's own workers\"},"
	"\"require\":{\"type\":\"boolean\",\"description\":\"all runs go to the team's own workers\"},"
	"\"secretSync\":{\"type\":\"boolean\",\"description\":\"variables of requests may go to workers that take "
	"them\"},"
	"\"maxActivePerUser\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":1000000,\"description\":\"runs of one "
	"user "
	"that have a worker at once; 0: any number\"},"
	"\"publicArtifacts\":{\"type\":\"boolean\",\"description\":\"pull requests show the agent's artifacts, which "
	"can "
	"then be read without a key by whoever has their addresses; absent: false\"},"
	"\"followUps\":{\"type\":\"string\",\"enum\":[\"disabled\",\"service_accounts\",\"all\"],\"description\":"
	"\"whose agents the rest of the team may go on with: nobody's, those of service accounts, everybody's; absent: "
	"disabled\"},"
	"\"mcpAllow\":{\"type\":\"array\",\"maxItems\":1000,\"items\":{\"type\":\"object\"},\"description\":\"rules of "
	"the MCP servers and tools that runs may use; empty: none; absent: all\"}}}",
    .responses = {{200, "The policy", .form = "Policy"}, {412, "It is another one than If-Match says"},
	{428, "If-Match is missing"}},
    .handler = put_policy,
};
ROUTE(put_policy_route);
