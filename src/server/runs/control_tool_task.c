/* The tool `task`: a piece of work for a subagent, which is a nested loop with a context of its own. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/models/models.h"
#include "server/runs/control_tool.h"
#include "server/runs/subagents.h"
#include <string.h>

#define PROMPT_MAX ((size_t)256 * 1024)

static const char preface[] = "You are the subagent `%s`. Another agent gave you the task that follows. It sees "
			      "nothing of what you do but your last "
			      "message, so that says all it needs: what you found or did, with paths, and what is "
			      "open. Nobody can answer a question "
			      "of yours meanwhile.\n\n%s";

/* "id[k=v,k2=v2]", as files of subagents have it: {id, params}. NULL: it is not of that form. New reference. */
static json_t *model_with_params(const char *text)
{
	const char *open = strchr(text, '['), *at;
	AUTO_STR id = NULL;
	AUTO_JSON params = json_array();

	if (open == NULL || !text_has_suffix(text, "]"))
		return NULL;
	id = str_ndup(text, (size_t)(open - text));
	for (at = open + 1; *at != ']' || at[1] != '\0';) {
		size_t len = strcspn(at, ",]"), key = strcspn(at, "=,]");
		AUTO_STR name = str_ndup(at, key);
		AUTO_STR value = key < len ? str_ndup(at + key + 1, len - key - 1) : str_dup("");
		AUTO_STR bare_name = text_trim(name);
		AUTO_STR bare_value = text_trim(value);

		if (key >= len || (at[len] == ']' && at[len + 1] != '\0'))
			return NULL;
		json_array_append_new(params, json_pack("{s:s, s:s}", "id", bare_name, "value", bare_value));
		at += len + (at[len] == ',');
	}
	return json_pack("{s:s, s:O}", "id", id, "params", params);
}

/* {"id", "params"} for a model that a user or a model named: an id, {id, params?}, "inherit" (NULL stays). */
static int choose_model(const json_t *given, char **ret, struct why *why)
{
	AUTO_JSON apart = json_is_string(given) ? model_with_params(json_string_value(given)) : NULL;

	if (apart != NULL)
		given = apart;
	const json_t *id = json_is_object(given) ? json_object_get(given, "id") : given;
	const char *name = json_string_value(id);
	const struct model *m;
	AUTO_JSON params = NULL;
	AUTO_JSON chosen = NULL;
	int rc;

	if (given == NULL || json_is_null(given) || (name != NULL && (name[0] == '\0' || strcmp(name, "inherit") == 0)))
		return OK;
	m = name != NULL ? model_find(name) : NULL;
	if (m == NULL) {
		struct strbuf b = STRBUF(2000);
		size_t n;
		const struct model *all = models_all(&n);

		for (size_t i = 0; i < n; i++)
			strbuf_addf(&b, "%s%s", i > 0 ? ", " : "", all[i].id);
		rc = why_set(why, ERR_INVALID, "there is no model '%.100s'; there are: %.300s",
		    name != NULL ? name : "", strbuf_str(&b));
		strbuf_fini(&b);
		return rc;
	}
	rc = model_params(m, json_is_object(given) ? json_object_get(given, "params") : NULL, &params, why);
	if (rc != OK)
		return rc;
	chosen = json_pack("{s:s, s:O}", "id", m->id, "params", params);
	free(*ret);
	*ret = json_text(chosen);
	return OK;
}

static int begin_builtin(
    const struct nest_call *c, const struct builtin_subagent *s, struct loop_spec *ret, struct why *why)
{
	if (c->read_only && !s->read_only && s->offers != NULL)
		return why_set(
		    why, ERR_INVALID, "subagent '%s' is of no use here, where one may only read: ask explore", s->name);
	ret->system = str_printf(preface, s->name, s->system);
	ret->read_only = s->read_only;
	ret->offers = s->offers;
	return OK;
}

static int refuse_unknown(const json_t *list, const char *name, struct why *why)
{
	AUTO_STR known = subagents_builtin_names();
	struct strbuf b = STRBUF(4096);
	size_t i;
	json_t *item;
	int rc;

	json_array_foreach((json_t *)list, i, item) strbuf_addf(&b, ", %s", json_word(item, "name"));
	rc = why_set(why, ERR_INVALID, "there is no subagent '%.100s'%s; there are: %s%.280s", name,
	    subagent_is_reserved(name) ? " in this version" : "", known, strbuf_str(&b));
	strbuf_fini(&b);
	return rc;
}

static int begin_custom(const struct nest_call *c, const char *name, struct loop_spec *ret, struct why *why)
{
	AUTO(tx) tx = NULL;
	AUTO_JSON list = NULL;
	const json_t *s;
	int rc = tx_begin(c->store, TX_READ, &tx);

	if (rc == OK)
		rc = subagents_load(tx, c->agent_id, &list);
	if (rc != OK)
		return rc;
	subagents_add_files(list, c->session_info);
	s = subagents_find(list, name);
	if (s == NULL)
		return refuse_unknown(list, name, why);
	ret->system = str_printf(preface, json_word(s, "name"), json_word(s, "prompt"));
	ret->read_only = json_is_true(json_object_get(s, "readonly"));
	ret->background = json_is_true(json_object_get(s, "background"));
	return choose_model(json_object_get(s, "model"), &ret->model, why);
}

static int check_args(const json_t *args, struct why *why)
{
	const json_t *behind = json_object_get(args, "run_in_background");
	const char *prompt = json_word(args, "prompt");

	if (text_is_blank(prompt))
		return why_set(why, ERR_INVALID, "'prompt' must be a text that tells the whole task");
	if (strlen(prompt) > PROMPT_MAX)
		return why_set(why, ERR_INVALID, "'prompt' must be at most 256 KiB; put what is longer into a file");
	if (json_word(args, "subagent_type")[0] == '\0')
		return why_set(why, ERR_INVALID, "'subagent_type' must be the name of a subagent");
	if (behind != NULL && !json_is_boolean(behind) && !json_is_null(behind))
		return why_set(why, ERR_INVALID, "'run_in_background' must be true or false");
	return OK;
}

/* `resume` is the agentId of an earlier result: a nested loop of this agent, the first of its conversation. */
static int find_resumed(const struct nest_call *c, char **ret, struct why *why)
{
	const char *id = json_word(c->args, "resume");
	AUTO(tx) tx = NULL;
	int rc;

	if (id[0] == '\0')
		return OK;
	rc = tx_begin(c->store, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query_text(tx, ret,
		    "SELECT l.id FROM loops l JOIN runs r ON r.id = l.run_id JOIN loop_texts t ON t.loop_id = l.id"
		    " WHERE l.id = $1 AND r.agent_id = $2 AND l.parent_call_id IS NOT NULL AND l.conversation_id = "
		    "l.id",
		    "ss", id, c->agent_id);
	if (rc == ERR_EMPTY)
		return why_set(why, ERR_INVALID,
		    "'resume' must be the agentId of an earlier task of this agent; '%.100s' is none", id);
	return rc;
}

static int task_nest(const struct nest_call *c, struct loop_spec *ret, struct why *why)
{
	const char *name = json_word(c->args, "subagent_type");
	const struct builtin_subagent *builtin = subagent_builtin(name);
	const json_t *behind = json_object_get(c->args, "run_in_background");
	int rc = check_args(c->args, why);

	if (rc == OK)
		rc = builtin != NULL ? begin_builtin(c, builtin, ret, why) : begin_custom(c, name, ret, why);
	if (rc == OK)
		rc = choose_model(json_object_get(c->args, "model"), &ret->model, why);
	if (rc == OK)
		rc = find_resumed(c, &ret->resume, why);
	if (rc != OK)
		return rc;
	ret->prompt = str_dup(json_word(c->args, "prompt"));
	ret->read_only |= json_is_true(json_object_get(c->args, "readonly"));
	if (json_is_boolean(behind))
		ret->background = json_is_true(behind);
	return OK;
}

/* Whatever the model left out: the client library drops what lacks one of these. */
static void task_sdk_args(json_t *args)
{
	const char *name = json_word(args, "subagent_type");
	const struct builtin_subagent *builtin = subagent_builtin(name);

	if (!json_is_string(json_object_get(args, "description")))
		json_put(args, "description", "");
	if (!json_is_string(json_object_get(args, "prompt")))
		json_put(args, "prompt", "");
	if (!json_is_string(json_object_get(args, "model")))
		json_object_del(args, "model");
	json_object_del(args, "resume");
	json_object_del(args, "run_in_background");
	if (builtin != NULL)
		json_put_new(args, "subagentType", json_pack("{s:s}", "kind", builtin->name));
	else if (name[0] != '\0')
		json_put_new(args, "subagentType", json_pack("{s:s, s:s}", "kind", "custom", "name", name));
	json_object_del(args, "subagent_type");
}

static const struct control_tool task = {
    .name = TASK_TOOL,
    .description = "Gives a piece of work to a subagent with a context of its own, on the same workspace, and waits "
		   "for its report. Use it for "
		   "searches that would fill your context, for work that stands by itself, and for what can be done "
		   "side by side: several "
		   "calls in one turn go on at the same time. With run_in_background you go on yourself meanwhile, and "
		   "collect the report with await; what you did not collect comes to you before the run ends. It knows "
		   "nothing of this conversation, so the prompt "
		   "says everything it needs. "
		   "Its report is for you: tell the user what matters of it. Built in are generalPurpose (work of "
		   "several steps), explore "
		   "(finds and explains code, only reads), shell (long sequences of commands) and debug (reproduces a "
		   "fault and finds its "
		   "cause); the user may have given you others.",
    .parameters = "{\"type\":\"object\",\"required\":[\"description\",\"prompt\",\"subagent_type\"],\"properties\":{"
		  "\"description\":{\"type\":\"string\",\"description\":\"the task in 3 to 5 words\"},"
		  "\"prompt\":{\"type\":\"string\",\"description\":\"the whole task, and what the report shall say\"},"
		  "\"subagent_type\":{\"type\":\"string\",\"description\":\"generalPurpose, explore, shell, debug, or "
		  "one that the user gave "
		  "you\"},"
		  "\"model\":{\"type\":\"string\",\"description\":\"only if the user asked for one\"},"
		  "\"resume\":{\"type\":\"string\",\"description\":\"the agentId of an earlier task: its subagent goes "
		  "on, and knows what it did\"},"
		  "\"run_in_background\":{\"type\":\"boolean\",\"description\":\"return at once with its agentId\"},"
		  "\"readonly\":{\"type\":\"boolean\",\"description\":\"it may change nothing\"}}}",
    .class = "state",
    .sdk_type = "task",
    .arg_aliases = "{\"subagentType\":\"subagent_type\",\"type\":\"subagent_type\",\"readOnly\":\"readonly\","
		   "\"runInBackground\":\"run_in_background\",\"is_background\":\"run_in_background\"}",
    .sdk_args = task_sdk_args,
    .nest = task_nest,
};
CONTROL_TOOL(task);
