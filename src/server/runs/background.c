#include "server/runs/background.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/sanitized.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/runs/hooks.h"
#include "server/runs/subagents.h"
#include <string.h>

#define STACK_BYTES ((size_t)(SANITIZED ? 2048 : 256) * 1024)
#define REPORT_MAX ((size_t)32 * 1024)
#define REPORTS_MAX ((size_t)512 * 1024)
#define LOOK_MS 1000 /* a wait ends earlier with each message */

static char gone_token;

struct background_job {
	/* Constant while the thread runs. */
	struct run *run;
	struct mailbox *parent; /* the inbox of the run's own loop */
	char *call_id, *loop_id;
	json_t *args;
	bool read_only;
	struct mailbox *inbox; /* the loop's own, for messages about its calls */
	struct mailbox *gone; /* the thread's last word */
	atomic_bool stop; /* it has to end soon */

	bool working; /* it has its thread */
	struct background_job *next;
};

struct background {
	struct background_job *first; /* in the order of their calls */
	size_t working;
	bool stale; /* there may be rows that are not in the list */
};

static void drop_fleet_msg(void *msg)
{
	struct fleet_msg *m = msg;

	fleet_msg_free(&m);
}

int background_write_down(struct loop *child, const char *loop_id, const char *conversation_id, const json_t *args)
{
	AUTO_STR text = json_text(args);

	return tx_exec(child->tx,
	    "INSERT INTO background_loops(loop_id, call_id, run_id, conversation_id, args, state, told, created_at)"
	    " VALUES($1, $2, $3, $4, $5, 'running', 0, $6)",
	    "sssssi", loop_id, child->parent_call_id, child->run->info->id, conversation_id, text, clock_wall_ms());
}

/* ---- the thread of one ---- */

/* OK: its end is a row. */
static int store_end(struct loop *child, const char *loop_id, const char *outcome, const char *said)
{
	const char *text = text_is_blank(said) ? "(It ended without a word.)" : said;
	AUTO_STR clean = redact_text(child->run->redactor, text);
	AUTO_STR cut = NULL;
	int rc;

	if (clean != NULL)
		text = clean;
	cut = text_cut_middle(text, strlen(text), REPORT_MAX, NULL);
	do {
		rc = loop_begin_write(child);
		if (rc == OK)
			rc = tx_exec(child->tx,
			    "UPDATE background_loops SET state = 'done', outcome = $2, text = $3, ended_at = $4 WHERE "
			    "loop_id = $1 AND state = 'running'",
			    "sssi", loop_id, outcome, cut, clock_wall_ms());
	} while (loop_end_write(child, &rc));
	return rc;
}

/* An error: it is left as it is, for a later thread. */
static int work(struct background_job *j)
{
	__attribute__((cleanup(loop_spec_fini))) struct loop_spec spec = {0};
	__attribute__((cleanup(loop_fini))) struct loop child = {
	    .run = j->run, .depth = 1, .inbox = mailbox_ref(j->inbox), .stop = &j->stop};
	AUTO_STR text = NULL;
	AUTO_STR failed = NULL;
	struct why why = {0};
	int rc = loop_load(&child, j->loop_id);

	if (rc == ERR_NOT_FOUND)
		rc = why_set(&why, ERR_INTERNAL, "its conversation is gone");
	if (rc == OK)
		rc = nested_spec(j->run, TASK_TOOL, j->args, j->read_only, &spec, &why);
	child.offers = spec.offers;
	if (rc == OK) {
		hooks_describe_subagent(&child, j->args);
		rc = loop_run(&child, &text);
	}
	log_info("run.background_loop.done", "run=%s loop=%s call=%s result=%s", j->run->info->id, j->loop_id,
	    j->call_id, err_name(rc));
	if (child.fail_code == NULL && (run_is_left(rc) || store_is_unavailable(rc)))
		return rc;
	if (rc == OK && text != NULL)
		return store_end(&child, j->loop_id, "success", text);
	failed = str_printf("It failed (%s): %s", child.fail_code != NULL ? child.fail_code : "error",
	    child.fail_text != NULL	? child.fail_text
	    : child.why.text[0] != '\0' ? child.why.text
	    : why.text[0] != '\0'	? why.text
					: err_text(rc));
	return store_end(&child, j->loop_id, "error", failed);
}

/* After the word in `gone` the job may be freed: what follows is the thread's own. The message wakes the loop; if the
 * subagent was left and nobody asked for it, the run has to be left, too. */
static void background_main(void *arg)
{
	struct background_job *j = arg;
	struct mailbox *gone = mailbox_ref(j->gone), *parent = mailbox_ref(j->parent);
	struct fleet_msg *m = NEW(struct fleet_msg);
	int rc;

	thread_context_set(j->call_id);
	rc = work(j);
	m->kind = rc != OK && !atomic_load(&j->stop) ? FLEET_LOST : FLEET_RESULT;
	m->call_id = m->kind == FLEET_RESULT ? str_dup("") : NULL; /* no call's */
	thread_context_set(NULL);
	IGNORE(mailbox_post_always(gone, &gone_token));
	if (mailbox_post_always(parent, m) != OK)
		fleet_msg_free(&m);
	mailbox_free(&parent);
	mailbox_free(&gone);
}

/* ---- the list ---- */

static void background_job_free(struct background_job *j)
{
	mailbox_free(&j->parent);
	mailbox_free(&j->inbox);
	mailbox_free(&j->gone);
	json_decref(j->args);
	free(j->call_id);
	free(j->loop_id);
	free(j);
}

static bool is_listed(const struct background *b, const char *loop_id)
{
	for (const struct background_job *j = b->first; j != NULL; j = j->next)
		if (strcmp(j->loop_id, loop_id) == 0)
			return true;
	return false;
}

static void list_row(struct loop *l, struct query *q)
{
	struct background_job **at = &l->background->first, *j;

	if (is_listed(l->background, query_str(q, 0)))
		return;
	while (*at != NULL)
		at = &(*at)->next;
	j = NEW(struct background_job);
	*j = (struct background_job){.run = l->run,
	    .parent = mailbox_ref(l->inbox),
	    .loop_id = str_dup(query_str(q, 0)),
	    .call_id = str_dup(query_str(q, 1)),
	    .read_only = loop_only_plans(l),
	    .inbox = mailbox_new(256, drop_fleet_msg),
	    .gone = mailbox_new(1, NULL)};
	IGNORE(json_parse(query_str(q, 2), strlen(query_str(q, 2)), &j->args, NULL));
	if (j->args == NULL) /* we wrote it, but a store may come from anywhere */
		j->args = json_object();
	*at = j;
}

/* Of a call that is open still the executor looks after; one that a hook refused never begins. */
static int list_rows(struct loop *l)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT b.loop_id, b.call_id, b.args FROM background_loops b JOIN tool_calls c ON c.id = b.call_id"
		    " WHERE b.run_id = $1 AND b.state = 'running' AND c.state = 'done' AND c.outcome = 'success'"
		    " ORDER BY c.step, c.idx",
		    "s", l->run->info->id);
	while (rc == OK && (rc = query_next(q)) == OK) {
		if (l->background == NULL)
			l->background = NEW(struct background);
		list_row(l, q);
	}
	if (l->background != NULL)
		l->background->stale = rc != ERR_EMPTY;
	return rc == ERR_EMPTY ? OK : rc;
}

static void begin_waiting(struct loop *l)
{
	struct background *b = l->background;

	for (struct background_job *j = b->first; j != NULL && b->working + l->nested_calls < BACKGROUND_MAX;
	     j = j->next) {
		if (j->working)
			continue;
		if (thread_start("background", STACK_BYTES, background_main, j) != OK) {
			log_warn("run.background_loop.waits", "run=%s call=%s reason=%s", l->run->info->id, j->call_id,
			    log_quote("the control plane has no thread left"));
			return; /* tried again with the next message */
		}
		j->working = true;
		b->working++;
	}
}

static void remove_gone(struct background *b)
{
	for (struct background_job **at = &b->first; *at != NULL;) {
		struct background_job *j = *at;
		void *word;

		if (!j->working || mailbox_receive(j->gone, 0, &word) != OK) {
			at = &j->next;
			continue;
		}
		*at = j->next;
		b->working--;
		background_job_free(j);
	}
}

void background_reap(struct loop *l)
{
	if (l->background == NULL)
		return;
	remove_gone(l->background);
	/* A run that is being left begins with nothing. */
	if (l->detach_reason == OK)
		begin_waiting(l);
}

int background_resume(struct loop *l)
{
	int64_t n = 0;
	AUTO(tx) tx = NULL;
	int rc;

	if (l->depth > 0)
		return OK;
	rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query_int(
		    tx, &n, "SELECT COUNT(*) FROM background_loops WHERE run_id = $1", "s", l->run->info->id);
	tx_free(&tx);
	if (rc != OK || n == 0)
		return rc;
	l->background = NEW(struct background);
	rc = list_rows(l);
	if (rc == OK)
		background_reap(l);
	return rc;
}

void background_begin(struct loop *l)
{
	if (l->background == NULL)
		l->background = NEW(struct background);
	l->background->stale = true;
	IGNORE(list_rows(l)); /* else when the loop has its answer */
	background_reap(l);
}

/* ---- waiting ---- */

static int take_one_message(struct loop *l)
{
	void *msg = NULL;
	int got = mailbox_receive(l->inbox, clock_mono_ms() + LOOK_MS, &msg), rc = OK;
	struct fleet_msg *m = msg;

	if (got == OK)
		rc = calls_take_others(l, &m);
	else if (got != ERR_TIMEOUT)
		rc = ERR_LOST;
	fleet_msg_free(&m);
	if (rc == OK && atomic_load(&l->run->runs->stopping))
		rc = ERR_CLOSED;
	if (rc == OK)
		background_reap(l);
	return rc;
}

static bool needs_place(const struct call *c)
{
	return c->executor == &executor_loop && !json_is_true(json_object_get(c->args, "run_in_background"));
}

int background_make_place(struct loop *l, const struct call *calls, size_t *n)
{
	size_t wanted = 0;
	int rc = OK;

	if (l->background == NULL)
		return OK;
	for (size_t i = 0; i < *n; i++)
		wanted += needs_place(&calls[i]);
	while (rc == OK && wanted > 0 && l->background->working >= BACKGROUND_MAX)
		rc = take_one_message(l);
	if (wanted > 0)
		*n = MAX(MIN(*n, BACKGROUND_MAX - MIN(l->background->working, (size_t)BACKGROUND_MAX)), (size_t)1);
	return rc;
}

/* What nobody has collected; NULL: nothing. */
static int load_reports(struct loop *l, char **ret)
{
	struct strbuf b = STRBUF(REPORTS_MAX);
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(l->run->runs->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT b.conversation_id, b.text FROM background_loops b JOIN tool_calls c ON c.id = b.call_id "
		    "WHERE"
		    " b.run_id = $1 AND b.state = 'done' AND b.told = 0 ORDER BY c.step, c.idx",
		    "s", l->run->info->id);
	while (rc == OK && (rc = query_next(q)) == OK)
		IGNORE(strbuf_addf(&b, "\n\n## Subagent %s\n%s", query_str(q, 0), query_str(q, 1)));
	if (rc == ERR_EMPTY && b.len > 0)
		*ret = str_printf(
		    "[This comes from your subagents, not from the user.] These worked in the background and "
		    "have ended; their reports:%s",
		    strbuf_str(&b));
	strbuf_fini(&b);
	return rc == ERR_EMPTY ? OK : rc;
}

static int store_reports(struct loop *l, int64_t step, const char *text)
{
	int rc;

	do {
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = tx_exec(l->tx,
			    "INSERT INTO hook_messages(loop_id, step, text, created_at, origin) VALUES($1, $2, $3, $4,"
			    " 'background') ON CONFLICT DO NOTHING",
			    "sisi", l->id, step, text, clock_wall_ms());
		if (rc == OK)
			rc = tx_exec(l->tx, "UPDATE background_loops SET told = 1 WHERE run_id = $1 AND state = 'done'",
			    "s", l->run->info->id);
		if (rc == OK)
			rc = log_update(
			    &l->log, json_pack("{s:s, s:{s:s, s:s, s:s, s:s}}", "type", "user-message-appended",
					 "userMessage", "type", "user_message", "session_id", l->run->info->id, "text",
					 text, "origin", "background"));
	} while (loop_end_write(l, &rc));
	return rc;
}

int background_settle(struct loop *l, int64_t step, bool *ret_told)
{
	AUTO_STR text = NULL;
	int rc = OK;

	if (l->background == NULL)
		return OK;
	if (l->background->stale)
		rc = list_rows(l);
	background_reap(l);
	while (rc == OK && l->background->first != NULL)
		rc = take_one_message(l);
	if (rc == OK)
		rc = load_reports(l, &text);
	if (rc == OK && text != NULL)
		rc = store_reports(l, step, text);
	*ret_told = rc == OK && text != NULL;
	return rc;
}

void background_stop(struct loop *l)
{
	struct background *b = TAKE(l->background);

	if (b == NULL)
		return;
	for (struct background_job *j = b->first; j != NULL; j = j->next) {
		struct fleet_msg *wake = NEW(struct fleet_msg);

		wake->kind = FLEET_LOST;
		atomic_store(&j->stop, true);
		if (mailbox_post_always(j->inbox, wake) != OK)
			fleet_msg_free(&wake);
	}
	while (b->first != NULL) {
		struct background_job *j = b->first;
		void *word;

		/* Bounded: a loop ends soon after `stop`. */
		if (j->working)
			ENSURE(mailbox_receive(j->gone, INT64_MAX, &word) == OK);
		b->first = j->next;
		background_job_free(j);
	}
	free(b);
}
