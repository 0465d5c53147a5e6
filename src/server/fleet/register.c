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
#include "server/fleet/register.h"
#include "server/fleet/tool_sets.h"
#include <stdarg.h>
#include <string.h>

#define PROBE_MS 5000
#define HOST_MAX 255
#define REASON_MAX 1024
#define IDS_LEAST 240
#define NEW_IDS_LEAST 60

/* A Hello on its way through the store. Owned by the job while it runs. */
struct registration {
	struct worker_conn *conn;
	Bullpen__Worker__V1__Hello *hello; /* a copy */
	char *host; /* of the hello, as a line of at most HOST_MAX bytes */
	bool admitted; /* checked and authenticated, the worker id is free: the next job writes it to the store */
	struct tool_set *tools; /* NULL until a job has read them, which it does not before it is known who says it */
	/* Whose it is, from the first job. */
	int64_t team_id;
	char *account, *key_id;
	/* The outcome. */
	char code[48];
	struct why why;
	bool fatal;
	int64_t link_epoch;
	char *claim_id; /* of a live claim, or NULL */
	char *run_id; /* of a live claim with an active run, or NULL */
	char **call_runs; /* for each call of the hello its run; NULL: nobody waits for it */
};

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
	free(r->claim_id);
	free(r->run_id);
	free(r);
}

static int set_refusal(struct registration *r, int rc, const char *code, bool fatal, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
static int set_refusal(struct registration *r, int rc, const char *code, bool fatal, const char *fmt, ...)
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

/* What a foreign client may send is checked here, in the terms of docs/worker-protocol.md. */
static int register_check_hello(struct registration *r)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;

	if (h->protocol_version != 1)
		return set_refusal(r, ERR_INVALID, "invalid_registration", true,
		    "protocol version %u is not known here, only 1 is", h->protocol_version);
	if (h->incarnation == 0)
		return set_refusal(r, ERR_INVALID, "invalid_registration", true, "incarnation must not be 0");
	if (!text_is_token(h->worker_id, "._:-", 128) || is_reserved_id(h->worker_id))
		return set_refusal(r, ERR_INVALID, "invalid_registration", true,
		    "worker_id must be 1 to 128 characters of A-Z a-z 0-9 . _ : - and not a reserved word");
	if (h->pool[0] != '\0' && (!text_is_token(h->pool, "._-", 63) || strchr("._-", h->pool[0]) != NULL))
		return set_refusal(r, ERR_INVALID, "invalid_registration", true,
		    "pool must be 1 to 63 characters of A-Z a-z 0-9 . _ - and begin with a letter or digit");
	if (strlen(h->name) > 128 || !text_is_utf8(h->name, strlen(h->name)))
		return set_refusal(
		    r, ERR_INVALID, "invalid_registration", true, "name must be at most 128 bytes of text");
	for (size_t i = 0; i < h->n_roots; i++)
		if (strlen(h->roots[i]->repo) > 512 || strlen(h->roots[i]->host) > 255)
			return set_refusal(
			    r, ERR_INVALID, "invalid_registration", true, "a root's repository name is too long");
	return OK;
}

static int register_authenticate(struct registration *r)
{
	struct worker_conn *c = r->conn;
	struct fleet *f = c->fleet;
	int rc = f->authenticate(f->authenticate_ctx, c->authorization, &r->team_id, &r->account, &r->key_id, &r->why);

	if (rc == ERR_UNAUTHORIZED)
		snprintf(r->code, sizeof r->code, "unauthorized");
	else if (rc == ERR_DENIED)
		snprintf(r->code, sizeof r->code, "key_not_supported");
	r->fatal = true;
	return rc;
}

/* What it may take: as many ids as four full fleets, a full fleet of new ones in a minute. */
static struct id_claim id_claim_of(const struct registration *r)
{
	int64_t max_workers = r->conn->fleet->cfg.max_workers_per_team;

	return (struct id_claim){.team_id = r->team_id,
	    .worker_id = r->hello->worker_id,
	    .account = r->account,
	    .max_ids = MAX(4 * max_workers, IDS_LEAST),
	    .max_new = MAX(max_workers, NEW_IDS_LEAST)};
}

static int refuse_by(struct registration *r, int rc, const struct why *why)
{
	if (rc == ERR_DENIED)
		return set_refusal(r, rc, "worker_id_taken", true, "%s", why->text);
	if (rc == ERR_FULL)
		return set_refusal(r, rc, "quota_exceeded", false, "%s", why->text);
	return rc;
}

/* Before the present holder of the id is asked whether it is alive: who has no right to it learns nothing. */
static int check_owner(struct registration *r)
{
	const struct id_claim c = id_claim_of(r);
	AUTO(tx) tx = NULL;
	struct why why;
	int rc = tx_begin(r->conn->fleet->cfg.store, TX_READ, &tx);

	return rc != OK ? rc : refuse_by(r, worker_id_check(tx, &c, &why), &why);
}

/* Again where it is written: of two that came at once one is second. */
static int take_id(struct registration *r, struct tx *tx, int64_t now)
{
	const struct id_claim c = id_claim_of(r);
	struct why why;
	int rc = worker_id_check(tx, &c, &why);

	if (rc == OK)
		rc = worker_id_make_room(tx, &c, now, &why);
	return refuse_by(r, rc, &why);
}

/* Registrations of one team come one after the other: the row of the team is written, so that a second transaction
 * waits for the first to end and counts its worker. With SQLite writers wait for each other anyway; a database where
 * they do not would let two of them count the same number and both go in. */
static int check_quota(struct registration *r, struct tx *tx)
{
	unsigned max = r->conn->fleet->cfg.max_workers_per_team;
	int64_t others = 0;
	int rc = tx_exec(tx, "UPDATE teams SET name = name WHERE id = $1", "i", r->team_id);

	if (rc == OK)
		rc = tx_query_int(tx, &others, "SELECT COUNT(*) FROM workers WHERE team_id = $1 AND id <> $2", "is",
		    r->team_id, r->hello->worker_id);
	if (rc == OK && others >= max)
		return set_refusal(r, ERR_FULL, "quota_exceeded", false,
		    "limit exceeded: %lld workers of this team are connected (max_workers_per_team)",
		    (long long)others);
	return rc;
}

static const char *pool_of(const struct registration *r)
{
	return r->hello->pool[0] != '\0' ? r->hello->pool : "default";
}

static bool is_unfit(const struct registration *r)
{
	return r->hello->fitness != NULL && r->hello->fitness->code[0] != '\0';
}

static enum slot_state slot_state(const struct registration *r)
{
	if (is_unfit(r))
		return SLOT_UNFIT;
	if (r->claim_id == NULL)
		return SLOT_FREE;
	return r->run_id != NULL ? SLOT_BUSY : SLOT_HELD;
}

static int put_slot(struct tx *tx, struct registration *r, const char *repo_as_given, const char *host, int64_t now)
{
	AUTO_STR repo = str_dup(repo_as_given);
	AUTO_STR lower_host = str_dup(host);
	const struct id_claim c = id_claim_of(r);
	struct why why;
	int64_t team = r->team_id;
	int rc;

	id_lower(repo);
	id_lower(lower_host);
	rc = tx_exec(tx,
	    "INSERT INTO worker_slots(team_id, pool, repo, repo_host, worker_id, state, idle_since)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
	    "issssii", team, pool_of(r), repo, lower_host, r->hello->worker_id, (int64_t)slot_state(r), now);
	if (rc == OK)
		rc = refuse_by(r, pool_make_room(tx, &c, pool_of(r), repo, lower_host, &why), &why);
	if (rc != OK)
		return rc;
	return tx_exec(tx,
	    "INSERT INTO pools(team_id, name, repo, repo_host, repo_name, first_seen_at, last_seen_at, account)"
	    " VALUES($1, $2, $3, $4, $5, $6, $6, $7)"
	    " ON CONFLICT(team_id, name, repo, repo_host) DO UPDATE SET last_seen_at = excluded.last_seen_at",
	    "issssis", team, pool_of(r), repo, lower_host, repo_as_given, now, r->account);
}

static int put_slots(struct tx *tx, struct registration *r, int64_t now)
{
	bool any = false;
	int rc = tx_exec(tx, "DELETE FROM worker_slots WHERE team_id = $1 AND worker_id = $2", "is", r->team_id,
	    r->hello->worker_id);

	for (size_t i = 0; rc == OK && i < r->hello->n_roots; i++) {
		const Bullpen__Worker__V1__Root *root = r->hello->roots[i];

		if (root->repo[0] == '\0')
			continue;
		any = true;
		rc = put_slot(tx, r, root->repo, root->host, now);
	}
	if (rc == OK && !any)
		rc = put_slot(tx, r, "", "", now);
	return rc;
}

static int put_worker(struct tx *tx, struct registration *r, int64_t now)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;
	const struct node *node = r->conn->fleet->cfg.node;
	AUTO_STR reason = text_line(is_unfit(r) ? h->fitness->reason : "", REASON_MAX);
	int rc = tx_query_int(tx, &r->link_epoch,
	    "INSERT INTO worker_epochs(team_id, worker_id, epoch, seen_at, name, host, account, first_seen_at)"
	    " VALUES($1, $2, 1, $3, $4, $5, $6, $3) ON CONFLICT(team_id, worker_id) DO UPDATE SET"
	    " epoch = worker_epochs.epoch + 1, seen_at = excluded.seen_at, name = excluded.name, host = excluded.host,"
	    " account = excluded.account RETURNING epoch",
	    "isisss", r->team_id, h->worker_id, now, h->name, r->host, r->account);

	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM workers WHERE team_id = $1 AND id = $2", "is", r->team_id, h->worker_id);
	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO workers(team_id, id, link_epoch, name, pool, key_id, service_account_id, "
		    "workspace_root, busy,"
		    " draining, connected_at, idle_since, tool_set, node_id, node_epoch, host, unfit_code, "
		    "unfit_reason)"
		    " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $10, $11, $12, $13, $14, $15, $16)",
		    "isisssssiississs", r->team_id, h->worker_id, r->link_epoch, h->name, pool_of(r), r->key_id,
		    r->account, h->n_roots > 0 ? h->roots[0]->path : "", (int64_t)(r->claim_id != NULL), now,
		    r->tools->hash, node->id, node->epoch, r->host, is_unfit(r) ? h->fitness->code : "", reason);
	return rc;
}

/* A live claim on this worker id: the worker takes it up again. */
static int find_claim(struct tx *tx, struct registration *r)
{
	const struct node *node = r->conn->fleet->cfg.node;
	AUTO_STR agent = NULL;
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "UPDATE claims SET lost_at = NULL, node_id = $3, node_epoch = $4 WHERE team_id = $1 AND worker_id = $2"
	    " RETURNING agent_id, id",
	    "issi", r->team_id, r->hello->worker_id, node->id, node->epoch);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	agent = str_dup(query_str(q, 0));
	r->claim_id = str_dup(query_str(q, 1));
	query_free(&q); /* before the transaction goes on */
	rc = tx_query_text(tx, &r->run_id, "SELECT run_id FROM requests WHERE agent_id = $1 AND worker_id = $2", "ss",
	    agent, r->hello->worker_id);
	return rc == ERR_EMPTY ? OK : rc;
}

static int sort_out_calls(struct tx *tx, struct registration *r)
{
	const struct fleet_config *cfg = &r->conn->fleet->cfg;

	r->call_runs = mem_zalloc((r->hello->n_calls + 1) * sizeof *r->call_runs);
	for (size_t i = 0; i < r->hello->n_calls; i++) {
		int rc = cfg->call_run(cfg->ctx, tx, r->hello->calls[i]->call_id, &r->call_runs[i]);

		/* A statement that failed spoils the transaction. */
		if (rc != OK && rc != ERR_EMPTY)
			return rc;
		/* While this worker was away its run may have gone to another one, where it makes calls of its own. */
		if (rc == OK && (r->run_id == NULL || strcmp(r->run_id, r->call_runs[i]) != 0))
			str_free(&r->call_runs[i]);
	}
	return OK;
}

static int register_put_tools(struct tx *tx, struct registration *r, int64_t now)
{
	int rc = tool_set_store(tx, r->tools, r->account, now);

	if (rc == ERR_FULL)
		return set_refusal(r, rc, "quota_exceeded", false,
		    "limit exceeded: too many different descriptions of tools were sent lately");
	return rc;
}

static int store_registration(struct registration *r)
{
	AUTO(tx) tx = NULL;
	int64_t now = clock_wall_ms();
	int rc = tx_begin(r->conn->fleet->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = check_quota(r, tx);
	if (rc == OK)
		rc = take_id(r, tx, now);
	if (rc == OK)
		rc = find_claim(tx, r);
	if (rc == OK)
		rc = put_worker(tx, r, now);
	if (rc == OK)
		rc = put_slots(tx, r, now);
	if (rc == OK)
		rc = register_put_tools(tx, r, now);
	if (rc == OK)
		rc = sort_out_calls(tx, r);
	return rc != OK ? rc : tx_commit(&tx);
}

static int read_tools(struct registration *r)
{
	struct why why = {0};
	int rc = tool_set_read(r->conn->fleet->cfg.store, r->hello, &r->tools, &why);

	if (rc == ERR_NOT_FOUND)
		return set_refusal(
		    r, rc, "tools_unknown", false, "the tools of this worker are not known here any more");
	if (rc == ERR_INVALID)
		return set_refusal(r, rc, "invalid_registration", true, "tools_json: %s", why.text);
	return rc;
}

static void registration_job(void *arg)
{
	struct registration *r = arg;
	struct fleet *f = r->conn->fleet;
	struct hub_msg *m = hub_msg_new(HUB_REGISTERED);
	int rc;

	if (r->admitted) {
		rc = store_registration(r);
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
		IGNORE(set_refusal(
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

		IGNORE(set_refusal(r, ERR_FULL, "unavailable", false, "the server is overloaded, try again"));
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

static void send_refusal(struct registration *r)
{
	struct worker_conn *c = r->conn;
	int status = strcmp(r->code, "unauthorized") == 0	 ? GRPC_UNAUTHENTICATED
		     : strcmp(r->code, "key_not_supported") == 0 ? GRPC_PERMISSION_DENIED
								 : GRPC_FAILED_PRECONDITION;

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

	IGNORE(set_refusal(r, ERR_CONFLICT, "worker_connected", false, "worker %s is connected from another process",
	    w != NULL ? w->label : r->hello->worker_id));
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
static void close_left_session(const struct registration *r, struct worker *w)
{
	const Bullpen__Worker__V1__Hello *h = r->hello;

	if (h->session_claim_id[0] != '\0' && (r->claim_id == NULL || strcmp(r->claim_id, h->session_claim_id) != 0))
		worker_close_session(w, h->agent_id, h->session_claim_id);
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
	    log_quote(w->label), pool_of(r), c->peer, log_quote(r->hello->version), r->claim_id != NULL, !is_unfit(r));
	worker_conn_flush(c, w->link);
	worker_conn_dispatch(c, w->link, now_ms);
	close_left_session(r, w);
	if (r->run_id != NULL) {
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_RUN_READY, .run_id = r->run_id});
		notify_send(f->cfg.notify, &(struct note){.kind = NOTE_RUN_CHANGED, .run_id = r->run_id});
	}
	notify_send(f->cfg.notify, &(struct note){.kind = NOTE_QUEUE_CHANGED});
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
