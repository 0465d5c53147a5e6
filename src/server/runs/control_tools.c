/* The list of control-plane tools, and calls of them as an executor. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/runs/control_tool.h"
#include "server/runs/side_job.h"
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#define LIMIT_MS (10 * 60 * 1000)

/* Ends of the section that CONTROL_TOOL() fills; absent in a program that links no tool. */
extern const struct control_tool *const __start_control_tool_table[] __attribute__((weak));
extern const struct control_tool *const __stop_control_tool_table[] __attribute__((weak));

static pthread_once_t once = PTHREAD_ONCE_INIT;
static json_t *described; /* constant after `once` */

static json_t *control_describe_tool(const struct control_tool *t)
{
	json_t *o = json_object(), *parameters = NULL, *aliases = NULL, *names = NULL;

	ENSURE((t->run != NULL) != (t->nest != NULL));
	ENSURE(json_parse(t->parameters, strlen(t->parameters), &parameters, NULL) == OK);
	json_put(o, "name", t->name);
	json_put(o, "description", t->description);
	json_put(o, "class", t->class);
	json_put(o, "sdkType", t->sdk_type);
	json_put_new(o, "parameters", parameters);
	if (t->aliases != NULL) {
		ENSURE(json_parse(t->aliases, strlen(t->aliases), &names, NULL) == OK);
		json_put_new(o, "aliases", names);
	}
	if (t->arg_aliases != NULL) {
		ENSURE(json_parse(t->arg_aliases, strlen(t->arg_aliases), &aliases, NULL) == OK);
		json_put_new(o, "argAliases", aliases);
	}
	return o;
}

static void describe_all(void)
{
	described = json_array();
	for (const struct control_tool *const *t = __start_control_tool_table; t != __stop_control_tool_table; t++)
		if (!(*t)->internal)
			json_array_append_new(described, control_describe_tool(*t));
}

const json_t *control_tools_described(void)
{
	pthread_once(&once, describe_all);
	return described;
}

const struct control_tool *control_tool_find(const char *name)
{
	for (const struct control_tool *const *t = __start_control_tool_table; t != __stop_control_tool_table; t++)
		if (strcasecmp((*t)->name, name) == 0)
			return *t;
	return NULL;
}

void loop_spec_fini(struct loop_spec *s)
{
	str_free(&s->prompt);
	str_free(&s->system);
	str_free(&s->model);
	str_free(&s->resume);
}

void control_call_succeed(struct control_call *c, json_t *result, const char *model_text)
{
	ENSURE(!c->done);
	c->done = true;
	c->result = result;
	c->model_text = str_dup(model_text);
}

void control_call_report_failure(struct control_call *c, json_t *result, const char *model_text)
{
	control_call_succeed(c, result, model_text);
	c->failed = true;
}

void control_call_fail(struct control_call *c, const char *code, const char *fmt, ...)
{
	va_list ap;

	ENSURE(!c->done);
	c->done = c->failed = true;
	snprintf(c->code, sizeof c->code, "%s", code);
	va_start(ap, fmt);
	c->model_text = str_vprintf(fmt, ap);
	va_end(ap);
}

bool control_call_is_over(const struct control_call *c)
{
	return atomic_load(c->stop) || clock_mono_ms() >= c->deadline_ms;
}

static void control_output(struct control_call *c, const char *text)
{
	side_job_output(c->job, text);
}

static void perform_control_tool(struct side_job *j)
{
	const struct run *r = j->parent->run;
	const struct control_tool *tool = control_tool_find(j->call->name);
	struct control_call c = {.store = r->runs->cfg.store,
	    .call_id = j->call_id,
	    .agent_id = r->agent->id,
	    .run_id = r->info->id,
	    .loop_id = j->parent->id,
	    .team_id = r->agent->team_id,
	    .tools = j->parent->all,
	    .args = j->args,
	    .deadline_ms = j->deadline_ms,
	    .stop = &j->stop,
	    .output = control_output,
	    .job = j,
	    .remote = r->remote};

	if (tool == NULL || tool->run == NULL) {
		side_job_fail(j, "unknown_tool", "this version of the control plane does not have this tool");
		return;
	}
	tool->run(&c);
	if (c.done && c.failed && c.result != NULL)
		side_job_report_failure(j, TAKE(c.result), c.model_text);
	else if (c.done && c.failed)
		side_job_fail(j, c.code, c.model_text);
	else if (c.done) {
		side_job_succeed(j, TAKE(c.result), c.model_text);
		j->sdk = TAKE(c.sdk);
	}
	json_decref(c.result);
	json_decref(c.sdk);
	free(c.model_text);
}

static int64_t control_limit_ms(const struct loop *l, const struct call *c)
{
	return LIMIT_MS;
}

/* A call that an earlier thread wrote down was cut off with it, or never began: that cannot be told apart. */
static void control_start(struct loop *l, struct call *c)
{
	const struct control_tool *tool = control_tool_find(c->name);

	if (c->taken_over && (tool == NULL || !tool->repeatable))
		side_job_interrupted(l, c);
	else
		side_job_start(l, c, clock_mono_ms() + LIMIT_MS, perform_control_tool);
}

static void control_end(struct loop *l, struct call *c)
{
	side_job_join(c);
}

const struct executor executor_control = {
    .name = "control",
    .limit_ms = control_limit_ms,
    .start = control_start,
    .stored = control_end,
    .abandon = control_end,
    .leave = control_end,
};
