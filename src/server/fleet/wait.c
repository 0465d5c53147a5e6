/* Why a request waits. One reason at a time: the first condition that holds, in the order of docs/api.md. */
#include "server/fleet/wait.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/fleet/label.h"
#include "server/fleet/match.h"
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
	free(g->machine);
	labels_fini(&g->labels);
	free(g);
}

int queue_group_load(struct tx *tx, const char *agent_id, struct queue_group **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT q.state, q.worker_id, q.pool, q.repo, q.repo_host, q.team_id, q.queued_at, q.open_attempts, e.name,"
	    " e.host, q.opening_at, q.opening_said_at, q.opening, q.user_id, q.machine, q.labels, q.offline_until,"
	    " (SELECT c.connect_by FROM claims c WHERE c.agent_id = q.agent_id), t.max_active_per_user"
	    " FROM requests q JOIN teams t ON t.id = q.team_id LEFT JOIN worker_epochs e ON "
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
	    .user_id = query_int(q, 13),
	    .machine = str_dup(query_text(q, 14)),
	    .offline_until = query_int(q, 16),
	    .connect_by = query_int(q, 17),
	};
	labels_parse(query_str(q, 15), &(*ret)->labels);
	(*ret)->alone =
	    (*ret)->labels.n > 0 || (*ret)->machine != NULL || ((*ret)->user_id != 0 && query_int(q, 18) > 0);
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
	if (strcmp(r->state, "offline") == 0)
		return "waking";
	if (strcmp(r->state, "queued") != 0)
		return r->connect_by != 0 ? "starting" : f->lost_at != 0 ? "waking" : queue_opening_reason(r, now_ms);
	if (f->over_cap)
		return "user_cap";
	if (f->connected == 0)
		return "no_workers";
	if (f->serving == 0)
		return "no_repo";
	if (f->matching == 0)
		return "label_mismatch";
	if (f->unfit == f->matching)
		return "all_unfit";
	if (can_be_assigned(f))
		return "starting";
	return r->machine != NULL ? "machine_full" : "all_busy";
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

static char *no_repo_text(const struct queue_group *r, const struct wait_facts *f)
{
	const char *of = r->machine != NULL ? "your machines of that name" : r->pool;
	AUTO_STR without =
	    f->without_repo == 0
		? str_dup("")
		: str_printf("; %lld of them have no repository, which pool default never asks for: start "
			     "them with a pool of another name",
		      (long long)f->without_repo);

	return str_printf("none of the %lld workers of %s%s serves %s%s", (long long)f->connected,
	    r->machine != NULL ? "" : "pool ", of, r->repo[0] ? r->repo : "requests without a repository", without);
}

static char *none_text(const struct queue_group *r, const struct wait_facts *f)
{
	AUTO_STR stopping = f->stopping == 0 ? str_dup("")
					     : str_printf(" (%lld %s stopping)", (long long)f->stopping,
						   f->stopping == 1 ? "is" : "are");

	if (r->machine == NULL)
		return str_printf("no worker is connected to pool %s%s", r->pool, stopping);
	return str_printf("machine %s is %s", r->machine[0] != '\0' ? r->machine : "that serves the repository",
	    f->stopping > 0 ? "stopping" : "not connected");
}

static char *mismatch_text(const struct queue_group *r, const struct wait_facts *f)
{
	struct strbuf b = STRBUF(LABELS_WANTED_MAX * (LABEL_KEY_MAX + LABEL_VALUE_MAX + 3) + 1);

	if (f->nobody_has != NULL)
		return str_printf("no worker of pool %s has %s", r->pool, f->nobody_has);
	for (size_t i = 0; i < r->labels.n; i++)
		strbuf_addf(&b, "%s%s", i > 0 ? ", " : "", r->labels.v[i]);
	AUTO_STR all = strbuf_take(&b);

	return str_printf("no worker of pool %s has all of %s", r->pool, all);
}

static char *wait_text(
    const struct queue_group *r, const struct wait_facts *f, const char *code, int64_t now_ms, int64_t grace_ms)
{
	if (strcmp(code, "waking") == 0 && r->offline_until != 0)
		return str_printf("waiting up to %lld s for worker %s to come back",
		    (long long)(MAX(r->offline_until - now_ms, 0) / 1000), r->worker_label);
	if (strcmp(code, "waking") == 0)
		return str_printf("worker %s disconnected; waiting up to %lld s for it to come back", r->worker_label,
		    (long long)(MAX(f->lost_at + grace_ms - now_ms, 0) / 1000));
	if (strcmp(code, "opening") == 0)
		return opening_text(r, now_ms);
	if (strcmp(code, "user_cap") == 0)
		return str_printf("you already run %lld agents, which is as many as a user may "
				  "(max_active_per_user)",
		    (long long)f->running);
	if (strcmp(code, "machine_full") == 0)
		return str_printf("machine %s already runs %lld sessions", r->machine, (long long)f->running);
	if (strcmp(code, "no_workers") == 0)
		return none_text(r, f);
	if (strcmp(code, "label_mismatch") == 0)
		return mismatch_text(r, f);
	if (strcmp(code, "no_repo") == 0)
		return no_repo_text(r, f);
	if (strcmp(code, "starting") == 0 && r->connect_by != 0)
		return str_printf("worker %s is being started (%lld s left)", r->worker_id,
		    (long long)(MAX(r->connect_by - now_ms, 0) / 1000));
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

/* Slots that serve the repository, whatever their labels. */
static int count_serving(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	int rc = tx_query_int(tx, &f->serving,
	    "SELECT COUNT(*) FROM worker_slots WHERE team_id = $1 AND pool = $2 AND repo = $3 AND (repo_host = $4 OR"
	    " repo_host = '' OR $4 = '')",
	    "isss", r->team_id, r->pool, r->repo, r->repo_host);

	if (rc == OK && f->serving == 0 && strcmp(r->pool, "default") == 0)
		rc = tx_query_int(tx, &f->without_repo,
		    "SELECT COUNT(*) FROM worker_slots WHERE team_id = $1 AND pool = 'default' AND repo = ''", "i",
		    r->team_id);
	for (size_t i = 0; rc == OK && f->nobody_has == NULL && i < r->labels.n; i++) {
		int64_t one;

		rc = tx_query_int(tx, &one,
		    "SELECT 1 FROM slot_labels WHERE team_id = $1 AND pool = $2 AND repo = $3 AND pair = $4 LIMIT 1",
		    "isss", r->team_id, r->pool, r->repo, r->labels.v[i]);
		if (rc == ERR_EMPTY) {
			f->nobody_has = r->labels.v[i];
			rc = OK;
		}
	}
	return rc;
}

/* The same as match_worker looks for, counted. */
static int count_labelled(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COUNT(*), COALESCE(SUM(CASE WHEN s.state IN ($5, $6) THEN 1 ELSE 0 END), 0),"
	    " COALESCE(SUM(CASE WHEN s.state = $7 THEN 1 ELSE 0 END), 0) FROM slot_labels s JOIN requests q ON"
	    " q.agent_id = $8 AND q.label = s.pair WHERE s.team_id = $1 AND s.pool = $2 AND s.repo = $3 AND"
	    " (s.repo_host = $4 OR s.repo_host = '' OR $4 = '') AND NOT EXISTS(SELECT 1 FROM request_labels l WHERE"
	    " l.agent_id = $8 AND NOT EXISTS(SELECT 1 FROM slot_labels b WHERE b.team_id = s.team_id AND b.worker_id ="
	    " s.worker_id AND b.repo = s.repo AND b.repo_host = s.repo_host AND b.pair = l.pair))",
	    "isssiiis", r->team_id, r->pool, r->repo, r->repo_host, (int64_t)SLOT_FREE, (int64_t)SLOT_HELD,
	    (int64_t)SLOT_UNFIT, r->agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	f->matching = query_int(q, 0);
	f->free = query_int(q, 1);
	f->unfit = query_int(q, 2);
	return OK;
}

/* `q`: how many there are, and how many of them are on their way out, which have no slots any more. */
static int take_connected(int rc, struct query **q, struct wait_facts *f)
{
	if (rc == OK)
		rc = query_next(*q);
	if (rc == OK) {
		f->stopping = query_int(*q, 1);
		f->connected = query_int(*q, 0) - f->stopping;
	}
	query_free(q);
	return rc;
}

static int count_connected(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COUNT(*), COALESCE(SUM(CASE WHEN draining <> 0 THEN 1 ELSE 0 END), 0) FROM workers WHERE team_id = "
	    "$1 AND pool = $2 AND personal = 0"
	    " AND only_agent = ''",
	    "is", r->team_id, r->pool);

	return take_connected(rc, &q, f);
}

/* Machines of the requester with that name. */
static int count_machines(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT COUNT(*), COALESCE(SUM(CASE WHEN draining <> 0 THEN 1 ELSE 0 END), 0) FROM workers WHERE team_id = "
	    "$1 AND user_id = $2 AND"
	    " personal = 1 AND ($3 = '' OR name = $3)",
	    "iis", r->team_id, r->user_id, r->machine);

	rc = take_connected(rc, &q, f);
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT COUNT(*), COALESCE(SUM(CASE WHEN s.state IN ($6, $7) THEN 1 ELSE 0 END), 0),"
		    " COALESCE(SUM(CASE WHEN s.state = $8 THEN 1 ELSE 0 END), 0), COALESCE(SUM(w.busy), 0) FROM "
		    "workers "
		    "w"
		    " JOIN worker_slots s ON s.team_id = w.team_id AND s.worker_id = w.id WHERE w.team_id = $1 AND"
		    " w.user_id = $2 AND w.personal = 1 AND ($3 = '' OR w.name = $3) AND s.repo = $4 AND (s.repo_host ="
		    " $5 OR s.repo_host = '' OR $5 = '')",
		    "iisssiii", r->team_id, r->user_id, r->machine, r->repo, r->repo_host, (int64_t)SLOT_FREE,
		    (int64_t)SLOT_HELD, (int64_t)SLOT_UNFIT);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	f->serving = f->matching = query_int(q, 0);
	f->free = query_int(q, 1);
	f->unfit = query_int(q, 2);
	f->running = query_int(q, 3);
	return OK;
}

static int check_cap(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	bool within = true;
	int rc = match_within_cap(tx, r->team_id, r->user_id, &within);

	f->over_cap = !within;
	if (rc == OK && f->over_cap)
		rc = tx_query_int(tx, &f->running,
		    "SELECT COUNT(*) FROM requests WHERE team_id = $1 AND user_id = $2 AND state IN ('claimed', "
		    "'serving')",
		    "ii", r->team_id, r->user_id);
	return rc;
}

static int count_matching(struct tx *tx, const struct queue_group *r, struct wait_facts *f)
{
	AUTO(query) q = NULL;
	int rc = count_serving(tx, r, f);

	if (rc == OK && r->labels.n > 0)
		return count_labelled(tx, r, f);
	if (rc != OK)
		return rc;
	rc = tx_query(tx, &q,
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
	AUTO_STR labels = labels_text(&r->labels);
	int64_t before = 0;
	int rc = tx_query_int(tx, &before,
	    "SELECT COUNT(*) FROM requests WHERE team_id = $1 AND pool = $2 AND repo = $3 AND state = 'queued'"
	    " AND (queued_at < $4 OR (queued_at = $4 AND agent_id < $5)) AND labels = $6",
	    "ississ", r->team_id, r->pool, r->repo, r->queued_at, r->agent_id, labels);

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
	rc = check_cap(tx, r, f);
	if (rc == OK && r->machine != NULL)
		return count_machines(tx, r, f);
	if (rc == OK)
		rc = count_connected(tx, r, f);
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

int queue_wait_code(struct store *st, const char *agent_id, int64_t now_ms, const char **ret)
{
	AUTO(queue_group) r = NULL;
	struct wait_unfit unfit[WAIT_UNFIT_MAX] = {0};
	struct wait_facts facts = {0};
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = queue_group_load(tx, agent_id, &r);
	if (rc == OK)
		rc = gather_facts(tx, r, &facts, unfit);
	if (rc == OK)
		*ret = wait_code(r, &facts, now_ms);
	if (rc == ERR_EMPTY || (rc == OK && *ret == NULL)) {
		*ret = "";
		rc = OK;
	}
	for (size_t i = 0; i < WAIT_UNFIT_MAX; i++)
		wait_unfit_fini(&unfit[i]);
	return rc;
}
