/* A call of kind TOOL: one tool of the catalogue. */
#include "agent/worker/job.h"
#include "agent/artifacts/lookout.h"
#include "agent/session/rules.h"
#include "agent/session/session.h"
#include "agent/worker/hook_facts.h"
#include "base/json.h"
#include "base/mem.h"
#include <string.h>

#define TOOL_LIMIT_MS (60 * 60 * 1000)

static void perform_tool(struct job *j)
{
	AUTO_FINI(hook_facts) f = {0};
	struct lookout *artifacts = session_attached(j->session, GUEST_ARTIFACTS);
	struct tool_call call = {.call_id = j->call_id,
	    .session = j->session,
	    .hooks = session_tool_hooks(j->session),
	    .deadline_mono_ms = job_deadline(j, TOOL_LIMIT_MS),
	    .cancel_fd = j->cancel_fd,
	    .on_output = j->on_output,
	    .on_output_ctx = j->on_output_ctx};

	hook_facts_read(j, &f);
	call.env = f.run.env;
	call.hook_facts = f.facts;
	hooks_take_news(hooks_of(j->session), f.facts);
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
