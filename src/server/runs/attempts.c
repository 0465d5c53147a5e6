#include "server/runs/attempts.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/fleet/label.h"
#include "server/runs/call.h"
#include <string.h>

#define MESSAGE_MAX 2048
#define REASON_MAX 1024
#define TEXT_MAX (16 * 1024)

static const char *code_of(const struct call *c)
{
	const char *code = json_string_value(json_object_get(c->result, "code"));

	return code != NULL ? code : "";
}

bool attempt_is_of_machine(const struct call *c)
{
	return c->kind == CALL_OPEN_SESSION && strcmp(c->outcome, "error") == 0 &&
	       (strcmp(code_of(c), "worker_unfit") == 0 || strcmp(code_of(c), "open_timeout") == 0 ||
		   strcmp(code_of(c), "timeout") == 0);
}

static char *message_of(const struct call *c)
{
	const char *s = json_string_value(json_object_get(c->result, "message"));

	return text_line(s != NULL && s[0] != '\0' ? s : "no reason was given", MESSAGE_MAX);
}

static int put_attempt(struct loop *l, const struct call *c, const char *message, int64_t *ret_n)
{
	const struct run *r = l->run;

	return tx_query_int(l->tx, ret_n,
	    "INSERT INTO run_attempts(run_id, seq, worker_id, worker_name, host, code, message, at)"
	    " SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5, $6, $7 FROM run_attempts WHERE run_id = $1"
	    " RETURNING seq",
	    "ssssssi", r->info->id, r->worker_id, r->names.name, r->names.host, code_of(c), message, clock_wall_ms());
}

/* An answer that came too late says nothing about the other work of that machine. */
static int take_out_of_matching(struct loop *l, const struct call *c, const char *message)
{
	const struct run *r = l->run;
	AUTO_STR reason = text_line(message, REASON_MAX);

	if (strcmp(code_of(c), "worker_unfit") != 0)
		return OK;
	return queue_mark_unfit(
	    l->tx, r->agent->team_id, r->worker_id, c->link_epoch, c->fitness_n, "worker_unfit", reason);
}

/* The epoch changes: a thread that still has the run writes nothing more. */
static int give_back(struct loop *l, bool *ret_requeued)
{
	const struct run *r = l->run;
	int rc = queue_requeue_unopened(l->tx, r->agent->id, r->info->id, r->worker_id, clock_wall_ms());

	if (rc == ERR_EMPTY)
		return OK;
	if (rc == OK)
		rc = tx_exec(l->tx, "UPDATE runs SET owner_epoch = owner_epoch + 1 WHERE id = $1", "s", r->info->id);
	if (rc == OK) {
		l->log.epoch++;
		*ret_requeued = true;
	}
	return rc;
}

static int log_attempt(struct loop *l, const struct call *c, const char *message, int64_t n)
{
	int64_t all = l->run->runs->cfg.open_retries + 1;
	AUTO_STR text = str_printf("worker %s could not open the session: %s; attempt %lld of %lld",
	    l->run->worker_label, message, (long long)n, (long long)all);

	return log_line(&l->log, c->id, text);
}

int attempt_write(struct loop *l, struct call *c, bool *ret_requeued)
{
	const struct run *r = l->run;
	AUTO_STR message = message_of(c);
	int64_t n = 0;
	int rc = put_attempt(l, c, message, &n);

	*ret_requeued = false;
	if (rc == OK)
		rc = take_out_of_matching(l, c, message);
	if (rc == OK)
		rc = log_attempt(l, c, message, n);
	if (rc == OK && n <= r->runs->cfg.open_retries)
		rc = give_back(l, ret_requeued);
	return rc;
}

void attempt_tell(struct loop *l, const struct call *c)
{
	const struct run *r = l->run;

	log_warn("run.requeued", "run=%s worker=%s name=%s code=%s reason=%s", r->info->id, log_quote(r->worker_id),
	    log_quote(r->worker_label), log_quote(code_of(c)),
	    log_quote(json_string_value(json_object_get(c->result, "message"))));
	notify_send(r->runs->cfg.notify, &(struct note){.kind = NOTE_CLAIM_ENDED,
					     .team_id = r->agent->team_id,
					     .worker_id = r->worker_id,
					     .agent_id = r->agent->id,
					     .claim_id = r->claim_id});
	notify_send(r->runs->cfg.notify,
	    &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = r->agent->team_id, .agent_id = r->agent->id});
	notify_send(r->runs->cfg.notify,
	    &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = r->agent->team_id, .worker_id = r->worker_id});
}

static int query_attempts(struct tx *tx, const char *run_id, struct query **ret)
{
	return tx_query(tx, ret,
	    "SELECT worker_id, worker_name, host, code, message, at FROM run_attempts WHERE run_id = $1 ORDER BY seq",
	    "s", run_id);
}

int attempts_json(struct tx *tx, const char *run_id, json_t **ret)
{
	AUTO(query) q = NULL;
	AUTO_JSON list = json_array();
	int rc = query_attempts(tx, run_id, &q);

	while (rc == OK && (rc = query_next(q)) == OK) {
		json_t *a = json_object();
		char at[CLOCK_ISO_LEN];

		clock_iso8601(query_int(q, 5), at);
		json_put(a, "workerId", query_str(q, 0));
		json_put(a, "workerName", query_str(q, 1));
		json_put(a, "host", query_str(q, 2));
		json_put(a, "code", query_str(q, 3));
		json_put(a, "message", query_str(q, 4));
		json_put(a, "at", at);
		json_array_append_new(list, a);
	}
	if (rc == ERR_EMPTY)
		*ret = TAKE(list);
	return rc == ERR_EMPTY ? OK : rc;
}

int attempts_text(struct tx *tx, const char *run_id, char **ret)
{
	AUTO(query) q = NULL;
	struct strbuf b = STRBUF(TEXT_MAX);
	int rc = query_attempts(tx, run_id, &q);

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_STR label = worker_label(query_str(q, 1), query_str(q, 0), query_str(q, 2));
		const char *message = query_str(q, 4);

		strbuf_addf(&b, "%s%s: %.*s", b.len > 0 ? "; " : "", label,
		    (int)text_utf8_cut(message, strlen(message), 600), message);
	}
	if (rc == ERR_EMPTY && b.len > 0) {
		*ret = strbuf_take(&b);
		rc = OK;
	}
	strbuf_fini(&b);
	return rc;
}
