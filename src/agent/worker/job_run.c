#include "agent/worker/job.h"
#include "agent/worker/rules.h"
#include "agent/worker/session.h"
#include "base/clock.h"
#include "base/mem.h"
#include <string.h>

/* When the control plane sets no limit. */
#define OPEN_LIMIT_MS (20 * 60 * 1000)
#define PUBLISH_LIMIT_MS (10 * 60 * 1000)
#define TOOL_LIMIT_MS (60 * 60 * 1000)

static int64_t deadline(const struct job *j, int64_t own_limit_ms)
{
	return j->deadline_mono_ms != INT64_MAX ? j->deadline_mono_ms : clock_mono_ms() + own_limit_ms;
}

static void succeed(struct job *j, json_t *info)
{
	j->outcome = TOOL_SUCCESS;
	j->result_json = json_text(info);
	json_decref(info);
}

static const char *code_of(int rc)
{
	switch (rc) {
	case ERR_CANCELLED:
		return "cancelled";
	case ERR_TIMEOUT:
		return "timeout";
	default:
		return NULL;
	}
}

static void open_session(struct job *j)
{
	const struct session_open want = {.agent_id = j->agent_id,
	    .repo_url = j->name,
	    .starting_ref = j->text,
	    .branch = j->more,
	    .work_on_current_branch = j->work_on_current_branch};
	const char *open = session_agent_id(j->session), *code;
	struct why why = {""};
	json_t *info = NULL;
	int rc;

	if (open[0] != '\0' && strcmp(open, j->agent_id) != 0)
		session_close(j->session);
	rc = session_open(j->session, &want, j->cancel_fd, deadline(j, OPEN_LIMIT_MS), &info, &why);
	code = code_of(rc);
	if (rc == OK)
		succeed(j, info);
	else
		job_error(j, code != NULL ? code : "clone_failed", "%s", why.text);
	str_set(&j->open_agent, session_agent_id(j->session));
}

static void close_session(struct job *j)
{
	j->outcome = TOOL_SUCCESS;
	j->result_json = str_dup("{}");
	/* A close that comes late must not take the session of the agent that came after. */
	if (!j->whoever && strcmp(session_agent_id(j->session), j->agent_id) != 0)
		return;
	session_close(j->session);
	str_set(&j->open_agent, "");
}

static bool session_is_open(struct job *j)
{
	const char *open = session_agent_id(j->session);

	if (open[0] != '\0' && strcmp(open, j->agent_id) == 0)
		return true;
	job_error(j, "no_session", "this worker has no open session of agent %.100s", j->agent_id);
	return false;
}

static void publish(struct job *j)
{
	const struct session_publish want = {.message = j->name, .author_name = j->text, .author_email = j->more};
	struct why why = {""};
	json_t *info = NULL;
	const char *code;
	int rc;

	if (!session_is_open(j))
		return;
	rc = session_publish(j->session, &want, j->cancel_fd, deadline(j, PUBLISH_LIMIT_MS), &info, &why);
	code = code_of(rc);
	if (rc == OK)
		succeed(j, info);
	else
		job_error(j, code != NULL ? code : "publish_failed", "%s", why.text);
}

static void run_tool(struct job *j)
{
	struct tool_call call = {.call_id = j->call_id,
	    .session = j->session,
	    .deadline_mono_ms = deadline(j, TOOL_LIMIT_MS),
	    .cancel_fd = j->cancel_fd,
	    .on_output = j->on_output,
	    .on_output_ctx = j->on_output_ctx};

	if (!session_is_open(j))
		return;
	if (j->forget_rules)
		rules_forget(session_rules(j->session));
	tool_run(&call, j->name, j->text);
	j->outcome = call.outcome;
	if (call.result != NULL)
		j->result_json = json_text(call.result);
	if (call.sdk_result != NULL)
		j->sdk_json = json_text(call.sdk_result);
	j->model_text = TAKE(call.model_text);
	tool_call_fini(&call);
}

void job_run(struct job *j)
{
	switch (j->kind) {
	case JOB_OPEN_SESSION:
		open_session(j);
		break;
	case JOB_TOOL:
		run_tool(j);
		break;
	case JOB_PUBLISH:
		publish(j);
		break;
	case JOB_CLOSE_SESSION:
		close_session(j);
		break;
	case JOB_UNKNOWN:
		job_error(j, "unknown_call", "this worker does not know this kind of call; update the agent program");
		break;
	}
}
