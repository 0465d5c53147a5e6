/* A call of kind CLOSE_SESSION: ends what an agent left running and removes its workspace. */
#include "agent/worker/job.h"
#include "agent/hooks/hooks.h"
#include "agent/session/session.h"
#include "base/mem.h"
#include <string.h>

/* A close can arrive late: the claim ends in the store before it is sent, and meanwhile another agent, or the same one
 * with a new claim, can have opened its session here. So only the session of the named claim is closed. */
static bool is_meant(const struct job *j)
{
	if (j->session == NULL)
		return false;
	return j->any_session || (strcmp(session_agent_id(j->session), j->agent_id) == 0 &&
				     strcmp(session_claim_id(j->session), j->claim_id) == 0);
}

/* Of our own closing the caller has said it already. */
static void say_end(struct job *j, const json_t *args)
{
	struct hooks *h = hooks_of(j->session);
	const char *reason = "completed", *status = NULL, *error = NULL;

	if (h == NULL)
		return;
	if (j->any_session)
		reason = j->end_reason != NULL ? j->end_reason : "aborted";
	IGNORE(json_get_string(args, "reason", &reason, NULL));
	IGNORE(json_get_string(args, "finalStatus", &status, NULL));
	IGNORE(json_get_string(args, "error", &error, NULL));
	hooks_say_end(h, reason, status, error, j->end_limit_ms);
}

static void perform_close(struct job *j)
{
	json_t *kept = NULL, *result = json_object();
	AUTO_JSON args = NULL;

	if (is_meant(j)) {
		/* It closes whatever it was given. */
		if (json_parse(j->arguments_json, strlen(j->arguments_json), &args, NULL) != OK)
			args = NULL;
		say_end(j, args);
		session_put_resources(j->session, result);
		session_close(j->session, &kept);
		str_set(&j->open_agent, "");
		str_set(&j->open_claim, "");
		json_put_new(result, "kept", kept != NULL ? kept : json_null());
	}
	job_succeed(j, result);
}
static const struct call_handler close_handler = {
    .kind = CALL_CLOSE_SESSION, .exclusive = true, .ends = ENDS_OF_ITS_CLAIM, .perform = perform_close};
CALL_HANDLER(close_handler);
