/* The workspace: opened before the first step of a run (and again when the worker has closed it, or is a new process),
 * published after the last. Both are safe to repeat, so a call that was cut off is simply made again. */
#include "base/clock.h"
#include "base/id.h"
#include "base/labels.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/fleet/queue.h"
#include "server/runs/attempts.h"
#include "server/runs/call.h"
#include "server/runs/named.h"
#include "server/runs/publication.h"
#include "server/runs/team_rules.h"
#include "server/runs/tools.h"
#include <string.h>

#define TRIES 3
#define OPENS_MAX 20
#define MESSAGE_MAX 2048
#define WARNING_MAX 1024
#define WARNINGS_TOLD 20

/* Whether the worker has the session of this run's claim open. The worker says so when it connects
 * (docs/worker-protocol.md); that its process is the same as before proves nothing, because it closes its session when
 * the control plane is away for too long. */
static bool is_open_at_worker(const struct run *r)
{
	return strcmp(r->session_claim, r->claim_id) == 0;
}

/* The newest row of that kind in this run which is of the present worker process: under way, or done well. One that
 * failed is not taken up: it is made again; and so is an opening whose session is closed by now. ERR_EMPTY. */
static int find_session_call(struct loop *l, call_kind kind, struct call *ret)
{
	const struct run *r = l->run;
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	char incarnation[24];
	bool done;
	int rc = tx_begin(r->runs->cfg.store, TX_READ, &tx);

	snprintf(incarnation, sizeof incarnation, "%llx", (unsigned long long)r->incarnation);
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT id, state, result, created_at FROM tool_calls WHERE loop_id = $1 AND step = -1 AND kind = "
		    "$2 AND"
		    " incarnation = $3 AND (outcome IS NULL OR outcome = 'success') ORDER BY created_at DESC LIMIT 1",
		    "sss", l->id, call_kind_name(kind), incarnation);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	done = strcmp(query_str(q, 1), "done") == 0;
	if (done && kind == CALL_OPEN_SESSION && !is_open_at_worker(r))
		return ERR_EMPTY;
	ret->id = str_dup(query_str(q, 0));
	ret->incarnation = r->incarnation;
	ret->taken_over = true;
	ret->done = done;
	ret->written_at = query_int(q, 3);
	if (done) {
		const char *text = query_str(q, 2);

		ret->outcome = "success";
		IGNORE(json_parse(text, strlen(text), &ret->result, NULL));
		if (!json_is_object(ret->result)) { /* we wrote it, but a store may come from anywhere */
			json_drop(&ret->result);
			ret->result = json_object();
		}
	}
	return OK;
}

/* The call becomes a row. */
static int write_session_call(struct loop *l, struct call *c)
{
	int rc;

	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = call_write_down(l, c);
		if (rc == OK && c->kind == CALL_OPEN_SESSION)
			rc = queue_set_opening(l->tx, l->run->agent->id, clock_wall_ms());
	} while (loop_end_write(l, &rc));
	return rc;
}

static int write_also(struct loop *l, struct call *c)
{
	int rc;

	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = c->also(l, c);
	} while (loop_end_write(l, &rc));
	return rc;
}

/* Performs an internal call, or takes up the one that is under way. OK: done, whatever the outcome. `also` is written
 * with the result. */
static int perform_session_call(
    struct loop *l, call_kind kind, json_t *args, int (*also)(struct loop *l, struct call *c), struct call *c)
{
	int rc = find_session_call(l, kind, c);

	c->args = args;
	c->kind = kind;
	c->executor = &executor_worker;
	c->also = also;
	c->step = -1;
	c->name = str_dup(call_kind_name(kind));
	if (rc == ERR_EMPTY) {
		c->id = id_new("call-");
		rc = write_session_call(l, c);
	}
	if (rc != OK)
		return rc;
	if (!c->done)
		return calls_perform(l, c, 1);
	/* It was done before an earlier thread had the time to do the rest. */
	return also != NULL ? write_also(l, c) : OK;
}

/* What the worker says about its failure, and what git said, if that is apart. malloc'ed. */
static char *session_message_of(const struct call *c)
{
	const char *s = json_string_value(json_object_get(c->result, "message"));
	const char *output = json_string_value(json_object_get(c->result, "output"));
	AUTO_STR all = str_printf("%s%s%s", s != NULL && s[0] != '\0' ? s : "no reason was given",
	    output != NULL && output[0] != '\0' ? "\n" : "", output != NULL ? output : "");

	return text_cut_middle(all, strlen(all), MESSAGE_MAX, NULL);
}

/* "cancelled": not by us, because a run that is cancelled waits for no result. The worker gave the call up by itself,
 * for instance because it heard nothing of the control plane for longer than its grace. */
static bool was_interrupted(const struct call *c)
{
	const char *code = json_string_value(json_object_get(c->result, "code"));

	return strcmp(c->outcome, "error") == 0 && code != NULL &&
	       (strcmp(code, "interrupted") == 0 || strcmp(code, "cancelled") == 0);
}

/* Who claims a request for a worker by its id may choose one that lacks labels; the user of the run shall know. */
static int tell_lacking_label(struct loop *l, const struct call *c)
{
	const struct run *r = l->run;
	AUTO(query) q = NULL;
	AUTO_FINI(labels) want = {0};
	AUTO_FINI(labels) have = {0};
	AUTO_STR text = NULL;
	const char *lacking;
	int rc = tx_query(l->tx, &q,
	    "SELECT q.labels, w.labels FROM requests q, workers w WHERE q.agent_id = $1 AND w.team_id = $2 AND w.id = "
	    "$3",
	    "sis", r->agent->id, r->agent->team_id, r->worker_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	labels_parse(query_str(q, 0), &want);
	labels_parse(query_str(q, 1), &have);
	query_free(&q);
	lacking = labels_lacking(&have, &want);
	if (lacking == NULL)
		return OK;
	text = str_printf("warning: worker %s does not have the label %s that was asked for; it was claimed by its id",
	    r->worker_label, lacking);
	return log_line(&l->log, c->id, text);
}

static json_t *too_short_to_hide(const json_t *env)
{
	json_t *few = json_object(), *v;
	const char *name;

	json_object_foreach((json_t *)env, name, v)
	{
		if (json_string_length(v) < REDACT_MIN)
			json_object_set_new(few, name, json_true());
	}
	return few;
}

/* Who gave variables shall know that the programs do not get them, or that a value may show in their output. */
static int tell_env(struct loop *l, const struct call *c)
{
	const struct run *r = l->run;
	AUTO_JSON few = too_short_to_hide(r->inputs.env);
	AUTO_STR names = NULL;
	AUTO_STR text = NULL;

	if (r->env_withheld == NULL && json_object_size(few) == 0)
		return OK;
	names = inputs_names(r->env_withheld != NULL ? r->inputs.env : few);
	if (r->env_withheld != NULL)
		text = str_printf("warning: the variables %s are not set: %s", names, r->env_withheld);
	else
		text = str_printf(
		    "warning: the values of the variables %s are too short to be hidden where they are printed", names);
	return log_line(&l->log, c->id, text);
}

static bool is_of_hooks(const char *warning)
{
	return text_has_prefix(warning, "hooks: ") || text_has_prefix(warning, "hook ");
}

/* What is wrong with hooks, and what failed of those of sessionStart; of a session's first opening also what is wrong
 * with the rest that the agent finds there: rules, skills, subagents. */
static int tell_warnings(struct loop *l, const struct call *c)
{
	json_t *warnings = json_object_get(c->result, "warnings"), *w;
	bool first = l->run->info->started_at == 0;
	size_t i, told = 0;
	int rc = OK;

	json_array_foreach(warnings, i, w)
	{
		AUTO_STR line = text_line(json_string_value(w), WARNING_MAX);
		AUTO_STR text = str_printf("%s%s", is_of_hooks(line) ? "" : "warning: ", line);

		if (rc != OK || line[0] == '\0' || (!first && !is_of_hooks(line)))
			continue;
		if (is_of_hooks(line) || ++told <= WARNINGS_TOLD)
			rc = log_line(&l->log, c->id, text);
	}
	if (rc == OK && told > WARNINGS_TOLD) {
		AUTO_STR more = str_printf(
		    "and %zu more warnings (agent skills check, in the repository, shows all)", told - WARNINGS_TOLD);

		rc = log_line(&l->log, c->id, more);
	}
	return rc;
}

/* Inside the write of the result. The workspace is there: the run is RUNNING. Or the machine is at fault: the run goes
 * to another one. */
static int take_session(struct loop *l, struct call *c)
{
	const struct run *r = l->run;
	const char *hash = r->tool_set != NULL ? r->tool_set->hash : NULL;
	int64_t now = clock_wall_ms();
	int rc;

	c->requeued = false;
	if (attempt_is_of_machine(c))
		return attempt_write(l, c, &c->requeued);
	if (strcmp(c->outcome, "success") != 0)
		return OK;
	AUTO_JSON rest = json_copy(c->result);
	AUTO_STR named = named_take(json_object_get(rest, "named"));
	AUTO_STR info = NULL;

	json_object_del(rest, "named");
	info = json_text(rest);
	rc = tx_exec(l->tx,
	    "UPDATE runs SET status = 'RUNNING', started_at = COALESCE(started_at, $2), tool_set = $3 WHERE id = $1",
	    "sis", r->info->id, now, hash);
	if (rc == OK)
		rc = tx_exec(l->tx,
		    "INSERT INTO run_sessions(run_id, session_info, worker_id, worker_name, worker_host, named)"
		    " VALUES($1, $2, $3, $4, $5, $6) ON CONFLICT(run_id) DO UPDATE SET session_info = "
		    "excluded.session_info, named = COALESCE(run_sessions.named, excluded.named),"
		    " worker_id = excluded.worker_id, worker_name = excluded.worker_name, worker_host ="
		    " excluded.worker_host",
		    "ssssss", r->info->id, info, r->worker_id, r->names.name, r->names.host, named);
	if (rc == OK && r->info->started_at == 0)
		rc = publication_tell_kept(l, c);
	if (rc == OK && r->info->started_at == 0)
		rc = tell_lacking_label(l, c);
	if (rc == OK && r->info->started_at == 0)
		rc = tell_env(l, c);
	if (rc == OK)
		rc = tell_warnings(l, c);
	if (rc == OK)
		rc = tx_exec(l->tx, "UPDATE agents SET updated_at = $2 WHERE id = $1", "si", r->agent->id, now);
	return rc != OK ? rc : queue_set_serving(l->tx, r->agent->id);
}

/* How often the workspace of this run was opened, by whichever thread: a worker that is lost each time must not be
 * tried for ever. */
static int count_opens(struct loop *l, int64_t *ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	return rc != OK
		   ? rc
		   : tx_query_int(tx, ret,
			 "SELECT COUNT(*) FROM tool_calls WHERE loop_id = $1 AND step = -1 AND kind = 'open_session'",
			 "s", l->id);
}

/* What the prompt of this run may name. New reference. */
static int load_named(struct loop *l, json_t **ret)
{
	AUTO(tx) tx = NULL;
	AUTO_STR prompt = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_text(tx, &prompt, "SELECT prompt FROM loop_texts WHERE loop_id = $1", "s", l->id);
	if (rc == OK || rc == ERR_EMPTY)
		*ret = named_in_prompt(prompt != NULL ? prompt : "");
	return rc == ERR_EMPTY ? OK : rc;
}

static json_t *open_args(const struct run *r, json_t *named)
{
	const struct agent *a = r->agent;
	const struct runs_config *cfg = &r->runs->cfg;
	AUTO_JSON for_files = team_rules_for_files(r->team_rules);
	json_t *args = json_pack("{s:s, s:s, s:s, s:b, s:O}", "repoUrl", a->repo_url, "startingRef", a->starting_ref,
	    "branch", a->branch, "workOnCurrentBranch", a->work_on_current_branch, "repos", a->repos);

	if (cfg->grant != NULL)
		json_put_new(args, "artifacts", cfg->grant(cfg->grant_ctx, a->id, r->claim_id));
	if (json_array_size(named) > 0)
		json_put_new(args, "named", json_incref(named));
	if (json_array_size(for_files) > 0)
		json_put_new(args, "teamRules", json_incref(for_files));
	return args;
}

/* The session is open: `info` is what the worker says about it. */
static void enter_session(struct run *r, const struct call *c)
{
	json_t *info = c->result;

	json_decref(r->session_info);
	r->session_info = json_incref(info);
	json_decref(r->tools);
	r->tools = tools_of_run(r->tool_set, json_object_get(info, "tools"));
	live_enter(r, info, c->id, c->taken_over);
	if (r->info->started_at == 0)
		r->info->started_at = clock_wall_ms();
}

/* For good: who tried is named. */
static int fail_opening(struct loop *l, const struct call *c)
{
	AUTO_STR attempts = NULL;
	AUTO_STR message = session_message_of(c);
	AUTO(tx) tx = NULL;
	int rc = OK;

	/* One that has begun has its work there, and a follow-up may find it. */
	l->end_claim = l->run->info->started_at == 0;
	if (attempt_is_of_machine(c))
		rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);
	if (rc == OK && tx != NULL)
		rc = attempts_text(tx, l->run->info->id, &attempts);
	if (rc == OK && attempts != NULL)
		return loop_fail(l, "clone_failed", "no worker could open the session: %s", attempts);
	return loop_fail(
	    l, "clone_failed", "worker %s could not prepare the workspace: %s", l->run->worker_label, message);
}

/* The worker knows the hash, and not what it is of. */
static bool lacks_team_hooks(const struct call *c)
{
	const char *code = json_string_value(json_object_get(c->result, "code"));

	return code != NULL && strcmp(code, "hooks_unknown") == 0;
}

int session_ensure(struct loop *l)
{
	struct run *r = l->run;
	int64_t opens = 0;
	AUTO_JSON named = NULL;
	int counted = count_opens(l, &opens);

	if (counted == OK)
		counted = load_named(l, &named);
	if (counted != OK)
		return counted;
	/* One that is open is not opened: this thread may have begun for another reason, a restart of the server. */
	if (opens >= OPENS_MAX && !is_open_at_worker(r))
		return loop_fail(l, "worker_lost",
		    "worker %s was lost %lld times while it prepared the workspace or worked", r->worker_label,
		    (long long)opens);
	for (int i = 0; i < TRIES; i++) {
		__attribute__((cleanup(call_fini))) struct call c = {0};
		int rc = perform_session_call(l, CALL_OPEN_SESSION, open_args(r, named), take_session, &c);

		if (rc != OK)
			return rc;
		if (strcmp(c.outcome, "success") == 0) {
			enter_session(r, &c);
			return OK;
		}
		if (lacks_team_hooks(&c) && !r->team_hooks_whole) {
			r->team_hooks_whole = true;
			continue;
		}
		if (c.requeued) {
			attempt_tell(l, &c);
			return ERR_LOST;
		}
		if (!was_interrupted(&c))
			return fail_opening(l, &c);
	}
	return loop_fail(l, "clone_failed", "worker %s was interrupted %d times while it prepared the workspace",
	    r->worker_label, TRIES);
}

bool session_publishes(const struct loop *l)
{
	const struct run *r = l->run;
	bool has_artifacts = json_is_true(json_object_get(r->session_info, "artifacts"));

	return (r->agent->repo_url[0] != '\0' || has_artifacts) && strcmp(l->mode, "plan") != 0;
}

static json_t *publish_args(const struct run *r)
{
	json_t *args = json_object();

	json_put(args, "message", r->agent->name);
	json_put(args, "authorName", r->runs->cfg.author_name);
	json_put(args, "authorEmail", r->runs->cfg.author_email);
	return args;
}

static int fail_publication(struct loop *l, const struct call *c)
{
	AUTO_STR message = session_message_of(c);

	return loop_fail(l, "push_failed", "the work could not be published and stays on worker %s, branch %s: %s",
	    l->run->worker_label, l->run->agent->branch, message);
}

int session_publish_branch(struct loop *l)
{
	const struct run *r = l->run;

	if (!session_publishes(l))
		return OK;
	for (int i = 0; i < TRIES; i++) {
		__attribute__((cleanup(call_fini))) struct call c = {0};
		int rc = perform_session_call(l, CALL_PUBLISH, publish_args(r), publication_take, &c);

		if (rc != OK)
			return rc;
		if (strcmp(c.outcome, "success") == 0)
			return OK;
		/* Without a repository there is nothing that could be lost. */
		if (!was_interrupted(&c))
			return r->agent->repo_url[0] != '\0' ? fail_publication(l, &c) : OK;
	}
	if (r->agent->repo_url[0] == '\0')
		return OK;
	return loop_fail(l, "push_failed", "worker %s was interrupted %d times while it published branch %s",
	    r->worker_label, TRIES, r->agent->branch);
}
