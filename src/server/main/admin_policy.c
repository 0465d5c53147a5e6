/* `bullpen admin policy`: what an administrator decides for the team; works on the store directly, also while the
 * server runs, which reads it anew for each request. */
#include "base/mem.h"
#include "base/text.h"
#include "mcp/allow.h"
#include "server/access/policy.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include <string.h>

#define RULES_MAX ((size_t)256 * 1024)

static int take_switch(const char *name, const char *value, bool *ret)
{
	if (value == NULL)
		return 0;
	if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
		return usage_error("--%s must be on or off, not '%.40s'", name, value);
	*ret = strcmp(value, "on") == 0;
	return 0;
}

/* The rules as text, checked. */
static int read_rules(const char *file, char **ret)
{
	AUTO_STR text = NULL;
	AUTO_JSON rules = NULL;
	struct why why = {""};
	size_t len = 0;
	int rc = text_read_file(file, RULES_MAX, &text, &len);

	if (rc != OK) {
		fprintf(stderr, "error: --mcp-allow: %.300s cannot be read: %s\n", file, err_text(rc));
		return 1;
	}
	rc = json_parse_strict(text, len, &rules, &why);
	if (rc == OK)
		rc = mcp_allow_check(rules, &why);
	if (rc != OK)
		return usage_error("--mcp-allow: %.300s: %s", file, why.text);
	*ret = json_text(rules);
	return 0;
}

static int take_rules(const char *value, struct policy *p)
{
	char *text = NULL;
	int status = 0;

	if (value == NULL)
		return 0;
	if (strcmp(value, "none") == 0)
		text = str_dup("[]");
	else if (strcmp(value, "any") != 0)
		status = read_rules(value, &text);
	if (status != 0)
		return status;
	free(p->mcp_allow);
	p->mcp_allow = text;
	return 0;
}

static int change(struct store *st, const struct policy_options *g, struct policy *p)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_WRITE, &tx), status;

	if (rc == OK)
		rc = policy_load(tx, THE_TEAM, p);
	if (rc != OK) {
		fprintf(stderr, "error: the policy cannot be read: %s\n", err_text(rc));
		return 1;
	}
	if (take_switch("allow", g->allow, &p->allow) != 0 || take_switch("require", g->require, &p->require) != 0 ||
	    take_switch("secret-sync", g->secret_sync, &p->secret_sync) != 0 ||
	    take_switch("public-artifacts", g->public_artifacts, &p->public_artifacts) != 0)
		return 2;
	if (g->follow_ups != NULL && !follow_ups_parse(g->follow_ups, &p->follow_ups))
		return usage_error(
		    "--follow-ups must be disabled, service_accounts or all, not '%.40s'", g->follow_ups);
	if (g->max_active != NULL && text_parse_int(g->max_active, 0, 1000000, &p->max_active_per_user) != OK)
		return usage_error(
		    "--max-active-per-user must be a whole number from 0 to 1000000, not '%.40s'", g->max_active);
	status = take_rules(g->mcp_allow, p);
	if (status != 0)
		return status;
	rc = policy_store(tx, &admin_by, p);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		fprintf(stderr, "error: the policy cannot be stored: %s\n", err_text(rc));
	return rc == OK ? 0 : 1;
}

int admin_policy(const struct policy_options *g)
{
	struct policy p = {0};
	struct store *st = NULL;
	int status = admin_open_store(g->data_dir, false, &st);

	if (status != 0)
		return status;
	status = change(st, g, &p);
	store_close(&st);
	if (status == 0)
		printf("allow: %s\nrequire: %s\nmax-active-per-user: %lld\nsecret-sync: %s\nmcp-allow: %s\n"
		       "public-artifacts: %s\nfollow-ups: %s\n",
		    p.allow || p.require ? "on" : "off", p.require ? "on" : "off", (long long)p.max_active_per_user,
		    p.secret_sync ? "on" : "off", p.mcp_allow != NULL ? p.mcp_allow : "any",
		    p.public_artifacts ? "on" : "off", follow_ups_name(p.follow_ups));
	policy_fini(&p);
	return status;
}
