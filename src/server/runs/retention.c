#include "server/runs/retention.h"
#include "base/clock.h"
#include "base/mem.h"
#include "server/audit/audit.h"
#include "server/runs/inputs.h"
#include "server/notices/notices.h"
#include "server/pulls/pulls.h"
#include "server/webhooks/webhooks.h"
#include <string.h>

#define ROWS_A_STEP 500 /* of small rows in one transaction */
#define PARENTS_A_STEP 50 /* agents or runs that are looked up at once */
#define PAGES_A_STEP 256
#define IDEMPOTENCY_MS ((int64_t)24 * 60 * 60 * 1000)
#define QUEUE_EVENT_MS ((int64_t)10 * 60 * 1000)

/* How long this round may go on. */
struct budget {
	struct store *st;
	int64_t until_ms; /* monotonic */
	bool gave; /* something was deleted */
};

static bool is_spent(const struct budget *b)
{
	return clock_mono_ms() >= b->until_ms;
}

/* What a rule deletes of each thing. */
struct deletion {
	const char *sql; /* $1 its id, $2 the number of rows */
	bool dated; /* $3: older than */
};

/* One small transaction of one statement. *ret_n: rows it changed. */
static int delete_some(struct budget *b, const struct deletion *d, const char *id, int64_t before_ms, int64_t *ret_n)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(b->st, TX_WRITE, &tx);

	if (rc == OK)
		rc = d->dated ? tx_change(tx, ret_n, d->sql, "sii", id, (int64_t)ROWS_A_STEP, before_ms)
			      : tx_change(tx, ret_n, d->sql, "si", id, (int64_t)ROWS_A_STEP);
	if (rc == OK)
		rc = tx_commit(&tx);
	b->gave |= rc == OK && *ret_n > 0;
	return rc;
}

/* Repeats the statement until it finds nothing. ERR_TIMEOUT: the budget is spent first. */
static int delete_all(struct budget *b, const struct deletion *d, const char *id, int64_t before_ms)
{
	int64_t n = 1;
	int rc = OK;

	while (rc == OK && n > 0)
		rc = is_spent(b) ? ERR_TIMEOUT : delete_some(b, d, id, before_ms, &n);
	return rc;
}

static int delete_each(struct budget *b, const struct deletion *deletions, const char *id, int64_t before_ms)
{
	int rc = OK;

	for (const struct deletion *d = deletions; rc == OK && d->sql != NULL; d++)
		rc = delete_all(b, d, id, before_ms);
	return rc;
}

struct ids {
	char *v[PARENTS_A_STEP];
	size_t n;
};

static void ids_clear(struct ids *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	l->n = 0;
}

/* `sql` has the parameters $1 (older than) and $2 (how many). */
static int find_ids(struct store *st, const char *sql, int64_t before_ms, struct ids *l)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q, sql, "ii", before_ms, (int64_t)PARENTS_A_STEP);
	while (rc == OK && l->n < PARENTS_A_STEP && (rc = query_next(q)) == OK)
		l->v[l->n++] = str_dup(query_str(q, 0));
	return rc == ERR_EMPTY ? OK : rc;
}

/* A rule: which things, what of each is deleted in small steps, and the one transaction that is its end. A crash in
 * between leaves something that the same rule finds again. */
struct retention_rule {
	const char *find;
	const struct deletion *deletions; /* up to one without a text */
	int (*finish)(struct tx *tx, const char *id, int64_t before_ms);
};

static int finish_one(struct budget *b, const struct retention_rule *rule, const char *id, int64_t before_ms)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(b->st, TX_WRITE, &tx);

	if (rc == OK)
		rc = rule->finish(tx, id, before_ms);
	return rc != OK ? rc : tx_commit(&tx);
}

static int apply_to_each(struct budget *b, const struct retention_rule *rule, const struct ids *l, int64_t before_ms)
{
	int rc = OK;

	for (size_t i = 0; rc == OK && i < l->n; i++) {
		rc = delete_each(b, rule->deletions, l->v[i], before_ms);
		if (rc == OK)
			rc = finish_one(b, rule, l->v[i], before_ms);
	}
	return rc;
}

static int apply_rule(struct budget *b, const struct retention_rule *rule, int64_t before_ms)
{
	__attribute__((cleanup(ids_clear))) struct ids l = {0};
	int rc;

	do {
		ids_clear(&l);
		rc = is_spent(b) ? ERR_TIMEOUT : find_ids(b->st, rule->find, before_ms, &l);
		if (rc == OK)
			rc = apply_to_each(b, rule, &l, before_ms);
	} while (rc == OK && l.n == PARENTS_A_STEP);
	return rc;
}

/* Events. They are numbered without a gap, so the oldest ones are a range of the key. The full result of a call is
 * needed for events only; the conversation has its own, shorter text. */
static const struct deletion event_deletions[] = {
    {"DELETE FROM events WHERE run_id = $1 AND seq < (SELECT MIN(e.seq) FROM events e WHERE e.run_id = $1) + $2"},
    {"UPDATE tool_calls SET result = NULL WHERE id IN (SELECT c.id FROM loops l JOIN tool_calls c ON c.loop_id = l.id"
     " WHERE (l.id = $1 OR (l.run_id = $1 AND l.parent_call_id IS NOT NULL)) AND c.result IS NOT NULL AND c.state = "
     "'done' LIMIT $2)"},
    {NULL}};

static int finish_events(struct tx *tx, const char *run_id, int64_t before_ms)
{
	return tx_exec(tx, "UPDATE runs SET last_seq = 0 WHERE id = $1", "s", run_id);
}

static const struct retention_rule events_rule = {
    .find = "SELECT id FROM runs WHERE last_seq > 0 AND ended_at < $1 ORDER BY ended_at, id LIMIT $2",
    .deletions = event_deletions,
    .finish = finish_events,
};

/* Images. Their rows stay, so that the model is told that there were some. The agent may have been asked again since it
 * was found: then the images of the new prompt are among those of the old ones, and all of them stay. */
static const struct deletion image_deletions[] = {
    {"UPDATE prompt_images SET data = '' WHERE data <> '' AND (loop_id, idx) IN (SELECT i.loop_id, i.idx FROM loops l"
     " JOIN prompt_images i ON i.loop_id = l.id JOIN agents a ON a.id = l.conversation_id WHERE a.id = $1"
     " AND a.status IN ('IDLE', 'ARCHIVED') AND a.updated_at < $3 AND i.data <> '' LIMIT $2 / 50)",
	.dated = true},
    {NULL}};

static int finish_images(struct tx *tx, const char *agent_id, int64_t before_ms)
{
	return tx_exec(
	    tx, "UPDATE agents SET kept = 1 WHERE id = $1 AND kept = 2 AND updated_at < $2", "si", agent_id, before_ms);
}

static const struct retention_rule images_rule = {
    .find = "SELECT id FROM agents WHERE kept = 2 AND updated_at < $1 AND status IN ('IDLE', 'ARCHIVED') LIMIT $2",
    .deletions = image_deletions,
    .finish = finish_images,
};

/* Conversations. The agent may be asked again at any moment; so in one transaction its loops get another conversation
 * than the agent's. From there on a new run begins an empty one, and the old loops are deleted at leisure by the rule
 * below, whatever the agent does. */
static const struct deletion nothing[] = {{NULL}};

int conversation_detach(struct tx *tx, const char *agent_id)
{
	int rc = tx_exec(tx, "DELETE FROM compactions WHERE conversation_id = $1", "s", agent_id);

	return rc != OK
		   ? rc
		   : tx_exec(tx,
			 "UPDATE loops SET conversation_id = 'forgotten-' || id WHERE id IN (SELECT id FROM runs WHERE "
			 "agent_id"
			 " = $1) OR (parent_call_id IS NOT NULL AND run_id IN (SELECT id FROM runs WHERE agent_id = "
			 "$1))",
			 "s", agent_id);
}

static int detach_conversation(struct tx *tx, const char *agent_id, int64_t before_ms)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE agents SET kept = 0 WHERE id = $1 AND kept > 0 AND updated_at < $2 AND status IN ('IDLE', "
	    "'ARCHIVED')",
	    "si", agent_id, before_ms);

	return rc == OK && n == 1 ? conversation_detach(tx, agent_id) : rc;
}

static const struct retention_rule conversations_rule = {
    .find =
	"SELECT id FROM agents WHERE kept IN (1, 2) AND updated_at < $1 AND status IN ('IDLE', 'ARCHIVED') LIMIT $2",
    .deletions = nothing,
    .finish = detach_conversation,
};

static const struct deletion loop_deletions[] = {
    {"DELETE FROM tool_calls WHERE id IN (SELECT id FROM tool_calls WHERE loop_id = $1 LIMIT $2)"},
    {"DELETE FROM steps WHERE loop_id = $1 AND step < (SELECT MIN(s.step) FROM steps s WHERE s.loop_id = $1) + $2"},
    {"DELETE FROM prompt_images WHERE loop_id = $1 AND idx < $2"},
    {"DELETE FROM compactions WHERE conversation_id = $1 AND seq < $2 * 1000"}, {NULL}};

static int finish_loop(struct tx *tx, const char *loop_id, int64_t before_ms)
{
	int rc = tx_exec(tx, "DELETE FROM loop_texts WHERE loop_id = $1", "s", loop_id);

	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM hook_messages WHERE loop_id = $1", "s", loop_id);
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM background_loops WHERE loop_id = $1", "s", loop_id);
	/* The run's own loop has the run's id. */
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM run_sessions WHERE run_id = $1", "s", loop_id);
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM run_attempts WHERE run_id = $1", "s", loop_id);
	return rc != OK ? rc : tx_exec(tx, "DELETE FROM loops WHERE id = $1", "s", loop_id);
}

static const struct retention_rule loops_rule = {
    .find = "SELECT id FROM loops WHERE conversation_id >= 'forgotten-' AND conversation_id < 'forgotten.' AND $1 >= 0"
	    " LIMIT $2",
    .deletions = loop_deletions,
    .finish = finish_loop,
};

/* Agents, once nothing else of them is left. */
static const struct deletion agent_deletions[] = {
    {"DELETE FROM runs WHERE id IN (SELECT r.id FROM runs r JOIN agents a ON a.id = r.agent_id WHERE a.id = $1 AND"
     " a.kept = 0 AND a.status IN ('IDLE', 'ARCHIVED') AND r.last_seq = 0 LIMIT $2)"},
    {NULL}};

int artifacts_let_go(struct tx *tx, const char *agent_id)
{
	int rc = tx_exec(tx,
	    "INSERT INTO artifact_removals(generation) SELECT generation FROM artifacts WHERE agent_id = $1 ON CONFLICT"
	    " DO NOTHING",
	    "s", agent_id);

	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM public_artifacts WHERE agent_id = $1", "s", agent_id);
	return rc != OK ? rc : tx_exec(tx, "DELETE FROM artifacts WHERE agent_id = $1", "s", agent_id);
}

static int finish_agent(struct tx *tx, const char *agent_id, int64_t before_ms)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "DELETE FROM agents WHERE id = $1 AND kept = 0 AND updated_at < $2 AND status IN ('IDLE', 'ARCHIVED')"
	    " AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.agent_id = $1)"
	    " AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.agent_id = $1)",
	    "si", agent_id, before_ms);

	if (rc == OK && n == 1)
		rc = inputs_forget_agent(tx, agent_id);
	if (rc == OK && n == 1)
		rc = webhook_drop(tx, agent_id);
	if (rc == OK && n == 1)
		rc = pull_drop(tx, agent_id);
	if (rc == OK && n == 1)
		rc = notice_drop(tx, agent_id);
	return rc == OK && n == 1 ? artifacts_let_go(tx, agent_id) : rc;
}

/* One whose events are kept longer than itself, or that still holds a worker, is left out here: it would be found again
 * and again. */
static const struct retention_rule agents_rule = {
    .find = "SELECT a.id FROM agents a WHERE a.kept = 0 AND a.updated_at < $1 AND a.status IN ('IDLE', 'ARCHIVED')"
	    " AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.agent_id = a.id AND r.last_seq > 0)"
	    " AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.agent_id = a.id) LIMIT $2",
    .deletions = agent_deletions,
    .finish = finish_agent,
};

/* Agents that were deleted: at once, whatever the settings keep of others. The id stays taken. */
static const struct deletion deleted_deletions[] = {
    {"DELETE FROM runs WHERE id IN (SELECT r.id FROM runs r JOIN agents a ON a.id = r.agent_id WHERE a.id = $1 AND"
     " a.status = 'DELETED' AND r.last_seq = 0 LIMIT $2)"},
    {NULL}};

static int finish_deleted(struct tx *tx, const char *agent_id, int64_t before_ms)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "DELETE FROM agents WHERE id = $1 AND status = 'DELETED' AND NOT EXISTS (SELECT 1 FROM runs r WHERE"
	    " r.agent_id = $1)",
	    "s", agent_id);

	return rc != OK || n == 0
		   ? rc
		   : tx_exec(tx, "INSERT INTO deleted_agents(id, deleted_at) VALUES($1, $2) ON CONFLICT DO NOTHING",
			 "si", agent_id, clock_wall_ms());
}

static const struct retention_rule deleted_rule = {
    .find =
	"SELECT a.id FROM agents a WHERE a.status = 'DELETED' AND $1 >= 0 AND NOT EXISTS (SELECT 1 FROM runs r WHERE"
	" r.agent_id = a.id AND r.last_seq > 0) LIMIT $2",
    .deletions = deleted_deletions,
    .finish = finish_deleted,
};

/* Small things by their age; each statement deletes at most $2 rows older than $1. */
static const char idempotency_deletion[] = "DELETE FROM idempotency WHERE (principal, endpoint, key) IN (SELECT "
					   "principal, endpoint, key FROM idempotency WHERE"
					   " created_at < $1 LIMIT $2)";
/* Who watches the queue may come back to a place that is ten minutes old, and further where little happens. */
static const char queue_event_deletion[] =
    "DELETE FROM queue_events WHERE (team_id, seq) IN (SELECT e.team_id, e.seq FROM teams t JOIN queue_events e ON"
    " e.team_id = t.id AND e.seq <= (SELECT MAX(n.seq) FROM queue_events n WHERE n.team_id = t.id) - 10000"
    " WHERE e.at < $1 LIMIT $2)";
/* Of workers that hibernate and that nobody has asked for since: such a claim has no other end. Nothing is freed by it,
 * for the worker is not there. */
static const char claim_deletion[] =
    "DELETE FROM claims WHERE agent_id IN (SELECT c.agent_id FROM claims c JOIN agents a ON a.id = c.agent_id WHERE"
    " c.lost_at IS NOT NULL AND c.lost_at < $1 AND a.updated_at < $1 AND NOT EXISTS (SELECT 1 FROM requests q WHERE"
    " q.agent_id = c.agent_id) LIMIT $2)";
static const char *const trace_deletions[] = {
    "DELETE FROM pools WHERE (team_id, name, repo, repo_host) IN (SELECT p.team_id, p.name, p.repo, p.repo_host FROM"
    " pools p WHERE p.last_seen_at < $1 AND NOT EXISTS (SELECT 1 FROM worker_slots s WHERE s.team_id = p.team_id AND"
    " s.pool = p.name AND s.repo = p.repo AND s.repo_host = p.repo_host) AND NOT EXISTS (SELECT 1 FROM requests q WHERE"
    " q.team_id = p.team_id AND q.pool = p.name) LIMIT $2)",
    /* A worker that comes back after so long begins with epoch 1 again: nothing remembers the old one. */
    "DELETE FROM worker_epochs WHERE (team_id, worker_id) IN (SELECT e.team_id, e.worker_id FROM worker_epochs e WHERE"
    " e.seen_at < $1 AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.team_id = e.team_id AND w.id = e.worker_id) AND"
    " NOT EXISTS (SELECT 1 FROM claims c WHERE c.team_id = e.team_id AND c.worker_id = e.worker_id) LIMIT $2)",
    NULL};

/* Most rounds have nothing to do: a transaction that deletes nothing is rolled back, so it costs no sync. */
static int delete_old(struct budget *b, const char *sql, int64_t before_ms)
{
	int64_t n = 1;
	int rc = OK;

	while (rc == OK && n > 0) {
		AUTO(tx) tx = NULL;

		rc = is_spent(b) ? ERR_TIMEOUT : tx_begin(b->st, TX_WRITE, &tx);
		if (rc == OK)
			rc = tx_change(tx, &n, sql, "ii", before_ms, (int64_t)ROWS_A_STEP);
		if (rc == OK && n > 0)
			rc = tx_commit(&tx);
		b->gave |= rc == OK && n > 0;
	}
	return rc;
}

static int forget_audit(struct budget *b, int64_t before_ms)
{
	int64_t n = 1;
	int rc = OK;

	while (rc == OK && n > 0) {
		AUTO(tx) tx = NULL;

		rc = is_spent(b) ? ERR_TIMEOUT : tx_begin(b->st, TX_WRITE, &tx);
		if (rc == OK)
			rc = audit_forget(tx, before_ms, ROWS_A_STEP, &n);
		if (rc == OK && n > 0)
			rc = tx_commit(&tx);
		b->gave |= rc == OK && n > 0;
	}
	return rc;
}

static int forget_traces(struct budget *b, const struct retention *keep, int64_t now_ms)
{
	int rc = delete_old(b, idempotency_deletion, now_ms - IDEMPOTENCY_MS);

	if (rc == OK)
		rc = delete_old(b, queue_event_deletion, now_ms - QUEUE_EVENT_MS);
	for (size_t i = 0; rc == OK && keep->traces_ms > 0 && trace_deletions[i] != NULL; i++)
		rc = delete_old(b, trace_deletions[i], now_ms - keep->traces_ms);
	if (rc == OK && keep->audit_ms > 0)
		rc = forget_audit(b, now_ms - keep->audit_ms);
	return rc;
}

/* A limit of 0 means for ever; but a conversation does not outlive its agent. */
static int64_t conversations_limit(const struct retention *keep)
{
	if (keep->agents_ms > 0 && (keep->conversations_ms == 0 || keep->conversations_ms > keep->agents_ms))
		return keep->agents_ms;
	return keep->conversations_ms;
}

static int forget_all(struct budget *b, const struct retention *keep, int64_t now_ms)
{
	const struct {
		const struct retention_rule *rule;
		int64_t limit_ms;
	} rules[] = {{&events_rule, MAX(keep->events_ms, 1)}, {&images_rule, keep->images_ms},
	    {&conversations_rule, conversations_limit(keep)}, {&loops_rule, 1}, {&deleted_rule, 1},
	    {&agents_rule, keep->agents_ms}};
	int rc = keep->agents_ms > 0 ? delete_old(b, claim_deletion, now_ms - keep->agents_ms) : OK;

	for (size_t i = 0; rc == OK && i < ARRAY_LEN(rules); i++)
		if (rules[i].limit_ms > 0)
			rc = apply_rule(b, rules[i].rule, now_ms - rules[i].limit_ms);
	return rc != OK ? rc : forget_traces(b, keep, now_ms);
}

/* Pages are given back only when nothing more is deleted at the moment: what comes next would want them again. */
static int give_back_space(struct budget *b, bool *free_space)
{
	while (*free_space && !is_spent(b)) {
		int64_t left = store_give_back(b->st, PAGES_A_STEP);

		if (left < 0)
			return (int)left;
		*free_space = left > 0;
	}
	return OK;
}

int retention_step(struct store *st, const struct retention *keep, int64_t now_ms, int64_t budget_ms, bool *free_space)
{
	struct budget b = {.st = st, .until_ms = clock_mono_ms() + budget_ms};
	int rc = forget_all(&b, keep, now_ms);

	*free_space |= b.gave;
	if (rc == OK)
		rc = give_back_space(&b, free_space);
	return rc == ERR_TIMEOUT ? OK : rc;
}
