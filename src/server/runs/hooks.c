#include "server/runs/hooks.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/hooks/team.h"
#include "server/runs/context.h"
#include <string.h>

#define TRIES 3
#define FOLLOWUPS_MAX 100
#define FAULT_CODE "hooks_failed"

bool hooks_listen(const struct loop *l, const char *event)
{
	const json_t *events = json_object_get(l->run->session_info, "hookEvents"), *e;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)events, i, e)
	{
		if (json_is_string(e) && strcmp(json_string_value(e), event) == 0)
			return true;
	}
	return false;
}

int hooks_load_email(struct tx *tx, const struct agent *a, char **ret)
{
	int64_t id;
	int rc;

	*ret = NULL;
	if (!text_has_prefix(a->owner, "user:") || text_parse_int(a->owner + 5, 1, INT64_MAX, &id) != OK)
		return OK;
	rc = tx_query_text(tx, ret, "SELECT email FROM users WHERE id = $1", "i", id);
	return rc == ERR_EMPTY ? OK : rc;
}

/* The repositories of the request as sessionStart is told. */
static json_t *repos_of(const struct agent *a)
{
	json_t *list = json_array(), *repo;
	size_t i;

	json_array_foreach(a->repos, i, repo)
	{
		const char *url = json_string_value(json_object_get(repo, "url"));
		const char *ref = json_string_value(json_object_get(repo, "startingRef"));
		json_t *o = json_object();

		json_put(o, "repo_url", url != NULL ? url : "");
		json_put_bool(o, "primary", i == 0);
		if (ref != NULL && ref[0] != '\0')
			json_put(o, "ref", ref);
		json_array_append_new(list, o);
	}
	return list;
}

/* There was a session of this claim, so a worker that fires sessionStart is a new process. */
static bool is_resumed(const struct loop *l)
{
	const struct run *r = l->run;
	AUTO(tx) tx = NULL;
	int64_t n = 0;

	if (r->info->started_at != 0)
		return true;
	if (tx_begin(r->runs->cfg.store, TX_READ, &tx) != OK ||
	    tx_query_int(tx, &n,
		"SELECT COUNT(*) FROM runs r JOIN claims c ON c.agent_id = r.agent_id"
		" WHERE r.agent_id = $1 AND r.id <> $2 AND r.started_at >= c.created_at",
		"ss", r->agent->id, r->info->id) != OK)
		return false;
	return n > 0;
}

static void put_opening(const struct loop *l, json_t *facts)
{
	const struct run *r = l->run;

	json_put(facts, "composerMode", strcmp(l->mode, "plan") == 0 ? "plan" : "agent");
	json_put_new(facts, "repos", repos_of(r->agent));
	if (is_resumed(l))
		json_put_bool(facts, "resumed", true);
	if (r->team_hooks != NULL)
		json_put_new(facts, "teamHooks", team_hooks_facts(r->team_hooks, r->team_hooks_whole));
}

static json_t *text_params(const json_t *params)
{
	json_t *list = json_array(), *p;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)params, i, p)
	{
		if (json_is_string(json_object_get(p, "id")) && json_is_string(json_object_get(p, "value")))
			json_array_append(list, p);
	}
	return list;
}

static void put_news(const struct loop *l, struct call *c, json_t *facts)
{
	json_t *news = hooks_news(l, &c->told_upto);

	if (news != NULL)
		json_put_new(facts, "transcript", news);
}

char *hooks_facts(const struct loop *l, struct call *c)
{
	const struct run *r = l->run;
	AUTO_JSON facts = NULL;
	AUTO_JSON model = NULL;
	json_t *id, *params;

	if (c->kind != CALL_OPEN_SESSION && json_array_size(json_object_get(r->session_info, "hookEvents")) == 0)
		return NULL;
	facts = json_object();
	IGNORE(json_parse(l->model_text, strlen(l->model_text), &model, NULL));
	id = json_object_get(model, "id");
	params = json_object_get(model, "params");
	json_put(facts, "conversationId", l->depth == 0 ? r->agent->id : l->id);
	json_put(facts, "generationId", r->info->id);
	if (json_is_string(id)) {
		json_object_set(facts, "model", id);
		json_object_set(facts, "modelId", id);
	}
	if (json_array_size(params) > 0)
		json_put_new(facts, "modelParams", text_params(params));
	json_put(facts, "userEmail", r->user_email);
	if (c->kind == CALL_TOOL)
		json_put(facts, "agentMessage", l->said);
	if (c->kind == CALL_OPEN_SESSION)
		put_opening(l, facts);
	else
		put_news(l, c, facts);
	return json_text(facts);
}

/* A row from before. ERR_EMPTY: there is none. */
static int find_row(struct loop *l, struct call *c)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(
		    tx, &q, "SELECT state, outcome, result, incarnation FROM tool_calls WHERE id = $1", "s", c->id);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	c->taken_over = true;
	c->done = strcmp(query_str(q, 0), "done") == 0;
	c->incarnation = strtoull(query_str(q, 3), NULL, 16);
	if (c->done) {
		const char *text = query_str(q, 2);

		c->outcome = strcmp(query_str(q, 1), "success") == 0 ? "success" : "error";
		IGNORE(json_parse(text, strlen(text), &c->result, NULL));
	}
	return OK;
}

static int write_row(struct loop *l, struct call *c)
{
	int rc;

	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = call_write_down(l, c);
	} while (loop_end_write(l, &rc));
	return rc;
}

static int perform_once(struct loop *l, const char *key, int attempt, const char *event, json_t *args, struct call *c)
{
	AUTO_STR about = str_printf("%s %s %d", key, event, attempt);
	char hex[SHA256_HEX_LEN];
	int rc;

	sha256_hex(about, strlen(about), hex);
	c->kind = CALL_RUN_HOOKS;
	c->executor = &executor_worker;
	c->step = -2;
	c->id = str_printf("hook-%.32s", hex);
	c->name = str_dup(event);
	c->args = json_incref(args);
	rc = find_row(l, c);
	if (rc == ERR_EMPTY)
		rc = write_row(l, c);
	return rc == OK && !c->done ? calls_perform(l, c, 1) : rc;
}

static bool was_cut_off(const struct call *c)
{
	const char *code = json_string_value(json_object_get(c->result, "code"));

	return code != NULL && (strcmp(code, "interrupted") == 0 || strcmp(code, "cancelled") == 0);
}

static int log_faults(struct loop *l, const struct call *c)
{
	json_t *faults = json_object_get(c->result, "faults"), *fault;
	size_t i;
	int rc;

	if (json_array_size(faults) == 0)
		return OK;
	do {
		rc = loop_begin_write(l);
		json_array_foreach(faults, i, fault)
		{
			if (rc == OK && json_is_string(fault))
				rc = log_line(&l->log, c->id, json_string_value(fault));
		}
	} while (loop_end_write(l, &rc));
	return rc;
}

int hooks_perform(
    struct loop *l, const char *key, const char *event, const char *subject, json_t *payload, json_t **ret)
{
	AUTO_JSON args = NULL;
	int rc = OK;

	*ret = NULL;
	if (!hooks_listen(l, event)) {
		json_decref(payload);
		return OK;
	}
	args = json_object();
	json_put(args, "event", event);
	json_put(args, "subject", subject);
	json_put_new(args, "payload", payload);
	for (int i = 0; i < TRIES && rc == OK && *ret == NULL; i++) {
		__attribute__((cleanup(call_fini))) struct call c = {0};

		rc = perform_once(l, key, i, event, args, &c);
		if (rc != OK || was_cut_off(&c))
			continue;
		if (strcmp(c.outcome, "success") == 0 && json_is_object(c.result)) {
			rc = log_faults(l, &c);
			*ret = json_incref(c.result);
			continue;
		}
		/* A gate whose keeper does not answer stays shut. */
		*ret = json_pack("{s:s, s:s, s:s, s:s}", "permission", "deny", "message",
		    "the hooks of this workspace could not be run", "userMessage",
		    "the hooks of this workspace could not be run", "code", FAULT_CODE);
	}
	if (rc == OK && *ret == NULL)
		*ret = json_pack("{s:s, s:s, s:s, s:s}", "permission", "deny", "message",
		    "the worker was interrupted while it ran hooks", "userMessage",
		    "the worker was interrupted while it ran hooks", "code", FAULT_CODE);
	return rc;
}

bool hooks_refuse(const json_t *answer)
{
	const char *word = hooks_word(answer, "permission");

	return word != NULL && strcmp(word, "deny") == 0;
}

const char *hooks_word(const json_t *answer, const char *key)
{
	return json_string_value(json_object_get(answer, key));
}

/* Rules that the model has been given with the prompt. Images of a prompt are no files. */
static json_t *attachments_of(const struct loop *l)
{
	static const char *const lists[] = {"agentsMd", "rules"};
	const json_t *roots = json_object_get(l->run->session_info, "workspaceRoots");
	const char *root = json_string_value(json_array_get(roots, 0));
	json_t *attachments = json_array(), *item;
	size_t k;

	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		json_array_foreach(json_object_get(l->run->session_info, lists[i]), k, item)
		{
			bool given = i == 0 || json_is_true(json_object_get(item, "alwaysApply"));
			const char *word = given ? hooks_word(item, "path") : NULL;
			AUTO_STR path = word == NULL	 ? NULL
					: word[0] == '/' ? str_dup(word)
							 : str_printf("%s/%s", root != NULL ? root : "", word);

			if (path != NULL)
				json_array_append_new(
				    attachments, json_pack("{s:s, s:s}", "type", "rule", "file_path", path));
		}
	return attachments;
}

static int load_prompt(struct loop *l, char **ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query_text(tx, ret, "SELECT prompt FROM loop_texts WHERE loop_id = $1", "s", l->id);
	return rc;
}

int hooks_before_prompt(struct loop *l)
{
	AUTO_STR prompt = NULL;
	AUTO_JSON answer = NULL;
	int rc;

	if (!hooks_listen(l, "beforeSubmitPrompt"))
		return OK;
	rc = load_prompt(l, &prompt);
	if (rc == ERR_EMPTY)
		return OK;
	if (rc == OK)
		rc = hooks_perform(l, l->id, "beforeSubmitPrompt", "UserPromptSubmit",
		    json_pack("{s:s, s:o}", "prompt", prompt, "attachments", attachments_of(l)), &answer);
	if (rc != OK || !hooks_refuse(answer))
		return rc;
	return loop_fail(l, "prompt_blocked", "%s", hooks_word(answer, "userMessage"));
}

int hooks_after_response(struct loop *l, int64_t step, const char *thinking, const char *text)
{
	AUTO_STR key = str_printf("%s %lld", l->id, (long long)step);
	AUTO_JSON thought = NULL;
	AUTO_JSON answer = NULL;
	int rc = OK;

	if (thinking != NULL && !text_is_blank(thinking))
		rc = hooks_perform(
		    l, key, "afterAgentThought", "AgentThought", json_pack("{s:s}", "text", thinking), &thought);
	if (rc == OK && text != NULL && !text_is_blank(text))
		rc = hooks_perform(
		    l, key, "afterAgentResponse", "AgentResponse", json_pack("{s:s}", "text", text), &answer);
	return rc;
}

int hook_messages_load(struct tx *tx, const char *loop_id, json_t **ret)
{
	AUTO(query) q = NULL;
	AUTO_JSON list = json_array();
	int rc =
	    tx_query(tx, &q, "SELECT step, text FROM hook_messages WHERE loop_id = $1 ORDER BY step", "s", loop_id);

	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(
		    list, json_pack("{s:I, s:s}", "step", (json_int_t)query_int(q, 0), "text", query_str(q, 1)));
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(list);
	return OK;
}

static int count_followups(struct loop *l, int64_t *ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	return rc != OK ? rc
			: tx_query_int(tx, ret,
			      "SELECT COUNT(*) FROM hook_messages WHERE loop_id = $1 AND origin = 'hook'", "s", l->id);
}

static int store_followup(struct loop *l, int64_t step, const char *text)
{
	json_t *update;
	int rc;

	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = tx_exec(l->tx,
			    "INSERT INTO hook_messages(loop_id, step, text, created_at) VALUES($1, $2, $3, $4)"
			    " ON CONFLICT DO NOTHING",
			    "sisi", l->id, step, text, clock_wall_ms());
		update = json_pack("{s:s, s:{s:s, s:s, s:s, s:s}}", "type", "user-message-appended", "userMessage",
		    "type", "user_message", "session_id", l->run->info->id, "text", text, "origin", "hook");
		if (rc == OK)
			rc = log_update(&l->log, update);
		else
			json_decref(update);
	} while (loop_end_write(l, &rc));
	return rc;
}

static int count_rows(struct loop *l, const char *sql, int64_t *ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	return rc != OK ? rc : tx_query_int(tx, ret, sql, "s", l->id);
}

/* Which files its calls wrote, as they were named. */
static int load_modified(struct loop *l, json_t **ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	AUTO_JSON seen = json_object();
	json_t *list = json_array();
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT result FROM tool_calls WHERE loop_id = $1 AND kind = 'tool' AND outcome = 'success'"
		    " AND name IN ('write_file', 'edit_file', 'delete_file') ORDER BY step, idx",
		    "s", l->id);
	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_JSON result = NULL;
		const char *text = query_str(q, 0), *path;

		IGNORE(json_parse(text, strlen(text), &result, NULL));
		path = hooks_word(result, "path");
		if (path == NULL || json_object_get(seen, path) != NULL)
			continue;
		json_object_set_new(seen, path, json_true());
		json_array_append_new(list, json_string(path));
	}
	*ret = list;
	return rc == ERR_EMPTY ? OK : rc;
}

static int subagent_payload(struct loop *l, const char *status, const char *text, int64_t count, json_t **ret)
{
	int64_t messages = 0, calls = 0;
	json_t *files = NULL;
	int rc = count_rows(l, "SELECT COUNT(*) FROM steps WHERE loop_id = $1", &messages);

	if (rc == OK)
		rc = count_rows(l, "SELECT COUNT(*) FROM tool_calls WHERE loop_id = $1 AND kind = 'tool'", &calls);
	if (rc == OK)
		rc = load_modified(l, &files);
	if (rc != OK)
		return rc;
	*ret = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:n}", "subagent_type",
	    l->subagent_type != NULL ? l->subagent_type : "", "status", status, "task",
	    l->subagent_task != NULL ? l->subagent_task : "", "description",
	    l->subagent_description != NULL ? l->subagent_description : "", "summary", text != NULL ? text : "",
	    "duration_ms", (json_int_t)MAX(clock_wall_ms() - l->created_at, 0), "message_count",
	    (json_int_t)messages + 1, "tool_call_count", (json_int_t)calls, "loop_count", (json_int_t)count,
	    "modified_files", files, "agent_transcript_path");
	return OK;
}

int hooks_stop(struct loop *l, int64_t step, const char *text, char **ret)
{
	const char *event = l->depth == 0 ? "stop" : "subagentStop";
	const char *status = l->fail_code != NULL ? "error" : "completed", *followup;
	AUTO_JSON answer = NULL;
	AUTO_STR key = NULL;
	json_t *payload = NULL;
	int64_t count = 0;
	int rc = OK;

	*ret = NULL;
	if (!hooks_listen(l, event))
		return OK;
	rc = count_followups(l, &count);
	if (rc == OK && l->depth == 0)
		payload = json_pack("{s:s, s:I}", "status", status, "loop_count", (json_int_t)count);
	else if (rc == OK)
		rc = subagent_payload(l, status, text, count, &payload);
	key = str_printf("%s %lld", l->id, (long long)count);
	if (rc == OK)
		rc = hooks_perform(l, key, event, l->depth == 0 ? "Stop" : l->subagent_type, payload, &answer);
	followup = hooks_word(answer, "followupMessage");
	if (rc != OK || followup == NULL || text_is_blank(followup) || (l->depth > 0 && l->fail_code != NULL))
		return rc;
	if (count >= FOLLOWUPS_MAX) {
		log_warn("run.hooks.followups", "run=%s loop=%s limit=%d", l->run->info->id, l->id, FOLLOWUPS_MAX);
		return OK;
	}
	rc = store_followup(l, step, followup);
	if (rc == OK)
		*ret = str_dup(followup);
	return rc;
}

/* Calls of a run that is over are not sent any more: this one is nobody's. */
static void tell(struct loop *l, const char *id, const json_t *args)
{
	const struct run *r = l->run;
	AUTO_STR text = json_text(args);
	AUTO_STR facts = hooks_facts(l, &(struct call){.kind = CALL_RUN_HOOKS});

	fleet_call(r->runs->fleet, r->agent->team_id, r->worker_id,
	    &(struct fleet_call){.kind = CALL_RUN_HOOKS,
		.call_id = id,
		.agent_id = r->agent->id,
		.run_id = "",
		.claim_id = r->claim_id,
		.incarnation = r->incarnation,
		.name = "",
		.arguments_json = text,
		.env_json = r->env_json,
		.hook_json = facts});
}

void hooks_tell_aborted(struct loop *l)
{
	AUTO_STR id = str_printf("hook-%s.stop", l->run->info->id);
	AUTO_JSON args = NULL;
	int64_t count = 0;

	if (!hooks_listen(l, "stop") || count_followups(l, &count) != OK)
		return;
	args = json_pack("{s:s, s:s, s:{s:s, s:I}}", "event", "stop", "subject", "Stop", "payload", "status", "aborted",
	    "loop_count", (json_int_t)count);
	tell(l, id, args);
}

void hooks_tell_end(struct loop *l, const char *status)
{
	AUTO_STR id = str_printf("hook-%s.end", l->run->info->id);
	AUTO_JSON args = json_pack("{s:s, s:s}", "event", "", "runStatus", status);

	if (hooks_listen(l, "sessionEnd"))
		tell(l, id, args);
}

int hooks_before_compaction(struct loop *l, int64_t step, const struct context *c, size_t cut)
{
	AUTO_STR key = NULL;
	AUTO_JSON answer = NULL;
	int64_t window = l->model->context_window, tokens = context_tokens(c, l->fixed_bytes);
	json_int_t percent = window > 0 ? (json_int_t)MIN(tokens * 100 / window, 100) : 100;
	const char *said;
	int rc;

	if (!hooks_listen(l, "preCompact"))
		return OK;
	key = str_printf("%s %lld %lld", l->id, (long long)step, (long long)c->compaction.seq);
	rc = hooks_perform(l, key, "preCompact", NULL,
	    json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "trigger", "auto", "context_usage_percent", percent,
		"context_tokens", (json_int_t)tokens, "context_window_size", (json_int_t)window, "message_count",
		(json_int_t)json_array_size(c->messages), "messages_to_compact", (json_int_t)cut, "is_first_compaction",
		c->compaction.seq == 0),
	    &answer);
	said = hooks_word(answer, "userMessage");
	if (rc != OK || said == NULL || hooks_refuse(answer))
		return rc;
	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = log_line(&l->log, l->id, said);
	} while (loop_end_write(l, &rc));
	return rc;
}
