/* The workspace: opened before the first step of a turn (and again when the worker process is a new one), published
 * after the last. Both are safe to repeat, so a call that was cut off is simply made again. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/fleet/queue.h"
#include "server/runs/run_thread_priv.h"
#include <string.h>

#define TRIES 3
#define OPENS_MAX 20

static int write_session_call(struct run *r, struct tx *tx, void *arg)
{
	return call_write_down(r, tx, arg);
}

/* The newest row of that kind in this run which is of the present worker process: under way, or done well. One that
 * failed is not taken up: it is made again. ERR_EMPTY. */
static int find_session_call(struct run *r, call_kind kind, struct call *ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	char incarnation[24];
	int rc = tx_begin(r->runs->cfg.store, TX_READ, &tx);

	snprintf(incarnation, sizeof incarnation, "%llx", (unsigned long long)r->incarnation);
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT id, state, outcome, result FROM tool_calls WHERE run_id = $1 AND kind = $2 AND incarnation "
		    "= $3"
		    " AND (outcome IS NULL OR outcome = 'success') ORDER BY created_at DESC LIMIT 1",
		    "sss", r->info->id, call_kind_text(kind), incarnation);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	ret->done = strcmp(query_str(q, 1), "done") == 0;
	/* The worker process may live on without the session, which it closes when it has heard of no server for long.
	 * Only what it says itself counts; opening is safe to repeat. */
	if (ret->done && kind == CALL_OPEN_SESSION && strcmp(r->session_claim, r->claim.id) != 0) {
		ret->done = false;
		return ERR_EMPTY;
	}
	ret->id = str_dup(query_str(q, 0));
	ret->incarnation = r->incarnation;
	if (ret->done) {
		const char *text = query_str(q, 3);

		ret->outcome = "success";
		IGNORE(json_parse(text, strlen(text), &ret->result, NULL));
		if (ret->result == NULL)
			ret->result = json_object();
	}
	return OK;
}

static int write_also(struct run *r, struct tx *tx, void *arg)
{
	struct call *c = arg;

	return c->also(r, tx, c);
}

/* Performs an internal call, or takes up the one that is under way. OK: done, whatever the outcome. `also` is written
 * with the result. `arguments` is taken. */
static int perform(struct run *r, call_kind kind, json_t *arguments,
    int (*also)(struct run *r, struct tx *tx, struct call *c), struct call *c)
{
	int rc = find_session_call(r, kind, c);

	c->args = arguments;

	if (rc == ERR_EMPTY) {
		c->id = id_new("call-");
		rc = OK;
	} else if (rc != OK) {
		return rc;
	}
	c->kind = kind;
	c->also = also;
	c->step = -1;
	c->name = str_dup(call_kind_text(kind));
	if (c->incarnation == 0)
		rc = run_write(r, write_session_call, c);
	if (rc == OK && !c->done)
		return calls_perform(r, c, 1);
	/* It was done before a former thread had the time to do the rest. */
	return rc == OK && also != NULL ? run_write(r, write_also, c) : rc;
}

static json_t *open_arguments(const struct run *r)
{
	const struct agent *a = r->agent;

	return json_pack("{s:s, s:s, s:s, s:b}", "repoUrl", a->repo_url, "startingRef", a->starting_ref, "branch",
	    a->branch, "workOnCurrentBranch", a->work_on_current_branch);
}

static json_t *publish_arguments(const struct run *r)
{
	return json_pack("{s:s, s:s, s:s}", "message", r->agent->name, "authorName", r->runs->cfg.author_name,
	    "authorEmail", r->runs->cfg.author_email);
}

static const char *message_of(const struct call *c)
{
	const char *s = json_string_value(json_object_get(c->result, "message"));

	return s != NULL ? s : "no reason was given";
}

static bool was_interrupted(const struct call *c)
{
	const char *code = json_string_value(json_object_get(c->result, "code"));

	return strcmp(c->outcome, "error") == 0 && code != NULL && strcmp(code, "interrupted") == 0;
}

/* What the session adds comes after what every session of the worker has. */
static json_t *merged_tools(const struct run *r)
{
	json_t *own = json_object_get(r->session_info, "tools"), *all;

	if (json_array_size(own) == 0)
		return r->tool_set != NULL ? json_incref(r->tool_set->list) : json_array();
	all = r->tool_set != NULL ? json_copy(r->tool_set->list) : json_array();
	json_array_extend(all, own);
	return all;
}

/* The workspace is there: the run is RUNNING. */
static int take_session(struct run *r, struct tx *tx, struct call *c)
{
	const char *hash = r->tool_set != NULL ? r->tool_set->hash : NULL;
	int64_t now = clock_wall_ms();
	int rc;

	if (strcmp(c->outcome, "success") != 0)
		return OK;
	AUTO_STR info = json_text(c->result);

	rc = tx_exec(tx,
	    "UPDATE runs SET status = 'RUNNING', started_at = COALESCE(started_at, $2), tool_set = $3 WHERE id = $1",
	    "sis", r->info->id, now, hash);
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE run_texts SET session_info = $2 WHERE run_id = $1", "ss", r->info->id, info);
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE agents SET updated_at = $2 WHERE id = $1", "si", r->agent->id, now);
	return rc != OK ? rc : queue_set_serving(tx, r->agent->id);
}

/* How often the workspace of this run was opened, by whichever thread: a worker that is lost each time must not be
 * tried for ever. */
static int count_opens(struct run *r, int64_t *ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->runs->cfg.store, TX_READ, &tx);

	return rc != OK ? rc
			: tx_query_int(tx, ret, "SELECT COUNT(*) FROM tool_calls WHERE run_id = $1 AND kind = 'open'",
			      "s", r->info->id);
}

int session_ensure(struct run *r)
{
	int64_t opens = 0;
	int counted = count_opens(r, &opens);

	if (counted != OK)
		return counted;
	if (opens >= OPENS_MAX)
		return run_fail(r, "worker_lost",
		    "worker %s was lost %lld times while it prepared the workspace or worked", r->claim.worker_id,
		    (long long)opens);
	for (int i = 0; i < TRIES; i++) {
		__attribute__((cleanup(call_fini))) struct call c = {0};
		int rc = perform(r, CALL_OPEN_SESSION, open_arguments(r), take_session, &c);

		if (rc != OK)
			return rc;
		if (strcmp(c.outcome, "success") == 0) {
			json_decref(r->session_info);
			r->session_info = json_incref(c.result);
			json_decref(r->tools);
			r->tools = merged_tools(r);
			if (r->info->started_at == 0)
				r->info->started_at = clock_wall_ms();
			return OK;
		}
		if (!was_interrupted(&c))
			return run_fail(r, "clone_failed", "worker %s could not prepare the workspace: %s",
			    r->claim.worker_id, message_of(&c));
	}
	return run_fail(r, "clone_failed", "worker %s was interrupted %d times while it prepared the workspace",
	    r->claim.worker_id, TRIES);
}

static int take_publication(struct run *r, struct tx *tx, struct call *c)
{
	const char *branch = json_string_value(json_object_get(c->result, "branch"));

	if (strcmp(c->outcome, "success") != 0 || !json_is_true(json_object_get(c->result, "pushed")) ||
	    branch == NULL || !text_is_git_ref(branch))
		return OK;
	return tx_exec(tx, "UPDATE agents SET pushed_branch = $2, updated_at = $3 WHERE id = $1", "ssi", r->agent->id,
	    branch, clock_wall_ms());
}

bool session_publishes(const struct run *r)
{
	return r->agent->repo_url[0] != '\0' && strcmp(r->info->mode, "plan") != 0;
}

int session_publish_branch(struct run *r)
{
	if (!session_publishes(r))
		return OK;
	for (int i = 0; i < TRIES; i++) {
		__attribute__((cleanup(call_fini))) struct call c = {0};
		int rc = perform(r, CALL_PUBLISH, publish_arguments(r), take_publication, &c);

		if (rc != OK)
			return rc;
		if (strcmp(c.outcome, "success") == 0)
			return OK;
		if (!was_interrupted(&c))
			return run_fail(r, "push_failed",
			    "the work could not be published and stays on worker %s, branch %s: %s", r->claim.worker_id,
			    r->agent->branch, message_of(&c));
	}
	return run_fail(r, "push_failed", "worker %s was interrupted %d times while it published branch %s",
	    r->claim.worker_id, TRIES, r->agent->branch);
}
