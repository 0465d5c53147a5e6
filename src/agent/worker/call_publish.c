/* A call of kind PUBLISH: commits and pushes the branch of the session. */
#include "agent/worker/job.h"
#include "agent/session/session.h"
#include "base/mem.h"

#define PUBLISH_LIMIT_MS (10 * 60 * 1000)

static int publish_read_wish(struct job *j, const json_t *args, struct session_publish *ret)
{
	int rc = job_text_argument(j, args, "message", &ret->message);

	if (rc == OK)
		rc = job_text_argument(j, args, "authorName", &ret->author_name);
	return rc == OK ? job_text_argument(j, args, "authorEmail", &ret->author_email) : rc;
}

static void perform_publish(struct job *j)
{
	struct session_publish want = {0};
	AUTO_JSON args = NULL;
	AUTO_FINI(session_failure) fail = {0};
	json_t *info = NULL;
	int rc;

	if (job_arguments(j, &args) != OK || publish_read_wish(j, args, &want) != OK)
		return;
	rc = session_publish(j->session, &want, j->cancel_fd, job_deadline(j, PUBLISH_LIMIT_MS), &info, &fail);
	/* Only an opening can be made by another worker. */
	fail.machine = false;
	if (rc == OK)
		job_succeed(j, info);
	else
		job_error_of_session(j, rc, "publish_failed", &fail);
}

static const struct call_handler publish_handler = {
    .kind = CALL_PUBLISH, .exclusive = true, .needs_session = true, .ends = ENDS_NONE, .perform = perform_publish};
CALL_HANDLER(publish_handler);
