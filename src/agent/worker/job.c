#include "agent/worker/job.h"
#include "base/mem.h"

bool job_is_exclusive(const struct job *j)
{
	return j->kind == JOB_OPEN_SESSION || j->kind == JOB_CLOSE_SESSION || j->kind == JOB_PUBLISH;
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

void job_fini(struct job *j)
{
	job_drop_outcome(j);
	str_free(&j->call_id);
	str_free(&j->agent_id);
	str_free(&j->name);
	str_free(&j->text);
	str_free(&j->more);
	str_free(&j->open_agent);
}
