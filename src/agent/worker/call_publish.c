/* A call of kind PUBLISH: commits and pushes the branch of the session. */
#include "agent/worker/job.h"
#include "agent/artifacts/lookout.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/mem.h"

#define PUBLISH_LIMIT_MS (10 * 60 * 1000)
#define REPORT_MS 5000 /* of the limit, for the answer */

static int publish_read_wish(struct job *j, const json_t *args, struct session_publish *ret)
{
	int rc = job_text_argument(j, args, "message", &ret->message);

	if (rc == OK)
		rc = job_text_argument(j, args, "authorName", &ret->author_name);
	return rc == OK ? job_text_argument(j, args, "authorEmail", &ret->author_email) : rc;
}

/* Files of artifacts/ that could not be brought; they are no reason to fail. */
static void put_not_uploaded(struct job *j, struct lookout *w, int64_t deadline, json_t *info)
{
	AUTO_JSON left = lookout_await(w, j->cancel_fd, MAX(deadline - REPORT_MS, clock_mono_ms()));

	if (json_array_size(left) > 0)
		json_object_set(info, "notUploaded", left);
}

static void perform_publish(struct job *j)
{
	struct session_publish want = {0};
	AUTO_JSON args = NULL;
	AUTO_FINI(session_failure) fail = {0};
	json_t *info = NULL;
	struct lookout *artifacts = session_attached(j->session, GUEST_ARTIFACTS);
	int64_t deadline = job_deadline(j, PUBLISH_LIMIT_MS);
	int rc;

	if (job_arguments(j, &args) != OK || publish_read_wish(j, args, &want) != OK)
		return;
	/* They go up while git pushes. */
	if (artifacts != NULL)
		lookout_finish(artifacts);
	rc = session_publish(j->session, &want, j->cancel_fd, deadline, &info, &fail);
	if (rc == OK && artifacts != NULL)
		put_not_uploaded(j, artifacts, deadline, info);
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
