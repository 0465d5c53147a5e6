/* Hooks around the tools of a session. */
#include "agent/hooks/hooks_priv.h"
#include "agent/hooks/tool_types.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/redact.h"
#include "base/text.h"
#include "mcp/result.h"
#include <string.h>

#define CONTENT_MAX ((size_t)1024 * 1024)
#define MESSAGE_MAX ((size_t)24 * 1024)
#define MODEL_MESSAGE_MAX ((size_t)128 * 1024)
/* Of what still runs after the call was cancelled. */
#define CANCELLED_MS 5000
#define NOTE                                                                                                           \
	"This is a rule of the people who run this workspace. Do not look for another way to the same end: say what "  \
	"was blocked, and go on with what is allowed."

/* An edit is shown as a reading and a writing. */
enum stage { STAGE_ONE, STAGE_READING, STAGE_READ, STAGE_WRITING };

struct memo {
	enum stage stage;
	char *type; /* of what is under way */
	char *path;
	json_t *input; /* as it counts now */
	json_t *changed; /* of a hook; NULL: nothing was changed */
	json_t *faults; /* array; NULL: none */
	int64_t started_ms;
	bool began; /* the tool itself was let go on */
};

static void memo_free(struct memo **mp)
{
	struct memo *m = TAKE(*mp);

	if (m == NULL)
		return;
	free(m->type);
	free(m->path);
	json_decref(m->input);
	json_decref(m->changed);
	json_decref(m->faults);
	free(m);
}

/* Secret values of the run do not go through hooks, though they have them as variables: what they print is read by
 * others. */
static struct redactor *redactor_of(const char *const *env)
{
	AUTO_JSON values = json_object();

	for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
		const char *eq = strchr(env[i], '=');
		AUTO_STR name = eq != NULL ? str_ndup(env[i], (size_t)(eq - env[i])) : NULL;

		if (eq != NULL)
			json_put_new(values, name, json_lossy(eq + 1, strlen(eq + 1)));
	}
	return json_object_size(values) > 0 ? redactor_new(values) : NULL;
}

char *hook_without_secrets(const char *const *env, const char *text)
{
	AUTO(redactor) secrets = redactor_of(env);
	char *clean = redact_text(secrets, text);

	return clean != NULL ? clean : str_dup(text);
}

/* What the call gave away, without them. malloc'ed. */
static char *without_secrets(const struct tool_call *call, const char *text)
{
	return hook_without_secrets(call->env, text);
}

/* `payload` is taken. */
static void ask(struct hooks *h, struct tool_call *call, enum hook_event e, const char *subject, const char *path,
    json_t *payload, struct hook_verdict *ret)
{
	bool cancelled = tool_cancelled(call);
	const struct hook_run run = {
	    .facts = call->hook_facts, .env = call->env, .cancel_fd = cancelled ? 0 : call->cancel_fd};
	struct memo *m = call->hook_memo;

	hooks_run(h,
	    &(struct hook_request){.event = e,
		.subject = subject,
		.path = path,
		.payload = payload,
		.run = &run,
		.limit_ms = cancelled ? CANCELLED_MS : 0},
	    ret);
	if (ret->faults == NULL)
		return;
	if (m->faults == NULL)
		m->faults = json_array();
	json_array_extend(m->faults, ret->faults);
}

static void reject(struct tool_call *call, const struct hook_verdict *v)
{
	AUTO_STR user = text_cut_middle(v->user_text, strlen(v->user_text), MESSAGE_MAX, NULL);
	AUTO_STR model = text_cut_middle(v->model_text, strlen(v->model_text), MESSAGE_MAX, NULL);

	tool_reject(call, "hook_denied", "%s", user);
	free(call->model_text);
	call->model_text = str_printf("Rejected (hook_denied): %s\n%s", model, NOTE);
}

static json_t *about_tool(const struct tool_call *call, const struct memo *m, const char *type, json_t *input)
{
	json_t *p = json_object();
	bool shell = strcmp(m->type, "Shell") == 0 && m->path != NULL;

	json_put(p, "tool_name", type);
	json_put_new(p, "tool_input", json_incref(input));
	json_put(p, "tool_use_id", call->call_id != NULL ? call->call_id : "");
	json_put(p, "cwd", shell ? m->path : session_primary_root(call->session));
	return p;
}

/* preToolUse. false: refused. *ret_input: a new reference if a hook changed the input, else NULL. */
static bool ask_pre(struct hooks *h, struct tool_call *call, const char *type, json_t *input, json_t **ret_input)
{
	struct memo *m = call->hook_memo;
	AUTO_FINI(hook_verdict) v = {0};
	const char *said = json_string_value(json_object_get(call->hook_facts, "agentMessage"));
	json_t *p;

	*ret_input = NULL;
	if (!hooks_listen(h, HOOK_PRE_TOOL_USE))
		return true;
	p = about_tool(call, m, type, input);
	json_put(p, "agent_message", said != NULL ? said : "");
	ask(h, call, HOOK_PRE_TOOL_USE, type, m->path, p, &v);
	if (v.refuses) {
		reject(call, &v);
		return false;
	}
	*ret_input = TAKE(v.updated_input);
	return true;
}

/* The gate that stands in front of the thing itself. */
static bool ask_gate(struct hooks *h, struct tool_call *call, enum hook_event e, const char *subject, json_t *payload)
{
	struct memo *m = call->hook_memo;
	AUTO_FINI(hook_verdict) v = {0};

	ask(h, call, e, subject, m->path, payload, &v);
	if (v.refuses)
		reject(call, &v);
	return !v.refuses;
}

static json_t *about_mcp(const struct tool_call *call, const struct memo *m)
{
	AUTO_STR text = json_text(m->input);
	const char *server = json_string_value(json_object_get(call->args, "providerIdentifier"));
	AUTO_STR command = call->tool->command != NULL ? call->tool->command(call) : NULL;
	json_t *p = json_object();

	json_put(p, "tool_name", m->type + strlen("MCP:"));
	json_put(p, "tool_input", text);
	json_put(p, "server_name", server != NULL ? server : "");
	if (command != NULL)
		json_put_new(p, "command", json_lossy(command, strlen(command)));
	return p;
}

static bool is_mcp(const struct memo *m)
{
	return text_has_prefix(m->type, "MCP:");
}

static bool ask_shell(struct hooks *h, struct tool_call *call)
{
	struct memo *m = call->hook_memo;
	const char *command = json_string_value(json_object_get(m->input, "command"));
	json_t *p;

	/* An input that a hook spoiled: the tool's schema says so. */
	if (command == NULL || !hooks_listen(h, HOOK_BEFORE_SHELL))
		return true;
	p = json_object();
	json_put(p, "command", command);
	json_put(p, "cwd", m->path);
	json_put_bool(p, "sandbox", false);
	return ask_gate(h, call, HOOK_BEFORE_SHELL, command, p);
}

/* What a hook changed counts from here on. */
static void take_input(struct tool_call *call, json_t *input)
{
	struct memo *m = call->hook_memo;

	if (input == NULL)
		return;
	call->new_args = hook_tool_args(call->tool->name, call->args, input);
	json_decref(m->input);
	m->input = json_incref(input);
	m->changed = input;
	free(m->path);
	m->path = hook_tool_path(call, call->new_args);
}

static bool before(void *ctx, struct tool_call *call)
{
	struct hooks *h = ctx;
	struct memo *m = NEW(struct memo);
	bool edits = strcmp(call->tool->name, "edit_file") == 0;
	json_t *input = NULL;

	call->hook_memo = m;
	m->type = hook_tool_type(call->tool->name, call->args);
	m->path = hook_tool_path(call, call->args);
	m->input = hook_tool_input(call, call->args);
	m->started_ms = clock_mono_ms();
	m->stage = edits ? STAGE_READING : STAGE_ONE;
	if (!ask_pre(h, call, edits ? "Read" : m->type, m->input, &input))
		return false;
	take_input(call, input);
	if (strcmp(m->type, "Shell") == 0 && !ask_shell(h, call))
		return false;
	if (is_mcp(m) && hooks_listen(h, HOOK_BEFORE_MCP) &&
	    !ask_gate(h, call, HOOK_BEFORE_MCP, m->type, about_mcp(call, m)))
		return false;
	m->began = true;
	return true;
}

static json_t *file_payload(const char *path)
{
	json_t *p = json_object();

	json_put_new(p, "file_path", json_lossy(path, strlen(path)));
	return p;
}

static json_t *read_payload(const struct tool_moment *t)
{
	json_t *p = file_payload(t->path);
	size_t len = strlen(t->text), kept = text_utf8_cut(t->text, len, CONTENT_MAX);

	json_put_new(p, "content", json_lossy(t->text, kept));
	if (kept < len)
		json_put_bool(p, "content_truncated", true);
	if (t->binary)
		json_put(p, "content_omitted", "binary");
	json_put_new(p, "attachments", json_array());
	return p;
}

static void post(
    struct hooks *h, struct tool_call *call, const char *type, json_t *input, json_t *output, struct hook_verdict *ret)
{
	struct memo *m = call->hook_memo;
	AUTO_JSON owned = output;
	AUTO_STR raw = json_text(output);
	AUTO_STR text = without_secrets(call, raw);
	json_t *p = about_tool(call, m, type, input);

	json_put(p, "tool_output", text);
	json_put_int(p, "duration", clock_mono_ms() - m->started_ms);
	ask(h, call, HOOK_POST_TOOL_USE, type, m->path, p, ret);
}

static json_t *read_output(const char *path, size_t len)
{
	json_t *o = file_payload(path);

	json_put_int(o, "content_length", (int64_t)len);
	return o;
}

static bool on_read(struct hooks *h, struct tool_call *call, const struct tool_moment *t)
{
	struct memo *m = call->hook_memo;

	if (hooks_listen(h, HOOK_BEFORE_READ_FILE) &&
	    !ask_gate(h, call, HOOK_BEFORE_READ_FILE, "Read", read_payload(t)))
		return false;
	if (m->stage != STAGE_READING)
		return true;
	m->stage = STAGE_READ;
	if (hooks_listen(h, HOOK_POST_TOOL_USE)) {
		AUTO_FINI(hook_verdict) v = {0};

		/* There is no result yet that its context could stand behind. */
		post(h, call, "Read", m->input, read_output(t->path, strlen(t->text)), &v);
	}
	return true;
}

static bool on_change(struct hooks *h, struct tool_call *call, struct tool_moment *t)
{
	struct memo *m = call->hook_memo;
	AUTO_JSON updated = NULL;
	const char *content;

	json_decref(m->input);
	m->input = file_payload(t->path);
	json_put_new(m->input, "content", json_lossy(t->text, strlen(t->text)));
	m->stage = STAGE_WRITING;
	if (!ask_pre(h, call, "Write", m->input, &updated))
		return false;
	if (updated == NULL)
		return true;
	content = json_string_value(json_object_get(updated, "content"));
	if (content == NULL || strlen(content) != json_string_length(json_object_get(updated, "content"))) {
		tool_error(call, "invalid_arguments", "%s, as a hook changed its input: 'content' must be a text",
		    call->tool->name);
		return false;
	}
	t->replaced = str_dup(content);
	json_decref(m->input);
	m->input = json_incref(updated);
	m->changed = TAKE(updated);
	return true;
}

static void add_edit(json_t *edits, const char *old, const char *new)
{
	json_t *e = json_object();

	json_put_new(e, "old_string", json_lossy(old, strlen(old)));
	json_put_new(e, "new_string", json_lossy(new, strlen(new)));
	json_array_append_new(edits, e);
}

static void add_given(json_t *edits, const json_t *given)
{
	const char *old = json_string_value(json_object_get(given, "oldText"));
	const char *new = json_string_value(json_object_get(given, "newText"));

	if (old != NULL && new != NULL)
		add_edit(edits, old, new);
}

/* As the model gave them; a patch, a whole text, or what a hook made of it is one edit of everything. */
static json_t *edits_of(const struct tool_call *call, const struct tool_moment *t)
{
	const struct memo *m = call->hook_memo;
	json_t *edits = json_array(), *e;
	size_t i;

	if (m->changed == NULL) {
		add_given(edits, call->args);
		add_given(edits, json_object_get(call->args, "strReplace"));
		json_array_foreach(json_object_get(json_object_get(call->args, "multiStrReplace"), "edits"), i, e)
		    add_given(edits, e);
	}
	if (json_array_size(edits) == 0)
		add_edit(edits, t->old != NULL ? t->old : "", t->text);
	return edits;
}

static void on_wrote(struct hooks *h, struct tool_call *call, const struct tool_moment *t)
{
	struct memo *m = call->hook_memo;
	AUTO_FINI(hook_verdict) v = {0};
	json_t *p;

	if (!hooks_listen(h, HOOK_AFTER_FILE_EDIT))
		return;
	p = file_payload(t->path);
	json_put_new(p, "edits", edits_of(call, t));
	ask(h, call, HOOK_AFTER_FILE_EDIT, "Write", m->path, p, &v);
}

static bool moment(void *ctx, struct tool_call *call, struct tool_moment *t)
{
	struct hooks *h = ctx;

	if (t->what == TOOL_READS)
		return on_read(h, call, t);
	if (t->what == TOOL_CHANGES)
		return on_change(h, call, t);
	on_wrote(h, call, t);
	return true;
}

static const char *result_text(const struct tool_call *call, const char *key)
{
	return json_string_value(json_object_get(call->result, key));
}

/* Also of a command that failed, ran out of time or was cancelled: with what it had printed. */
static void after_shell(struct hooks *h, struct tool_call *call)
{
	struct memo *m = call->hook_memo;
	const char *both = result_text(call, "interleavedOutput"), *out = result_text(call, "stdout");
	AUTO_FINI(hook_verdict) v = {0};
	AUTO_STR clean = NULL;
	json_t *p;

	if (!hooks_listen(h, HOOK_AFTER_SHELL) || !m->began)
		return;
	if (result_text(call, "logPath") != NULL) {
		hooks_note_background(h, json_string_value(json_object_get(m->input, "command")), m->path,
		    result_text(call, "logPath"), call->end_fd > 0 ? call->end_fd : -1);
		call->end_fd = 0;
	}
	if (both == NULL && out == NULL)
		return;
	clean = without_secrets(call, both != NULL ? both : out);
	p = json_object();
	json_put(p, "command", json_string_value(json_object_get(m->input, "command")));
	json_put(p, "output", clean);
	json_put(p, "cwd", m->path);
	json_put_int(p, "duration", clock_mono_ms() - m->started_ms);
	json_put_bool(p, "sandbox", false);
	ask(h, call, HOOK_AFTER_SHELL, json_string_value(json_object_get(m->input, "command")), m->path, p, &v);
}

static void after_mcp(struct hooks *h, struct tool_call *call)
{
	struct memo *m = call->hook_memo;
	AUTO_FINI(hook_verdict) v = {0};
	AUTO_STR raw = json_text(call->result);
	AUTO_STR result = without_secrets(call, raw);
	json_t *p;

	if (!hooks_listen(h, HOOK_AFTER_MCP) || !m->began)
		return;
	p = about_mcp(call, m);
	json_put(p, "result_json", result);
	json_put_int(p, "duration", clock_mono_ms() - m->started_ms);
	ask(h, call, HOOK_AFTER_MCP, m->type, m->path, p, &v);
}

static json_t *output_of(const struct tool_call *call)
{
	const struct memo *m = call->hook_memo;
	const char *path = result_text(call, "path");
	json_t *o;

	if (strcmp(m->type, "Shell") == 0) {
		const char *both = result_text(call, "interleavedOutput");

		o = json_object();
		json_put(o, "output", both != NULL ? both : call->model_text);
		json_put_int(o, "exitCode", json_integer_value(json_object_get(call->result, "exitCode")));
		return o;
	}
	if (strcmp(m->type, "Read") == 0 && path != NULL)
		return read_output(path, (size_t)json_integer_value(json_object_get(call->result, "fileSize")));
	if (strcmp(m->type, "Write") == 0 && path != NULL) {
		o = file_payload(path);
		json_put_bool(o, "success", true);
		return o;
	}
	return json_incref(call->result);
}

static void add_context(struct tool_call *call, const struct hook_verdict *v)
{
	if (v->context == NULL)
		return;
	AUTO_STR cut = text_cut_middle(v->context, strlen(v->context), MODEL_MESSAGE_MAX, NULL);

	tool_add_text(call, cut);
}

static void after_success(struct hooks *h, struct tool_call *call)
{
	struct memo *m = call->hook_memo;
	AUTO_FINI(hook_verdict) v = {0};

	if (!hooks_listen(h, HOOK_POST_TOOL_USE))
		return;
	post(h, call, m->type, m->input, output_of(call), &v);
	if (v.updated_output != NULL && is_mcp(m)) {
		free(call->model_text);
		call->model_text = mcp_output_text(v.updated_output);
		json_object_del(call->result, MCP_SEEN_IMAGES);
	}
	add_context(call, &v);
}

static char *failure_text(const struct tool_call *call)
{
	const char *both = result_text(call, "interleavedOutput"), *message = result_text(call, "message");

	if (message != NULL)
		return str_dup(message);
	if (both != NULL && !text_is_blank(both))
		return str_dup(both);
	if (json_object_get(call->result, "exitCode") != NULL)
		return str_printf("the command ended with exit code %lld",
		    (long long)json_integer_value(json_object_get(call->result, "exitCode")));
	return str_dup(call->model_text);
}

static const char *failure_type(const struct tool_call *call)
{
	const char *code = result_text(call, "code");

	if (call->outcome == TOOL_REJECTED)
		return "permission_denied";
	if (json_is_true(json_object_get(call->result, "timedOut")) || (code != NULL && strcmp(code, "timeout") == 0))
		return "timeout";
	return "error";
}

static void after_failure(struct hooks *h, struct tool_call *call)
{
	struct memo *m = call->hook_memo;
	const char *type = m->stage == STAGE_READING ? "Read" : m->type;
	AUTO_FINI(hook_verdict) v = {0};
	AUTO_STR raw = failure_text(call);
	AUTO_STR message = without_secrets(call, raw);
	json_t *p;

	if (!hooks_listen(h, HOOK_POST_TOOL_USE_FAILURE))
		return;
	p = about_tool(call, m, type, m->input);
	json_put(p, "error_message", message);
	json_put(p, "failure_type", failure_type(call));
	json_put_int(p, "duration", clock_mono_ms() - m->started_ms);
	json_put_bool(p, "is_interrupt", tool_cancelled(call));
	ask(h, call, HOOK_POST_TOOL_USE_FAILURE, type, m->path, p, &v);
	add_context(call, &v);
}

static void after(void *ctx, struct tool_call *call)
{
	struct hooks *h = ctx;
	struct memo *m = call->hook_memo;

	if (strcmp(m->type, "Shell") == 0)
		after_shell(h, call);
	if (is_mcp(m))
		after_mcp(h, call);
	if (call->outcome == TOOL_SUCCESS)
		after_success(h, call);
	else
		after_failure(h, call);
	/* The log has the model's own arguments; these were used instead. */
	if (m->changed != NULL)
		json_object_set(call->result, "hookUpdatedInput", m->changed);
	if (m->faults != NULL)
		json_object_set(call->result, "hookFaults", m->faults);
	call->hook_memo = NULL;
	memo_free(&m);
}

const struct tool_hook hooks_of_tools = {.before = before, .after = after, .moment = moment};
