#include "agent/worker/job.h"
#include "agent/session/session.h"
#include "base/seal.h"
#include "base/clock.h"
#include "base/mem.h"
#include <string.h>

/* Ends of the section that CALL_HANDLER() fills; absent in a program without handlers. */
extern const struct call_handler *const __start_call_handlers[] __attribute__((weak));
extern const struct call_handler *const __stop_call_handlers[] __attribute__((weak));

const struct call_handler *call_handler_find(call_kind kind)
{
	for (const struct call_handler *const *h = __start_call_handlers; h != __stop_call_handlers; h++)
		if ((*h)->kind == kind)
			return *h;
	return NULL;
}

void job_drop_outcome(struct job *j)
{
	str_free(&j->result_json);
	str_free(&j->model_text);
	str_free(&j->sdk_json);
}

void job_error(struct job *j, const char *code, const char *fmt, ...)
{
	AUTO_JSON result = json_object();
	va_list ap;

	job_drop_outcome(j);
	va_start(ap, fmt);
	j->model_text = str_vprintf(fmt, ap);
	va_end(ap);
	json_put(result, "message", j->model_text);
	json_put(result, "code", code);
	j->result_json = json_text(result);
	j->outcome = TOOL_ERROR;
}

/* Also a failure for want of time tells what git said and where the work is: nobody else can name it. */
void job_error_of_session(struct job *j, int rc, const char *code, const struct session_failure *f)
{
	AUTO_JSON result = json_object();
	bool more = f->said != NULL && f->said[0] != '\0' && strstr(f->why.text, f->said) == NULL;

	job_drop_outcome(j);
	j->model_text = str_dup(f->why.text);
	json_put(result, "message", j->model_text);
	if (more)
		json_put(result, "output", f->said);
	json_put(result, "code",
	    rc == ERR_CANCELLED ? "cancelled"
	    : f->machine	? "worker_unfit"
	    : rc == ERR_TIMEOUT ? "timeout"
				: code);
	if (f->kept != NULL)
		json_put_new(result, "kept", json_incref(f->kept));
	j->result_json = json_text(result);
	j->outcome = TOOL_ERROR;
}

void job_succeed(struct job *j, json_t *result)
{
	j->outcome = TOOL_SUCCESS;
	j->result_json = json_text(result);
	json_decref(result);
}

int job_arguments(struct job *j, json_t **ret)
{
	const char *text = j->arguments_json[0] != '\0' ? j->arguments_json : "{}";
	AUTO_JSON args = NULL;
	struct why why = {""};
	int rc = json_parse(text, strlen(text), &args, &why);

	if (rc == OK && !json_is_object(args))
		rc = why_set(&why, ERR_INVALID, "the arguments must be an object");
	if (rc != OK) {
		job_error(j, "invalid_arguments", "%s", why.text);
		return ERR_INVALID;
	}
	*ret = TAKE(args);
	return OK;
}

int job_text_argument(struct job *j, const json_t *args, const char *name, const char **ret)
{
	const char *text = "";
	struct why why = {""};

	if (json_get_string(args, name, &text, &why) != OK) {
		job_error(j, "invalid_arguments", "%s", why.text);
		return ERR_INVALID;
	}
	*ret = text;
	return OK;
}

int64_t job_deadline(const struct job *j, int64_t own_limit_ms)
{
	return j->deadline_mono_ms != INT64_MAX ? j->deadline_mono_ms : clock_mono_ms() + own_limit_ms;
}

/* Agent and claim: a call that was sent for an earlier claim of the same agent belongs to a session that has ended. */
static bool session_is_open(const struct job *j)
{
	const char *open = j->session != NULL ? session_agent_id(j->session) : "";

	return open[0] != '\0' && strcmp(open, j->agent_id) == 0 &&
	       strcmp(session_claim_id(j->session), j->claim_id) == 0;
}

void job_run(struct job *j)
{
	const struct call_handler *h = j->handler;

	if (h == NULL)
		job_error(j, "unknown_call", "this worker does not know this kind of call; update the agent program");
	else if (h->needs_session && !session_is_open(j))
		job_error(j, "no_session", "this worker has no open session of agent %.100s", j->agent_id);
	else
		h->perform(j);
}

void job_fini(struct job *j)
{
	job_drop_outcome(j);
	str_free(&j->call_id);
	str_free(&j->agent_id);
	str_free(&j->claim_id);
	str_free(&j->name);
	str_free(&j->arguments_json);
	str_wipe(&j->env_json);
	str_wipe(&j->mcp_json);
	str_free(&j->hook_json);
	str_free(&j->open_agent);
	str_free(&j->open_claim);
	str_free(&j->unfit_reason);
}
