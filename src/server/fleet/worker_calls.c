/* What the hub does for runs: calls to a worker and their results, each at most once. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/worker_priv.h"
#include <string.h>

#define OUTPUT_PIECE_MAX (64 * 1024) /* with the bound of a run's inbox this bounds what waits there */
#define OUTPUT_OF_CALL_MAX (1024 * 1024)
#define PROGRESS_MAX ((size_t)256)
#define CLOSED_RESULT_MAX ((size_t)64 * 1024)

struct fleet_msg *msg_new(enum fleet_msg_kind kind, const char *call_id)
{
	struct fleet_msg *m = NEW(struct fleet_msg);

	m->kind = kind;
	m->call_id = str_dup(call_id);
	return m;
}

static struct fleet_msg *msg_copy(const struct fleet_msg *from)
{
	struct fleet_msg *m = msg_new(from->kind, from->call_id);

	m->outcome = from->outcome;
	m->link_epoch = from->link_epoch;
	m->fitness_n = from->fitness_n;
	m->result_json = str_dup(from->result_json);
	m->model_text = str_dup(from->model_text);
	m->sdk_json = str_dup(from->sdk_json);
	return m;
}

void post_to_run(struct mailbox *inbox, struct fleet_msg *m)
{
	int rc =
	    m->kind == FLEET_OUTPUT || m->kind == FLEET_NEWS ? mailbox_post(inbox, m) : mailbox_post_always(inbox, m);

	if (rc != OK)
		fleet_msg_free(&m);
}

static struct hub_call *find_call(struct worker *w, const char *call_id)
{
	for (size_t i = 0; i < w->n_calls; i++)
		if (strcmp(w->calls[i].call_id, call_id) == 0)
			return &w->calls[i];
	return NULL;
}

static void call_fini(struct hub_call *c)
{
	str_free(&c->call_id);
	str_free(&c->run_id);
	str_free(&c->agent_id);
	str_free(&c->claim_id);
	str_free(&c->closes);
	fleet_msg_free(&c->result);
}

static void drop_call(struct worker *w, struct hub_call *c)
{
	call_fini(c);
	*c = w->calls[--w->n_calls];
}

static struct hub_call *know_call(struct worker *w, const char *call_id, const char *run_id, call_kind kind)
{
	struct hub_call *c = find_call(w, call_id);

	if (c != NULL)
		return c;
	w->calls = mem_grow(w->calls, &w->calls_cap, w->n_calls + 1, sizeof *w->calls);
	c = &w->calls[w->n_calls++];
	*c = (struct hub_call){.call_id = str_dup(call_id),
	    .run_id = str_dup(run_id),
	    .kind = kind,
	    .agent_id = str_dup(""),
	    .claim_id = str_dup("")};
	return c;
}

static void set_session_of(struct hub_call *c, const char *agent_id, const char *claim_id)
{
	str_set(&c->agent_id, agent_id);
	str_set(&c->claim_id, claim_id);
}

/* A result of opening or closing came: which session is open now. A worker runs these calls of one agent one after the
 * other and sends their results in that order. A result that is older than the last Hello says nothing new: the worker
 * may have closed the session since, while nobody heard it. */
static void note_session(struct worker *w, const struct hub_call *c, bool success)
{
	if (c->in_hello)
		return;
	if (c->kind == CALL_OPEN_SESSION)
		worker_note_opening(w, c->agent_id, success ? c->claim_id : "");
	else if (c->kind == CALL_CLOSE_SESSION && success)
		worker_note_closing(w, c->claim_id);
}

void worker_note_calls(struct worker *w, const Bullpen__Worker__V1__Hello *hello)
{
	for (size_t i = 0; i < w->n_calls; i++)
		w->calls[i].in_hello = false;
	for (size_t i = 0; i < hello->n_calls; i++) {
		struct hub_call *c = find_call(w, hello->calls[i]->call_id);

		if (c != NULL)
			c->in_hello = hello->calls[i]->finished;
	}
}

void worker_forget_running(struct worker *w)
{
	for (size_t i = w->n_calls; i-- > 0;)
		if (w->calls[i].result == NULL)
			drop_call(w, &w->calls[i]);
}

void worker_free(struct worker **wp)
{
	struct worker *w = TAKE(*wp);

	if (w == NULL)
		return;
	for (size_t i = 0; i < w->n_calls; i++)
		call_fini(&w->calls[i]);
	free(w->calls);
	link_free(&w->link);
	worker_runs_fini(w);
	tool_set_free(&w->tools);
	free(w->label);
	free(w->unfit_code);
	free(w->unfit_reason);
	free(w->id);
	free(w->key);
	free(w);
}

/* The worker would refuse it: that is a result too. */
static struct fleet_msg *msg_refused(const char *call_id)
{
	struct fleet_msg *m = msg_new(FLEET_RESULT, call_id);

	m->outcome = BULLPEN__WORKER__V1__CALL_RESULT__OUTCOME__ERROR;
	m->result_json =
	    str_dup("{\"message\":\"the call is too large for the worker protocol\",\"code\":\"too_large\"}");
	m->model_text = str_dup("the call is too large for the worker protocol");
	return m;
}

/* What the run is told of a result. The worker may have closed the session after it had opened it, while nobody heard
 * it: then the last Hello names the opening as finished and its session as not open, and the success is worth nothing.
 */
static struct fleet_msg *msg_of_result(const struct worker *w, const struct hub_call *c)
{
	bool opened =
	    c->kind == CALL_OPEN_SESSION && c->result->outcome == BULLPEN__WORKER__V1__CALL_RESULT__OUTCOME__SUCCESS;

	if (opened && c->in_hello && !worker_has_session(w, c->claim_id))
		return msg_new(FLEET_INTERRUPTED, c->call_id);
	return msg_copy(c->result);
}

/* A call that nobody waits for: it is acknowledged and forgotten when its result comes. */
static void call_unheard(struct worker *w, const Bullpen__Worker__V1__Call *call)
{
	struct hub_call *c;

	if (link_send_call(w->link, call) != OK)
		return;
	c = know_call(w, call->call_id, "", call->kind);
	set_session_of(c, call->agent_id, call->claim_id);
	c->abandoned = true;
	worker_conn_flush(w->conn, w->link);
}

void worker_call(struct fleet *f, int64_t team_id, const char *worker_id, uint64_t incarnation,
    const Bullpen__Worker__V1__Call *call)
{
	struct worker *w = hub_find_worker(f, team_id, worker_id);
	struct mailbox *inbox = w != NULL ? worker_inbox(w, call->run_id) : NULL;
	struct hub_call *known;

	if (call->run_id[0] == '\0') {
		if (w != NULL && w->conn != NULL && incarnation == w->incarnation &&
		    find_call(w, call->call_id) == NULL)
			call_unheard(w, call);
		return;
	}
	/* Without the inbox the run has been told already that it lost the worker. */
	if (inbox == NULL || worker_was_cancelled(w, call->run_id))
		return;
	known = find_call(w, call->call_id);
	if (known != NULL) {
		/* Known from a Hello, perhaps, which tells the id alone. */
		str_set(&known->run_id, call->run_id);
		set_session_of(known, call->agent_id, call->claim_id);
		known->kind = call->kind;
		if (known->result != NULL)
			post_to_run(inbox, msg_of_result(w, known));
	} else if (incarnation != w->incarnation) {
		post_to_run(inbox, msg_new(FLEET_INTERRUPTED, call->call_id));
	} else if (link_send_call(w->link, call) != OK) {
		post_to_run(inbox, msg_refused(call->call_id));
	} else {
		known = know_call(w, call->call_id, call->run_id, call->kind);
		set_session_of(known, call->agent_id, call->claim_id);
		worker_conn_flush(w->conn, w->link);
	}
}

static void flush_worker(struct worker *w)
{
	if (w->conn != NULL)
		worker_conn_flush(w->conn, w->link);
}

void worker_result_stored(struct worker *w, const char *call_id)
{
	struct hub_call *c = find_call(w, call_id);

	if (c == NULL)
		return;
	link_send_result_ack(w->link, call_id); /* first: call_id may be the call's own */
	drop_call(w, c);
	flush_worker(w);
}

void worker_abandon(struct worker *w, const char *call_id)
{
	struct hub_call *c = find_call(w, call_id);

	if (c == NULL || c->abandoned)
		return;
	if (c->result != NULL) {
		worker_result_stored(w, call_id);
		return;
	}
	c->abandoned = true;
	if (!text_has_prefix(call_id, "close-"))
		link_send_cancel(w->link, call_id);
	flush_worker(w);
}

void worker_take_up_call(struct worker *w, const char *call_id, const char *run_id)
{
	IGNORE(
	    know_call(w, call_id, run_id != NULL ? run_id : "", BULLPEN__WORKER__V1__CALL_KIND__CALL_KIND_UNSPECIFIED));
	/* The run may have been cancelled after the store was asked. */
	if (run_id == NULL || worker_was_cancelled(w, run_id))
		worker_abandon(w, call_id);
}

void worker_abandon_calls_of(struct worker *w, const char *run_id)
{
	for (size_t i = w->n_calls; i-- > 0;)
		if (strcmp(w->calls[i].run_id, run_id) == 0)
			worker_abandon(w, w->calls[i].call_id);
}

struct closed_job {
	struct fleet *fleet;
	int64_t team_id;
	char *worker_id, *agent_id, *result;
};

static void closed_job(void *arg)
{
	struct closed_job *j = arg;
	const struct fleet_config *cfg = &j->fleet->cfg;
	AUTO(tx) tx = NULL;
	int rc = tx_begin(cfg->store, TX_WRITE, &tx);

	if (rc == OK)
		rc = cfg->session_closed(cfg->ctx, tx, j->team_id, j->worker_id, j->agent_id, j->result);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		store_log_unavailable(cfg->store, rc);
	free(j->worker_id);
	free(j->agent_id);
	free(j->result);
	free(j);
}

/* What a worker says when it has closed a session is good to know, and nobody is told that it will be known: when the
 * store or the jobs are busy it gets lost. */
static void submit_closed(struct worker *w, const char *agent_id, const char *result)
{
	struct fleet *f = w->conn->fleet;
	struct closed_job *j;

	if (f->cfg.session_closed == NULL || strlen(result) > CLOSED_RESULT_MAX || strcmp(result, "{}") == 0)
		return;
	j = NEW(struct closed_job);
	*j = (struct closed_job){f, w->team_id, str_dup(w->id), str_dup(agent_id), str_dup(result)};
	if (pool_submit(f->cfg.jobs, closed_job, j) == OK)
		return;
	free(j->worker_id);
	free(j->agent_id);
	free(j->result);
	free(j);
}

void worker_take_result(struct worker *w, const Bullpen__Worker__V1__CallResult *r)
{
	struct hub_call *c = find_call(w, r->call_id);
	struct mailbox *inbox;
	struct fleet_msg *m;

	ENSURE(w->conn != NULL); /* from where it came */
	if (c != NULL && c->result == NULL)
		note_session(w, c, r->outcome == BULLPEN__WORKER__V1__CALL_RESULT__OUTCOME__SUCCESS);
	if (c == NULL || c->abandoned) {
		if (c != NULL && c->closes != NULL)
			submit_closed(w, c->closes, r->result_json);
		/* Nobody waits: the worker may forget it. */
		if (c != NULL)
			drop_call(w, c);
		link_send_result_ack(w->link, r->call_id);
		return;
	}
	if (c->result != NULL)
		return; /* sent again after a reconnect; the first copy is kept until it is stored */
	c->result = msg_new(FLEET_RESULT, r->call_id);
	c->result->outcome = (int)r->outcome;
	c->result->link_epoch = w->link_epoch;
	c->result->fitness_n = w->fitness_n;
	c->result->result_json = str_dup(r->result_json);
	c->result->model_text = str_dup(r->model_text);
	c->result->sdk_json = str_dup(r->sdk_json);
	/* Of a call that no run has asked for yet it is not known what it means: it is told when it is asked for. */
	inbox = worker_inbox(w, c->run_id);
	if (inbox == NULL || c->kind == BULLPEN__WORKER__V1__CALL_KIND__CALL_KIND_UNSPECIFIED)
		return;
	m = msg_of_result(w, c);
	if (mailbox_put(inbox, m) == OK)
		hub_tell(w->conn->fleet, inbox);
	else
		fleet_msg_free(&m);
}

/* A line that replaces the one before: it takes nothing of the call's share of output, and may get lost. */
static void take_progress(struct mailbox *inbox, const struct hub_call *c, const Bullpen__Worker__V1__CallOutput *o)
{
	struct fleet_msg *m;

	if (c->kind != CALL_OPEN_SESSION)
		return;
	m = msg_new(FLEET_OUTPUT, o->call_id);
	m->stream = 3;
	m->len = MIN(o->data.len, PROGRESS_MAX);
	m->data = mem_dup(o->data.data, m->len);
	post_to_run(inbox, m);
}

void worker_take_output(struct worker *w, const Bullpen__Worker__V1__CallOutput *o)
{
	struct hub_call *c = find_call(w, o->call_id);
	struct mailbox *inbox = c != NULL ? worker_inbox(w, c->run_id) : NULL;
	size_t at = 0;

	if (inbox == NULL || c->abandoned || o->stream < 1 || o->stream > 3)
		return;
	if (o->stream == 3) {
		take_progress(inbox, c, o);
		return;
	}
	while (at < o->data.len && c->output_bytes < OUTPUT_OF_CALL_MAX) {
		struct fleet_msg *m = msg_new(FLEET_OUTPUT, o->call_id);

		m->stream = (int)o->stream;
		m->len = MIN(MIN(o->data.len - at, OUTPUT_PIECE_MAX), OUTPUT_OF_CALL_MAX - c->output_bytes);
		m->data = mem_dup(o->data.data + at, m->len);
		at += m->len;
		c->output_bytes += m->len;
		post_to_run(inbox, m);
	}
}

void worker_close_session(
    struct worker *w, const char *agent_id, const char *claim_id, const char *reason, const char *status)
{
	Bullpen__Worker__V1__Call call = BULLPEN__WORKER__V1__CALL__INIT;
	AUTO_JSON given = NULL;
	AUTO_STR args = NULL;
	AUTO_STR id = NULL;

	if (w->conn == NULL)
		return;
	given = json_object();
	json_put(given, "reason", reason != NULL ? reason : "completed");
	json_put(given, "finalStatus", status);
	id = str_printf("close-%s-%lld", agent_id, (long long)clock_wall_ms());
	call.call_id = id;
	call.agent_id = (char *)(uintptr_t)agent_id;
	call.claim_id = (char *)(uintptr_t)claim_id;
	call.kind = CALL_CLOSE_SESSION;
	args = json_text(given);
	call.arguments_json = args;
	set_session_of(know_call(w, id, "", call.kind), agent_id, claim_id);
	worker_abandon(w, id); /* nobody waits for its result */
	find_call(w, id)->closes = str_dup(agent_id);
	IGNORE(link_send_call(w->link, &call));
	worker_conn_flush(w->conn, w->link);
}
