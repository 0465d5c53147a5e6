/* Registration: what a Hello claims is checked and written to the store by jobs; the hub then
 * welcomes the worker or refuses it. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/grpc.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/ids.h"
#include "server/fleet/label.h"
#include "server/fleet/queue.h"
#include "server/fleet/register_priv.h"
#include "server/fleet/tool_sets.h"
#include <stdarg.h>
#include <string.h>

#define PROBE_MS 5000
#define HOST_MAX 255

static void reg_claim_fini(struct reg_claim *c)
{
	free(c->claim_id);
	free(c->agent_id);
	free(c->run_id);
}

void registration_free(struct registration **rp)
{
	struct registration *r = TAKE(*rp);

	if (r == NULL)
		return;
	for (size_t i = 0; r->call_runs != NULL && i < r->hello->n_calls; i++)
		free(r->call_runs[i]);
	free(r->call_runs);
	bullpen__worker__v1__hello__free_unpacked(r->hello, NULL);
	tool_set_free(&r->tools);
	free(r->host);
	free(r->account);
	free(r->key_id);
	for (size_t i = 0; i < r->n_claims; i++)
		reg_claim_fini(&r->claims[i]);
	free(r->claims);
	labels_fini(&r->labels);
	free(r->only_agent);
	free(r->only_worker);
	free(r);
}

int registration_refuse(struct registration *r, int rc, const char *code, bool fatal, const char *fmt, ...)
{
	va_list ap;

	snprintf(r->code, sizeof r->code, "%s", code);
	r->fatal = fatal;
	va_start(ap, fmt);
	vsnprintf(r->why.text, sizeof r->why.text, fmt, ap);
	va_end(ap);
	return rc;
}

static bool is_reserved_id(const char *id)
{
	return strcmp(id, "summary") == 0 || strcmp(id, "pools") == 0 || strcmp(id, "pending-requests") == 0;
}

static int register_read_labels(struct registration *r)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;

	for (size_t i = 0; i < h->n_labels; i++) {
		const char *key = h->labels[i]->key;
		struct why why;

		if (strcmp(key, "repo") == 0 || strcmp(key, "pool") == 0)
			return registration_refuse(r, ERR_INVALID, "invalid_registration", true,
			    "label %s is reserved: it is not given by hand", key);
		if (labels_add(&r->labels, key, h->labels[i]->value, LABELS_MAX, &why) != OK)
			return registration_refuse(r, ERR_INVALID, "invalid_registration", true, "%s", why.text);
	}
	if (h->personal && h->pool[0] != '\0')
		return registration_refuse(
		    r, ERR_INVALID, "invalid_registration", true, "a personal machine has no pool");
	return OK;
}

/* What a foreign client may send is checked here, in the terms of docs/worker-protocol.md. */
static int register_check_hello(struct registration *r)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;

	if (h->protocol_version != 1)
		return registration_refuse(r, ERR_INVALID, "invalid_registration", true,
		    "protocol version %u is not known here, only 1 is", h->protocol_version);
	if (h->incarnation == 0)
		return registration_refuse(r, ERR_INVALID, "invalid_registration", true, "incarnation must not be 0");
	if (!text_is_token(h->worker_id, "._:-", 128) || is_reserved_id(h->worker_id))
		return registration_refuse(r, ERR_INVALID, "invalid_registration", true,
		    "worker_id must be 1 to 128 characters of A-Z a-z 0-9 . _ : - and not a reserved word");
	if (h->pool[0] != '\0' && (!text_is_token(h->pool, "._-", 63) || strchr("._-", h->pool[0]) != NULL))
		return registration_refuse(r, ERR_INVALID, "invalid_registration", true,
		    "pool must be 1 to 63 characters of A-Z a-z 0-9 . _ - and begin with a letter or digit");
	if (strlen(h->name) > 128 || !text_is_utf8(h->name, strlen(h->name)))
		return registration_refuse(
		    r, ERR_INVALID, "invalid_registration", true, "name must be at most 128 bytes of text");
	for (size_t i = 0; i < h->n_roots; i++)
		if (strlen(h->roots[i]->repo) > 512 || strlen(h->roots[i]->host) > 255)
			return registration_refuse(
			    r, ERR_INVALID, "invalid_registration", true, "a root's repository name is too long");
	return register_read_labels(r);
}

/* Which credential starts which worker. */
static int check_machine(struct registration *r, const struct fleet_identity *who)
{
	if (who->user_id == 0)
		return registration_refuse(r, ERR_DENIED, "key_not_supported", true,
		    "service account keys only start pool workers; add --pool or use a personal credential");
	if (!who->connects_machine)
		return registration_refuse(r, ERR_DENIED, "key_not_supported", true,
		    "this key may not connect machines: it lacks the scope machines:connect");
	return OK;
}

static int check_pool_worker(struct registration *r, const struct fleet_identity *who)
{
	if (who->kind == FLEET_USER_TOKEN)
		return registration_refuse(r, ERR_DENIED, "key_not_supported", true,
		    "user-scoped tokens cannot start pool workers; use a service account key");
	if (who->user_id != 0)
		return registration_refuse(
		    r, ERR_DENIED, "key_not_supported", true, "pool workers need a service account API key");
	if (!who->connects_pool)
		return registration_refuse(r, ERR_DENIED, "key_not_supported", true,
		    "this key may not connect workers: it lacks the scope workers:connect");
	return OK;
}

static int register_authenticate(struct registration *r)
{
	__attribute__((cleanup(fleet_identity_fini))) struct fleet_identity who = {0};
	struct worker_conn *c = r->conn;
	struct fleet *f = c->fleet;
	const char *code = "unauthorized";
	int rc = f->authenticate(f->authenticate_ctx, c->authorization, &who, &code, &r->why);

	r->fatal = true;
	if (rc == ERR_UNAUTHORIZED)
		snprintf(r->code, sizeof r->code, "%s", code);
	if (rc == OK)
		rc = r->hello->personal ? check_machine(r, &who) : check_pool_worker(r, &who);
	if (rc == OK && who.only_worker != NULL && strcmp(who.only_worker, r->hello->worker_id) != 0)
		return registration_refuse(
		    r, ERR_DENIED, "wrong_worker", true, "this session token is for another worker id");
	if (rc != OK)
		return rc;
	r->team_id = who.team_id;
	r->user_id = who.user_id;
	r->account = TAKE(who.account);
	r->key_id = TAKE(who.key_id);
	r->only_agent = TAKE(who.only_agent);
	r->only_worker = TAKE(who.only_worker);
	return OK;
}

/* Before the present holder of the id is asked whether it is alive: who has no right to it learns nothing. */
static int check_owner(struct registration *r)
{
	const struct id_claim c = registration_id_claim(r);
	AUTO(tx) tx = NULL;
	struct why why;
	int rc = tx_begin(r->conn->fleet->cfg.store, TX_READ, &tx);

	return rc != OK ? rc : registration_refuse_by(r, worker_id_check(tx, &c, &why), &why);
}

static int read_tools(struct registration *r)
{
	struct why why = {0};
	int rc = tool_set_read(r->conn->fleet->cfg.store, r->hello, &r->tools, &why);

	if (rc == ERR_NOT_FOUND)
		return registration_refuse(
		    r, rc, "tools_unknown", false, "the tools of this worker are not known here any more");
	if (rc == ERR_INVALID)
		return registration_refuse(r, rc, "invalid_registration", true, "tools_json: %s", why.text);
	return rc;
}

static void registration_job(void *arg)
{
	struct registration *r = arg;
	struct fleet *f = r->conn->fleet;
	struct hub_msg *m = hub_msg_new(HUB_REGISTERED);
	int rc;

	if (r->admitted) {
		rc = registration_store(r);
	} else {
		rc = register_check_hello(r);
		if (rc == OK)
			rc = register_authenticate(r);
		if (rc == OK)
			rc = check_owner(r);
		if (rc == OK && r->tools == NULL)
			rc = read_tools(r);
	}
	if (rc != OK && (r->code[0] == '\0' || store_is_unavailable(rc))) {
		store_log_unavailable(f->cfg.store, rc);
		IGNORE(registration_refuse(
		    r, rc, "unavailable", false, "the server cannot register workers now: %s", err_text(rc)));
	} else if (rc == OK) {
		r->code[0] = '\0';
	}
	m->conn = r->conn;
	m->reg = r;
	hub_post(f, m);
}

static void submit_registration(struct registration *r)
{
	struct fleet *f = r->conn->fleet;

	r->conn->job_running = true;
	if (pool_submit(f->cfg.jobs, registration_job, r) != OK) {
		struct hub_msg *m = hub_msg_new(HUB_REGISTERED);

		IGNORE(registration_refuse(r, ERR_FULL, "unavailable", false, "the server is overloaded, try again"));
		m->conn = r->conn;
		m->reg = r;
		hub_post(f, m);
	}
}

void registration_begin(struct worker_conn *c, const Bullpen__Worker__V1__Hello *hello)
{
	struct registration *r = NEW(struct registration);
	uint8_t *packed;
	size_t n;

	r->conn = c;
	if (hello->tools_json[0] == '\0' && hello->tools_hash[0] != '\0')
		r->tools = tool_sets_find(c->fleet, hello->tools_hash);
	n = bullpen__worker__v1__hello__get_packed_size(hello);
	packed = mem_alloc(n);
	bullpen__worker__v1__hello__pack(hello, packed);
	r->hello = bullpen__worker__v1__hello__unpack(NULL, n, packed);
	free(packed);
	ENSURE(r->hello != NULL);
	r->host = text_line(r->hello->host, HOST_MAX);
	submit_registration(r);
}

static int status_of_refusal(const char *code)
{
	static const struct {
		const char *code;
		int status;
	} known[] = {{"unauthorized", GRPC_UNAUTHENTICATED}, {"token_expired", GRPC_UNAUTHENTICATED},
	    {"claim_ended", GRPC_UNAUTHENTICATED}, {"key_revoked", GRPC_UNAUTHENTICATED},
	    {"wrong_worker", GRPC_PERMISSION_DENIED}, {"key_not_supported", GRPC_PERMISSION_DENIED}};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(code, known[i].code) == 0)
			return known[i].status;
	return GRPC_FAILED_PRECONDITION;
}

static void send_refusal(struct registration *r)
{
	struct worker_conn *c = r->conn;
	int status = status_of_refusal(r->code);

	link_refuse(c->link, r->code, r->why.text, r->fatal, r->fatal ? 0 : 5000);
	worker_conn_flush(c, c->link);
	AUTO_STR label = worker_label(r->hello->name, r->hello->worker_id, r->host);

	log_warn("worker.refused", "worker=%s name=%s peer=%s code=%s reason=%s", log_quote(r->hello->worker_id),
	    log_quote(label), c->peer, r->code, log_quote(r->why.text));
	worker_conn_end(c, status, r->why.text);
}

/* The present connection of this worker id, if any, has lost it. */
static void replace_connection(struct worker *w, int64_t now_ms)
{
	struct worker_conn *old = w->conn;

	if (old == NULL)
		return;
	worker_conn_end(old, GRPC_CANCELLED, "another connection of this worker took over");
	worker_conn_lost(old, now_ms);
}

/* The link goes on, and so do the calls that the hub knows, except those that nobody waits for any more. */
static void resume_worker(const struct registration *r, struct worker *w)
{
	worker_take_session(w, r->hello);
	for (size_t i = 0; i < r->hello->n_calls; i++)
		if (r->call_runs[i] == NULL)
			worker_abandon(w, r->hello->calls[i]->call_id);
}

static void welcome_worker(struct registration *r, struct worker *w, int64_t now_ms)
{
	struct worker_conn *c = r->conn;
	bool same_process = w->incarnation == r->hello->incarnation;

	c->worker = w;
	w->conn = c;
	w->link_epoch = r->link_epoch;
	w->heard++;
	w->leave_by_ms = 0;
	w->gone_stored = w->gone_submitted = false;
	free(w->label);
	w->label = worker_label(r->hello->name, w->id, r->host);
	fitness_take_hello(w, r->hello);
	if (same_process && w->link != NULL && link_resume(w->link, &c->link, now_ms)) {
		resume_worker(r, w);
		return;
	}
	link_free(&w->link);
	w->link = TAKE(c->link);
	w->incarnation = r->hello->incarnation;
	tool_set_free(&w->tools);
	w->tools = tool_set_ref(r->tools);
	link_welcome(w->link, now_ms);
	worker_forget_running(w);
	for (size_t i = 0; i < r->hello->n_calls; i++)
		worker_take_up_call(w, r->hello->calls[i]->call_id, r->call_runs[i]);
	worker_take_session(w, r->hello);
}

static bool is_connected_elsewhere(const struct registration *r, const struct worker *w)
{
	return w->conn != NULL && w->incarnation != r->hello->incarnation;
}

static void refuse_second(struct registration *r)
{
	const struct worker *w = hub_find_worker(r->conn->fleet, r->team_id, r->hello->worker_id);

	IGNORE(registration_refuse(r, ERR_CONFLICT, "worker_connected", false,
	    "worker %s is connected from another process", w != NULL ? w->label : r->hello->worker_id));
	send_refusal(r);
}

/* Before the store hears of it: a row that is replaced for a worker that is then refused would have no owner. */
static void admit_registration(struct registration *r)
{
	r->admitted = true;
	submit_registration(r);
}

/* A worker id that is connected already: if that connection answers a probe it keeps the id, else the new one gets it.
 */
static void probe_holder(struct registration *r, struct worker *w, int64_t now_ms)
{
	struct worker_conn *c = r->conn;

	c->waiting = r;
	c->probed_heard = w->heard;
	c->probe_until_ms = now_ms + PROBE_MS;
	conns_touch(&c->fleet->conns, c);
	link_probe(w->link, now_ms);
	worker_conn_flush(w->conn, w->link);
}

void registration_tick(struct worker_conn *c, int64_t now_ms)
{
	struct worker *w = hub_worker(c->fleet, c->waiting->team_id, c->waiting->hello->worker_id);

	/* Also one that came while this one waited was heard of since. */
	bool elsewhere = is_connected_elsewhere(c->waiting, w);
	bool alive = elsewhere && w->heard > c->probed_heard;

	if (alive) {
		refuse_second(c->waiting);
		registration_free(&c->waiting);
	} else if (!elsewhere || now_ms >= c->probe_until_ms) {
		admit_registration(TAKE(c->waiting));
	}
}

/* A session whose claim ended while the worker was away: nobody would close it before the next one is opened, and what
 * runs there would go on. The close names the claim, so it spoils nothing that is opened meanwhile. */
static void close_left_session(
    const struct registration *r, struct worker *w, const char *agent_id, const char *claim_id)
{
	bool holds = claim_id[0] == '\0';

	for (size_t i = 0; i < r->n_claims; i++)
		holds |= strcmp(r->claims[i].claim_id, claim_id) == 0;
	if (!holds)
		worker_close_session(w, agent_id, claim_id, "error", NULL);
}

static void close_left_sessions(const struct registration *r, struct worker *w)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;

	close_left_session(r, w, h->agent_id, h->session_claim_id);
	for (size_t i = 0; i < h->n_sessions; i++)
		if (strcmp(h->sessions[i]->claim_id, h->session_claim_id) != 0)
			close_left_session(r, w, h->sessions[i]->agent_id, h->sessions[i]->claim_id);
}

static void enter_worker(struct registration *r, struct worker *w, int64_t now_ms)
{
	struct worker_conn *c = r->conn;
	struct fleet *f = c->fleet;

	/* Of two that came at the same time the row in the store is the later one's. */
	if (w->link_epoch > r->link_epoch) {
		refuse_second(r);
		return;
	}
	replace_connection(w, now_ms);
	welcome_worker(r, w, now_ms);
	atomic_fetch_add(&f->connected, 1);
	log_info("worker.connected", "worker=%s name=%s pool=%s peer=%s version=%s claimed=%d fit=%d", log_quote(w->id),
	    log_quote(w->label), registration_pool(r), c->peer, log_quote(r->hello->version), r->n_claims > 0,
	    !registration_is_unfit(r));
	worker_conn_flush(c, w->link);
	worker_conn_dispatch(c, w->link, now_ms);
	close_left_sessions(r, w);
	for (size_t i = 0; i < r->n_claims; i++) {
		const char *run = r->claims[i].run_id;

		if (run == NULL)
			continue;
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_RUN_READY, .run_id = run});
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_RUN_CHANGED, .run_id = run});
	}
	notify_send(f->cfg.notify,
	    &(struct note){.kind = NOTE_QUEUE_CHANGED, .team_id = r->team_id, .worker_id = r->hello->worker_id});
	if (f->cfg.relay != NULL)
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_WORKER_MOVED,
					       .team_id = r->team_id,
					       .worker_id = r->hello->worker_id,
					       .epoch = r->link_epoch});
}

/* The connection ended while the job ran: what the store holds now must belong to somebody. */
static void give_orphan_up(struct registration *r, struct worker *w, int64_t now_ms)
{
	if (w->link_epoch > r->link_epoch)
		return;
	w->link_epoch = r->link_epoch;
	if (w->conn != NULL)
		return;
	w->lost_at_ms = now_ms;
	w->gone_stored = w->gone_submitted = false;
	w->gone_tried_ms = 0;
	store_worker_gone(r->conn->fleet, w, now_ms);
}

void registration_finish(struct registration *r, int64_t now_ms)
{
	struct worker_conn *c = r->conn;
	struct worker *w = r->code[0] == '\0' ? hub_worker(c->fleet, r->team_id, r->hello->worker_id) : NULL;

	if (w != NULL && !r->admitted && !c->closed) {
		gate_leave(c->fleet->gate, c->gate_key);
		conns_set_key(&c->fleet->conns, c, r->key_id);
		tool_sets_share(c->fleet, &r->tools);
		if (is_connected_elsewhere(r, w))
			probe_holder(r, w, now_ms);
		else
			admit_registration(r);
		return;
	}
	if (w == NULL && !c->closed)
		send_refusal(r);
	else if (w != NULL && !c->closed)
		enter_worker(r, w, now_ms);
	else if (w != NULL && r->admitted)
		give_orphan_up(r, w, now_ms);
	registration_free(&r);
}
