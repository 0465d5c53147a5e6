#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/access/policy.h"
#include "server/api/api_priv.h"
#include "server/fleet/nearest.h"
#include <string.h>

static void put_time(json_t *o, const char *key, int64_t ms)
{
	char when[CLOCK_ISO_LEN];

	clock_iso8601(ms, when);
	json_put(o, key, when);
}

static json_t *repos_of(const struct agent *a, enum object_form form)
{
	json_t *out = json_array();
	size_t i;
	json_t *repo;

	json_array_foreach(a->repos, i, repo)
	{
		if (form == FORM_FULL)
			json_array_append(out, repo);
		else
			json_array_append_new(out, json_pack("{s:O}", "url", json_object_get(repo, "url")));
	}
	return out;
}

char *agent_link(struct api *api, const struct agent *a)
{
	const char *base = atomic_load(&api->web_base);

	return str_printf("%s/agents/%s", base != NULL ? base : "", a->id);
}

json_t *agent_json(struct api *api, const struct agent *a, enum object_form form)
{
	json_t *o = json_object(), *env = json_object();
	AUTO_STR url = agent_link(api, a);

	json_put(o, "id", a->id);
	json_put(o, "name", a->name);
	json_put(o, "status", a->status);
	json_put(env, "type", a->env_type);
	if (a->env_name[0] != '\0')
		json_put(env, "name", a->env_name);
	json_put_new(o, "env", env);
	json_put_new(o, "repos", repos_of(a, form));
	if (form == FORM_FULL) {
		json_put_bool(o, "workOnCurrentBranch", a->work_on_current_branch);
		json_put_bool(o, "autoCreatePR", a->auto_create_pr);
		if (a->skip_reviewer_request)
			json_put_bool(o, "skipReviewerRequest", true);
	}
	json_put_bool(o, "openAsCursorGithubApp", a->open_as_app);
	if (a->metadata != NULL)
		json_object_set(o, "metadata", a->metadata);
	if (form == FORM_FULL && a->kept_work != NULL)
		json_object_set(o, "keptWork", a->kept_work);
	json_put(o, "url", url);
	put_time(o, "createdAt", a->created_at);
	put_time(o, "updatedAt", a->updated_at);
	if (a->latest_run_id[0] != '\0')
		json_put(o, "latestRunId", a->latest_run_id);
	return o;
}

int agent_put_owner(struct tx *tx, const struct agent *a, json_t *o)
{
	bool user = strncmp(a->owner, "user:", 5) == 0;
	const char *id = strchr(a->owner, ':') != NULL ? strchr(a->owner, ':') + 1 : a->owner;
	AUTO_STR name = NULL;
	int64_t n = 0;
	int rc;

	IGNORE(text_parse_int(id, 0, INT64_MAX, &n));
	rc = user ? tx_query_text(tx, &name, "SELECT COALESCE(email, name) FROM users WHERE id = $1", "i", n)
		  : tx_query_text(tx, &name, "SELECT name FROM service_accounts WHERE id = $1", "s", id);
	if (rc == OK || rc == ERR_EMPTY)
		json_put_new(o, "owner",
		    json_pack("{s:s, s:s, s:s}", "type", user ? "user" : "service_account", "id", id, "name",
			name != NULL ? name : id));
	return rc == ERR_EMPTY ? OK : rc;
}

json_t *run_json(const struct agent *a, const struct run_info *r, const json_t *wait, enum object_form form)
{
	json_t *o = json_object(), *git = agent_git(a);

	json_put(o, "id", r->id);
	json_put(o, "agentId", r->agent_id);
	json_put(o, "status", r->status);
	put_time(o, "createdAt", r->created_at);
	put_time(o, "updatedAt", r->updated_at);
	json_put(o, "requestId", r->request_id);
	if (git != NULL)
		json_put_new(o, "git", git);
	if (form == FORM_LIST)
		return o;
	if (r->ended_at != 0)
		json_put_int(o, "durationMs", r->ended_at - r->created_at);
	json_put(o, "result", r->result);
	if (r->error_message != NULL) {
		json_t *error = json_object();

		json_put(error, "message", r->error_message);
		json_put(error, "code", r->error_code);
		json_put_new(o, "error", error);
	}
	if (wait != NULL)
		json_object_set(o, "wait", (json_t *)wait);
	return o;
}

int agent_wait(struct api_request *rq, struct tx *tx, const struct agent *a, json_t **ret)
{
	int64_t now = clock_wall_ms();
	int rc = queue_wait_reason(tx, a->id, now, runs_config(rq->api->cfg.runs)->loss_grace_ms, ret);

	if (rc == OK)
		rc = nearest_put(tx, a->id, principal_is_service_account(rq->who), *ret);
	return rc == ERR_EMPTY ? OK : rc;
}

/* Whoever is signed in at the dashboard reads what a colleague shares; keys, which stand in scripts, do not. */
static bool reads_shared(const struct api_request *rq, const struct agent *a)
{
	return a->of_team && rq->who->by == BY_BROWSER && strcmp(rq->route->method, "GET") == 0;
}

int follow_up_check(struct tx *tx, const struct principal *who, const struct agent *a, bool in_thread)
{
	if (strcmp(a->owner, who->owner) == 0)
		return OK;
	if (a->team_id != who->team_id)
		return ERR_DENIED;
	if (principal_leads(who))
		return OK;
	/* What somebody keeps to herself the policy does not open. */
	if (!in_thread && !a->of_team && !text_has_prefix(a->owner, "sa:") &&
	    !principal_has_scope(who, SCOPE_AGENTS_TEAM))
		return ERR_DENIED;
	return policy_may_follow_up(tx, a->team_id, a->owner);
}

int follow_up_note(struct tx *tx, const struct audit_by *by, const struct agent *a)
{
	if (strcmp(a->owner, by->actor) == 0)
		return OK;
	return audit_write(
	    tx, by, "agent_followup_by_other", json_pack("{s:s, s:s}", "agentId", a->id, "owner", a->owner));
}

/* `continues`: to go on with it, else as load_visible_agent. */
static bool load_agent_for(
    struct api_request *rq, struct tx *tx, const char *id, bool team, bool continues, struct agent **ret)
{
	AUTO(agent) a = NULL;
	AUTO_STR lower = str_dup(id);
	int rc = OK;

	for (char *p = lower; *p != '\0'; p++)
		*p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
	rc = agent_load(tx, lower, &a);
	if (rc == OK && strcmp(a->owner, rq->who->owner) != 0 &&
	    !(a->team_id == rq->who->team_id &&
		(principal_leads(rq->who) ||
		    (team && (principal_has_scope(rq->who, SCOPE_AGENTS_TEAM) || reads_shared(rq, a)))))) {
		/* Who may go on with it sees what became of that, and may end it. */
		rc = team || continues ? follow_up_check(tx, rq->who, a, false) : ERR_DENIED;
		if (rc == ERR_DENIED)
			rc = ERR_NOT_FOUND;
	}
	if (rc == OK)
		*ret = TAKE(a);
	else if (rc == ERR_NOT_FOUND)
		api_error(rq, API_agent_not_found, "there is no agent '%.60s'", id);
	else
		api_refuse(rq, rc, NULL);
	return rc == OK;
}

bool load_visible_agent(struct api_request *rq, struct tx *tx, const char *id, bool team, struct agent **ret)
{
	return load_agent_for(rq, tx, id, team, false, ret);
}

bool load_agent_to_continue(struct api_request *rq, struct tx *tx, const char *id, struct agent **ret)
{
	return load_agent_for(rq, tx, id, false, true, ret);
}
