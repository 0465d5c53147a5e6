/* A call of kind OPEN_SESSION: prepares the workspace for an agent. */
#include "agent/worker/job.h"
#include "agent/artifacts/lookout.h"
#include "agent/mcp/servers.h"
#include "agent/session/context_inventory.h"
#include "agent/session/rules.h"
#include "agent/session/session.h"
#include "agent/worker/hook_facts.h"
#include "agent/worker/clones.h"
#include "base/clock.h"
#include "base/mem.h"
#include <string.h>

#define OPEN_LIMIT_MS (20 * 60 * 1000)
/* Of the output of an opening: a line that says what it is about, instead of the former one. */
#define STREAM_PROGRESS 3
/* A run begins without the MCP servers that take longer; they come later. */
#define MCP_WAIT_MS 15000

/* Strings are borrowed from args and from the job. */
static int open_read_wish(struct job *j, const json_t *args, struct session_open *ret)
{
	struct why why = {""};
	int rc = job_text_argument(j, args, "repoUrl", &ret->repo_url);

	ret->agent_id = j->agent_id;
	ret->claim_id = j->claim_id;
	if (rc == OK)
		rc = job_text_argument(j, args, "startingRef", &ret->starting_ref);
	if (rc == OK)
		rc = job_text_argument(j, args, "branch", &ret->branch);
	if (rc == OK && json_get_bool(args, "workOnCurrentBranch", &ret->work_on_current_branch, &why) != OK) {
		job_error(j, "invalid_arguments", "%s", why.text);
		rc = ERR_INVALID;
	}
	return rc;
}

static void tell_progress(void *ctx, const char *what)
{
	struct job *j = ctx;

	j->on_output(j->on_output_ctx, STREAM_PROGRESS, what, strlen(what));
}

static void fail_open(struct job *j, int rc, const struct session_failure *fail)
{
	job_error_of_session(j, rc, "clone_failed", fail);
	if (!fail->machine || rc == ERR_CANCELLED)
		return;
	j->unfit_code = rc == ERR_NO_SPACE ? "no_space" : rc == ERR_NET ? "remote_unreachable" : "session_failed";
	str_set(&j->unfit_reason, fail->why.text);
}

/* Of a place that had none: what is read of the worker's folders for it stays there for the next agent. */
static void make_session(struct job *j)
{
	struct session_config cfg = *j->sessions;

	cfg.place = j->place;
	j->session = session_new(&cfg);
}

/* From here on the place has a session of its own, made of clones, or again the one of the worker's folders. */
static int take_clones(
    struct job *j, const json_t *repos, const struct session_open *want, struct session_failure *fail)
{
	struct clone_set *clones = NULL;
	struct session_config cfg = *j->sessions;
	int rc;

	if (strcmp(session_agent_id(j->session), want->agent_id) == 0)
		return OK;
	session_close(j->session, NULL);
	if (j->session != j->base_session)
		session_free(&j->session);
	clone_set_free(&j->clones);
	j->session = j->base_session;
	if (json_array_size(repos) == 0)
		return OK;
	rc = clones_prepare(
	    j->clones_dir, j->sessions, repos, want, j->cancel_fd, job_deadline(j, OPEN_LIMIT_MS), &clones, fail);
	if (rc != OK)
		return rc;
	cfg.roots = clones->roots;
	cfg.n_roots = clones->n_roots;
	j->clones = clones;
	j->session = session_new(&cfg);
	return OK;
}

/* What the agent leaves under artifacts/ is brought from here on, if the control plane says where to. */
static void watch_artifacts(struct job *j, const json_t *args, json_t *info)
{
	const json_t *given = json_object_get(args, "artifacts");
	const char *url = json_string_value(json_object_get(given, "url"));
	const struct lookout_grant grant = {.url = url != NULL ? url : j->endpoint,
	    .token = json_string_value(json_object_get(given, "token")),
	    .max_file_bytes = json_integer_value(json_object_get(given, "maxFileBytes"))};
	struct lookout *w = session_attached(j->session, GUEST_ARTIFACTS);

	if (grant.url == NULL || grant.token == NULL)
		return;
	if (w != NULL) {
		lookout_renew(w, &grant);
	} else {
		w = lookout_start(session_primary_root(j->session), &grant);
		if (w == NULL)
			return;
		session_attach(j->session, GUEST_ARTIFACTS, w, lookout_end);
	}
	json_put_bool(info, "artifacts", true);
}

static json_t *parse_or_null(const char *text)
{
	json_t *v = NULL;

	if (text != NULL && json_parse(text, strlen(text), &v, NULL) != OK)
		return NULL;
	return v;
}

/* Also of a session that was open already: what is asked for may be another list. */
static void start_mcp(struct job *j, json_t *info)
{
	AUTO_JSON definitions = parse_or_null(j->mcp_json);
	AUTO_JSON variables = parse_or_null(j->env_json);
	struct mcp_servers *m = session_attached(j->session, GUEST_MCP);
	int64_t until = clock_mono_ms() + MCP_WAIT_MS;

	if (m == NULL && json_array_size(definitions) == 0 && !j->project_mcp) {
		mcp_servers_none(j->session, info);
		return;
	}
	if (m == NULL) {
		m = mcp_servers_new(j->session, j->news, j->news_ctx);
		session_attach(j->session, GUEST_MCP, m, mcp_servers_end);
	}
	if (json_array_size(definitions) > 0)
		tell_progress(j, "starting MCP servers");
	mcp_servers_open(m,
	    &(struct mcp_servers_wish){.definitions = definitions, .variables = variables, .of_files = j->project_mcp},
	    MIN(until, job_deadline(j, OPEN_LIMIT_MS)), j->cancel_fd, info);
}

/* The session is ready when its hooks have had their say. A policy that cannot be read closes it again. */
static int open_hooks(struct job *j, json_t *info)
{
	AUTO_FINI(hook_facts) f = {0};
	struct why why = {""};
	int rc;

	if (j->hooks == NULL)
		return OK;
	tell_progress(j, "running the hooks of sessionStart");
	hook_facts_read(j, &f);
	rc = hooks_open(j->hooks, j->session, &f.run, info, &why);
	if (rc == ERR_EMPTY)
		job_error(j, "hooks_unknown", "the team's hooks are not known here");
	else if (rc != OK)
		job_error(j, "hooks_invalid", "%s", why.text);
	if (rc != OK)
		session_close(j->session, NULL);
	return rc;
}

/* The control plane has told their hash, and tells the rest when it is asked. */
static bool knows_team_hooks(struct job *j)
{
	AUTO_FINI(hook_facts) f = {0};
	bool known;

	hook_facts_read(j, &f);
	known = j->hooks == NULL || hooks_team_is_known(j->hooks, f.facts);
	if (!known)
		job_error(j, "hooks_unknown", "the team's hooks are not known here");
	return known;
}

/* What the prompt of this run names, so that its text goes with the prompt. */
static void put_named(const struct job *j, const json_t *args, json_t *info)
{
	struct context_places places = {.home = session_home(j->session)};
	const json_t *names = json_object_get(args, "named");

	if (json_array_size(names) == 0)
		return;
	places.n_roots = session_roots(j->session, &places.roots);
	json_put_new(
	    info, "named", context_named(&places, session_rules(j->session), names, json_object_get(info, "warnings")));
}

static void perform_open(struct job *j)
{
	struct session_open want = {.progress = tell_progress, .progress_ctx = j};
	AUTO_FINI(session_failure) fail = {0};
	AUTO_JSON args = NULL;
	json_t *info = NULL;
	bool is_new = j->session == NULL;
	int rc;

	if (job_arguments(j, &args) != OK || open_read_wish(j, args, &want) != OK)
		return;
	if (!knows_team_hooks(j))
		return;
	if (is_new)
		make_session(j);
	hooks_hold(hooks_of(j->session));
	rc = j->clones_dir != NULL ? take_clones(j, json_object_get(args, "repos"), &want, &fail) : OK;
	if (rc == OK)
		rc = session_open(j->session, &want, j->cancel_fd, job_deadline(j, OPEN_LIMIT_MS), &info, &fail);
	if (rc == OK) {
		rules_set_team(session_rules(j->session), json_object_get(args, "teamRules"));
		put_named(j, args, info);
		watch_artifacts(j, args, info);
		/* Servers may need what hooks have installed. */
		rc = open_hooks(j, info);
		if (rc == OK) {
			start_mcp(j, info);
			job_succeed(j, info);
		} else {
			json_decref(info);
		}
	} else {
		fail_open(j, rc, &fail);
	}
	hooks_release(hooks_of(j->session));
	/* Also after a failure: the session that was open before may have been closed for this one. */
	str_set(&j->open_agent, session_agent_id(j->session));
	str_set(&j->open_claim, session_claim_id(j->session));
	/* Perhaps a folder could not be read just now: the next one reads it again. */
	if (is_new && rc != OK)
		session_free(&j->session);
}

static const struct call_handler open_handler = {
    .kind = CALL_OPEN_SESSION, .exclusive = true, .ends = ENDS_OF_OTHER_CLAIMS, .perform = perform_open};
CALL_HANDLER(open_handler);
