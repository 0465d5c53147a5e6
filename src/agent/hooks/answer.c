#include "agent/hooks/answer.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define COMMAND_SHOWN 200
#define STDERR_SHOWN 2000
#define MESSAGE_MAX ((size_t)8 * 1024)
#define ENV_MAX 50
#define ENV_VALUE_MAX 4096

void hook_answer_fini(struct hook_answer *a)
{
	str_free(&a->model_text);
	str_free(&a->user_text);
	str_free(&a->fault);
	json_drop(&a->fields);
}

static char *shown_command(const struct hook_entry *h)
{
	return text_line(h->command, COMMAND_SHOWN);
}

/* Texts may be NULL or blank: then the next one counts. */
static void refuse_with(
    const struct hook_entry *h, struct hook_answer *a, const char *agent, const char *user, const char *err)
{
	AUTO_STR command = shown_command(h);
	AUTO_STR said = err != NULL ? text_trim(err) : NULL;
	const char *model = "this is not allowed here";

	if (agent != NULL && !text_is_blank(agent))
		model = agent;
	else if (user != NULL && !text_is_blank(user))
		model = user;
	else if (said != NULL && said[0] != '\0')
		model = said;

	a->refuses = true;
	a->model_text = str_printf(
	    "Blocked by hook %s: %.*s", command, (int)text_utf8_cut(model, strlen(model), MESSAGE_MAX), model);
	if (user != NULL && !text_is_blank(user))
		a->user_text = str_printf(
		    "Blocked by hook %s: %.*s", command, (int)text_utf8_cut(user, strlen(user), MESSAGE_MAX), user);
}

/* It failed: that is logged, and refuses if the hook is to fail closed. `what` goes on behind "it". */
static void failed(const struct hook_entry *h, struct hook_answer *a, const char *what)
{
	AUTO_STR command = shown_command(h);

	a->fault = str_printf("hook %s for %s %s", command, hook_event_name(h->event), what);
	if (!h->fail_closed || !hook_event_is_gate(h->event))
		return;
	a->refuses = true;
	a->model_text = str_printf("Blocked: hook %s is set to fail closed and it %s", command, what);
}

void hook_answer_broken(const struct hook_entry *h, struct hook_answer *ret)
{
	*ret = (struct hook_answer){0};
	failed(h, ret, "has a matcher that is not a regular expression");
}

/* What it printed is no answer. */
static void bad_output(const struct hook_entry *h, struct hook_answer *a, const char *what)
{
	failed(h, a, what);
	/* A policy that speaks unclearly has not said yes. */
	if (!a->refuses && hook_event_is_gate(h->event) && h->event != HOOK_BEFORE_SUBMIT_PROMPT) {
		AUTO_STR command = shown_command(h);

		a->refuses = true;
		a->model_text = str_printf("Blocked by hook %s: it %s", command, what);
	}
}

static const char *text_field(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

/* Of exit status 2: stderr rules, else what stands in the JSON on stdout. */
static void refuse_by_exit(const struct hook_entry *h, const struct hook_output *o, struct hook_answer *a)
{
	AUTO_JSON j = NULL;

	if (!hook_event_is_gate(h->event))
		return;
	if (text_is_blank(o->err) && !o->out_cut && text_is_utf8(o->out, o->out_len))
		IGNORE(json_parse(o->out, o->out_len, &j, NULL));
	refuse_with(h, a, text_field(j, "agent_message"), text_field(j, "user_message"), o->err);
}

enum field_kind { TEXT, OBJECT, BOOLEAN, ENV };
#define EVENT(e) ((uint32_t)1 << (e))
#define GATES                                                                                                          \
	(EVENT(HOOK_PRE_TOOL_USE) | EVENT(HOOK_BEFORE_SHELL) | EVENT(HOOK_BEFORE_MCP) | EVENT(HOOK_BEFORE_READ_FILE) | \
	    EVENT(HOOK_SUBAGENT_START) | EVENT(HOOK_BEFORE_SUBMIT_PROMPT))

/* What an answer may hold, and for which events. */
static const struct field {
	const char *name;
	enum field_kind kind;
	uint32_t events;
} known[] = {
    {"permission", TEXT, GATES},
    {"continue", BOOLEAN, GATES},
    {"user_message", TEXT, GATES | EVENT(HOOK_PRE_COMPACT)},
    {"agent_message", TEXT, GATES},
    {"updated_input", OBJECT, EVENT(HOOK_PRE_TOOL_USE)},
    {"additional_context", TEXT,
	EVENT(HOOK_SESSION_START) | EVENT(HOOK_POST_TOOL_USE) | EVENT(HOOK_POST_TOOL_USE_FAILURE)},
    {"updated_mcp_tool_output", OBJECT, EVENT(HOOK_POST_TOOL_USE)},
    {"env", ENV, EVENT(HOOK_SESSION_START)},
    {"followup_message", TEXT, EVENT(HOOK_STOP) | EVENT(HOOK_SUBAGENT_STOP)},
};

static bool field_fits(enum field_kind kind, const json_t *v)
{
	const char *name;
	json_t *item;

	if (kind == TEXT)
		return json_is_string(v);
	if (kind == BOOLEAN)
		return json_is_boolean(v);
	if (!json_is_object(v))
		return false;
	if (kind == ENV)
		json_object_foreach((json_t *)v, name, item) if (!json_is_string(item)) return false;
	return true;
}

/* The members that mean something for the event. ERR_INVALID: one of them is not of its kind; it is left out. */
static int take_fields(enum hook_event e, const json_t *given, json_t **ret, struct why *why)
{
	json_t *fields = json_object();
	int rc = OK;

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		json_t *v = json_object_get(given, known[i].name);

		if (v == NULL || json_is_null(v) || (known[i].events & EVENT(e)) == 0)
			continue;
		if (field_fits(known[i].kind, v))
			json_object_set(fields, known[i].name, v);
		else
			rc = why_set(why, ERR_INVALID, "has a wrong answer: %s must be %s", known[i].name,
			    known[i].kind == TEXT      ? "a text"
			    : known[i].kind == BOOLEAN ? "true or false"
			    : known[i].kind == ENV     ? "an object of texts"
						       : "an object");
	}
	*ret = fields;
	return rc;
}

static bool ask_is_deny(enum hook_event e, enum hook_ask ask)
{
	if (ask != HOOK_ASK_BY_EVENT)
		return ask == HOOK_ASK_DENY;
	return e != HOOK_PRE_TOOL_USE;
}

static void take_ask(const struct hook_entry *h, enum hook_ask ask, struct hook_answer *a)
{
	AUTO_STR command = shown_command(h);
	const char *said = text_field(a->fields, "user_message");

	if (!ask_is_deny(h->event, ask)) {
		a->fault = str_printf(
		    "hook %s for %s asks for approval, which nobody can give in this run; it is taken as allowed",
		    command, hook_event_name(h->event));
		return;
	}
	a->refuses = true;
	a->model_text = str_printf("Blocked by hook %s: it needs an approval that cannot be given in this run%s%.*s",
	    command, said != NULL && !text_is_blank(said) ? ": " : "",
	    said != NULL ? (int)text_utf8_cut(said, strlen(said), MESSAGE_MAX) : 0, said != NULL ? said : "");
}

static void take_permission(const struct hook_entry *h, enum hook_ask ask, const char *err, struct hook_answer *a)
{
	const char *word = text_field(a->fields, "permission");
	bool stops = json_is_false(json_object_get(a->fields, "continue"));

	if (stops || (word != NULL && strcmp(word, "deny") == 0))
		refuse_with(h, a, text_field(a->fields, "agent_message"), text_field(a->fields, "user_message"), err);
	else if (word != NULL && strcmp(word, "ask") == 0)
		take_ask(h, ask, a);
	else if (word != NULL && strcmp(word, "allow") != 0)
		bad_output(h, a, "has a wrong answer: permission must be allow, deny or ask");
}

static void take_answer(const struct hook_source *s, const struct hook_entry *h, enum hook_ask ask,
    const struct hook_output *o, json_t *given, struct hook_answer *a)
{
	struct why why = {""};
	int rc;

	if (s->third_party)
		hook_third_party_answer(h->event, given);
	rc = take_fields(h->event, given, &a->fields, &why);
	if (rc != OK && hook_event_is_gate(h->event)) {
		json_drop(&a->fields);
		failed(h, a, why.text);
		if (!a->refuses)
			refuse_with(h, a, why.text + strlen("has "), NULL, NULL);
		return;
	}
	if (rc != OK)
		failed(h, a, why.text);
	if (hook_event_is_gate(h->event))
		take_permission(h, ask, o->err, a);
}

static void read_output(const struct hook_source *s, const struct hook_entry *h, enum hook_ask ask,
    const struct hook_output *o, struct hook_answer *a)
{
	AUTO_JSON given = NULL;

	if (o->out_cut)
		bad_output(h, a, "printed more than 1 MiB");
	else if (!text_is_utf8(o->out, o->out_len))
		bad_output(h, a, "printed invalid UTF-8");
	else if (text_is_blank(o->out) && strlen(o->out) == o->out_len) {
		if (h->fail_closed && hook_event_is_gate(h->event))
			failed(h, a, "printed nothing");
	} else if (json_parse(o->out, o->out_len, &given, NULL) != OK || !json_is_object(given))
		bad_output(h, a, "printed invalid JSON");
	else
		take_answer(s, h, ask, o, given, a);
}

static void read_exit(const struct hook_entry *h, const struct hook_output *o, struct hook_answer *a)
{
	AUTO_STR err = text_trim(o->err);
	AUTO_STR what = str_printf("%s %d%s%.*s", o->ending == HOOK_KILLED ? "was killed by signal" : "exited with",
	    o->code, err[0] != '\0' ? ": " : "", (int)text_utf8_cut(err, strlen(err), STDERR_SHOWN), err);

	failed(h, a, what);
}

void hook_answer_read(const struct hook_source *s, const struct hook_entry *h, enum hook_ask ask,
    const struct hook_output *o, struct hook_answer *ret)
{
	*ret = (struct hook_answer){0};
	if (o->ending == HOOK_TIMED_OUT) {
		AUTO_STR what = str_printf("timed out after %lld ms", (long long)o->limit_ms);

		failed(h, ret, what);
	} else if (o->ending == HOOK_NOT_STARTED) {
		AUTO_STR what = str_printf("could not be started: %s", o->reason);

		failed(h, ret, what);
	} else if (o->ending == HOOK_EXITED && o->code == 2) {
		refuse_by_exit(h, o, ret);
	} else if (o->ending == HOOK_KILLED || o->code != 0) {
		read_exit(h, o, ret);
	} else {
		read_output(s, h, ask, o, ret);
	}
}

void hook_verdict_fini(struct hook_verdict *v)
{
	str_free(&v->model_text);
	str_free(&v->user_text);
	str_free(&v->user_message);
	str_free(&v->context);
	str_free(&v->followup);
	json_drop(&v->updated_input);
	json_drop(&v->updated_output);
	json_drop(&v->env);
	json_drop(&v->faults);
}

static void join(char **text, const char *more)
{
	char *both = *text == NULL ? str_dup(more) : str_printf("%s\n\n---\n\n%s", *text, more);

	free(*text);
	*text = both;
}

/* The highest rank wins; of one source the last. Answers come in the order of rank. */
static bool outranks(bool set, int rank, const struct hook_source *s)
{
	return !set || (int)s->rank <= rank;
}

static void take_object(json_t **to, int *rank, const struct hook_source *s, json_t *v)
{
	if (v == NULL || !outranks(*to != NULL, *rank, s))
		return;
	json_decref(*to);
	*to = json_incref(v);
	*rank = (int)s->rank;
}

bool hook_env_allowed(const char *name, const char *value)
{
	if (name[0] == '\0' || strlen(name) > 256 || strchr(name, '=') != NULL || strlen(value) > ENV_VALUE_MAX)
		return false;
	return !text_has_prefix(name, "CURSOR_") && !text_has_prefix(name, "LD_") && !text_has_prefix(name, "DYLD_") &&
	       strcmp(name, "CLAUDE_PROJECT_DIR") != 0;
}

static void add_fault(struct hook_verdict *v, const char *text)
{
	AUTO_STR line = text_line(text, 600);

	if (v->faults == NULL)
		v->faults = json_array();
	json_array_append_new(v->faults, json_lossy(line, strlen(line)));
}

/* Key by key: what a higher rank set stays. Sources of equal rank are one file. */
static void take_env(struct hook_verdict *v, const struct hook_source *s, const json_t *env)
{
	const char *name;
	json_t *value;

	if (env == NULL)
		return;
	if (v->env == NULL)
		v->env = json_object();
	json_object_foreach((json_t *)env, name, value)
	{
		json_t *before = json_object_get(v->env, name);
		const char *text = json_string_value(value);

		if (!hook_env_allowed(name, text) || json_string_length(value) != strlen(text) ||
		    (before == NULL && json_object_size(v->env) >= ENV_MAX)) {
			AUTO_STR said = str_printf("the variable %.100s of a hook is left out: its name is reserved, "
						   "its value is too long, or there are more than %d",
			    name, ENV_MAX);

			add_fault(v, said);
			continue;
		}
		if (before == NULL || json_integer_value(json_object_get(before, "rank")) >= (json_int_t)s->rank)
			json_put_new(v->env, name, json_pack("{s:s, s:i}", "value", text, "rank", (int)s->rank));
	}
}

static void take_texts(struct hook_verdict *v, const struct hook_source *s, const json_t *fields)
{
	const char *context = text_field(fields, "additional_context"), *user = text_field(fields, "user_message"),
		   *followup = text_field(fields, "followup_message");

	if (context != NULL && !text_is_blank(context)) {
		AUTO_STR cut = text_cut_middle(context, strlen(context), HOOK_CONTEXT_MAX, NULL);

		join(&v->context, cut);
	}
	if (user != NULL && !text_is_blank(user)) {
		AUTO_STR cut = text_cut_middle(user, strlen(user), MESSAGE_MAX, NULL);

		join(&v->user_message, cut);
	}
	if (followup != NULL && !text_is_blank(followup) && outranks(v->followup != NULL, v->rank_followup, s)) {
		AUTO_STR cut = text_cut_middle(followup, strlen(followup), HOOK_CONTEXT_MAX, NULL);

		str_set(&v->followup, cut);
		v->rank_followup = (int)s->rank;
	}
}

void hook_verdict_add(struct hook_verdict *v, const struct hook_source *s, const struct hook_answer *a)
{
	v->ran++;
	if (a->fault != NULL)
		add_fault(v, a->fault);
	if (a->refuses) {
		v->refuses = true;
		join(&v->model_text, a->model_text);
		join(&v->user_text, a->user_text != NULL ? a->user_text : a->model_text);
		return;
	}
	take_texts(v, s, a->fields);
	take_env(v, s, json_object_get(a->fields, "env"));
	take_object(&v->updated_input, &v->rank_input, s, json_object_get(a->fields, "updated_input"));
	take_object(&v->updated_output, &v->rank_output, s, json_object_get(a->fields, "updated_mcp_tool_output"));
}

json_t *hook_verdict_json(const struct hook_verdict *v)
{
	json_t *j = json_object();

	json_put(j, "permission", v->refuses ? "deny" : "allow");
	json_put_int(j, "ran", (int64_t)v->ran);
	json_put(j, "message", v->model_text);
	json_put(j, "userMessage", v->refuses ? v->user_text : v->user_message);
	json_put(j, "additionalContext", v->context);
	json_put(j, "followupMessage", v->followup);
	if (v->updated_input != NULL)
		json_put_new(j, "updatedInput", json_incref(v->updated_input));
	if (v->updated_output != NULL)
		json_put_new(j, "updatedMcpToolOutput", json_incref(v->updated_output));
	if (v->faults != NULL)
		json_put_new(j, "faults", json_incref(v->faults));
	return j;
}
