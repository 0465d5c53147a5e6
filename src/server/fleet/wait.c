/* Why a request waits. One reason at a time: the first condition that holds, in the order of docs/api.md. */
#include "server/fleet/wait.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/fleet/label.h"
#include <string.h>

#define REASON_MAX 300 /* of each unfit worker's reason */

void queue_group_free(struct queue_group **gp)
{
	struct queue_group *g = TAKE(*gp);

	if (g == NULL)
		return;
	free(g->agent_id);
	free(g->state);
	free(g->worker_id);
	free(g->worker_label);
	free(g->opening);
	free(g->pool);
	free(g->repo);
	free(g->repo_host);
	free(g);
}

int queue_group_load(struct tx *tx, const char *agent_id, struct queue_group **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT q.state, q.worker_id, q.pool, q.repo, q.repo_host, q.team_id, q.queued_at, q.open_attempts, e.name,"
	    " e.host, q.opening_at, q.opening_said_at, q.opening FROM requests q LEFT JOIN worker_epochs e ON "
	    "e.team_id = q.team_id AND e.worker_id = q.worker_id"
	    " WHERE q.agent_id = $1",
	    "s", agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	*ret = NEW(struct queue_group);
	**ret = (struct queue_group){
	    .agent_id = str_dup(agent_id),
	    .state = str_dup(query_str(q, 0)),
	    .worker_id = str_dup(query_str(q, 1)),
	    .pool = str_dup(query_str(q, 2)),
	    .repo = str_dup(query_str(q, 3)),
	    .repo_host = str_dup(query_str(q, 4)),
	    .team_id = query_int(q, 5),
	    .queued_at = query_int(q, 6),
	    .open_attempts = query_int(q, 7),
	    .worker_label = worker_label(query_str(q, 8), query_str(q, 1), query_str(q, 9)),
	    .opening_at = query_int(q, 10),
	    .opening_said_at = query_int(q, 11),
	    .opening = str_dup(query_str(q, 12)),
	};
	return OK;
}

struct wait_unfit wait_unfit_new(
    int64_t idle_since, const char *id, const char *name, const char *host, const char *reason)
{
	AUTO_STR label = worker_label(name, id, host);
	AUTO_STR line = text_line(reason, REASON_MAX);

	return (struct wait_unfit){.idle_since = idle_since,
	    .id = str_dup(id),
	    .text = str_printf("%s %s", label, line[0] != '\0' ? line : "gives no reason")};
}

void wait_unfit_fini(struct wait_unfit *u)
{
	str_free(&u->id);
	str_free(&u->text);
}

static bool comes_before(const struct wait_unfit *a, const struct wait_unfit *b)
{
	return a->idle_since != b->idle_since ? a->idle_since < b->idle_since : strcmp(a->id, b->id) < 0;
}

void wait_add_unfit(struct wait_facts *f, const struct wait_unfit *u)
{
	size_t at = f->n_first_unfit;

	while (at > 0 && comes_before(u, f->first_unfit[at - 1]))
		at--;
	if (at == WAIT_UNFIT_MAX)
		return;
	f->n_first_unfit = MIN(f->n_first_unfit + 1, (size_t)WAIT_UNFIT_MAX);
	for (size_t i = f->n_first_unfit - 1; i > at; i--)
		f->first_unfit[i] = f->first_unfit[i - 1];
	f->first_unfit[at] = u;
}

/* Workers that this request may get, at once. */
static bool can_be_assigned(const struct wait_facts *f)
{
	bool others = f->matching - f->unfit > f->tried;

	return f->free > (others ? f->tried_free : 0);
}

const char *queue_opening_reason(const struct queue_group *r, int64_t now_ms)
{
	bool opening = strcmp(r->state, "claimed") == 0 && r->opening_at != 0;

	return opening && now_ms - r->opening_at >= OPENING_SHOWN_MS ? "opening" : NULL;
}

const char *wait_code(const struct queue_group *r, const struct wait_facts *f, int64_t now_ms)
{
	if (strcmp(r->state, "queued") != 0)
		return f->lost_at != 0 ? "waking" : queue_opening_reason(r, now_ms);
	if (f->connected == 0)
		return "no_workers";
	if (f->matching == 0)
		return "no_repo";
	if (f->unfit == f->matching)
		return "all_unfit";
	return can_be_assigned(f) ? "starting" : "all_busy";
}

/* ": A …; B …; and 3 more". */
static char *unfit_text(const struct wait_facts *f)
{
	struct strbuf b = STRBUF(WAIT_UNFIT_MAX * 2048);

	for (size_t i = 0; i < f->n_first_unfit; i++)
		strbuf_addf(&b, "%s%s", i > 0 ? "; " : "", f->first_unfit[i]->text);
	if ((size_t)f->unfit > f->n_first_unfit)
		strbuf_addf(&b, "; and %lld more", (long long)f->unfit - (long long)f->n_first_unfit);
	return strbuf_take(&b);
}

static char *busy_text(const struct wait_facts *f)
{
	AUTO_STR position = f->position != 0 ? str_printf("; position %lld", (long long)f->position) : str_dup("");

	if (f->unfit == 0)
		return str_printf("all %lld matching workers are busy%s", (long long)f->matching, position);
	AUTO_STR unfit = unfit_text(f);

	return str_printf("of %lld matching workers %lld are busy and %lld unfit%s: %s", (long long)f->matching,
	    (long long)(f->matching - f->unfit), (long long)f->unfit, position, unfit);
}

static char *opening_text(const struct queue_group *r, int64_t now_ms)
{
	bool said = r->opening[0] != '\0';
	int64_t since = said ? r->opening_said_at : r->opening_at;

	return str_printf("opening the session on worker %s%s%s since %lld s", r->worker_label, said ? ": " : "",
	    r->opening, (long long)(MAX(now_ms - since, 0) / 1000));
}

static char *wait_text(
    const struct queue_group *r, const struct wait_facts *f, const char *code, int64_t now_ms, int64_t grace_ms)
{
	if (strcmp(code, "waking") == 0)
		return str_printf("worker %s disconnected; waiting up to %lld s for it to come back", r->worker_label,
		    (long long)(MAX(f->lost_at + grace_ms - now_ms, 0) / 1000));
	if (strcmp(code, "opening") == 0)
		return opening_text(r, now_ms);
	if (strcmp(code, "no_workers") == 0)
		return str_printf("no worker is connected to pool %s", r->pool);
	if (strcmp(code, "no_repo") == 0)
		return str_printf("none of the %lld workers of pool %s serves %s", (long long)f->connected, r->pool,
		    r->repo[0] ? r->repo : "requests without a repository");
	if (strcmp(code, "starting") == 0)
		return str_dup("a matching worker is free, the request is being assigned");
	if (strcmp(code, "all_busy") == 0)
		return busy_text(f);
	AUTO_STR unfit = unfit_text(f);

	return str_printf("all %lld matching workers are unfit: %s", (long long)f->matching, unfit);
}

json_t *wait_json(const struct queue_group *r, const struct wait_facts *f, int64_t now_ms, int64_t grace_ms)
{
	const char *code = wait_code(r, f, now_ms);
	int64_t since_ms;
	AUTO_STR text = NULL;
	char since[CLOCK_ISO_LEN];
	json_t *j;

	if (code == NULL)
		return NULL;
	j = json_object();
	text = wait_text(r, f, code, now_ms, grace_ms);
	since_ms = strcmp(code, "waking") == 0	  ? f->lost_at
		   : strcmp(code, "opening") == 0 ? r->opening_at
						  : r->queued_at;
	clock_iso8601(since_ms, since);
	json_put(j, "code", code);
	json_put(j, "text", text);
	json_put(j, "since", since);
	if (strcmp(code, "all_busy") == 0 && f->position != 0)
		json_put_int(j, "position", f->position);
	return j;
}

static int count_matching(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COUNT(*), COALESCE(SUM(CASE WHEN state IN ($5, $6) THEN 1 ELSE 0 END), 0),"
	    " COALESCE(SUM(CASE WHEN state = $7 THEN 1 ELSE 0 END), 0) FROM worker_slots"
	    " WHERE team_id = $1 AND pool = $2 AND repo = $3 AND (repo_host = $4 OR repo_host = '' OR $4 = '')",
	    "isssiii", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_FREE, (int64_t)SLOT_HELD,
	    (int64_t)SLOT_UNFIT);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	f->matching = query_int(q, 0);
	f->free = query_int(q, 1);
	f->unfit = query_int(q, 2);
	return OK;
}

static int count_tried(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COALESCE(SUM(CASE WHEN s.state <> $5 THEN 1 ELSE 0 END), 0),"
	    " COALESCE(SUM(CASE WHEN s.state IN ($6, $7) THEN 1 ELSE 0 END), 0) FROM worker_slots s"
	    " WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3 AND (s.repo_host = $4 OR s.repo_host = '' OR $4 = "
	    "'')"
	    " AND EXISTS(SELECT 1 FROM requests q JOIN run_attempts a ON a.run_id = q.run_id WHERE q.agent_id = $8"
	    " AND a.worker_id = s.worker_id)",
	    "isssiiis", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_UNFIT, (int64_t)SLOT_FREE,
	    (int64_t)SLOT_HELD, r->agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	f->tried = query_int(q, 0);
	f->tried_free = query_int(q, 1);
	return OK;
}

/* `ret` is what the facts refer to. */
static int name_unfit(
    struct tx *tx, const struct queue_group *r, struct wait_facts *f, struct wait_unfit ret[WAIT_UNFIT_MAX])
{
	AUTO(query) q = NULL;
	size_t n = 0;
	int rc = tx_query(tx, &q,
	    "SELECT s.idle_since, w.id, w.name, w.host, w.unfit_reason FROM worker_slots s JOIN workers w"
	    " ON w.team_id = s.team_id AND w.id = s.worker_id WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3"
	    " AND s.state = $5 AND (s.repo_host = $4 OR s.repo_host = '' OR $4 = '')"
	    " ORDER BY s.idle_since, s.worker_id LIMIT $6",
	    "isssii", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_UNFIT, (int64_t)WAIT_UNFIT_MAX);

	while (rc == OK && n < WAIT_UNFIT_MAX && (rc = query_next(q)) == OK) {
		ret[n] =
		    wait_unfit_new(query_int(q, 0), query_str(q, 1), query_str(q, 2), query_str(q, 3), query_str(q, 4));
		wait_add_unfit(f, &ret[n++]);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* Counts what is before it in the queue, which takes longer the longer that is: only for the one that is read. */
static int wait_find_position(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	int64_t before = 0;
	int rc = tx_query_int(tx, &before,
	    "SELECT COUNT(*) FROM requests WHERE team_id = $1 AND pool = $2 AND repo = $3 AND state = 'queued'"
	    " AND (queued_at < $4 OR (queued_at = $4 AND agent_id < $5))",
	    "issis", r->team_id, r->pool, r->repo, r->queued_at, r->agent_id);

	f->position = before + 1;
	return rc;
}

static int gather_facts(
    struct tx *tx, const struct queue_group *r, struct wait_facts *f, struct wait_unfit unfit[WAIT_UNFIT_MAX])
{
	int rc;

	/* Bound to a worker: it waits only if that worker is away. */
	if (strcmp(r->state, "queued") != 0)
		return tx_query_int(
		    tx, &f->lost_at, "SELECT lost_at FROM claims WHERE agent_id = $1", "s", r->agent_id);
	rc = tx_query_int(tx, &f->connected, "SELECT COUNT(*) FROM workers WHERE team_id = $1 AND pool = $2", "is",
	    r->team_id, r->pool);
	if (rc == OK)
		rc = count_matching(tx, r, f);
	if (rc == OK && r->open_attempts > 0)
		rc = count_tried(tx, r, f);
	if (rc == OK && f->unfit > 0)
		rc = name_unfit(tx, r, f, unfit);
	if (rc == OK && f->matching > f->unfit && !can_be_assigned(f))
		rc = wait_find_position(tx, r, f);
	return rc;
}

int queue_wait_reason(struct tx *tx, const char *agent_id, int64_t now_ms, int64_t grace_ms, json_t **ret)
{
	AUTO(queue_group) r = NULL;
	struct wait_unfit unfit[WAIT_UNFIT_MAX] = {0};
	struct wait_facts facts = {0};
	json_t *reason = NULL;
	int rc = queue_group_load(tx, agent_id, &r);

	if (rc == OK)
		rc = gather_facts(tx, r, &facts, unfit);
	if (rc == OK)
		reason = wait_json(r, &facts, now_ms, grace_ms);
	if (rc == OK && reason == NULL)
		rc = ERR_EMPTY;
	if (rc == OK)
		*ret = reason;
	for (size_t i = 0; i < WAIT_UNFIT_MAX; i++)
		wait_unfit_fini(&unfit[i]);
	return rc;
}
