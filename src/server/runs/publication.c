#include "server/runs/publication.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/fleet/label.h"
#include "server/runs/attempts.h"
#include "server/runs/call.h"
#include <string.h>

#define BRANCHES_MAX 50
#define FILES_MAX 100
#define WARNINGS_MAX 50
#define LINES_MAX 20 /* of each kind in the log; the detail has more */
#define LINE_MAX_BYTES 1024

/* A text of the object as a line; "" if it is none. malloc'ed. */
static char *line_in(const json_t *o, const char *key, size_t max)
{
	return text_line(json_string_value(json_object_get(o, key)), max);
}

static bool is_commit_id(const char *s)
{
	size_t n = strlen(s);

	return (n == 40 || n == 64) && strspn(s, "0123456789abcdef") == n;
}

static json_t *read_resources(const json_t *result)
{
	static const char *const keys[] = {"cpuMs", "peakMemoryBytes", "writtenBytes"};
	const json_t *given = json_object_get(result, "resources");
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const json_t *v = json_object_get(given, keys[i]);

		if (json_is_integer(v) && json_integer_value(v) >= 0)
			json_put_int(o, keys[i], json_integer_value(v));
	}
	if (json_object_size(o) == 0)
		json_drop(&o);
	return o;
}

/* NULL: it names none that is one. */
static json_t *read_kept(const json_t *result, const char *worker_id, const struct worker_names *names)
{
	const json_t *given = json_object_get(result, "kept");
	AUTO_STR ref = line_in(given, "ref", 255);
	AUTO_STR commit = line_in(given, "commit", 64);
	AUTO_STR reason = line_in(given, "reason", LINE_MAX_BYTES);
	char at[CLOCK_ISO_LEN];
	json_t *o;

	if (!json_is_object(given) || !text_is_git_ref(ref) || !is_commit_id(commit))
		return NULL;
	clock_iso8601(clock_wall_ms(), at);
	o = json_object();
	json_put(o, "workerId", worker_id);
	json_put(o, "workerName", names->name);
	json_put(o, "host", names->host);
	json_put(o, "ref", ref);
	json_put(o, "commit", commit);
	json_put(o, "reason", reason);
	json_put(o, "at", at);
	return o;
}

/* What is kept is the newest word about it; only the worker that keeps it can say that there is nothing left. */
static int store_kept(
    struct tx *tx, const char *agent_id, const char *worker_id, const struct worker_names *names, const json_t *result)
{
	AUTO_JSON kept = read_kept(result, worker_id, names);
	AUTO_JSON before = NULL;
	AUTO_STR text = NULL;
	const char *of = NULL;
	int rc = OK;

	if (kept == NULL && !json_is_null(json_object_get(result, "kept")))
		return OK;
	if (kept != NULL) {
		text = json_text(kept);
		return tx_exec(tx, "UPDATE agents SET kept_work = $2 WHERE id = $1", "ss", agent_id, text);
	}
	rc = tx_query_text(tx, &text, "SELECT kept_work FROM agents WHERE id = $1", "s", agent_id);
	if (rc == OK && text != NULL)
		IGNORE(json_parse(text, strlen(text), &before, NULL));
	of = json_string_value(json_object_get(before, "workerId"));
	if (rc == OK && of != NULL && strcmp(of, worker_id) == 0)
		rc = tx_exec(tx, "UPDATE agents SET kept_work = NULL WHERE id = $1", "s", agent_id);
	return rc == ERR_EMPTY ? OK : rc;
}

/* [{branch, commit?}] of those that were pushed; NULL: it does not list them. */
static json_t *read_branches(const json_t *result)
{
	const json_t *given = json_object_get(result, "branches"), *b;
	json_t *list;
	size_t i;

	if (!json_is_array(given))
		return NULL;
	list = json_array();
	json_array_foreach((json_t *)given, i, b)
	{
		const char *branch = json_string_value(json_object_get(b, "branch"));
		const char *commit = json_string_value(json_object_get(b, "commit"));
		json_t *o;

		if (branch == NULL || !text_is_git_ref(branch) || !json_is_true(json_object_get(b, "pushed")) ||
		    json_array_size(list) >= BRANCHES_MAX)
			continue;
		o = json_pack("{s:s}", "branch", branch);
		if (commit != NULL && is_commit_id(commit))
			json_put(o, "commit", commit);
		json_array_append_new(list, o);
	}
	return list;
}

static int store_branches(struct loop *l, const struct call *c)
{
	const char *branch = json_string_value(json_object_get(c->result, "branch"));
	AUTO_JSON list = read_branches(c->result);
	AUTO_STR text = json_array_size(list) > 0 ? json_text(list) : NULL;
	bool pushed = json_is_true(json_object_get(c->result, "pushed")) && branch != NULL && text_is_git_ref(branch);

	if (!pushed && text == NULL)
		return OK;
	if (!pushed)
		branch = json_string_value(json_object_get(json_array_get(list, 0), "branch"));
	return tx_exec(l->tx,
	    "UPDATE agents SET pushed_branch = $2, pushed_branches = $4, updated_at = $3 WHERE id = $1", "ssis",
	    l->run->agent->id, branch, clock_wall_ms(), text);
}

/* [{path, reason}] under that name. */
static json_t *read_files(const json_t *result, const char *key)
{
	const json_t *given = json_object_get(result, key), *f;
	json_t *list = json_array();
	size_t i;

	if (json_is_array(given))
		json_array_foreach((json_t *)given, i, f)
		{
			AUTO_STR path = line_in(f, "path", LINE_MAX_BYTES);
			AUTO_STR reason = line_in(f, "reason", LINE_MAX_BYTES);

			if (path[0] != '\0' && json_array_size(list) < FILES_MAX)
				json_array_append_new(list, json_pack("{s:s, s:s}", "path", path, "reason", reason));
		}
	return list;
}

static json_t *read_warnings(const json_t *result)
{
	const json_t *given = json_object_get(result, "warnings"), *w;
	json_t *list = json_array();
	size_t i;

	if (json_is_array(given))
		json_array_foreach((json_t *)given, i, w)
		{
			AUTO_STR line = text_line(json_string_value(w), LINE_MAX_BYTES);

			if (line[0] != '\0' && json_array_size(list) < WARNINGS_MAX)
				json_array_append_new(list, json_string(line));
		}
	return list;
}

static int tell_rest(struct log *log, const struct call *c, const json_t *list, const char *what)
{
	size_t n = json_array_size(list);
	AUTO_STR text = NULL;

	if (n <= LINES_MAX)
		return OK;
	text = str_printf("and %zu more %s (they are in the run's detail)", n - LINES_MAX, what);
	return log_line(log, c->id, text);
}

static int tell_files(struct log *log, const struct call *c, const json_t *files, const char *what)
{
	int rc = OK;

	for (size_t i = 0; rc == OK && i < MIN(json_array_size(files), (size_t)LINES_MAX); i++) {
		const json_t *f = json_array_get(files, i);
		const char *reason = json_string_value(json_object_get(f, "reason"));
		AUTO_STR text = str_printf("%s: %s%s%s", what, json_string_value(json_object_get(f, "path")),
		    reason[0] != '\0' ? ": " : "", reason);

		rc = log_line(log, c->id, text);
	}
	return rc != OK ? rc : tell_rest(log, c, files, "files");
}

static int tell_warnings(struct log *log, const struct call *c, const json_t *warnings)
{
	int rc = OK;

	for (size_t i = 0; rc == OK && i < MIN(json_array_size(warnings), (size_t)LINES_MAX); i++) {
		AUTO_STR text = str_printf("warning: %s", json_string_value(json_array_get(warnings, i)));

		rc = log_line(log, c->id, text);
	}
	return rc != OK ? rc : tell_rest(log, c, warnings, "warnings");
}

static int store_publication(struct loop *l, const struct call *c)
{
	AUTO_JSON files = read_files(c->result, "notPublished");
	AUTO_JSON not_uploaded = read_files(c->result, "notUploaded");
	AUTO_JSON warnings = read_warnings(c->result);
	AUTO_JSON resources = read_resources(c->result);
	AUTO_JSON both = json_pack("{s:O, s:O}", "notPublished", files, "warnings", warnings);
	bool any = json_array_size(files) > 0 || json_array_size(warnings) > 0;
	AUTO_STR text = any ? json_text(both) : NULL;
	AUTO_STR used = resources != NULL ? json_text(resources) : NULL;
	AUTO_STR left = json_array_size(not_uploaded) > 0 ? json_text(not_uploaded) : NULL;
	int rc = OK;

	if (left != NULL)
		rc = tx_exec(
		    l->tx, "UPDATE run_sessions SET not_uploaded = $2 WHERE run_id = $1", "ss", l->run->info->id, left);
	if (rc == OK && (text != NULL || used != NULL))
		rc = tx_exec(l->tx,
		    "UPDATE run_sessions SET publication = COALESCE($2, publication), resources = COALESCE($3, "
		    "resources)"
		    " WHERE run_id = $1",
		    "sss", l->run->info->id, text, used);
	if (rc == OK)
		rc = tell_files(&l->log, c, files, "not published");
	if (rc == OK)
		rc = tell_files(&l->log, c, not_uploaded, "not uploaded");
	return rc != OK ? rc : tell_warnings(&l->log, c, warnings);
}

int publication_take(struct loop *l, struct call *c)
{
	const struct run *r = l->run;
	__attribute__((cleanup(worker_names_fini))) struct worker_names names = {0};
	int rc = worker_names_load(l->tx, r->agent->team_id, r->worker_id, &names);

	if (rc == OK && strcmp(c->outcome, "success") == 0)
		rc = store_branches(l, c);
	if (rc == OK)
		rc = store_kept(l->tx, r->agent->id, r->worker_id, &names, c->result);
	return rc != OK ? rc : store_publication(l, c);
}

int publication_tell_kept(struct loop *l, const struct call *c)
{
	const struct run *r = l->run;
	const json_t *kept = r->agent->kept_work;
	AUTO_STR label = NULL;
	AUTO_STR text = NULL;

	if (kept == NULL || strcmp(json_word(kept, "workerId"), r->worker_id) == 0)
		return OK;
	label = worker_label(json_word(kept, "workerName"), json_word(kept, "workerId"), json_word(kept, "host"));
	text = str_printf("unpublished work of this agent is on worker %s, ref %s, commit %s", label,
	    json_word(kept, "ref"), json_word(kept, "commit"));
	return log_line(&l->log, c->id, text);
}

int runs_session_closed(
    struct tx *tx, int64_t team_id, const char *worker_id, const char *agent_id, const char *result_text)
{
	__attribute__((cleanup(worker_names_fini))) struct worker_names names = {0};
	AUTO_JSON result = NULL;
	AUTO_JSON resources = NULL;
	AUTO_STR used = NULL;
	int rc;

	if (json_parse(result_text, strlen(result_text), &result, NULL) != OK || !json_is_object(result))
		return OK; /* of a worker that says nothing */
	resources = read_resources(result);
	used = resources != NULL ? json_text(resources) : NULL;
	rc = worker_names_load(tx, team_id, worker_id, &names);
	if (rc == OK)
		rc = store_kept(tx, agent_id, worker_id, &names, result);
	/* The agent's last run, if it was here. */
	if (rc == OK && used != NULL)
		rc = tx_exec(tx,
		    "UPDATE run_sessions SET resources = $3 WHERE worker_id = $2 AND run_id = (SELECT latest_run_id "
		    "FROM"
		    " agents WHERE id = $1)",
		    "sss", agent_id, worker_id, used);
	return rc;
}

static json_t *worker_json(const char *id, const char *name, const char *host)
{
	json_t *o = json_object();

	json_put(o, "id", id);
	json_put(o, "name", name);
	json_put(o, "host", host);
	return o;
}

/* Of a session that is not open yet: the worker that the run is bound to. */
static int put_bound_worker(struct tx *tx, const struct run_info *r, json_t *run)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT q.worker_id, COALESCE(e.name, ''), COALESCE(e.host, '') FROM requests q LEFT JOIN worker_epochs e"
	    " ON e.team_id = q.team_id AND e.worker_id = q.worker_id WHERE q.agent_id = $1 AND q.run_id = $2"
	    " AND q.worker_id IS NOT NULL",
	    "ss", r->agent_id, r->id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		json_put_new(run, "worker", worker_json(query_str(q, 0), query_str(q, 1), query_str(q, 2)));
	return rc == ERR_EMPTY ? OK : rc;
}

static json_t *stored_object(const char *text)
{
	json_t *j = NULL;

	if (text != NULL && json_parse(text, strlen(text), &j, NULL) == OK && !json_is_object(j))
		json_drop(&j);
	return j;
}

static json_t *stored_list(const char *text)
{
	json_t *j = NULL;

	if (text != NULL && json_parse(text, strlen(text), &j, NULL) == OK && !json_is_array(j))
		json_drop(&j);
	return j;
}

static void put_list(json_t *run, const char *key, const json_t *publication)
{
	json_t *list = json_object_get(publication, key);

	if (json_array_size(list) > 0)
		json_object_set(run, key, list);
}

static int put_session(struct tx *tx, const struct run_info *r, json_t *run)
{
	AUTO(query) q = NULL;
	AUTO_JSON publication = NULL;
	AUTO_JSON not_uploaded = NULL;
	json_t *resources;
	int rc = tx_query(tx, &q,
	    "SELECT worker_id, worker_name, worker_host, resources, publication, not_uploaded FROM run_sessions WHERE"
	    " run_id = $1",
	    "s", r->id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	if (!query_is_null(q, 0))
		json_put_new(run, "worker", worker_json(query_str(q, 0), query_str(q, 1), query_str(q, 2)));
	resources = stored_object(query_text(q, 3));
	if (resources != NULL)
		json_put_new(run, "resources", resources);
	publication = stored_object(query_text(q, 4));
	put_list(run, "notPublished", publication);
	put_list(run, "warnings", publication);
	not_uploaded = stored_list(query_text(q, 5));
	if (json_array_size(not_uploaded) > 0)
		json_object_set(run, "notUploaded", not_uploaded);
	return OK;
}

int run_put_details(struct tx *tx, const struct agent *a, const struct run_info *r, json_t *run)
{
	AUTO_JSON attempts = NULL;
	int rc = attempts_json(tx, r->id, &attempts);

	if (rc == OK && json_array_size(attempts) > 0)
		json_object_set(run, "attempts", attempts);
	if (rc == OK)
		rc = put_session(tx, r, run);
	if (rc == ERR_EMPTY)
		rc = put_bound_worker(tx, r, run);
	if (rc == OK && a->kept_work != NULL)
		json_object_set(run, "keptWork", a->kept_work);
	return rc;
}
