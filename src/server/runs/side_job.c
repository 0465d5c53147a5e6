#include "server/runs/side_job.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/sanitized.h"
#include "server/runs/hooks.h"
#include <string.h>

#define STACK_BYTES ((size_t)(SANITIZED ? 2048 : 256) * 1024)

static char gone_token;

static void drop_fleet_msg(void *msg)
{
	struct fleet_msg *m = msg;

	fleet_msg_free(&m);
}

static void side_job_free(struct side_job *j)
{
	mailbox_free(&j->inbox);
	mailbox_free(&j->gone);
	json_decref(j->result);
	json_decref(j->sdk);
	json_decref(j->changed_args);
	free(j->model_text);
	free(j);
}

void side_job_succeed(struct side_job *j, json_t *result, const char *model_text)
{
	ENSURE(j->result == NULL && !j->left);
	j->outcome = SIDE_JOB_SUCCESS;
	j->result = result;
	j->model_text = str_dup(model_text);
}

void side_job_report_failure(struct side_job *j, json_t *result, const char *model_text)
{
	side_job_succeed(j, result, model_text);
	j->outcome = SIDE_JOB_FAILURE;
}

void side_job_fail(struct side_job *j, const char *code, const char *message)
{
	ENSURE(j->result == NULL && !j->left);
	j->outcome = SIDE_JOB_FAILED;
	j->result = json_object();
	json_put(j->result, "message", message);
	json_put(j->result, "code", code);
	j->model_text = str_dup(message);
}

void side_job_reject(struct side_job *j, const char *code, const char *message, const char *model_text)
{
	side_job_fail(j, code, message);
	j->outcome = SIDE_JOB_REJECTED;
	free(j->model_text);
	j->model_text = str_dup(model_text);
}

/* The answer in the form in which a worker's comes, so that the loop treats it alike. */
static struct fleet_msg *answer_of(const struct side_job *j)
{
	struct fleet_msg *m = NEW(struct fleet_msg);

	m->call_id = str_dup(j->call_id);
	if (j->left) {
		m->kind = FLEET_LOST;
		return m;
	}
	m->kind = FLEET_RESULT;
	m->outcome = j->outcome;
	m->result_json = json_text(j->result);
	m->sdk_json = j->sdk != NULL ? json_text(j->sdk) : NULL;
	m->model_text = str_dup(j->model_text);
	return m;
}

/* The order matters: after the last word the loop may free the job and itself, so the answer comes before it. */
static void side_job_main(void *arg)
{
	struct side_job *j = arg;
	struct mailbox *gone = mailbox_ref(j->gone);
	struct fleet_msg *m;

	thread_context_set(j->call_id);
	if (hooks_before_job(j))
		j->perform(j);
	if (j->result == NULL && !j->left)
		side_job_fail(j, "internal", "the tool gave no result");
	hooks_after_job(j);
	m = answer_of(j);
	if (mailbox_post_always(j->parent->inbox, m) != OK)
		fleet_msg_free(&m);
	thread_context_set(NULL);
	IGNORE(mailbox_post_always(gone, &gone_token));
	mailbox_free(&gone);
}

void side_job_start(struct loop *l, struct call *c, int64_t deadline_ms, void (*perform)(struct side_job *j))
{
	struct side_job *j = NEW(struct side_job);

	ENSURE(c->job == NULL);
	*j = (struct side_job){.parent = l,
	    .call = c,
	    .call_id = c->id,
	    .args = c->args,
	    .deadline_ms = deadline_ms,
	    .perform = perform,
	    .inbox = mailbox_new(256, drop_fleet_msg),
	    .gone = mailbox_new(1, NULL)};
	c->job = j;
	if (thread_start("side job", STACK_BYTES, side_job_main, j) == OK)
		return;
	log_warn("run.side_job.refused", "run=%s call=%s", l->run->info->id, c->id);
	side_job_fail(j, "no_resources", "the control plane has no thread left");
	struct fleet_msg *m = answer_of(j);

	ENSURE(mailbox_post_always(l->inbox, m) == OK);
	IGNORE(mailbox_post_always(j->gone, &gone_token));
}

void side_job_join(struct call *c)
{
	struct side_job *j = TAKE(c->job);
	struct fleet_msg *wake;
	void *word;

	if (j == NULL)
		return;
	atomic_store(&j->stop, true);
	wake = NEW(struct fleet_msg);
	wake->kind = FLEET_LOST;
	if (mailbox_post_always(j->inbox, wake) != OK)
		fleet_msg_free(&wake);
	/* Bounded by the contract of `perform`: it ends soon after `stop`. */
	ENSURE(mailbox_receive(j->gone, INT64_MAX, &word) == OK);
	side_job_free(j);
}

void side_job_output(struct side_job *j, const char *text)
{
	struct fleet_msg *m = NEW(struct fleet_msg);

	m->kind = FLEET_OUTPUT;
	m->call_id = str_dup(j->call_id);
	m->stream = 1;
	m->len = strlen(text);
	m->data = str_dup(text);
	if (mailbox_post(j->parent->inbox, m) != OK)
		fleet_msg_free(&m);
}

void side_job_interrupted(struct loop *l, const struct call *c)
{
	struct fleet_msg *m = NEW(struct fleet_msg);

	m->kind = FLEET_INTERRUPTED;
	m->call_id = str_dup(c->id);
	ENSURE(mailbox_post_always(l->inbox, m) == OK);
}
