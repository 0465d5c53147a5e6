/* A call of kind RUN_HOOKS: hooks of an event that the control plane decides or performs itself. */
#include "agent/hooks/hooks.h"
#include "agent/session/session.h"
#include "agent/worker/hook_facts.h"
#include "agent/worker/job.h"
#include "base/mem.h"

static void take_news(struct job *j, const char *status)
{
	AUTO_FINI(hook_facts) f = {0};
	AUTO_FINI(hook_verdict) v = {0};

	hook_facts_read(j, &f);
	hooks_take_news(hooks_of(j->session), f.facts);
	if (hooks_of(j->session) != NULL && status[0] != '\0')
		hooks_note_status(hooks_of(j->session), status);
	job_succeed(j, hook_verdict_json(&v));
}

static void perform_run_hooks(struct job *j)
{
	AUTO_FINI(hook_facts) f = {0};
	AUTO_FINI(hook_verdict) v = {0};
	AUTO_JSON args = NULL;
	const char *name = "", *subject = "", *status = "";
	json_t *payload;
	enum hook_event e;

	if (job_arguments(j, &args) != OK || job_text_argument(j, args, "event", &name) != OK ||
	    job_text_argument(j, args, "subject", &subject) != OK ||
	    job_text_argument(j, args, "runStatus", &status) != OK)
		return;
	if (name[0] == '\0') { /* only news */
		take_news(j, status);
		return;
	}
	payload = json_object_get(args, "payload");
	e = hook_event_find(name);
	if (e >= HOOK_EVENTS || (payload != NULL && !json_is_object(payload))) {
		job_error(j, "invalid_arguments", "there is no event '%.100s', or its payload is no object", name);
		return;
	}
	hook_facts_read(j, &f);
	hooks_take_news(hooks_of(j->session), f.facts);
	if (hooks_listen(hooks_of(j->session), e))
		hooks_run(hooks_of(j->session),
		    &(struct hook_request){.event = e,
			.subject = subject[0] != '\0' ? subject : NULL,
			.payload = payload != NULL ? json_incref(payload) : json_object(),
			.run = &f.run},
		    &v);
	job_succeed(j, hook_verdict_json(&v));
}

static const struct call_handler run_hooks_handler = {
    .kind = CALL_RUN_HOOKS, .needs_session = true, .ends = ENDS_NONE, .perform = perform_run_hooks};
CALL_HANDLER(run_hooks_handler);
