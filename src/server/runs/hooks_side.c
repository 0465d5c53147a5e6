/* Hooks around what the control plane performs itself, on the thread beside the loop. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/result.h"
#include "server/runs/hooks.h"
#include "server/runs/remote_side.h"
#include "server/runs/tools.h"
#include <string.h>

#define TOLD_MAX ((size_t)512 * 1024)
#define NOTE                                                                                                           \
	"This is a rule of the people who run this workspace. Do not look for another way to the same end: say what "  \
	"was blocked, and go on with what is allowed."

/* The calls of hooks are the parent's, but their answers come to the job's inbox. */
static struct loop side_loop(struct side_job *j)
{
	const struct loop *p = j->parent;

	return (struct loop){.run = p->run,
	    .depth = p->depth + 1,
	    .thread = pthread_self(),
	    .id = p->id,
	    .conversation_id = p->conversation_id,
	    .parent_call_id = p->parent_call_id,
	    .mode = p->mode,
	    .model_text = p->model_text,
	    .tools = p->tools,
	    .inbox = j->inbox,
	    .stop = &j->stop};
}

/* The job's thread is about to end without a word about the call: a later one goes on. */
static bool leave(struct side_job *j, int rc)
{
	if (rc == OK)
		return false;
	if (run_is_left(rc) || store_is_unavailable(rc))
		j->left = true;
	else
		side_job_fail(j, "internal", err_text(rc));
	return true;
}

static void reject(struct side_job *j, const json_t *answer)
{
	const char *message = hooks_word(answer, "message"), *user = hooks_word(answer, "userMessage");
	AUTO_STR text =
	    str_printf("Rejected (hook_denied): %s\n%s", message != NULL ? message : "a hook refused it", NOTE);

	side_job_reject(j, "hook_denied", user != NULL ? user : "a hook refused it", text);
}

static const char *type_of(const char *name)
{
	static const char *const types[][2] = {{"task", "Task"}, {"todo_write", "TodoWrite"},
	    {"web_search", "WebSearch"}, {"web_fetch", "WebFetch"}, {"codebase_search", "SemanticSearch"}};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcasecmp(types[i][0], name) == 0)
			return types[i][1];
	return name;
}

static bool is_mcp(const struct side_job *j)
{
	return strcmp(j->call->name, "mcp") == 0;
}

/* What matchers look at: as the worker has it for its own tools. malloc'ed. */
static char *subject_of(const struct side_job *j)
{
	const char *name = hooks_word(j->args, "toolName");

	return is_mcp(j) ? str_printf("MCP:%s", name != NULL ? name : "") : str_dup(type_of(j->call->name));
}

static json_t *task_input(const json_t *args)
{
	static const char *const names[][2] = {{"description", "description"}, {"prompt", "prompt"},
	    {"subagent_type", "subagent_type"}, {"subagentType", "subagent_type"}, {"model", "model"}};
	json_t *input = json_object();

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (json_object_get(args, names[i][0]) != NULL)
			json_object_set(input, names[i][1], json_object_get(args, names[i][0]));
	return input;
}

static json_t *input_of(const struct side_job *j)
{
	const json_t *inner = json_object_get(j->args, "args");

	if (is_mcp(j))
		return json_is_object(inner) ? json_incref((json_t *)(uintptr_t)inner) : json_object();
	if (strcasecmp(j->call->name, "task") == 0)
		return task_input(j->args);
	return json_incref((json_t *)(uintptr_t)j->args);
}

static json_t *about_tool(const struct side_job *j, const char *type)
{
	const json_t *root = json_array_get(json_object_get(j->parent->run->session_info, "workspaceRoots"), 0);
	json_t *p = json_object();

	json_put(p, "tool_name", type);
	json_put_new(p, "tool_input", input_of(j));
	json_put(p, "tool_use_id", j->call_id);
	json_put(p, "cwd", json_is_string(root) ? json_string_value(root) : "");
	return p;
}

static json_t *about_mcp(const struct side_job *j)
{
	AUTO_JSON input = input_of(j);
	AUTO_STR text = json_text(input);
	const char *server = hooks_word(j->args, "providerIdentifier");
	AUTO_STR url = remote_side_url(j->parent->run->remote, server);
	json_t *p = json_object();

	json_put(p, "tool_name", hooks_word(j->args, "toolName"));
	json_put(p, "tool_input", text);
	json_put(p, "server_name", server != NULL ? server : "");
	if (url != NULL)
		json_put(p, "url", url);
	return p;
}

/* A hook's input in the place of the model's; what it does not show stays. */
static void take_input(struct side_job *j, json_t *input)
{
	json_t *args;

	if (!json_is_object(input))
		return;
	args = json_copy((json_t *)(uintptr_t)j->args);
	if (is_mcp(j))
		json_object_set(args, "args", input);
	else if (strcasecmp(j->call->name, "task") == 0)
		json_object_update(args, input);
	else {
		json_decref(args);
		args = json_incref(input);
	}
	j->changed_args = args;
	j->args = args;
}

bool hooks_before_job(struct side_job *j)
{
	struct loop l = side_loop(j);
	AUTO_STR type = subject_of(j);
	AUTO_JSON pre = NULL;
	AUTO_JSON gate = NULL;
	json_t *p;
	int rc;

	j->began_ms = clock_mono_ms();
	if (!hooks_listen(&l, "preToolUse") && !hooks_listen(&l, "beforeMCPExecution"))
		return true;
	p = about_tool(j, type);
	json_put(p, "agent_message", j->parent->said != NULL ? j->parent->said : "");
	rc = hooks_perform(&l, j->call_id, "preToolUse", type, p, &pre);
	if (leave(j, rc))
		return false;
	if (hooks_refuse(pre)) {
		reject(j, pre);
		return false;
	}
	take_input(j, json_object_get(pre, "updatedInput"));
	if (!is_mcp(j))
		return true;
	rc = hooks_perform(&l, j->call_id, "beforeMCPExecution", type, about_mcp(j), &gate);
	if (leave(j, rc))
		return false;
	if (hooks_refuse(gate))
		reject(j, gate);
	return !hooks_refuse(gate);
}

static void add_context(struct side_job *j, const json_t *answer)
{
	const char *context = hooks_word(answer, "additionalContext");
	char *both;

	if (context == NULL || hooks_refuse(answer))
		return;
	both = str_printf("%s\n\n%s", j->model_text, context);
	free(j->model_text);
	j->model_text = both;
}

static void take_output(struct side_job *j, const json_t *answer)
{
	const json_t *output = json_object_get(answer, "updatedMcpToolOutput");

	if (!is_mcp(j) || !json_is_object(output))
		return;
	free(j->model_text);
	j->model_text = mcp_output_text(output);
	json_object_del(j->result, MCP_SEEN_IMAGES);
}

static int after_failure(struct side_job *j, struct loop *l, const char *type)
{
	const char *message = hooks_word(j->result, "message"), *code = hooks_word(j->result, "code");
	AUTO_JSON answer = NULL;
	json_t *p = about_tool(j, type);
	bool late = code != NULL && strcmp(code, "timeout") == 0;
	int rc;

	json_put(p, "error_message", message != NULL ? message : j->model_text);
	json_put(p, "failure_type", j->outcome == SIDE_JOB_REJECTED ? "permission_denied" : late ? "timeout" : "error");
	json_put_int(p, "duration", clock_mono_ms() - j->began_ms);
	json_put_bool(p, "is_interrupt", atomic_load(&j->stop));
	rc = hooks_perform(l, j->call_id, "postToolUseFailure", type, p, &answer);
	if (rc == OK)
		add_context(j, answer);
	return rc;
}

/* A message to the worker has its limits, and escaping makes a text longer. */
static char *bounded(const char *text)
{
	return text_cut_middle(text, strlen(text), TOLD_MAX, NULL);
}

static int after_success(struct side_job *j, struct loop *l, const char *type)
{
	AUTO_JSON answer = NULL;
	AUTO_STR raw = json_text(j->result);
	char *clean = redact_text(l->run->redactor, raw);
	AUTO_STR text = clean != NULL ? clean : str_dup(raw);
	json_t *p = about_tool(j, type);
	int rc;

	AUTO_STR told = bounded(text);

	json_put(p, "tool_output", told);
	json_put_int(p, "duration", clock_mono_ms() - j->began_ms);
	rc = hooks_perform(l, j->call_id, "postToolUse", type, p, &answer);
	if (rc != OK)
		return rc;
	take_output(j, answer);
	add_context(j, answer);
	return OK;
}

void hooks_after_job(struct side_job *j)
{
	struct loop l = side_loop(j);
	AUTO_STR type = subject_of(j);
	AUTO_JSON told = NULL;
	int rc = OK;

	if (j->left)
		return;
	if (is_mcp(j) && j->outcome != SIDE_JOB_REJECTED && hooks_listen(&l, "afterMCPExecution")) {
		AUTO_STR raw = json_text(j->result);
		char *clean = redact_text(l.run->redactor, raw);
		AUTO_STR text = clean != NULL ? clean : str_dup(raw);
		AUTO_STR result = bounded(text);
		json_t *p = about_mcp(j);

		json_put(p, "result_json", result);
		json_put_int(p, "duration", clock_mono_ms() - j->began_ms);
		rc = hooks_perform(&l, j->call_id, "afterMCPExecution", type, p, &told);
	}
	if (rc == OK && j->outcome == SIDE_JOB_SUCCESS && hooks_listen(&l, "postToolUse"))
		rc = after_success(j, &l, type);
	else if (rc == OK && j->outcome != SIDE_JOB_SUCCESS && hooks_listen(&l, "postToolUseFailure"))
		rc = after_failure(j, &l, type);
	/* What was done was done; an interrupted hook is no reason to do it again. */
	if (rc == OK && j->changed_args != NULL && json_is_object(j->result))
		json_object_set(j->result, "hookUpdatedInput",
		    is_mcp(j) ? json_object_get(j->changed_args, "args") : j->changed_args);
}

void hooks_describe_subagent(struct loop *child, const json_t *args)
{
	AUTO_JSON input = task_input(args);

	child->subagent_type = str_dup(hooks_word(input, "subagent_type"));
	child->subagent_task = str_dup(hooks_word(input, "prompt"));
	child->subagent_description = str_dup(hooks_word(input, "description"));
}

bool hooks_subagent_start(struct side_job *j, struct loop *child)
{
	const struct run *r = child->run;
	AUTO_JSON answer = NULL;
	AUTO_JSON model = NULL;
	json_t *p;
	int rc;

	hooks_describe_subagent(child, j->args);
	if (!hooks_listen(child, "subagentStart"))
		return true;
	IGNORE(json_parse(child->model_text, strlen(child->model_text), &model, NULL));
	p = json_object();
	json_put(p, "subagent_id", child->id);
	json_put(p, "subagent_type", child->subagent_type);
	json_put(p, "task", child->subagent_task);
	json_put(p, "parent_conversation_id", j->parent->depth == 0 ? r->agent->id : j->parent->id);
	json_put(p, "tool_call_id", j->call_id);
	json_put(p, "subagent_model", hooks_word(model, "id"));
	json_put_bool(p, "is_parallel_worker", j->call->beside);
	if (r->agent->branch[0] != '\0')
		json_put(p, "git_branch", r->agent->branch);
	rc = hooks_perform(child, child->id, "subagentStart", child->subagent_type, p, &answer);
	if (leave(j, rc))
		return false;
	if (hooks_refuse(answer))
		reject(j, answer);
	return !hooks_refuse(answer);
}
