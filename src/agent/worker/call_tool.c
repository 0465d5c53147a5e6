/* A call of kind TOOL: one tool of the catalogue. */
#include "agent/worker/job.h"
#include "agent/artifacts/lookout.h"
#include "agent/session/rules.h"
#include "agent/session/session.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/seal.h"
#include <string.h>

#define TOOL_LIMIT_MS (60 * 60 * 1000)

/* An object of texts, as the control plane has checked it; what is not is left out. NULL-terminated. */
static char **env_list(const char *text)
{
	AUTO_JSON env = NULL;
	char **list;
	size_t n = 0;
	const char *name;
	json_t *v;

	if (text == NULL || text[0] == '\0' || json_parse(text, strlen(text), &env, NULL) != OK)
		return NULL;
	list = mem_zalloc((json_object_size(env) + 1) * sizeof *list);
	json_object_foreach(env, name, v)
	{
		if (json_is_string(v) && name[0] != '\0' && strchr(name, '=') == NULL)
			list[n++] = str_printf("%s=%s", name, json_string_value(v));
	}
	return list;
}

static void env_list_free(char ***list)
{
	for (size_t i = 0; *list != NULL && (*list)[i] != NULL; i++)
		str_wipe(&(*list)[i]);
	free(*list);
	*list = NULL;
}

static void perform_tool(struct job *j)
{
	__attribute__((cleanup(env_list_free))) char **env = env_list(j->env_json);
	struct lookout *artifacts = session_attached(j->session, GUEST_ARTIFACTS);
	struct tool_call call = {.call_id = j->call_id,
	    .session = j->session,
	    .hooks = session_tool_hooks(j->session),
	    .env = (const char *const *)env,
	    .deadline_mono_ms = job_deadline(j, TOOL_LIMIT_MS),
	    .cancel_fd = j->cancel_fd,
	    .on_output = j->on_output,
	    .on_output_ctx = j->on_output_ctx};

	if (j->forget_rules)
		rules_forget(session_rules(j->session));
	session_touch(j->session);
	if (artifacts != NULL)
		lookout_poke(artifacts);
	tool_run(&call, j->name, j->arguments_json);
	if (artifacts != NULL)
		lookout_poke(artifacts);
	j->outcome = call.outcome;
	if (call.result != NULL)
		j->result_json = json_text(call.result);
	if (call.sdk_result != NULL)
		j->sdk_json = json_text(call.sdk_result);
	j->model_text = TAKE(call.model_text);
	tool_call_fini(&call);
}

static const struct call_handler tool_handler = {
    .kind = CALL_TOOL, .needs_session = true, .ends = ENDS_NONE, .perform = perform_tool};
CALL_HANDLER(tool_handler);
