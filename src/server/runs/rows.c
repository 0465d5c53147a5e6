/* Agents and runs as rows: loading and creating. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/fleet/queue.h"
#include "server/runs/followups.h"
#include "server/runs/runs_priv.h"
#include "server/runs/supervisor.h"
#include <string.h>

void agent_free(struct agent **ap)
{
	struct agent *a = TAKE(*ap);

	if (a == NULL)
		return;
	char *texts[] = {a->id, a->owner, a->name, a->status, a->env_type, a->env_name, a->pool, a->repo_url, a->repo,
	    a->repo_host, a->match_repo, a->starting_ref, a->branch, a->pushed_branch, a->model, a->mode,
	    a->latest_run_id, a->pull_url, a->pull_head};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		free(texts[i]);
	free(a->machine);
	labels_fini(&a->labels);
	json_decref(a->repos);
	json_decref(a->metadata);
	json_decref(a->pushed_branches);
	json_decref(a->kept_work);
	free(a);
}

void run_info_free(struct run_info **rp)
{
	struct run_info *r = TAKE(*rp);

	if (r == NULL)
		return;
	char *texts[] = {r->id, r->agent_id, r->status, r->request_id, r->result, r->error_code, r->error_message};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		free(texts[i]);
	free(r);
}

void created_fini(struct created *c)
{
	run_info_free(&c->run);
	str_free(&c->worker_id);
	claim_left_fini(&c->left);
}

bool run_status_is_terminal(const char *status)
{
	return strcmp(status, "CREATING") != 0 && strcmp(status, "RUNNING") != 0;
}

/* What comes from the disk is checked, never asserted: one row that a person or a bad disk has damaged must cost one
 * request, not the server. The line in the log names the row, because the answer to the client must not. */
static int refuse_stored(const char *table, const char *id, const char *column)
{
	log_error("store.row.damaged", "table=%s key=%s column=%s", table, log_quote(id), column);
	return ERR_INTERNAL;
}

static bool are_repos(const json_t *repos)
{
	size_t i;
	json_t *repo;

	json_array_foreach((json_t *)repos, i, repo)
	{
		if (!json_is_string(json_object_get(repo, "url")))
			return false;
	}
	return json_is_array(repos);
}

static int parse_repos(const char *text, const char *id, json_t **ret)
{
	if (json_parse(text, strlen(text), ret, NULL) == OK && are_repos(*ret))
		return OK;
	return refuse_stored("agents", id, "repos");
}

/* NULL is an agent without metadata. */
static int parse_metadata(const char *text, const char *id, json_t **ret)
{
	if (text == NULL)
		return OK;
	if (json_parse(text, strlen(text), ret, NULL) == OK && json_is_object(*ret))
		return OK;
	return refuse_stored("agents", id, "metadata");
}

/* What a worker said, and nobody needs: a damaged one costs nothing but itself. */
static json_t *read_extra(const char *text, const char *id, const char *column)
{
	json_t *j = NULL;

	if (text != NULL && json_parse(text, strlen(text), &j, NULL) != OK)
		IGNORE(refuse_stored("agents", id, column));
	return j;
}

#define AGENT_COLUMNS                                                                                                  \
	"id, team_id, owner, name, status, env_type, env_name, pool, repos, repo_url, repo, repo_host, match_repo,"    \
	" starting_ref, work_on_current_branch, skip_reviewer_request, open_as_app, metadata, model, mode, branch,"    \
	" pushed_branch, latest_run_id, run_count, created_at, updated_at, pushed_branches, kept_work, machine, "      \
	"labels, auto_create_pr, pull_url, pull_head, visibility"

/* A row of AGENT_COLUMNS. */
static int agent_from_row(struct query *q, struct agent **ret)
{
	AUTO(agent) a = NEW(struct agent);
	int rc;

	a->id = str_dup(query_str(q, 0));
	a->team_id = query_int(q, 1);
	a->owner = str_dup(query_str(q, 2));
	a->name = str_dup(query_str(q, 3));
	a->status = str_dup(query_str(q, 4));
	a->env_type = str_dup(query_str(q, 5));
	a->env_name = str_dup(query_str(q, 6));
	a->pool = str_dup(query_str(q, 7));
	a->repo_url = str_dup(query_str(q, 9));
	a->repo = str_dup(query_str(q, 10));
	a->repo_host = str_dup(query_str(q, 11));
	a->match_repo = str_dup(query_str(q, 12));
	a->starting_ref = str_dup(query_str(q, 13));
	a->work_on_current_branch = query_int(q, 14);
	a->skip_reviewer_request = query_int(q, 15);
	a->open_as_app = query_int(q, 16);
	a->model = str_dup(query_str(q, 18));
	a->mode = str_dup(query_str(q, 19));
	a->branch = str_dup(query_str(q, 20));
	a->pushed_branch = str_dup(query_text(q, 21));
	a->latest_run_id = str_dup(query_str(q, 22));
	a->run_count = query_int(q, 23);
	a->created_at = query_int(q, 24);
	a->updated_at = query_int(q, 25);
	rc = parse_repos(query_str(q, 8), a->id, &a->repos);
	if (rc == OK)
		rc = parse_metadata(query_text(q, 17), a->id, &a->metadata);
	a->pushed_branches = read_extra(query_text(q, 26), a->id, "pushed_branches");
	a->kept_work = read_extra(query_text(q, 27), a->id, "kept_work");
	a->machine = str_dup(query_text(q, 28));
	labels_parse(query_str(q, 29), &a->labels);
	a->auto_create_pr = query_int(q, 30);
	a->pull_url = str_dup(query_text(q, 31));
	a->pull_head = str_dup(query_text(q, 32));
	a->of_team = strcmp(query_str(q, 33), "team") == 0;
	if (rc == OK)
		*ret = TAKE(a);
	return rc;
}

int agent_load(struct tx *tx, const char *id, struct agent **ret)
{
	AUTO(query) q = NULL;
	int rc =
	    tx_query(tx, &q, "SELECT " AGENT_COLUMNS " FROM agents WHERE id = $1 AND status <> 'DELETED'", "s", id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		rc = agent_from_row(q, ret);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

#define AGENTS_OF(column)                                                                                              \
	"SELECT " AGENT_COLUMNS " FROM agents WHERE " column                                                           \
	" = $1 AND (created_at < $2 OR (created_at = $2 AND id < $3)) AND status <> 'DELETED' AND ($5 = 1 OR status "  \
	"<> 'ARCHIVED')"
#define WITH_PULL " AND id IN (SELECT agent_id FROM pulls WHERE url = $6)"
#define AGENTS_ORDER " ORDER BY created_at DESC, id DESC LIMIT $4"

/* Addresses are kept as the forge writes them. */
static char *pull_url_kept(const char *url)
{
	size_t n = strlen(url);

	while (n > 0 && url[n - 1] == '/')
		n--;
	return str_ndup(url, n);
}

int agents_query(
    struct tx *tx, const struct agents_filter *f, int64_t created_at, const char *id, int64_t limit, struct query **ret)
{
	AUTO_STR url = f->pull_url != NULL ? pull_url_kept(f->pull_url) : NULL;
	const int64_t archived = f->with_archived;

	if (f->owner == NULL && url != NULL)
		return tx_query(tx, ret, AGENTS_OF("team_id") WITH_PULL AGENTS_ORDER, "iisiis", f->team_id, created_at,
		    id, limit, archived, url);
	if (f->owner == NULL)
		return tx_query(
		    tx, ret, AGENTS_OF("team_id") AGENTS_ORDER, "iisii", f->team_id, created_at, id, limit, archived);
	if (url != NULL)
		return tx_query(tx, ret, AGENTS_OF("owner") WITH_PULL AGENTS_ORDER, "sisiis", f->owner, created_at, id,
		    limit, archived, url);
	return tx_query(tx, ret, AGENTS_OF("owner") AGENTS_ORDER, "sisii", f->owner, created_at, id, limit, archived);
}

int agents_next(struct query *q, struct agent **ret)
{
	int rc = query_next(q);

	return rc != OK ? rc : agent_from_row(q, ret);
}

#define RUN_COLUMNS                                                                                                    \
	"id, agent_id, status, request_id, result, error_code, error_message, number, created_at, updated_at,"         \
	" started_at, ended_at"

/* A row of RUN_COLUMNS. */
static struct run_info *run_from_row(struct query *q)
{
	struct run_info *r = NEW(struct run_info);

	r->id = str_dup(query_str(q, 0));
	r->agent_id = str_dup(query_str(q, 1));
	r->status = str_dup(query_str(q, 2));
	r->request_id = str_dup(query_str(q, 3));
	r->result = str_dup(query_text(q, 4));
	r->error_code = str_dup(query_text(q, 5));
	r->error_message = str_dup(query_text(q, 6));
	r->number = query_int(q, 7);
	r->created_at = query_int(q, 8);
	r->updated_at = query_int(q, 9);
	r->started_at = query_int(q, 10);
	r->ended_at = query_int(q, 11);
	return r;
}

int run_load(struct tx *tx, const char *id, struct run_info **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT " RUN_COLUMNS " FROM runs WHERE id = $1", "s", id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		*ret = run_from_row(q);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

int runs_query(struct tx *tx, const char *agent_id, int64_t before_number, int64_t limit, struct query **ret)
{
	return tx_query(tx, ret,
	    "SELECT " RUN_COLUMNS " FROM runs WHERE agent_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3", "sii",
	    agent_id, before_number, limit);
}

int runs_next(struct query *q, struct run_info **ret)
{
	int rc = query_next(q);

	if (rc == OK)
		*ret = run_from_row(q);
	return rc;
}

static int insert_images(struct tx *tx, const char *run_id, const json_t *images)
{
	int rc = OK;

	for (size_t i = 0; rc == OK && i < json_array_size(images); i++) {
		const json_t *image = json_array_get(images, i);

		rc = tx_exec(tx, "INSERT INTO prompt_images(loop_id, idx, mime_type, data) VALUES($1, $2, $3, $4)",
		    "siss", run_id, (int64_t)i, json_string_value(json_object_get(image, "mimeType")),
		    json_string_value(json_object_get(image, "data")));
	}
	return rc;
}

/* The run's own loop has the run's id and goes on with the agent's conversation. */
static int insert_loop(
    struct tx *tx, const struct agent *a, const char *run_id, const struct prompt *prompt, int64_t now)
{
	int rc = tx_exec(tx,
	    "INSERT INTO loops(id, run_id, conversation_id, seq, model, mode, step, step_seq, created_at)"
	    " VALUES($1, $1, $2, $3, $4, $5, 0, 0, $6)",
	    "ssissi", run_id, a->id, a->run_count, a->model, a->mode, now);

	if (rc == OK)
		rc = tx_exec(tx, "INSERT INTO loop_texts(loop_id, prompt) VALUES($1, $2)", "ss", run_id, prompt->text);
	return rc != OK ? rc : insert_images(tx, run_id, prompt->images);
}

/* ERR_CONFLICT: a run of the agent is active. The unique index decides, so that two requests at the same time cannot
 * both believe to be the only one. */
static int insert_run(
    struct tx *tx, const struct agent *a, const struct prompt *prompt, int64_t now, struct created *ret)
{
	AUTO_STR id = id_new("run-");
	AUTO_STR request_id = id_new("");
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "INSERT INTO runs(id, agent_id, number, status, request_id, created_at, updated_at, input_tokens,"
	    " output_tokens, cache_read_tokens, cache_write_tokens, owner_epoch, last_seq, last_ms, last_n)"
	    " VALUES($1, $2, $3, 'CREATING', $4, $5, $5, 0, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING",
	    "ssisi", id, a->id, a->run_count, request_id, now);

	if (rc == OK && n == 0)
		return ERR_CONFLICT;
	if (rc == OK)
		rc = insert_loop(tx, a, id, prompt, now);
	return rc != OK ? rc : run_load(tx, id, &ret->run);
}

static int rows_enqueue(struct tx *tx, const struct agent *a, int64_t now, struct created *ret)
{
	const struct request req = {.agent_id = a->id,
	    .user_id = text_has_prefix(a->owner, "user:") ? strtoll(a->owner + 5, NULL, 10) : 0,
	    .machine = a->machine,
	    .labels = &a->labels,
	    .run_id = ret->run->id,
	    .team_id = a->team_id,
	    .pool = a->pool,
	    .repo = a->match_repo,
	    .repo_host = a->match_repo[0] != '\0' ? a->repo_host : ""};
	int rc = tx_exec(tx,
	    "UPDATE agents SET status = 'ACTIVE', latest_run_id = $2, run_count = $3, mode = $4, model = $5,"
	    " updated_at = $6, kept = 2 WHERE id = $1",
	    "ssissi", a->id, ret->run->id, a->run_count, a->mode, a->model, now);

	ret->team_id = a->team_id;
	return rc != OK ? rc : queue_add(tx, &req, now, &ret->worker_id, &ret->left);
}

static int insert_agent(struct runs *r, struct tx *tx, struct agent *a, int64_t now)
{
	AUTO_STR repos = json_text(a->repos);
	AUTO_STR metadata = a->metadata != NULL ? json_text(a->metadata) : NULL;
	AUTO_STR labels = labels_text(&a->labels);
	int64_t n = 0;
	int rc = OK;

	if (a->branch != NULL)
		rc = branch_is_free(tx, a);
	else if (a->repo_url[0] == '\0')
		a->branch = str_dup("");
	else if (a->work_on_current_branch)
		a->branch = str_dup(a->starting_ref);
	else
		rc = branch_for(tx, r->cfg.branch_prefix, a, &a->branch);
	if (rc != OK)
		return rc;
	rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM deleted_agents WHERE id = $1", "s", a->id);
	if (rc != OK || n > 0)
		return rc != OK ? rc : ERR_CONFLICT;
	/* The key decides whether the id is free, not a look at it before. */
	rc = tx_change(tx, &n,
	    "INSERT INTO agents(id, team_id, owner, name, status, env_type, env_name, pool, repos, repo_url, repo, "
	    "repo_host,"
	    " match_repo, starting_ref, work_on_current_branch, skip_reviewer_request, open_as_app, metadata, model, "
	    "mode,"
	    " branch, latest_run_id, run_count, created_at, updated_at, machine, labels, auto_create_pr) VALUES($1, "
	    "$2, $3, $4, "
	    "'ACTIVE', $5, $6, $7, "
	    "$8, "
	    "$9, $10,"
	    " $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, '', 1, $21, $21, $22, $23, $24)"
	    " ON CONFLICT DO NOTHING",
	    "sisssssssssssiiissssissi", a->id, a->team_id, a->owner, a->name, a->env_type, a->env_name, a->pool, repos,
	    a->repo_url, a->repo, a->repo_host, a->match_repo, a->starting_ref, (int64_t)a->work_on_current_branch,
	    (int64_t)a->skip_reviewer_request, (int64_t)a->open_as_app, metadata, a->model, a->mode, a->branch, now,
	    a->machine, labels, (int64_t)a->auto_create_pr);
	return rc == OK && n == 0 ? ERR_CONFLICT : rc;
}

int agent_create(struct runs *r, struct tx *tx, struct agent *a, const struct prompt *prompt, struct created *ret)
{
	int64_t now = clock_wall_ms();
	int rc;

	if (a->id == NULL)
		a->id = id_new("bc-");
	a->run_count = 1;
	a->created_at = a->updated_at = now;
	str_set(&a->status, "ACTIVE");
	rc = insert_agent(r, tx, a, now);
	if (rc == OK)
		rc = insert_run(tx, a, prompt, now, ret);
	if (rc == OK)
		str_set(&a->latest_run_id, ret->run->id);
	return rc != OK ? rc : rows_enqueue(tx, a, now, ret);
}

int run_create(struct runs *r, struct tx *tx, struct agent *a, const struct prompt *prompt, const char *mode,
    const char *model, struct created *ret)
{
	int64_t waiting = 0;
	int rc = followups_count(tx, a->id, &waiting);

	if (rc == OK && waiting > 0)
		rc = ERR_CONFLICT;
	return rc != OK ? rc : run_create_next(r, tx, a, prompt, mode, model, ret);
}

int run_create_next(struct runs *r, struct tx *tx, struct agent *a, const struct prompt *prompt, const char *mode,
    const char *model, struct created *ret)
{
	int64_t now = clock_wall_ms();
	int rc;

	if (mode != NULL)
		str_set(&a->mode, mode);
	if (model != NULL)
		str_set(&a->model, model);
	a->run_count++;
	rc = insert_run(tx, a, prompt, now, ret);
	return rc != OK ? rc : rows_enqueue(tx, a, now, ret);
}

static json_t *usage_json(struct query *q)
{
	int64_t in = query_int(q, 2), out = query_int(q, 3), read = query_int(q, 4), written = query_int(q, 5);
	int64_t total = in + out + read + written;
	json_t *o = json_pack("{s:s}", "id", query_str(q, 0));

	if (total > 0)
		json_put(o, "usageUuid", query_str(q, 1));
	json_put_new(o, "usage",
	    json_pack("{s:I, s:I, s:I, s:I, s:I}", "inputTokens", (json_int_t)in, "outputTokens", (json_int_t)out,
		"cacheWriteTokens", (json_int_t)written, "cacheReadTokens", (json_int_t)read, "totalTokens",
		(json_int_t)total));
	return o;
}

int runs_usage(struct tx *tx, const char *agent_id, const char *run_id, json_t **ret)
{
	AUTO(query) q = NULL;
	AUTO_JSON list = json_array();
	int rc = tx_query(tx, &q,
	    "SELECT id, request_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens FROM runs"
	    " WHERE agent_id = $1 AND ($2 = '' OR id = $2) ORDER BY number DESC",
	    "ss", agent_id, run_id != NULL ? run_id : "");

	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(list, usage_json(q));
	if (rc == ERR_EMPTY)
		*ret = TAKE(list);
	return rc == ERR_EMPTY ? OK : rc;
}

void runs_created(struct runs *r, const struct created *c)
{
	if (c->left.claim_id != NULL)
		notify_send(r->cfg.notify, &(struct note){.kind = NOTE_CLAIM_ENDED,
					       .team_id = c->left.team_id,
					       .worker_id = c->left.worker_id,
					       .agent_id = c->left.agent_id,
					       .claim_id = c->left.claim_id});
	if (c->worker_id != NULL) {
		scheduler_count_match(c->run->created_at, clock_wall_ms());
		supervisor_drive(r->supervisor, c->run->id);
	}
	if (c->worker_id == NULL)
		notify_send(r->cfg.notify,
		    &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = c->team_id, .agent_id = c->run->agent_id});
}
