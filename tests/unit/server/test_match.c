/* Which worker serves which request: the vectors of the routing rules, the order, what is held and for whom, and, with
 * thousands of random workers and requests, that nothing waits beside a worker that could serve it. */
#include "../store_fixture.h"
#include "base/labels.h"
#include "server/fleet/machines.h"
#include "server/fleet/match.h"
#include "server/fleet/pools.h"
#include "server/fleet/queue.h"

static struct store *st;

static int setup(void **state)
{
	int rc = store_setup(state);

	st = *state;
	return rc;
}

static struct tx *begin(void)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	return tx;
}

/* "k=v k=w". */
static void read_pairs(const char *text, struct labels *ret)
{
	AUTO_STR list = str_dup(text);
	char *save = NULL;

	for (char *p = strtok_r(list, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save)) {
		char *sign = strchr(p, '=');

		*sign = '\0';
		assert_int_equal(labels_add(ret, p, sign + 1, LABELS_MAX, NULL), OK);
	}
}

struct a_worker {
	const char *id, *pool, *repos, *host, *labels; /* repos: "a/x a/y", "" for any */
	int64_t idle_since, user_id, max_sessions;
	const char *name;
	bool keeps;
};

static void put_worker(struct tx *tx, const struct a_worker *w)
{
	__attribute__((cleanup(labels_fini))) struct labels labels = {0};
	AUTO_STR list = str_dup(w->repos[0] ? w->repos : "-");
	char *save = NULL;

	read_pairs(w->labels != NULL ? w->labels : "", &labels);
	AUTO_STR text = labels_text(&labels);

	assert_int_equal(
	    tx_exec(tx,
		"INSERT INTO workers(team_id, id, link_epoch, name, pool, key_id, service_account_id, workspace_root, "
		"busy, draining, connected_at, idle_since, labels, user_id, personal, max_sessions, keeps_claims)"
		" VALUES(1, $1, 1, $2, $3, 'k', 'sa', '/', 0, 0, 0, $4, $5, $6, $7, $8, $9)",
		"sssisiiii", w->id, w->name != NULL ? w->name : w->id, w->pool, w->idle_since, text, w->user_id,
		(int64_t)(w->user_id != 0), w->max_sessions != 0 ? w->max_sessions : 1, (int64_t)w->keeps),
	    OK);
	for (char *r = strtok_r(list, " ", &save); r != NULL; r = strtok_r(NULL, " ", &save)) {
		const struct slot s = {w->pool, strcmp(r, "-") == 0 ? "" : r, w->host != NULL ? w->host : ""};

		assert_int_equal(slots_put(tx, 1, w->id, &s, &labels, w->idle_since), OK);
		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO pools(team_id, name, repo, repo_host, repo_name, first_seen_at, last_seen_at)"
			" VALUES(1, $1, $2, $3, $2, 0, 0) ON CONFLICT DO NOTHING",
			"sss", s.pool, s.repo, s.repo_host),
		    OK);
	}
	assert_int_equal(slots_follow(tx, 1, w->id, -1), OK);
}

static void add_worker(const struct a_worker *w)
{
	struct tx *tx = begin();

	put_worker(tx, w);
	assert_int_equal(tx_commit(&tx), OK);
}

struct a_request {
	const char *agent, *pool, *repo, *host, *labels, *machine;
	int64_t user_id, at;
};

static char *put_request(struct tx *tx, const struct a_request *q)
{
	__attribute__((cleanup(labels_fini))) struct labels labels = {0};
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
	AUTO_STR run = str_printf("run-%s-%lld", q->agent, (long long)q->at);
	char *worker = NULL;

	read_pairs(q->labels != NULL ? q->labels : "", &labels);
	const struct request r = {.agent_id = q->agent,
	    .run_id = run,
	    .team_id = 1,
	    .pool = q->pool,
	    .repo = q->repo,
	    .repo_host = q->host != NULL ? q->host : "",
	    .user_id = q->user_id,
	    .machine = q->machine,
	    .labels = &labels};

	assert_int_equal(queue_add(tx, &r, q->at, &worker, &left), OK);
	return worker;
}

/* The worker it got, or NULL. */
static char *add_request(const struct a_request *q)
{
	struct tx *tx = begin();
	char *worker = put_request(tx, q);

	assert_int_equal(tx_commit(&tx), OK);
	return worker;
}

static void expect_worker(const struct a_request *q, const char *wanted)
{
	AUTO_STR got = add_request(q);

	if (wanted == NULL)
		assert_null(got);
	else
		assert_string_equal(got != NULL ? got : "none", wanted);
}

static void end_turn(const char *agent, int64_t now)
{
	struct tx *tx = begin();

	assert_int_equal(queue_end(tx, agent, now), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

/* The run that the worker got; NULL: none. */
static char *match_freed(const char *worker, int64_t now)
{
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
	struct tx *tx = begin();
	char *run = NULL;
	int rc = queue_match_worker(tx, 1, worker, now, &run, &left);

	if (rc == OK)
		assert_int_equal(tx_commit(&tx), OK);
	else
		assert_int_equal(rc, ERR_EMPTY);
	tx_free(&tx);
	return run;
}

static int64_t number(const char *sql)
{
	struct tx *tx = begin();
	int64_t n = -1;

	assert_int_equal(tx_query_int(tx, &n, sql, ""), OK);
	tx_free(&tx);
	return n;
}

static char *text_of(const char *sql)
{
	struct tx *tx = begin();
	char *text = NULL;
	int rc = tx_query_text(tx, &text, sql, "");

	tx_free(&tx);
	return rc == OK ? text : str_dup("none");
}

/* The request is routed first, as a create does: its row decides whether it carries the repository. */
struct vector {
	struct a_worker w;
	struct a_request q;
	bool match;
};

static void test_vectors(void **state)
{
	static const char both[] = "caps=docker caps=cuda";
	const struct vector vectors[] = {
	    {{"w", "default", "a/x"}, {"a", "default", "a/x"}, true},
	    {{"w", "default", "a/x"}, {"a", "default", "a/y"}, false},
	    {{"w", "gpu", "a/x"}, {"a", "default", "a/x"}, false},
	    {{"w", "gpu", "a/x"}, {"a", "GPU", "a/x"}, false},
	    {{"w", "gpu", "a/x a/y"}, {"a", "gpu", "a/y"}, true},
	    {{"w", "any", ""}, {"a", "any", ""}, true},
	    {{"w", "any", "a/x"}, {"a", "any", ""}, false},
	    {{"w", "default", ""}, {"a", "default", "a/x"}, false},
	    {{"w", "gpu", "a/x", NULL, both}, {"a", "gpu", "a/x", NULL, "caps=cuda"}, true},
	    {{"w", "gpu", "a/x", NULL, both}, {"a", "gpu", "a/x", NULL, "caps=cuda caps=docker"}, true},
	    {{"w", "gpu", "a/x", NULL, both}, {"a", "gpu", "a/x", NULL, "caps=cuda caps=tpu"}, false},
	    {{"w", "gpu", "a/x", NULL, both}, {"a", "gpu", "a/x", NULL, "caps=CUDA"}, false},
	    {{"w", "gpu", "a/x", NULL, both}, {"a", "gpu", "a/x", NULL, "env=prod"}, false},
	    {{"w", "gpu", "a/x", NULL, both}, {"a", "gpu", "a/x"}, true},
	    {{"w", "gpu", "a/x", "h1"}, {"a", "gpu", "a/x", "h2"}, false},
	    {{"w", "gpu", "a/x", ""}, {"a", "gpu", "a/x", "h2"}, true},
	    {{"w", "gpu", "a/x", "h2"}, {"a", "gpu", "a/x", "h2"}, true},
	    {{"w", "", "a/x", .user_id = 7}, {"a", "default", "a/x"}, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		const struct vector *v = &vectors[i];

		/* The request first, then the worker; and the other way round: both find each other or not. */
		for (int first = 0; first < 2; first++) {
			store_teardown(state);
			setup(state);
			if (first == 0)
				add_worker(&v->w);
			AUTO_STR got = add_request(&v->q);

			if (first == 1) {
				free(got);
				add_worker(&v->w);
				got = match_freed("w", 5);
			}
			if ((got != NULL) != v->match)
				fail_msg("vector %zu, %s first", i, first == 0 ? "worker" : "request");
		}
	}
}

static void test_any_repo_rows(void **state)
{
	struct why why;
	AUTO_STR match = NULL;

	add_worker(&(struct a_worker){"w", "any", ""});
	struct tx *tx = begin();

	assert_int_equal(pool_route(tx, 1, "any", "a/x", "", true, &match, &why), OK);
	assert_string_equal(match, "");
	assert_int_equal(tx_exec(tx, "UPDATE pools SET deleted_at = 1", ""), OK);
	str_free(&match);
	assert_int_equal(pool_route(tx, 1, "any", "a/x", "", false, &match, &why), ERR_NOT_FOUND);
	tx_free(&tx);
}

static void test_a_claim_that_is_kept_does_not_yield(void **state)
{
	add_worker(&(struct a_worker){"w", "gpu", "a/x", .keeps = true});
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 1}, "w");
	end_turn("a", 2);
	expect_worker(&(struct a_request){"b", "gpu", "a/x", .at = 3}, NULL);
	assert_null(match_freed("w", 4));
	/* Its own follow-up comes first, of course. */
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 5}, "w");
}

static void test_a_kept_claim_is_reclaimed_after_long(void **state)
{
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};

	add_worker(&(struct a_worker){"w", "gpu", "a/x", NULL, "os=linux", .keeps = true});
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 1}, "w");
	end_turn("a", 2);
	expect_worker(&(struct a_request){"b", "gpu", "a/x", NULL, "os=linux", .at = 3}, NULL);
	expect_worker(&(struct a_request){"c", "gpu", "a/x", NULL, "os=bsd", .at = 3}, NULL);
	struct tx *tx = begin();

	assert_int_equal(queue_reclaim(tx, "b", 2, 10, &left), ERR_EMPTY); /* idle, but not since before */
	assert_int_equal(queue_reclaim(tx, "c", 3, 10, &left), ERR_EMPTY); /* it would not serve that one */
	assert_int_equal(queue_reclaim(tx, "b", 3, 10, &left), OK);
	assert_string_equal(left.agent_id, "a");
	assert_int_equal(tx_commit(&tx), OK);
	AUTO_STR run = match_freed("w", 11);

	assert_string_equal(run, "run-b-3");
}

static void test_special_machines_are_kept_free(void **state)
{
	add_worker(&(struct a_worker){"special", "gpu", "a/x", NULL, "caps=cuda caps=big", .idle_since = 1});
	add_worker(&(struct a_worker){"plain", "gpu", "a/x", NULL, "caps=cuda", .idle_since = 9});
	add_worker(&(struct a_worker){"bare", "gpu", "a/x", .idle_since = 10});
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 11}, "bare");
	expect_worker(&(struct a_request){"b", "gpu", "a/x", NULL, "caps=cuda", .at = 12}, "plain");
	expect_worker(&(struct a_request){"c", "gpu", "a/x", NULL, "caps=cuda", .at = 13}, "special");
}

static void test_a_freed_worker_takes_the_oldest_that_it_serves(void **state)
{
	expect_worker(&(struct a_request){"tpu", "gpu", "a/x", NULL, "caps=tpu", .at = 1}, NULL);
	expect_worker(&(struct a_request){"both", "gpu", "a/y", NULL, "caps=cuda os=linux", .at = 2}, NULL);
	expect_worker(&(struct a_request){"plain", "gpu", "a/x", .at = 3}, NULL);
	add_worker(&(struct a_worker){"w", "gpu", "a/x a/y", NULL, "caps=cuda os=linux"});
	AUTO_STR run = match_freed("w", 5);

	assert_string_equal(run, "run-both-2");
	end_turn("both", 6);
	AUTO_STR next = match_freed("w", 7);

	assert_string_equal(next, "run-plain-3");
	end_turn("plain", 8);
	assert_null(match_freed("w", 9));
}

static void test_a_user_at_the_cap_waits_and_holds_nobody_back(void **state)
{
	struct tx *tx = begin();

	assert_int_equal(tx_exec(tx, "UPDATE teams SET max_active_per_user = 1", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	add_worker(&(struct a_worker){"w1", "default", "a/x"});
	add_worker(&(struct a_worker){"w2", "default", "a/x"});
	expect_worker(&(struct a_request){"a", "default", "a/x", .user_id = 7, .at = 1}, "w1");
	expect_worker(&(struct a_request){"b", "default", "a/x", .user_id = 7, .at = 2}, NULL);
	assert_null(match_freed("w2", 3));
	expect_worker(&(struct a_request){"c", "default", "a/x", .user_id = 8, .at = 4}, "w2");
	end_turn("a", 5);
	AUTO_STR run = match_freed("w1", 6);

	assert_string_equal(run, "run-b-2");
}

/* A follow-up of an agent whose worker is away. */
static void test_a_follow_up_is_held_for_the_time_of_its_pool(void **state)
{
	struct tx *tx;

	add_worker(&(struct a_worker){"w", "gpu", "a/x"});
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 1}, "w");
	end_turn("a", 2);
	tx = begin();
	assert_int_equal(tx_exec(tx, "UPDATE pools SET ready_timeout_s = 60", ""), OK);
	assert_int_equal(tx_exec(tx, "DELETE FROM workers", ""), OK);
	assert_int_equal(slots_clear(tx, 1, "w"), OK);
	assert_int_equal(tx_commit(&tx), OK);
	add_worker(&(struct a_worker){"other", "gpu", "a/x"});
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 1000}, NULL);
	assert_null(match_freed("other", 1001));
	assert_int_equal(number("SELECT offline_until FROM requests WHERE state = 'offline'"), 61000);
	AUTO_STR kinds = text_of("SELECT kind FROM queue_events ORDER BY seq DESC LIMIT 1");

	assert_string_equal(kinds, "claimed_offline");
	tx = begin();
	assert_int_equal(queue_lapse(tx, "a", 61000, 61000), ERR_EMPTY);
	assert_int_equal(queue_lapse(tx, "a", 61001, 61001), OK);
	assert_int_equal(tx_commit(&tx), OK);
	AUTO_STR run = match_freed("other", 61002);

	assert_string_equal(run, "run-a-1000");
}

static void test_machines(void **state)
{
	struct why why;
	struct tx *tx;

	add_worker(&(struct a_worker){"m1", "", "a/x", .user_id = 7, .name = "box", .max_sessions = 2});
	add_worker(&(struct a_worker){"m2", "", "a/y", .user_id = 7, .name = "box", .max_sessions = 2});
	add_worker(&(struct a_worker){"m3", "", "a/x", .user_id = 8, .name = "box", .max_sessions = 2});
	expect_worker(&(struct a_request){"a", "", "a/x", .machine = "box", .user_id = 7, .at = 1}, "m1");
	expect_worker(&(struct a_request){"b", "", "a/x", .machine = "", .user_id = 7, .at = 2}, "m1");
	expect_worker(&(struct a_request){"c", "", "a/x", .machine = "box", .user_id = 7, .at = 3}, NULL);
	expect_worker(&(struct a_request){"d", "", "a/x", .machine = "Box", .user_id = 7, .at = 3}, NULL);
	assert_int_equal(number("SELECT busy FROM workers WHERE id = 'm1'"), 2);
	assert_null(match_freed("m1", 4));
	/* An idle session makes room, and is named so that it can be closed. */
	end_turn("a", 5);
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
	AUTO_STR run = NULL;

	tx = begin();
	assert_int_equal(queue_match_worker(tx, 1, "m1", 6, &run, &left), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_string_equal(run, "run-c-3");
	assert_string_equal(left.agent_id, "a");
	tx = begin();
	assert_int_equal(machine_check(tx, 1, 7, "nope", "a/x", "", 10, &why), ERR_INVALID);
	assert_int_equal(machine_check(tx, 1, 7, "", "a/z", "", 10, &why), ERR_INVALID);
	assert_int_equal(machine_check(tx, 1, 7, "", "a/x", "", 10, &why), OK);
	tx_free(&tx);
}

/* A worker that was reserved and did not come, three times. */
static void test_a_reserved_worker_that_does_not_come(void **state)
{
	struct tx *tx;

	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 1}, NULL);
	for (int i = 1; i <= 3; i++) {
		tx = begin();
		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO claims(id, agent_id, team_id, worker_id, created_at, connect_by, pool, repo)"
			" VALUES('c', 'a', 1, 'ctrl-1', 1, 100, 'gpu', 'a/x')",
			""),
		    OK);
		assert_int_equal(tx_exec(tx, "UPDATE requests SET state = 'claimed', worker_id = 'ctrl-1'", ""), OK);
		assert_int_equal(queue_start_failed(tx, "a", 100, 100), ERR_EMPTY);
		assert_int_equal(queue_start_failed(tx, "a", 101, 101), OK);
		assert_int_equal(tx_commit(&tx), OK);
		assert_int_equal(number("SELECT starts FROM requests WHERE state = 'queued'"), i);
		assert_int_equal(number("SELECT COUNT(*) FROM claims"), 0);
	}
}

static void reserve(const char *agent, const char *worker, int64_t connect_by)
{
	struct tx *tx = begin();

	assert_int_equal(tx_exec(tx,
			     "INSERT INTO claims(id, agent_id, team_id, worker_id, created_at, connect_by, pool, repo)"
			     " VALUES('c', $1, 1, $2, 1, $3, 'gpu', 'a/x')",
			     "ssi", agent, worker, connect_by),
	    OK);
	assert_int_equal(tx_exec(tx, "UPDATE requests SET state = 'claimed', worker_id = $2 WHERE agent_id = $1", "ss",
			     agent, worker),
	    OK);
	assert_int_equal(tx_commit(&tx), OK);
}

/* The run that the worker was reserved for was cancelled, and the follow-up is held for it: it is held no longer than
 * the reservation. */
static void test_a_follow_up_of_a_reservation_that_lapses(void **state)
{
	struct tx *tx;

	add_worker(&(struct a_worker){"other", "gpu", "a/y"});
	tx = begin();
	assert_int_equal(tx_exec(tx,
			     "INSERT INTO pools(team_id, name, repo, repo_host, repo_name, first_seen_at, last_seen_at,"
			     " ready_timeout_s) VALUES(1, 'gpu', 'a/x', '', 'a/x', 0, 0, 3600)",
			     ""),
	    OK);
	assert_int_equal(tx_commit(&tx), OK);
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 1}, NULL);
	reserve("a", "ctrl-1", 100);
	end_turn("a", 2);
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 3}, NULL);
	assert_int_equal(number("SELECT COUNT(*) FROM requests WHERE state = 'offline'"), 1);
	tx = begin();
	assert_int_equal(queue_start_failed(tx, "a", 101, 101), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(number("SELECT COUNT(*) FROM claims"), 0);
	assert_int_equal(number("SELECT COUNT(*) FROM requests WHERE state = 'queued' AND worker_id IS NULL"), 1);
	add_worker(&(struct a_worker){"w", "gpu", "a/x"});
	AUTO_STR run = match_freed("w", 102);

	assert_string_equal(run != NULL ? run : "none", "run-a-3");
}

/* A worker that is on its way out and whose pool waits for it is waited for as if it had left already. */
static void test_a_follow_up_while_its_worker_leaves(void **state)
{
	struct tx *tx;

	add_worker(&(struct a_worker){"w", "gpu", "a/x"});
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 1}, "w");
	end_turn("a", 2);
	tx = begin();
	assert_int_equal(tx_exec(tx, "UPDATE pools SET ready_timeout_s = 60", ""), OK);
	assert_int_equal(tx_exec(tx, "UPDATE workers SET draining = 1", ""), OK);
	assert_int_equal(slots_clear(tx, 1, "w"), OK);
	assert_int_equal(tx_commit(&tx), OK);
	expect_worker(&(struct a_request){"a", "gpu", "a/x", .at = 1000}, NULL);
	assert_int_equal(
	    number("SELECT offline_until FROM requests WHERE state = 'offline' AND worker_id = 'w'"), 61000);
	assert_int_equal(number("SELECT COUNT(*) FROM claims WHERE idle_since IS NULL"), 1);
}

/* --- thousands of random ones */

#define N_REPOS 4
#define N_POOLS 3
static const char *const repos[N_REPOS] = {"a/x", "a/y", "b/x", "b/z"};
static const char *const pools[N_POOLS] = {"default", "gpu", "big"};
static const char *const pairs[] = {"os=linux", "caps=cuda", "caps=docker", "zone=a", "zone=b"};
static uint32_t seed;

static uint32_t draw(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void draw_labels(char *buf, size_t size, uint32_t of)
{
	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		if (draw(of) == 0)
			snprintf(buf + strlen(buf), size - strlen(buf), "%s ", pairs[i]);
}

/* By going through all of them, as the rule says. */
static void check_nothing_waits_beside_a_match(void)
{
	AUTO(query) q = NULL;
	struct tx *tx = begin();

	assert_int_equal(tx_query(tx, &q,
			     "SELECT r.agent_id, r.labels, w.id, w.labels FROM requests r JOIN worker_slots s ON "
			     "s.team_id = r.team_id AND"
			     " s.pool = r.pool AND s.repo = r.repo JOIN workers w ON w.team_id = s.team_id AND w.id = "
			     "s.worker_id WHERE"
			     " r.state = 'queued' AND w.draining = 0 AND w.unfit_code = '' AND NOT EXISTS(SELECT 1 "
			     "FROM claims c WHERE"
			     " c.team_id = w.team_id AND c.worker_id = w.id AND c.idle_since IS NULL)",
			     ""),
	    OK);
	while (query_next(q) == OK) {
		__attribute__((cleanup(labels_fini))) struct labels want = {0};
		__attribute__((cleanup(labels_fini))) struct labels have = {0};

		labels_parse(query_str(q, 1), &want);
		labels_parse(query_str(q, 3), &have);
		if (labels_lacking(&have, &want) == NULL)
			fail_msg("%s waits beside %s", query_str(q, 0), query_str(q, 2));
	}
	query_free(&q);
	tx_free(&tx);
	assert_int_equal(number("SELECT COUNT(*) FROM (SELECT worker_id FROM claims GROUP BY team_id, worker_id HAVING"
				" COUNT(*) > 1) AS d"),
	    0);
	/* What the rows of workers and slots say is what the claims say. */
	assert_int_equal(number("SELECT COUNT(*) FROM workers w WHERE busy <> (SELECT COUNT(*) FROM claims c WHERE"
				" c.team_id = w.team_id AND c.worker_id = w.id)"),
	    0);
	assert_int_equal(number("SELECT COUNT(*) FROM slot_labels l JOIN worker_slots s ON s.team_id = l.team_id AND"
				" s.worker_id = l.worker_id AND s.repo = l.repo AND s.repo_host = l.repo_host WHERE"
				" s.state <> l.state"),
	    0);
}

/* A connection drops: its claim stays and ages; then the request goes back, and what it could have takes it. */
static void drop_worker(const char *id, int64_t now)
{
	AUTO_STR agent = NULL;
	AUTO_STR run = NULL;
	int64_t attempts;
	struct tx *tx = begin();
	int rc = tx_query_text(tx, &agent, "SELECT agent_id FROM claims WHERE worker_id = $1", "s", id);

	assert_int_equal(tx_exec(tx, "DELETE FROM workers WHERE id = $1", "s", id), OK);
	assert_int_equal(slots_clear(tx, 1, id), OK);
	assert_int_equal(tx_exec(tx, "UPDATE claims SET lost_at = $2 WHERE worker_id = $1", "si", id, now), OK);
	if (rc == OK && tx_query_text(tx, &run, "SELECT run_id FROM requests WHERE agent_id = $1", "s", agent) == OK)
		assert_int_equal(queue_requeue_lost(tx, agent, run, id, now + 1, now, &attempts), OK);
	else if (rc == OK)
		assert_int_equal(claim_end_lost(tx, agent, id, now + 1, now), OK);
	assert_int_equal(tx_commit(&tx), OK);
	if (run != NULL) {
		__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
		AUTO_STR worker = NULL;

		tx = begin();
		rc = queue_match(tx, agent, now, &worker, &left);
		if (rc == OK)
			assert_int_equal(tx_commit(&tx), OK);
		tx_free(&tx);
	}
}

static void one_random_step(int i, int64_t now)
{
	char id[32], labels[128], serves[64] = "";

	if (draw(10) < 3) {
		snprintf(id, sizeof id, "w%d", i);
		draw_labels(labels, sizeof labels, 2);
		for (size_t k = 0; k < N_REPOS; k++)
			if (draw(2) == 0)
				snprintf(serves + strlen(serves), sizeof serves - strlen(serves), "%s ", repos[k]);
		add_worker(&(struct a_worker){id, pools[draw(N_POOLS)], serves, NULL, labels, .idle_since = now});
		free(match_freed(id, now));
	} else if (draw(10) < 5) {
		snprintf(id, sizeof id, "a%d", i);
		draw_labels(labels, sizeof labels, 5);
		free(add_request(
		    &(struct a_request){id, pools[draw(N_POOLS)], repos[draw(N_REPOS)], NULL, labels, .at = now}));
	} else if (draw(10) < 8) {
		AUTO_STR agent = text_of("SELECT agent_id FROM claims WHERE idle_since IS NULL ORDER BY id LIMIT 1");
		AUTO_STR worker = text_of("SELECT worker_id FROM claims WHERE idle_since IS NULL ORDER BY id LIMIT 1");

		if (strcmp(agent, "none") != 0) {
			end_turn(agent, now);
			free(match_freed(worker, now));
		}
	} else {
		AUTO_STR worker = text_of("SELECT id FROM workers ORDER BY idle_since LIMIT 1");

		if (strcmp(worker, "none") != 0)
			drop_worker(worker, now);
	}
}

static void test_nothing_waits_beside_a_match(void **state)
{
	for (uint32_t round = 1; round <= 3; round++) {
		store_teardown(state);
		setup(state);
		seed = round;
		for (int i = 0; i < 1500; i++) {
			one_random_step(i, 1000 + i);
			if (i % 50 == 0)
				check_nothing_waits_beside_a_match();
		}
		check_nothing_waits_beside_a_match();
	}
}

/* --- the cost does not grow with the number of workers and requests */

#define MANY 10000
#define STEPS_MAX 4000 /* of the database: a few dozen look-ups by index */

static void fill(struct tx *tx)
{
	for (int i = 0; i < MANY; i++) {
		AUTO_STR id = str_printf("w%d", i);
		AUTO_STR agent = str_printf("a%d", i);
		AUTO_STR have = str_printf("os=linux host=h%d", i);
		AUTO_STR want = str_printf("os=linux kind=k%d", i % 500);

		put_worker(tx, &(struct a_worker){id, "gpu", "a/x", NULL, have, .idle_since = i});
		free(put_request(
		    tx, &(struct a_request){agent, "gpu", "a/x", NULL, i % 2 ? want : "arch=arm", .at = i}));
	}
}

static void expect_cheap(uint64_t before, const char *what)
{
	uint64_t steps = store_work(st) - before;

	if (steps > STEPS_MAX)
		fail_msg("%s took %llu steps", what, (unsigned long long)steps);
}

static void test_matching_does_not_go_through_all(void **state)
{
	AUTO_STR run = NULL;
	struct tx *tx = begin();
	uint64_t before;

	fill(tx);
	assert_int_equal(tx_commit(&tx), OK);
	/* Neither of them fits any of the other kind. A request that some fit, one that none does, a worker likewise.
	 */
	before = store_work(st);
	expect_worker(&(struct a_request){"fits", "gpu", "a/x", NULL, "os=linux host=h77", .at = MANY}, "w77");
	expect_cheap(before, "a request that one worker fits");
	before = store_work(st);
	expect_worker(&(struct a_request){"fits none", "gpu", "a/x", NULL, "os=linux kind=none", .at = MANY}, NULL);
	expect_cheap(before, "a request that none fits");
	before = store_work(st);
	expect_worker(&(struct a_request){"plain", "gpu", "a/x", .at = MANY}, "w0");
	expect_cheap(before, "a request without labels");
	end_turn("plain", MANY);
	before = store_work(st);
	assert_null(match_freed("w0", MANY));
	expect_cheap(before, "a freed worker that fits none");
	add_worker(&(struct a_worker){"new", "gpu", "a/x", NULL, "os=linux kind=k499", .idle_since = MANY});
	before = store_work(st);
	run = match_freed("new", MANY);
	expect_cheap(before, "a new worker that fits some");
	assert_string_equal(run, "run-a499-499");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, store_teardown)

int main(void)
{
	const struct CMUnitTest t[] = {TEST(vectors), TEST(any_repo_rows), TEST(a_claim_that_is_kept_does_not_yield),
	    TEST(a_kept_claim_is_reclaimed_after_long), TEST(special_machines_are_kept_free),
	    TEST(a_freed_worker_takes_the_oldest_that_it_serves), TEST(a_user_at_the_cap_waits_and_holds_nobody_back),
	    TEST(a_follow_up_is_held_for_the_time_of_its_pool), TEST(machines),
	    TEST(a_reserved_worker_that_does_not_come), TEST(a_follow_up_of_a_reservation_that_lapses),
	    TEST(a_follow_up_while_its_worker_leaves), TEST(nothing_waits_beside_a_match),
	    TEST(matching_does_not_go_through_all)};

	return cmocka_run_group_tests(t, NULL, NULL);
}
